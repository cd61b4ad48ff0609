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
  /// Readings a batch.
  static let page = 2000
  static let retry = Duration.seconds(1)
  static let callDeadline = Duration.seconds(10)

  private let gather: Duration
  private let scheduler: any Scheduler
  private let logger: Logger
  private let forwarded: Counter
  private var device: Session?
  private var cloud: Session?
  private var task: Task<Void, Never>?
  /// Readings that devicecore holds and the cloud has not, as long as they do not just come and go; 0 where nobody knows.
  package private(set) var backlog: UInt64 = 0
  /// What is pulled comes in full pages: there is more than what has just been read.
  private var isBehind = false

  /// `gather` is how long readings wait for others that can travel with them.
  package init(gather: Duration = .zero, scheduler: any Scheduler, metrics: Metrics, logger: Logger) {
    self.gather = gather
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
    backlog = 0
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
    let names = held.map(\.id)
    let lane = cloud.open(
      method: "lane",
      params: [
        "lane": .string(Lane.readings.rawValue), "incarnations": .array(held.map { .string($0.id.description) }),
      ], priority: .telemetry)
    defer { lane.reset("the readings lane begins again") }
    guard let first = try await lane.receive(), case .cursors(let cursors) = try LaneMessage.decode(first, names) else {
      throw SkerryError(.protocolViolation, "the cloud did not tell the cursors of the readings lane")
    }
    backlog = held.reduce(0) { $0 + ($1.last - min(cursors[$1.id] ?? 0, $1.last)) }
    isBehind = true
    // Older incarnations are finished before younger ones begin, so the first that is not finished is where to go on.
    let start = held.first { cursors[$0.id] ?? 0 < $0.last } ?? held.last
    var parameters: Value = ["limit": .int(Int64(Self.page)), "gather": .int(gather.milliseconds)]
    if let start {
      parameters["incarnation"] = .string(start.id.description)
      parameters["after"] = .int(Int64(clamping: cursors[start.id] ?? 0))
    } else {
      parameters["after"] = 0
    }
    let pull = device.open(method: "readings.pull", params: parameters, priority: .telemetry)
    defer { pull.reset("the readings lane begins again") }
    let answers = spawnThrowing { try await self.acknowledge(lane, device, pull, names) }
    defer { answers.cancel() }
    while let message = try await pull.receive() {
      let (bytes, count) = try Self.forwarded(message, names)
      try await lane.sendWaiting(bytes)
      isBehind = count >= Self.page
      forwarded.add(UInt64(count))
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
  private func acknowledge(
    _ lane: SessionStream, _ device: Session, _ pull: SessionStream, _ names: [Incarnation]
  ) async throws {
    defer { pull.reset("the readings lane ended") }
    while let message = try await lane.receive() {
      guard case .applied(let incarnation, let number, let refused) = try LaneMessage.decode(message, names)
      else { continue }
      if refused { throw SkerryError(.conflict, "the cloud's cursor of the readings lane is \(number)") }
      let answer = try await device.call(
        method: "readings.ack",
        params: ["i": .string(incarnation.description), "t": .int(Int64(clamping: number))],
        deadline: Self.callDeadline)
      backlog = isBehind ? UInt64(clamping: answer["waiting"].int ?? 0) : 0
    }
  }

  /// devicecore's message as the lane carries it: with the incarnation as its place in `names`, the block as it is.
  nonisolated static func forwarded(_ message: Bytes, _ names: [Incarnation]) throws(SkerryError) -> (Bytes, count: Int)
  {
    let decoded = try LaneMessage.decode(message)
    switch decoded {
    case .batch(let batch): return (decoded.encode(names), batch.entries.count)
    case .readings(let packed): return (decoded.encode(names), try ReadingBlock.count(packed.block))
    case .cursors, .applied: throw SkerryError(.protocolViolation, "devicecore sent no batch of readings")
    }
  }
}
