import Base
import EdgeCore
import EventLoop
import FaultVFS
import Glibc

var arguments = CommandLine.arguments
let tearsDown = arguments.contains("--tear-down")
arguments.removeAll { $0 == "--tear-down" }
let given = arguments

Daemon.run(name: "edgecore") { loop in
  try PowerCutSwitch.honour()
  let configuration = try EdgeConfiguration(try Daemon.settings(name: "edgecore", arguments: given))
  if tearsDown {
    try await EdgeDaemon.tearDown(configuration, loop: loop)
    exit(0)
  }
  return try await EdgeDaemon.start(configuration, loop: loop)
} stop: { daemon in
  await daemon.stop()
}
