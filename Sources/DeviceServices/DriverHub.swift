import Base
import DeviceSDK
import EventLoop
import Logging
import Transport
import Wire

/// devicecore's side of the drivers: tells each its devices, takes their readings into the store, and hands commands
/// on. One driver a protocol; a newer connection takes the place of an older one.
@LoopActor package final class DriverHub {
  /// Drivers that may be connected at once.
  package static let maxDrivers = 64
  /// Readings in one batch of a driver.
  static let maxBatch = ReadingOutbox.maxBatch
  /// How long a protocol may be without its driver before its devices get bad readings.
  package static let grace: Duration = .seconds(15)

  let store: ReadingStore
  private let scheduler: any Scheduler
  private let random: any RandomSource
  private let logger: Logger
  private var assignments: [String: DeviceAssignment] = [:]
  private var drivers: [String: ConnectedDriver] = [:]
  private var graceTimers: [String: TimerID] = [:]
  private var connecting = 0
  private let good: Counter
  private let bad: Counter
  private let lost: Counter
  private let connected: Gauge
  private let assigned: Gauge

  /// A protocol's driver is connected.
  package var onDriver: (@LoopActor (_ protocolName: String) -> Void)?
  /// Readings of a driver, after they were stored.
  package var onReadings: (@LoopActor ([Reading]) -> Void)?

  package init(
    store: ReadingStore, scheduler: any Scheduler, random: any RandomSource, metrics: Metrics = Metrics(),
    logger: Logger
  ) {
    self.store = store
    let name = "skerry_device_readings_total"
    let help = "Readings that drivers handed over and that were stored."
    good = metrics.counter(name, help, [("quality", "good")])
    bad = metrics.counter(name, help, [("quality", "bad")])
    lost = metrics.counter("skerry_device_readings_lost_total", "Readings that drivers dropped before they came here.")
    connected = metrics.gauge("skerry_device_drivers", "Drivers that are connected.")
    assigned = metrics.gauge("skerry_device_devices", "Devices that drivers are told of.")
    self.scheduler = scheduler
    self.random = random
    self.logger = logger
  }

  // MARK: Devices

  package func assignment(_ device: String) -> DeviceAssignment? { assignments[device] }

  /// Tells the device's driver, now or when it comes.
  package func assign(_ assignment: DeviceAssignment) {
    let old = assignments.updateValue(assignment, forKey: assignment.device)
    assigned.set(Int64(assignments.count))
    guard old != assignment else { return }
    if let old, old.protocolName != assignment.protocolName { drivers[old.protocolName]?.queue(old.device) }
    if let driver = drivers[assignment.protocolName] {
      driver.queue(assignment.device)
    } else if graceTimers[assignment.protocolName] == nil {
      awaitDriver(assignment.protocolName)
    }
  }

  package func remove(_ device: String) {
    guard let old = assignments.removeValue(forKey: device) else { return }
    assigned.set(Int64(assignments.count))
    drivers[old.protocolName]?.queue(device)
  }

  /// What a driver is to hear of a device: nil when it is none of its own.
  func assignment(_ device: String, of protocolName: String) -> DeviceAssignment? {
    assignments[device].flatMap { $0.protocolName == protocolName ? $0 : nil }
  }

  // MARK: Connections

  /// Takes a connection of the driver socket.
  package func accept(_ stream: any ByteStream) {
    guard drivers.count + connecting < Self.maxDrivers else {
      logger.warning(.driverRefused, "more than \(Self.maxDrivers) drivers: \(stream.peer.address) is turned away")
      return stream.close()
    }
    connecting += 1
    let session = Session(stream: stream, role: .server, hello: [:], scheduler: scheduler, random: random)
    var waiting = true
    func settled() {
      if waiting { connecting -= 1 }
      waiting = false
    }
    session.onHello = { hello in
      guard hello["role"].string == DriverWire.role, let name = hello["protocol"].string, !name.isEmpty else {
        return .failure(CallError(reason: "BadRequest", message: "say role driver and a protocol"))
      }
      return .success(["role": "devicecore"])
    }
    session.onReady = { [weak self, weak session] in
      settled()
      if let self, let session { take(session) }
    }
    session.onClose = { _ in settled() }
    session.start()
  }

  private func take(_ session: Session) {
    let name = session.peerHello["protocol"].string ?? ""
    drivers[name]?.session.close(GoAway.replaced, message: "another driver took the protocol \(name)")
    let driver = ConnectedDriver(protocolName: name, session: session, hub: self)
    drivers[name] = driver
    connected.set(Int64(drivers.count))
    if let timer = graceTimers.removeValue(forKey: name) { scheduler.cancel(timer) }
    let uid = session.peer.credentials.map { "\($0.uid)" } ?? "?"
    logger.info("driver connected", metadata: ["protocol": "\(name)", "uid": "\(uid)"])
    session.onStream = { [weak self, weak driver] stream in
      guard let self, let driver else { return stream.reset("devicecore stops") }
      serve(stream, of: driver)
    }
    session.onClose = { [weak self, weak driver] error in
      guard let self, let driver, drivers[name] === driver else { return }
      drivers[name] = nil
      connected.set(Int64(drivers.count))
      logger.warning(.devicePeerUnreachable, "the driver \(name) has gone: \(error?.description ?? "closed")")
      awaitDriver(name)
    }
    onDriver?(name)
  }

  /// Without its driver for too long, a protocol's devices get one bad reading a property.
  private func awaitDriver(_ name: String) {
    graceTimers[name] = scheduler.schedule(after: Self.grace) { [weak self] in
      guard let self else { return }
      graceTimers[name] = nil
      guard drivers[name] == nil else { return }
      let time = store.wallMilliseconds
      var readings: [Reading] = []
      for assignment in assignments.values where assignment.protocolName == name {
        for property in assignment.properties {
          readings.append(
            Reading(
              device: assignment.device, property: property.name, type: property.type.fallback, value: .null,
              quality: .bad("no driver for the protocol \(name) is connected: start device-\(name)"), time: time))
        }
      }
      guard !readings.isEmpty else { return }
      logger.warning(.devicePeerUnreachable, "no driver for the protocol \(name) is connected")
      spawn { [store, logger] in
        do throws(SkerryError) {
          try await store.append(ReadingLog.Batch(readings: readings))
        } catch {
          logger.error(.deviceStoreFailed, "the device store takes no readings: \(error)")
        }
      }
    }
  }

  /// Ends all connections in order.
  package func stop() {
    onDriver = nil
    onReadings = nil
    for timer in graceTimers.values { scheduler.cancel(timer) }
    graceTimers = [:]
    for driver in drivers.values { driver.session.close() }
    drivers = [:]
  }

  // MARK: What drivers ask

  private func serve(_ stream: SessionStream, of driver: ConnectedDriver) {
    switch stream.method {
    case DriverWire.assignments: driver.follow(stream, devices: assignments.keys.sorted())
    case DriverWire.readings: take(stream, of: driver.protocolName)
    default:
      stream.fail(CallError(reason: CallError.unknownMethod, message: "devicecore has no \(stream.method) for drivers"))
    }
  }

  private func take(_ stream: SessionStream, of name: String) {
    let params = stream.params
    guard let run = params["run"].string.flatMap({ Bytes(hex: $0) }), run.count == 16,
      let sequence = params["seq"].int, sequence > 0, let lost = params["lost"].int, lost >= 0,
      let rows = params["r"].array, rows.count <= Self.maxBatch
    else {
      logger.warning(.driverRefused, "the driver \(name) sent a batch that cannot be read")
      return stream.fail(CallError(reason: "BadRequest", message: "run, seq, lost and r are needed"))
    }
    var readings: [Reading] = []
    readings.reserveCapacity(rows.count)
    for row in rows {
      guard let reading = Reading(row: row.array ?? []) else {
        return stream.fail(CallError(reason: "BadRequest", message: "a row of the batch is malformed"))
      }
      // A driver speaks for its own protocol's devices only; one that nobody knows (any more) may still be heard.
      if let known = assignments[reading.device], known.protocolName != name { continue }
      readings.append(reading)
    }
    let batch = ReadingLog.Batch(
      driver: name, run: run, sequence: UInt64(sequence), lost: UInt64(lost), readings: readings)
    spawn { [self] in
      do throws(SkerryError) {
        try await store.append(batch)
        stream.finish()
        let failed = readings.count { !$0.quality.isGood }
        good.add(UInt64(readings.count - failed))
        bad.add(UInt64(failed))
        self.lost.add(batch.lost)
        onReadings?(readings)
      } catch {
        logger.error(.deviceStoreFailed, "the device store takes no readings: \(error)")
        stream.fail(CallError(reason: "ServiceUnavailable", message: error.description))
      }
    }
  }

  // MARK: Commands

  private func driver(of device: String) throws(DriverError) -> ConnectedDriver {
    guard let assignment = assignments[device] else {
      throw DriverError(.configuration, "device \(device) is not known on this node, or its configuration is of no use")
    }
    guard let driver = drivers[assignment.protocolName] else {
      throw DriverError(
        .unreachable,
        "no driver for the protocol \(assignment.protocolName) is connected: start device-\(assignment.protocolName)")
    }
    return driver
  }

  private func until(_ deadline: Duration) -> Value {
    .int(Int64(clamping: (scheduler.now + deadline).nanoseconds))
  }

  package func read(_ device: String, _ property: String, deadline: Duration) async throws(DriverError) -> Sample {
    let params: Value = [
      "device": .string(device), "property": .string(property), "deadline": .int(deadline.milliseconds),
      "until": until(deadline),
    ]
    let answer = try await driver(of: device).call(DriverWire.read, params, deadline, writing: false)
    guard let sample = Sample(wire: answer) else { throw DriverError(.refused, "the driver's answer cannot be read") }
    return sample
  }

  package func write(
    _ device: String, _ property: String, value: Value, onlyIfDifferent: Bool, deadline: Duration
  ) async throws(DriverError) -> WriteOutcome {
    let params: Value = [
      "device": .string(device), "property": .string(property), "deadline": .int(deadline.milliseconds),
      "until": until(deadline), "value": value, "onlyIfDifferent": .bool(onlyIfDifferent),
    ]
    return WriteOutcome(try await driver(of: device).call(DriverWire.write, params, deadline, writing: true))
  }
}

