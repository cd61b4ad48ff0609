import API
import Base
import Logging
import ObjectLog
import Sync
import Wire

/// Where the entries of a lane take effect.
@LoopActor package protocol LaneEffect: AnyObject {
  /// The stored cursor; 0 for an incarnation that was never seen.
  func cursor(node: String, lane: Lane, incarnation: Incarnation) throws(SkerryError) -> UInt64
  /// The node holds entries of these incarnations and no others: cursors of the rest are closed.
  func keepOnly(_ incarnations: [Incarnation], node: String, lane: Lane)
  /// Applies a batch and stores `batch.through` as the cursor behind its effect. Throws when nothing was stored.
  func apply(_ batch: LaneBatch, node: String, lane: Lane) async throws(SkerryError)
}

/// The cloud's end of one lane of one node, whatever session carries it: applies batches one after the other, only
/// those that start where its cursor stands. So a half-open session that still speaks has no effect.
@LoopActor package final class LaneSink {
  /// Batches that wait while one is applied; a sender that ignores the window loses its stream.
  static let maxQueued = 64

  package let node: String
  package let lane: Lane
  private let effect: any LaneEffect
  private let logger: Logger
  private let applied: Counter
  private var cursors: [Incarnation: UInt64] = [:]
  private var queue: [(batch: LaneBatch, pipe: any MessagePipe)] = []
  private var applying = false

  package init(node: String, lane: Lane, effect: any LaneEffect, logger: Logger, applied: Counter) {
    self.node = node
    self.lane = lane
    self.effect = effect
    self.logger = logger
    self.applied = applied
  }

  /// Takes over a `lane` stream: tells the cursors of the incarnations that the node still holds, then listens.
  package func attach(_ pipe: any MessagePipe, incarnations: [Incarnation]) {
    guard incarnations.count <= LaneMessage.maxIncarnations else {
      return pipe.fail(
        CallError(
          reason: "BadRequest",
          message: "\(incarnations.count) incarnations of lane \(lane.rawValue); at most \(LaneMessage.maxIncarnations)"
        ))
    }
    do throws(SkerryError) {
      cursors = cursors.filter { incarnations.contains($0.key) }
      effect.keepOnly(incarnations, node: node, lane: lane)
      var told: [Incarnation: UInt64] = [:]
      for incarnation in incarnations { told[incarnation] = try cursor(incarnation) }
      // The stream's closures keep the pipe, until the stream ends.
      pipe.onMessage = { [weak self] message in self?.received(message, pipe) }
      pipe.onEnd = { [weak self] _ in
        self?.queue.removeAll { $0.pipe === pipe }
        pipe.onMessage = nil
      }
      pipe.send(LaneMessage.cursors(told).encode())
    } catch {
      refuse(pipe, error)
    }
  }

  private func cursor(_ incarnation: Incarnation) throws(SkerryError) -> UInt64 {
    if let known = cursors[incarnation] { return known }
    let stored = try effect.cursor(node: node, lane: lane, incarnation: incarnation)
    cursors[incarnation] = stored
    return stored
  }

  private func refuse(_ pipe: any MessagePipe, _ error: SkerryError) {
    logger.error(HubLog.laneApply, "lane \(lane.rawValue) of node \(node): \(error)")
    pipe.fail(CallError(reason: "ServiceUnavailable", message: "\(error)"))
  }

  private func received(_ message: Bytes, _ pipe: any MessagePipe) {
    do throws(SkerryError) {
      guard case .batch(let batch) = try LaneMessage.decode(message) else {
        throw SkerryError(.protocolViolation, "a node sends batches on its lanes and nothing else")
      }
      guard queue.count < Self.maxQueued else {
        throw SkerryError(.limitExceeded, "more than \(Self.maxQueued) batches wait; the window was ignored")
      }
      queue.append((batch, pipe))
      applyNext()
    } catch {
      refuse(pipe, error)
    }
  }

  private func applyNext() {
    guard !applying, !queue.isEmpty else { return }
    applying = true
    let (batch, pipe) = queue.removeFirst()
    spawn {
      await self.take(batch, pipe)
      self.applying = false
      self.applyNext()
    }
  }

  private func take(_ batch: LaneBatch, _ pipe: any MessagePipe) async {
    do throws(SkerryError) {
      let position = try cursor(batch.incarnation)
      switch SinkDecision.decide(batch, cursor: position) {
      case .apply:
        try await effect.apply(batch, node: node, lane: lane)
        cursors[batch.incarnation] = batch.through
        applied.add(UInt64(batch.entries.count))
        pipe.send(LaneMessage.applied(batch.incarnation, number: batch.through, refused: false).encode())
      case .duplicate:
        pipe.send(LaneMessage.applied(batch.incarnation, number: position, refused: false).encode())
      case .outOfOrder:
        pipe.send(LaneMessage.applied(batch.incarnation, number: position, refused: true).encode())
      }
    } catch {
      refuse(pipe, error)
    }
  }
}

