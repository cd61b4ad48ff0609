import API
import APIClient
import Base
import DeviceSDK
import DeviceServices
import EventLoop
import Glibc
import Logging
import Transport
import Wire

/// devicecore composed: the store, the drivers' socket, and the session to edgecore over which devices come, commands
/// are asked and readings leave.
@LoopActor package final class DeviceCore {
  /// How often bounds are applied and the write-ahead log is copied back.
  package static let maintenance: Duration = .seconds(5)
  package static let commandMethod = "device.command"

  package struct Configuration: Sendable {
    /// Holds `readings.db`; made if it is not there.
    package var data: String
    /// The socket that drivers connect to.
    package var driverSocket: String
    /// A group that may open the drivers' socket besides our own user; nil: nobody.
    package var driverGroup: UInt32?
    package var limits = ReadingLimits()
    package init(data: String, driverSocket: String) {
      self.data = data
      self.driverSocket = driverSocket
    }
  }

  private let configuration: Configuration
  private let scheduler: any Scheduler
  private let logger: Logger
  package let store: ReadingStore
  package let hub: DriverHub
  private let commands: CommandService
  private let desired: DesiredValues
  private let export: ReadingExport
  private let recent = RecentReadings()
  private let registry: DeviceRegistry
  private let api: ReconnectingAPIClient
  private let edge: SessionKeeper
  private var listener: StreamListener?
  private var maintaining: Task<Void, Never>?

  /// Opens the store. `dialEdge` connects to edgecore's socket.
  package init(
    _ configuration: Configuration, dialEdge: @escaping SessionKeeper.Dial, scheduler: any Scheduler,
    random: any RandomSource, metrics: Metrics = Metrics(), logger: Logger
  ) throws(SkerryError) {
    self.configuration = configuration
    self.scheduler = scheduler
    self.logger = logger
    try Self.makeDirectory(configuration.data)
    store = try ReadingStore(
      path: configuration.data + "/readings.db", scheduler: scheduler, random: random, limits: configuration.limits)
    hub = DriverHub(store: store, scheduler: scheduler, random: random, metrics: metrics, logger: logger)
    commands = CommandService(hub: hub, store: store, scheduler: scheduler, metrics: metrics, logger: logger)
    desired = DesiredValues(hub: hub, store: store, scheduler: scheduler, random: random, logger: logger)
    export = ReadingExport(store: store, logger: logger)
    // Whoever asks waits for edgecore as long as it takes, and goes on at once when it is there.
    api = ReconnectingAPIClient(scheduler: scheduler, random: random, patience: nil)
    registry = DeviceRegistry(
      api: api, caller: Caller(user: "devicecore", groups: [], node: nil, origin: .edgeSocket), hub: hub,
      desired: desired, store: store, scheduler: scheduler, random: random, logger: logger)
    edge = SessionKeeper(
      name: "edgecore", dial: dialEdge, hello: { ["role": "devicecore"] }, scheduler: scheduler, random: random,
      logger: logger)
  }

  private static func makeDirectory(_ path: String) throws(SkerryError) {
    if mkdir(path, 0o700) == 0 { return try Files.syncDirectory(path.parentPath) }
    if errno == EEXIST { return }
    throw SkerryError(
      .system, "cannot make \(path): \(String(cString: strerror(errno))); make its parent and check the permissions")
  }

  package var isConnected: Bool { edge.session != nil }

  /// Listens for drivers and connects to edgecore.
  package func start() throws(SkerryError) {
    hub.onDriver = { [desired] in desired.driverReady($0) }
    hub.onReadings = { [desired, recent] readings in
      desired.observed(readings)
      recent.take(readings)
    }
    let listener = try UnixListener.listen(path: configuration.driverSocket)
    self.listener = listener
    if let group = configuration.driverGroup {
      guard chown(configuration.driverSocket, uid_t.max, group) == 0, chmod(configuration.driverSocket, 0o660) == 0
      else {
        throw SkerryError(
          .system,
          "cannot give \(configuration.driverSocket) to group \(group): \(String(cString: strerror(errno)))")
      }
    }
    listener.onAccept = { [hub] in hub.accept($0) }
    edge.onReady = { [api] in api.link($0) }
    edge.onLost = { [api] in api.link(nil) }
    edge.onStream = { [weak self] in self?.serve($0) }
    edge.start()
    registry.start()
    maintaining = spawn { [store, logger] in
      await store.maintain(every: Self.maintenance) { error in
        logger.error(.deviceStoreFailed, "the device store's upkeep failed: \(error)")
      }
    }
  }

  /// Ends in order: no new readings, everything taken is on disk.
  package func stop() async {
    listener?.close()
    registry.stop()
    api.close()
    maintaining?.cancel()
    hub.stop()
    edge.stop()
    await store.close()
  }

  /// What edgecore asks.
  private func serve(_ stream: SessionStream) {
    if export.serve(stream) || recent.serve(stream) { return }
    guard stream.method == Self.commandMethod else {
      return stream.fail(CallError(reason: CallError.unknownMethod, message: "devicecore has no \(stream.method)"))
    }
    let now = scheduler.now
    spawn { [commands] in
      do throws(SkerryError) {
        stream.finish(await commands.run(try DeviceCommand(stream.params, now: now)).wire)
      } catch {
        stream.fail(CallError(reason: "BadRequest", message: error.description))
      }
    }
  }
}
