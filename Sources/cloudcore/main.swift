import Base
import CloudCore
import EventLoop
import FaultVFS
import Glibc

let given = CommandLine.arguments

Daemon.run(name: "cloudcore") { loop in
  try PowerCutSwitch.honour()
  var arguments = given
  let maintenance = try CloudMaintenance.take(from: &arguments)
  let configuration = try CloudConfiguration(
    try Daemon.settings(
      name: "cloudcore", arguments: arguments,
      usage: "\(CloudMaintenance.usage)\nThe keys are listed in docs/operations.md."))
  if let maintenance {
    print(try maintenance.run(configuration, random: SystemRandom()))
    exit(0)
  }
  return try await CloudDaemon.start(configuration, loop: loop)
} stop: { daemon in
  await daemon.stop()
}
