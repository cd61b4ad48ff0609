import API
import Base
import DeviceSDK
import Logging

/// Applies desired values: of each property only the newest, after reading what the device holds, and again when the
/// device is seen to hold something else. Desired values are state: a command that writes the same property is undone
/// at the next poll.
@LoopActor package final class DesiredValues {
  /// How long one attempt may take.
  package static let deadline: Duration = .seconds(10)
  package static let backoff = Backoff(base: .seconds(1), cap: .seconds(60))
  private static let attemptsBeforeWarning = 3

  private struct Key: Hashable {
    var device: String
    var property: String
  }

  private struct Entry {
    var wanted: Value
    var phase: Phase = .pending
    var failures = 0
    var timer: TimerID?
    /// The audit's row of the attempts at this value.
    var row: Int64?
    /// Tells an attempt's end from that of one for an older value.
    var version: UInt64
  }

  private enum Phase: Equatable {
    case pending
    case applying
    /// What read back; another reading means that somebody changed it.
    case applied(Value)
    /// The device will not take it as it is described; only another value or another description helps.
    case refused(DeviceAssignment)
  }

  private let hub: DriverHub
  private let store: ReadingStore
  private let scheduler: any Scheduler
  private let random: any RandomSource
  private let logger: Logger
  private var entries: [Key: Entry] = [:]
  private var version: UInt64 = 0

  package init(
    hub: DriverHub, store: ReadingStore, scheduler: any Scheduler, random: any RandomSource, logger: Logger
  ) {
    self.hub = hub
    self.store = store
    self.scheduler = scheduler
    self.random = random
    self.logger = logger
  }

  /// Takes over a device's desired values; what is not named any more is let go.
  package func set(_ device: String, _ desired: [String: Value]) {
    for key in entries.keys where key.device == device && desired[key.property] == nil { drop(key) }
    for (property, wanted) in desired {
      let key = Key(device: device, property: property)
      if entries[key]?.wanted == wanted {
        tryUnderNewDescription(key)
        continue
      }
      drop(key)
      version += 1
      entries[key] = Entry(wanted: wanted, version: version)
      attempt(key)
    }
  }

  package func forget(_ device: String) { set(device, [:]) }

  /// The same value, and perhaps another description: the device's model may not have been there before.
  private func tryUnderNewDescription(_ key: Key) {
    guard let entry = entries[key] else { return }
    switch entry.phase {
    case .refused(let before) where hub.assignment(key.device) != before:
      entries[key]?.phase = .pending
      attempt(key)
    case .pending where entry.timer == nil: attempt(key)
    case .pending, .applying, .applied, .refused: break
    }
  }

  private func drop(_ key: Key) {
    if let timer = entries.removeValue(forKey: key)?.timer { scheduler.cancel(timer) }
  }

  /// A driver came: what waits for it is tried at once.
  package func driverReady(_ protocolName: String) {
    for (key, entry) in entries where hub.assignment(key.device)?.protocolName == protocolName {
      guard entry.phase == .pending else { continue }
      attempt(key)
    }
  }

  /// Looks at readings for values that are not as they were left.
  package func observed(_ readings: [Reading]) {
    guard !entries.isEmpty else { return }
    for reading in readings where reading.quality.isGood {
      let key = Key(device: reading.device, property: reading.property)
      guard let entry = entries[key], case .applied(let left) = entry.phase else { continue }
      if reading.value == left {
        entries[key]?.failures = 0
      } else {
        logger.info("\(key.device) \(key.property) reads \(reading.value.deviceText), desired is \(left.deviceText)")
        entries[key]?.phase = .pending
        entries[key]?.row = nil
        retry(key)
      }
    }
  }

  private func retry(_ key: Key) {
    guard let entry = entries[key], entry.timer == nil else { return }
    let delay = Self.backoff.delay(entry.failures, random: random)
    entries[key]?.failures += 1
    entries[key]?.timer = scheduler.schedule(after: delay) { [weak self] in
      self?.entries[key]?.timer = nil
      self?.attempt(key)
    }
  }

  private func attempt(_ key: Key) {
    guard let entry = entries[key], entry.phase == .pending else { return }
    if let timer = entry.timer { scheduler.cancel(timer) }
    entries[key]?.timer = nil
    // Without an assignment or a driver nothing can be written; `driverReady` and the next change try again.
    guard let assignment = hub.assignment(key.device) else { return }
    entries[key]?.phase = .applying
    spawn { await self.apply(key, entry, assignment) }
  }

  private func apply(_ key: Key, _ entry: Entry, _ assignment: DeviceAssignment) async {
    do throws(SkerryError) {
      let row = try await auditRow(key, entry)
      guard entries[key]?.version == entry.version else {
        return try await finish(row, .expired, .null, .null, "a newer desired value took its place")
      }
      switch await write(key, entry.wanted) {
      case .success(let outcome):
        try await finish(row, .done, outcome.before, outcome.after, outcome.written ? "" : "it held the value already")
        settle(key, entry.version) { $0.phase = .applied(outcome.after) }
      case .failure(let error):
        try await failed(key, entry, assignment, row, error)
      }
    } catch {
      logger.error(.deviceStoreFailed, "a desired value could not be written down, so it was not applied: \(error)")
      settle(key, entry.version) { $0.phase = .pending }
      retry(key)
    }
  }

  private func write(_ key: Key, _ wanted: Value) async -> Result<WriteOutcome, DriverError> {
    do throws(DriverError) {
      return .success(
        try await hub.write(
          key.device, key.property, value: wanted, onlyIfDifferent: true, deadline: Self.deadline))
    } catch {
      return .failure(error)
    }
  }

  private func failed(
    _ key: Key, _ entry: Entry, _ assignment: DeviceAssignment, _ row: Int64, _ error: DriverError
  ) async throws(SkerryError) {
    switch error.kind {
    case .configuration, .value, .readBack:
      try await finish(row, .failed, .null, .null, error.message)
      guard hub.assignment(key.device) == assignment else {
        // Its description changed during the attempt.
        settle(key, entry.version) {
          $0.phase = .pending
          $0.row = nil
        }
        return attempt(key)
      }
      logger.warning(.deviceUnusable, "a desired value cannot be applied: \(error)", ["device": "\(key.device)"])
      settle(key, entry.version) {
        $0.phase = .refused(assignment)
        $0.row = nil
      }
    default:
      if entry.failures == Self.attemptsBeforeWarning {
        logger.warning(.deviceUnusable, "a desired value waits for its device: \(error)", ["device": "\(key.device)"])
      }
      if error.kind == .uncertain { try await finish(row, .unknown, .null, .null, error.message) }
      settle(key, entry.version) {
        $0.phase = .pending
        // What may have been written is a closed matter of its own; the next attempt is another.
        $0.row = error.kind == .uncertain ? nil : row
      }
      retry(key)
    }
  }

  /// Changes the entry if it still stands for the same value.
  private func settle(_ key: Key, _ version: UInt64, _ body: (inout Entry) -> Void) {
    guard var entry = entries[key], entry.version == version else { return }
    body(&entry)
    entries[key] = entry
  }

  /// The attempt's row in the audit: one for all attempts at a value until it is applied.
  private func auditRow(_ key: Key, _ entry: Entry) async throws(SkerryError) -> Int64 {
    if let row = entry.row { return row }
    let audit = AuditEntry(
      command: "", device: key.device, property: key.property, origin: "desired", caller: "", verb: "write",
      value: entry.wanted, state: .running, started: store.wallMilliseconds)
    let begun = try await store.perform { log throws(SkerryError) in try log.begin(audit) }
    guard case .begun(let row) = begun else { throw SkerryError(.internal, "a desired value's audit row was known") }
    return row
  }

  private func finish(
    _ row: Int64, _ state: CommandState, _ before: Value, _ after: Value, _ message: String
  ) async throws(SkerryError) {
    let now = store.wallMilliseconds
    try await store.perform { log throws(SkerryError) in
      try log.finish(row, state: state, before: before, after: after, message: message, now: now)
    }
  }
}
