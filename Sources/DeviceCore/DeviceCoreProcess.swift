import Base
import DeviceSDK
import DeviceServices
import EventLoop
import Logging

/// devicecore's main program.
package enum DeviceCoreProcess {
  private static let usage = """
    usage: devicecore [--config FILE] [--key value ...]
      --data           the directory of the device store (/var/lib/skerry/devices)
      --edge-socket    edgecore's socket (/var/lib/skerry/edge.sock)
      --driver-socket  the socket for drivers (/var/lib/skerry/devices.sock)
      --driver-group   a group, by number, whose members' drivers may connect
      --keep-exported  how long readings stay here that the cloud has (24h)
      --max-age        how long readings wait for the cloud (720h)
      --max-bytes      bytes of all readings together (512MiB)
      --log-level      trace, debug, info, warning or error (info)
    """

  /// Runs until a signal; answers the exit status.
  package static func run(_ arguments: [String]) -> Int32 {
    runProcess(name: "devicecore", arguments: arguments, usage: usage) { settings, loop, logger throws(SkerryError) in
      let (configuration, edgeSocket) = try configuration(&settings)
      let core = try DeviceCore(
        configuration,
        dialEdge: { () async throws(SkerryError) in try await UnixStream.connect(path: edgeSocket) }, scheduler: loop,
        random: SystemRandom(), logger: logger)
      try core.start()
      return { await core.stop() }
    }
  }

  private static func configuration(
    _ settings: inout Settings
  ) throws(SkerryError) -> (DeviceCore.Configuration, edgeSocket: String) {
    var configuration = DeviceCore.Configuration(
      data: try settings.string("data", or: "/var/lib/skerry/devices"),
      driverSocket: try settings.string("driver-socket", or: "/var/lib/skerry/devices.sock"))
    let group = try settings.int("driver-group", or: -1, in: -1...Int(UInt32.max))
    if group >= 0 { configuration.driverGroup = UInt32(group) }
    configuration.limits.keepExported = try settings.duration(
      "keep-exported", or: configuration.limits.keepExported)
    configuration.limits.maxAge = try settings.duration("max-age", or: configuration.limits.maxAge)
    configuration.limits.maxBytes = max(1 << 16, try settings.bytes("max-bytes", or: configuration.limits.maxBytes))
    let edgeSocket = try settings.string("edge-socket", or: "/var/lib/skerry/edge.sock")
    try settings.finish()
    return (configuration, edgeSocket)
  }
}
