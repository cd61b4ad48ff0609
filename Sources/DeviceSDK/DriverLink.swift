import Base
import EventLoop
import Logging
import Transport
import Wire

/// Joins a driver's service to devicecore: takes assignments and commands from there, hands readings over.
@LoopActor package final class DriverLink {
  /// How long devicecore may take to store a batch.
  package static let storeDeadline: Duration = .seconds(30)
  /// After a batch was refused (a full disk, say), how long it waits.
  package static let refusedDelay: Duration = .seconds(1)

  package let service: DriverService
  package let outbox: ReadingOutbox
  private let keeper: SessionKeeper
  private let scheduler: any Scheduler
  private let logger: Logger
  /// Devices named on this connection, until `synced` says that these are all.
  private var named: Set<String> = []

  package init(
    driver: any Driver, dial: @escaping SessionKeeper.Dial, scheduler: any Scheduler, random: any RandomSource,
    metrics: Metrics = Metrics(), logger: Logger
  ) {
    let outbox = ReadingOutbox(run: random.bytes(16), logger: logger)
    self.outbox = outbox
    self.scheduler = scheduler
    self.logger = logger
    service = DriverService(
      driver: driver, scheduler: scheduler, random: random, metrics: metrics, logger: logger
    ) { outbox.add($0) }
    outbox.waitingGauge = metrics.gauge(
      "skerry_driver_readings_waiting", "Readings that devicecore has not stored yet.")
    outbox.lostCounter = metrics.counter("skerry_driver_readings_dropped_total", "Readings that were dropped.")
    let name = driver.protocolName
    keeper = SessionKeeper(
      name: "devicecore", dial: dial,
      hello: { ["role": .string(DriverWire.role), "protocol": .string(name)] }, scheduler: scheduler, random: random,
      logger: logger)
    keeper.onReady = { [weak self] in self?.connected($0) }
    keeper.onLost = { outbox.disconnected() }
    keeper.onStream = { [weak self] in self?.serve($0) }
    outbox.retry = { [weak self] in
      self?.scheduler.schedule(after: Self.refusedDelay) { outbox.again() }
    }
  }

  package func start() { keeper.start() }

  package var isConnected: Bool { keeper.session != nil }

  package func stop() {
    service.stop()
    keeper.stop()
    outbox.disconnected()
  }

  private func connected(_ session: Session) {
    named = []
    let stream = session.open(method: DriverWire.assignments, params: [:], priority: .control)
    stream.onMessage = { [weak self] in self?.assigned($0) }
    let run = outbox.run.hex
    outbox.connected { batch throws(CallError) in
      _ = try await session.call(
        method: DriverWire.readings,
        params: [
          "run": .string(run), "seq": .int(Int64(batch.sequence)), "lost": .int(Int64(batch.lost)),
          "r": .array(batch.readings.map { .array($0.row) }),
        ], deadline: Self.storeDeadline)
    }
  }

  private func assigned(_ message: Bytes) {
    guard let value = try? CBOR.decode(message) else { return }
    if let device = value["remove"].string {
      named.remove(device)
      service.remove(device)
    } else if value["synced"].bool == true {
      service.retain(named)
    } else if let assignment = DeviceAssignment(value["set"]) {
      named.insert(assignment.device)
      service.assign(assignment)
    } else {
      logger.warning(.driverRefused, "devicecore sent an assignment that cannot be read; it is passed over")
    }
  }

  private func serve(_ stream: SessionStream) {
    let params = stream.params
    guard let device = params["device"].string, let property = params["property"].string,
      let deadline = params["deadline"].int, deadline > 0
    else {
      return stream.fail(CallError(reason: "BadRequest", message: "device, property and deadline are needed"))
    }
    var left = Duration.milliseconds(deadline)
    if let until = params["until"].int, until >= 0 {
      left = min(left, Instant(nanoseconds: UInt64(until)) - scheduler.now)
    }
    guard left > .zero else {
      return stream.fail(DriverError(.expired, "the deadline passed before the driver was asked").call)
    }
    spawn { [service, left] in
      do throws(DriverError) {
        switch stream.method {
        case DriverWire.read:
          stream.finish(try await service.read(device, property, deadline: left).wire)
        case DriverWire.write:
          let outcome = try await service.write(
            device, property, value: params["value"], onlyIfDifferent: params["onlyIfDifferent"].bool ?? false,
            deadline: left)
          stream.finish(outcome.value)
        default:
          stream.fail(CallError(reason: CallError.unknownMethod, message: "a driver has no \(stream.method)"))
        }
      } catch {
        stream.fail(error.call)
      }
    }
  }
}