/// One driver's session, and what it has yet to hear of its devices.
@LoopActor private final class ConnectedDriver {
  let protocolName: String
  let session: Session
  private unowned let hub: DriverHub
  private var stream: SessionStream?
  private var pending: [String] = []
  private var isPending: Set<String> = []
  private var synced = false
  /// A driver answers within the deadline; this much later it is taken for gone.
  private static let answerSlack: Duration = .seconds(2)

  init(protocolName: String, session: Session, hub: DriverHub) {
    self.protocolName = protocolName
    self.session = session
    self.hub = hub
  }

  func follow(_ stream: SessionStream, devices: [String]) {
    self.stream = stream
    synced = false
    stream.onWritable = { [weak self] in self?.pump() }
    stream.onClose = { [weak self] in self?.stream = nil }
    for device in devices where hub.assignment(device, of: protocolName) != nil { queue(device, pumping: false) }
    pump()
  }

  func queue(_ device: String, pumping: Bool = true) {
    if isPending.insert(device).inserted { pending.append(device) }
    if pumping { pump() }
  }

  /// Says what there is to say, as far as the driver has room. What changed twice meanwhile is said once.
  private func pump() {
    guard let stream else { return }
    var said = 0
    while said < pending.count, stream.canSend {
      let device = pending[said]
      said += 1
      isPending.remove(device)
      let message: Value =
        if let assignment = hub.assignment(device, of: protocolName) {
          ["set": assignment.value]
        } else {
          ["remove": .string(device)]
        }
      stream.send(CBOR.encode(message))
    }
    pending.removeFirst(said)
    if pending.isEmpty, !synced {
      synced = true
      stream.send(CBOR.encode(["synced": true]))
    }
  }

  func call(_ method: String, _ params: Value, _ deadline: Duration, writing: Bool) async throws(DriverError) -> Value {
    do throws(CallError) {
      return try await session.call(method: method, params: params, deadline: deadline + Self.answerSlack)
    } catch {
      throw DriverError(error, writing: writing)
    }
  }
}
