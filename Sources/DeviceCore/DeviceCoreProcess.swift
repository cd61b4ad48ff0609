import Base
import DeviceSDK
import DeviceServices
import EventLoop
import Transport

/// devicecore's main program.
package enum DeviceCoreProcess {
  private static let usage = """
      --data           the directory of the device store (/var/lib/skerry/devices)
      --edge-socket    edgecore's socket (/var/lib/skerry/edge.sock)
      --driver-socket  the socket for drivers (/var/lib/skerry/devices.sock)
      --driver-group   a group, by number, whose members' drivers may connect
      --keep-exported  how long readings stay here that the cloud has (24h)
      --max-age        how long readings wait for the cloud (720h)
      --max-bytes      bytes of all readings together (512MiB)
    """

  /// Runs until a signal. `before` comes before anything else and may refuse the start.
  package static func run(before: @escaping @Sendable () throws(SkerryError) -> Void) -> Never {
    DeviceProcess.run(name: "devicecore", usage: usage) { settings, loop in
      try before()
      let (configuration, edgeSocket) = try configuration(&settings)
      let frame = try DeviceProcess.Frame(name: "devicecore", settings: &settings)
      let core = try DeviceCore(
        configuration,
        dialEdge: { () async throws(SkerryError) in try await UnixStream.connect(path: edgeSocket) }, scheduler: loop,
        random: SystemRandom(), metrics: frame.metrics,
        logger: Daemon.logger("devicecore", level: frame.level, clock: loop))
      frame.readiness.isReady = { [core] in core.isConnected ? nil : "edgecore is not connected" }
      try frame.serve(on: loop)
      try core.start()
      try frame.tellReady()
      return {
        await core.stop()
        frame.stop()
      }
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
    return (configuration, edgeSocket)
  }
}
