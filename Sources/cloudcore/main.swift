import Base
import CloudCore
import EventLoop

Daemon.run(name: "cloudcore") { loop in
  let configuration = try CloudConfiguration(try Daemon.settings(name: "cloudcore"))
  return try await CloudDaemon.start(configuration, loop: loop)
} stop: { daemon in
  await daemon.stop()
}
