import Base
import Logging

/// Runs a driver: holds the devices that devicecore assigned, polls them, and answers commands. One a process.
@LoopActor package final class DriverService {
  /// Devices that one driver process takes; more are refused with a bad reading.
  package static let maxDevices = 10_000
  /// First polls of newly assigned devices are spread over at most this time.
  package static let spread: Duration = .seconds(1)

  package let driver: any Driver
  private let scheduler: any Scheduler
  private let random: any RandomSource
  private let logger: Logger
  private let report: @LoopActor ([Reading]) -> Void
  private let polls: Counter
  private let assigned: Gauge
  private var workers: [String: DeviceWorker] = [:]
  /// Devices whose configuration is of no use, with why.
  private var refused: [String: (assignment: DeviceAssignment, error: DriverError)] = [:]

  /// `report` takes readings as they are made.
  package init(
    driver: any Driver, scheduler: any Scheduler, random: any RandomSource, metrics: Metrics = Metrics(),
    logger: Logger, report: @escaping @LoopActor ([Reading]) -> Void
  ) {
    self.driver = driver
    self.scheduler = scheduler
    self.random = random
    self.logger = logger
    self.report = report
    polls = metrics.counter("skerry_driver_polls_total", "Polls of devices, also those that failed.")
    assigned = metrics.gauge("skerry_driver_devices", "Devices that this driver polls.")
  }

  package var devices: [String] { (Array(workers.keys) + Array(refused.keys)).sorted() }

  /// Takes a device over, or its changed configuration. The same assignment again changes nothing.
  package func assign(_ assignment: DeviceAssignment) {
    let name = assignment.device
    guard workers[name]?.assignment != assignment, refused[name]?.assignment != assignment else { return }
    let isNew = workers[name] == nil
    remove(name)
    do throws(DriverError) {
      guard workers.count < Self.maxDevices else {
        throw DriverError(.configuration, "device \(name): this driver has \(workers.count) devices, no more fit")
      }
      let connection = try driver.connection(to: assignment)
      let worker = DeviceWorker(
        assignment: assignment, connection: connection, scheduler: scheduler, random: random,
        polls: polls, report: report)
      workers[name] = worker
      assigned.set(Int64(workers.count))
      logger.info("device assigned", metadata: ["device": "\(name)", "properties": "\(assignment.properties.count)"])
      worker.start(phase: isNew ? phase(assignment) : .zero)
    } catch {
      refuse(assignment, error)
    }
  }

  private func phase(_ assignment: DeviceAssignment) -> Duration {
    let fastest = Duration.milliseconds(assignment.properties.map(\.interval).min() ?? 0)
    return .nanoseconds(Int64(random.below(UInt64(max(1, min(fastest, Self.spread).nanosecondCount)))))
  }

  private func refuse(_ assignment: DeviceAssignment, _ error: DriverError) {
    refused[assignment.device] = (assignment, error)
    logger.warning(.deviceUnusable, "device cannot be used: \(error)", ["device": "\(assignment.device)"])
    let time = scheduler.wall.nanoseconds / 1_000_000
    report(
      assignment.properties.map {
        Reading(
          device: assignment.device, property: $0.name, type: $0.type.fallback, value: .null,
          quality: .bad(error.message), time: time)
      })
  }

  /// Lets a device go; nothing happens if it is not here.
  package func remove(_ device: String) {
    workers.removeValue(forKey: device)?.stop()
    refused[device] = nil
    assigned.set(Int64(workers.count))
  }

  /// Lets go of every device that is not named.
  package func retain(_ devices: Set<String>) {
    for device in self.devices where !devices.contains(device) { remove(device) }
  }

  package func stop() { retain([]) }

  private func worker(_ device: String) throws(DriverError) -> DeviceWorker {
    if let error = refused[device]?.error { throw error }
    guard let worker = workers[device] else {
      // Not a fault of the device's configuration: a driver that has just connected has yet to hear of its devices.
      throw DriverError(.unreachable, "device \(device) is not assigned to this driver yet")
    }
    return worker
  }

  package func read(_ device: String, _ property: String, deadline: Duration) async throws(DriverError) -> Sample {
    try await worker(device).read(property, deadline: deadline)
  }

  package func write(
    _ device: String, _ property: String, value: Value, onlyIfDifferent: Bool, deadline: Duration
  ) async throws(DriverError) -> WriteOutcome {
    try await worker(device).write(property, value: value, onlyIfDifferent: onlyIfDifferent, deadline: deadline)
  }
}

extension LogCode {
  /// A Device or DeviceModel says something that its driver cannot follow; the message has the remedy.
  package static let deviceUnusable = LogCode("W-DEV-001")
  /// The peer socket of a device process cannot be reached; it is tried again.
  package static let devicePeerUnreachable = LogCode("W-DEV-002")
  /// Readings were dropped since they could not be handed over for too long; the series has a loss entry there.
  package static let readingsDropped = LogCode("W-DEV-003")
  /// The device store cannot be written; drivers hold their readings meanwhile.
  package static let deviceStoreFailed = LogCode("E-DEV-004")
  /// A driver was turned away, or broke the protocol.
  package static let driverRefused = LogCode("W-DEV-005")
}