/// Status, events and replies: their effect is in the object log, and so is their cursor, as a private key.
@LoopActor package final class ObjectLaneEffect: LaneEffect {
  private let writer: any LaneWriter
  private let log: any ObjectLog
  private let logger: Logger
  private let refused: Counter

  package init(writer: any LaneWriter, log: any ObjectLog, logger: Logger, refused: Counter) {
    self.writer = writer
    self.log = log
    self.logger = logger
    self.refused = refused
  }

  private func key(_ node: String, _ lane: Lane, _ incarnation: Incarnation) -> String {
    "lanes/\(node)/\(lane.rawValue)/\(incarnation)"
  }

  package func cursor(node: String, lane: Lane, incarnation: Incarnation) throws(SkerryError) -> UInt64 {
    guard let bytes = try log.privateValue(key(node, lane, incarnation)), bytes.count == 8 else { return 0 }
    return bytes.bigEndian(at: 0)
  }

  package func keepOnly(_ incarnations: [Incarnation], node: String, lane: Lane) {
    let kept = Set(incarnations.map { key(node, lane, $0) })
    guard let stored = try? log.privateValues(prefix: "lanes/\(node)/\(lane.rawValue)/") else { return }
    let over = stored.map(\.key).filter { !kept.contains($0) }
    guard !over.isEmpty else { return }
    let change = Change(
      key: "lanes//", guarding: .any, operation: .privatesOnly, privates: over.map { (key: $0, value: nil) })
    // A cursor that could not be closed is closed at the next session.
    log.append([change]) { _ in }
  }

  package func apply(_ batch: LaneBatch, node: String, lane: Lane) async throws(SkerryError) {
    var intents: [LaneIntent] = []
    for entry in batch.entries {
      do throws(SkerryError) {
        if let intent = try Self.intent(entry.payload) { intents.append(intent) }
      } catch {
        refuse(node, lane, "entry \(entry.number): \(error)")
      }
    }
    var value: Bytes = []
    value.append(bigEndian: batch.through)
    do throws(APIError) {
      let results = try await writer.applyLane(
        intents, cursor: (key(node, lane, batch.incarnation), value), caller: .node(node, origin: .lane))
      for case .some(let error) in results { refuse(node, lane, error.message) }
    } catch {
      throw SkerryError(.unavailable, "lane \(lane.rawValue) of node \(node) could not be applied", cause: error)
    }
  }

  private func refuse(_ node: String, _ lane: Lane, _ message: String) {
    refused.add()
    logger.warning(HubLog.intentRefused, "lane \(lane.rawValue) of node \(node) was refused an entry: \(message)")
  }

  private static func intent(_ payload: Bytes) throws(SkerryError) -> LaneIntent? {
    switch try LanePayload.decode(payload) {
    case .status(let key, let uid, let fields): return .status(try reference(key), uid: uid, fields: fields)
    case .gone(let key, let uid): return .podGone(try reference(key), uid: uid)
    case .event(let namespace, let object): return .event(namespace: namespace, object: object)
    case .dropped: return nil
    }
  }

  private static func reference(_ key: String) throws(SkerryError) -> ObjectReference {
    let parts = key.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
    guard parts.count == 3 else { throw SkerryError(.invalidArgument, "\"\(key)\" is not a key") }
    return ObjectReference(resource: parts[0], namespace: parts[1], name: parts[2])
  }
}
