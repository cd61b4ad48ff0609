import Base
import Logging
import Sync
import Transport
import Wire

/// Forwards device readings from devicecore's store to the cloud, without storing them: the readings lane's
/// incarnations and numbers are that store's, and the cloud's cursor goes back to it.
///
/// Runs while there is a session on both sides; when either breaks it begins again from the cloud's cursor.
@LoopActor package final class ReadingsForwarder {
  static let page = 500
  static let retry = Duration.seconds(1)
  static let callDeadline = Duration.seconds(10)

  private let scheduler: any Scheduler
  private let logger: Logger
  private let forwarded: Counter
  private var device: Session?
  private var cloud: Session?
  private var task: Task<Void, Never>?

  package init(scheduler: any Scheduler, metrics: Metrics, logger: Logger) {
    self.scheduler = scheduler
    self.logger = logger
    forwarded = metrics.counter("skerry_readings_forwarded_total", "Device readings sent to the cloud.")
  }

  /// devicecore connected, or nil: it went.
  package func deviceSession(_ session: Session?) {
    device = session
    restart()
  }

  /// A session with the cloud is ready, or nil: it ended.
  package func cloudSession(_ session: Session?) {
    cloud = session
    restart()
  }

  /// The session to ask for commands; nil while devicecore is not there.
  package var devices: Session? { device }

  private func restart() {
    task?.cancel()
    task = nil
    guard let device, let cloud else { return }
    task = spawn { await self.run(device, cloud) }
  }

  private func run(_ device: Session, _ cloud: Session) async {
    while !Task.isCancelled, !device.isClosed, !cloud.isClosed {
      do {
        try await forward(device, cloud)
      } catch {
        logger.debug("the readings lane begins again: \(error)")
      }
      try? await scheduler.sleep(for: Self.retry)
    }
  }

  private struct Held: Sendable {
    let id: Incarnation
    let last: UInt64
  }

  private func forward(_ device: Session, _ cloud: Session) async throws {
    let held = try await incarnations(device)
    let lane = cloud.open(
      method: "lane",
      params: [
        "lane": .string(Lane.readings.rawValue), "incarnations": .array(held.map { .string($0.id.description) }),
      ], priority: .telemetry)
    defer { lane.reset("the readings lane begins again") }
    guard let first = try await lane.receive(), case .cursors(let cursors) = try LaneMessage.decode(first) else {
      throw SkerryError(.protocolViolation, "the cloud did not tell the cursors of the readings lane")
    }
    // Older incarnations are finished before younger ones begin, so the first that is not finished is where to go on.
    let start = held.first { cursors[$0.id] ?? 0 < $0.last } ?? held.last
    var parameters: Value = ["limit": .int(Int64(Self.page))]
    if let start {
      parameters["incarnation"] = .string(start.id.description)
      parameters["after"] = .int(Int64(clamping: cursors[start.id] ?? 0))
    } else {
      parameters["after"] = 0
    }
    let pull = device.open(method: "readings.pull", params: parameters, priority: .telemetry)
    defer { pull.reset("the readings lane begins again") }
    let answers = spawnThrowing { try await self.acknowledge(lane, device, pull) }
    defer { answers.cancel() }
    while let message = try await pull.receive() {
      let batch = try Self.batch(message)
      try await lane.sendWaiting(LaneMessage.batch(batch).encode())
      forwarded.add(UInt64(batch.entries.count))
    }
    throw SkerryError(.closed, "devicecore ended the stream")
  }

  private func incarnations(_ device: Session) async throws(SkerryError) -> [Held] {
    do throws(CallError) {
      let answer = try await device.call(method: "readings.incarnations", params: [:], deadline: Self.callDeadline)
      return (answer["incarnations"].array ?? []).compactMap { item in
        guard let id = Bytes(hex: item["i"].string ?? "").flatMap(Incarnation.init), let last = item["last"].int else {
          return nil
        }
        return Held(id: id, last: UInt64(clamping: last))
      }
    } catch {
      throw SkerryError(.unavailable, "devicecore does not tell its incarnations: \(error)")
    }
  }

  /// What the cloud has applied may be forgotten below; a refused batch ends both streams.
  private func acknowledge(_ lane: SessionStream, _ device: Session, _ pull: SessionStream) async throws {
    defer { pull.reset("the readings lane ended") }
    while let message = try await lane.receive() {
      guard case .applied(let incarnation, let number, let refused) = try LaneMessage.decode(message) else { continue }
      if refused { throw SkerryError(.conflict, "the cloud's cursor of the readings lane is \(number)") }
      _ = try await device.call(
        method: "readings.ack",
        params: ["i": .string(incarnation.description), "t": .int(Int64(clamping: number))],
        deadline: Self.callDeadline)
    }
  }

  /// devicecore's page as a batch of the lane.
  static func batch(_ message: Bytes) throws(SkerryError) -> LaneBatch {
    let page = try CBOR.decode(message)
    guard let incarnation = Bytes(hex: page["i"].string ?? "").flatMap(Incarnation.init),
      let after = page["a"].int, let through = page["t"].int, after >= 0, through >= after
    else { throw SkerryError(.protocolViolation, "a page of readings without i, a and t") }
    var entries: [LaneEntry] = []
    for row in page["r"].array ?? [] {
      guard let reading = reading(row) else {
        throw SkerryError(.protocolViolation, "a reading that is no row of seven")
      }
      entries.append(LaneEntry(number: reading.number, payload: CBOR.encode(reading.encoded)))
    }
    if !page["lost"].isNull {
      func number(_ key: String) -> UInt64 { UInt64(clamping: page["lost"][key].int ?? 0) }
      let lost = LanePayload.dropped(from: number("from"), to: number("to"), count: number("count"))
      entries = [LaneEntry(number: UInt64(through), payload: lost.encode())]
    }
    return LaneBatch(incarnation: incarnation, after: UInt64(after), through: UInt64(through), entries: entries)
  }

  /// `[number, device, property, type, value, quality, time]`, the value as it is or as text.
  private static func reading(_ row: Value) -> Reading? {
    guard var fields = row.array, fields.count == 7 else { return nil }
    switch fields[4] {
    case .string: break
    case .int(let value): fields[4] = .string(String(value))
    case .double(let value): fields[4] = .string(String(value))
    case .bool(let value): fields[4] = .string(value ? "true" : "false")
    case .null, .array, .object: fields[4] = ""
    }
    return Reading(.array(fields))
  }
}
