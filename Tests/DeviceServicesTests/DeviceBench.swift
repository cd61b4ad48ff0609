import Base
import DeviceConformance
import DeviceSDK
import DeviceServices
import EventLoop
import Logging
import Testing

func quietLogger() -> Logger { Logger(label: "test") { _ in SwiftLogNoOpLogHandler() } }

/// devicecore's services and a driver's process, joined by a stream in memory that tests can cut.
@LoopActor final class DeviceBench {
  let directory = Directory()
  let loop = Loop.startShared()
  let driver: MemoryDriver
  let store: ReadingStore
  let hub: DriverHub
  let commands: CommandService
  let desired: DesiredValues
  private(set) var link: DriverLink
  private(set) var connections: [MemoryStream] = []
  /// False: dialling fails, as if devicecore did not run.
  var reachable = true

  init() throws {
    driver = MemoryDriver(scheduler: loop)
    let random = SeededRandom(seed: 11)
    store = try ReadingStore(path: directory.file, scheduler: loop, random: random)
    hub = DriverHub(store: store, scheduler: loop, random: random, logger: quietLogger())
    commands = CommandService(hub: hub, store: store, scheduler: loop, logger: quietLogger())
    desired = DesiredValues(hub: hub, store: store, scheduler: loop, random: random, logger: quietLogger())
    let dial = Dialler()
    link = DriverLink(
      driver: driver, dial: { () async throws(SkerryError) in try dial.connect() }, scheduler: loop, random: random,
      logger: quietLogger())
    dial.bench = self
    hub.onDriver = { [desired] in desired.driverReady($0) }
    hub.onReadings = { [desired] in desired.observed($0) }
  }

  @LoopActor private final class Dialler {
    weak var bench: DeviceBench?
    nonisolated init() {}
    func connect() throws(SkerryError) -> any ByteStream {
      guard let bench, bench.reachable else { throw SkerryError(.unavailable, "devicecore does not run") }
      let (near, far) = MemoryStream.pair(on: bench.loop)
      bench.connections.append(near)
      bench.hub.accept(far)
      return near
    }
  }

  /// Breaks the driver's connection, as a crash of either side would.
  func cut() { connections.last?.reset() }

  func stop() async {
    link.stop()
    hub.stop()
    await store.close()
    directory.remove()
  }

  static func device(
    _ name: String = "d", bank: String = "a", interval: Int64 = 20, _ properties: [PropertyAssignment]? = nil
  ) -> DeviceAssignment {
    DeviceAssignment(
      device: "default/\(name)", uid: name, protocolName: "memory", configuration: ["bank": .string(bank)],
      properties: properties ?? [
        PropertyAssignment(name: "level", type: .int, writable: false, visitor: ["cell": "level"], interval: interval),
        PropertyAssignment(
          name: "setpoint", type: .int, writable: true, minimum: 0, visitor: ["cell": "setpoint"], interval: interval),
        PropertyAssignment(
          name: "mute", type: .int, writable: true, visitor: ["cell": "mute", "fault": "mute"], interval: 60_000),
      ])
  }

  /// Everything in the store, in order.
  func readings() async throws -> [NumberedReading] {
    var found: [NumberedReading] = []
    var after: UInt64 = 0
    while true {
      let (from, position) = (after, found.isEmpty)
      let page = try await store.perform { log throws(SkerryError) in
        try log.page(incarnation: position ? nil : log.incarnation, after: from, limit: 500)
      }
      guard let page else { return found }
      found += page.readings
      after = page.through
    }
  }

  func readings(of property: String, device: String = "default/d") async throws -> [Reading] {
    try await readings().map(\.reading).filter { $0.device == device && $0.property == property }
  }

  /// Waits until something holds; an issue after thirty seconds.
  func until(_ what: Comment, _ condition: @LoopActor () async throws -> Bool) async throws {
    let limit = loop.now + .seconds(30)
    while try await !condition() {
      guard loop.now < limit else {
        Issue.record(what)
        throw SkerryError(.timeout, "waited too long")
      }
      try await loop.sleep(for: .milliseconds(2))
    }
  }
}
