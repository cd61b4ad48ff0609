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
  /// The node holds entries of these incarnations and no others: cursors of the rest are closed. A closed cursor is
  /// kept, of at most `LaneSink.maxClosedCursors` incarnations: a node that was restored from a backup brings entries
  /// back that took effect long ago.
  func keepOnly(_ incarnations: [Incarnation], node: String, lane: Lane)
  /// Applies a batch and stores `batch.through` as the cursor behind its effect. Throws when nothing was stored.
  func apply(_ batch: LaneBatch, node: String, lane: Lane) async throws(SkerryError)
}

/// The cloud's end of one lane of one node, whatever session carries it: applies batches one after the other, only
/// those that start where its cursor stands. So a half-open session that still speaks has no effect.
@LoopActor package final class LaneSink {
  /// Batches that wait while one is applied; a sender that ignores the window loses its stream.
  static let maxQueued = 64
  /// Cursors of incarnations that ended and are remembered for each lane of a node, the newest: a node's store that
  /// comes out of a backup older than so many restarts of its edgecore may have entries take effect again.
  package nonisolated static let maxClosedCursors = 256

  package let node: String
  package let lane: Lane
  private let effect: any LaneEffect
  private let logger: Logger
  private let applied: Counter
  private var cursors: [Incarnation: UInt64] = [:]
  private var queue: [(batch: LaneBatch, pipe: any MessagePipe)] = []
  private var applying = false
  /// The stream that speaks for the node, and the rank of its session.
  private var owner: (pipe: any MessagePipe, session: UInt64)?
  /// What each stream was opened with, and the series that it named.
  private var streams: [ObjectIdentifier: Opened] = [:]

  private struct Opened {
    let names: [Incarnation]
    var series = SeriesTable()
    let isTold: ToldElsewhere?
  }

  /// Whether the node hears in another way that an incarnation is applied through a number.
  package typealias ToldElsewhere = (_ incarnation: Incarnation, _ number: UInt64) -> Bool

  package init(node: String, lane: Lane, effect: any LaneEffect, logger: Logger, applied: Counter) {
    self.node = node
    self.lane = lane
    self.effect = effect
    self.logger = logger
    self.applied = applied
  }

  /// Takes over a `lane` stream: tells the cursors of the incarnations that the node still holds, then listens. From
  /// here on nothing that comes over an earlier stream has an effect; a stream of an older session than the one that
  /// speaks is refused. `session` is the session's rank: later ones have higher ranks. What `isTold` says yes to is not
  /// answered.
  package func attach(
    _ pipe: any MessagePipe, incarnations: [Incarnation], session: UInt64 = 0, isTold: ToldElsewhere? = nil
  ) {
    if let owner, owner.session > session {
      return pipe.fail(LaneSink.fenced("lane \(lane.rawValue) of node \(node)"))
    }
    guard incarnations.count <= LaneMessage.maxIncarnations else {
      return pipe.fail(
        CallError(
          reason: "BadRequest",
          message: "\(incarnations.count) incarnations of lane \(lane.rawValue); at most \(LaneMessage.maxIncarnations)"
        ))
    }
    if let before = owner { release(before.pipe) }
    owner = (pipe, session)
    do throws(SkerryError) {
      cursors = cursors.filter { incarnations.contains($0.key) }
      effect.keepOnly(incarnations, node: node, lane: lane)
      var told: [Incarnation: UInt64] = [:]
      for incarnation in incarnations { told[incarnation] = try cursor(incarnation) }
      // The stream's closures keep the pipe, until the stream ends.
      streams[ObjectIdentifier(pipe)] = Opened(names: incarnations, isTold: isTold)
      pipe.onMessage = { [weak self] message in self?.received(message, pipe) }
      pipe.onEnd = { [weak self] _ in
        self?.queue.removeAll { $0.pipe === pipe }
        if self?.owner?.pipe === pipe { self?.owner = nil }
        self?.streams[ObjectIdentifier(pipe)] = nil
        pipe.onMessage = nil
      }
      pipe.send(LaneMessage.cursors(told).encode(incarnations))
    } catch {
      refuse(pipe, error)
    }
  }

  /// What a stream hears that came too late.
  package static func fenced(_ what: String) -> CallError {
    CallError(reason: "Conflict", message: "\(what) is spoken for by a newer session of the node")
  }

  /// An earlier stream is not listened to any more, and what it said and was not begun with is forgotten.
  private func release(_ pipe: any MessagePipe) {
    queue.removeAll { $0.pipe === pipe }
    streams[ObjectIdentifier(pipe)] = nil
    pipe.onMessage = nil
    pipe.onEnd = nil
    pipe.fail(LaneSink.fenced("lane \(lane.rawValue) of node \(node)"))
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
      let batch = try batch(message, pipe)
      guard queue.count < Self.maxQueued else {
        throw SkerryError(.limitExceeded, "more than \(Self.maxQueued) batches wait; the window was ignored")
      }
      queue.append((batch, pipe))
      applyNext()
    } catch {
      refuse(pipe, error)
    }
  }

  private func batch(_ message: Bytes, _ pipe: any MessagePipe) throws(SkerryError) -> LaneBatch {
    let id = ObjectIdentifier(pipe)
    switch try LaneMessage.decode(message, streams[id]?.names ?? []) {
    case .batch(let batch): return batch
    case .readings(let packed):
      guard lane == .readings, var series = streams[id]?.series else {
        throw SkerryError(.protocolViolation, "packed readings on lane \(lane.rawValue)")
      }
      let batch = try series.unpack(packed)
      streams[id]?.series = series
      return batch
    case .cursors, .applied:
      throw SkerryError(.protocolViolation, "a node sends batches on its lanes and nothing else")
    }
  }

  private func applyNext() {
    guard !applying, let first = next() else { return }
    applying = true
    spawn {
      var now = first
      while true {
        await self.take(now.batch, now.pipe)
        guard let next = self.next() else { break }
        now = next
      }
      self.applying = false
    }
  }

  /// What waited while the batch before it was applied: all that follows on it and came over one stream is one batch, so
  /// that a node is not a commit behind for each. The answer to the last answers them all.
  private func next() -> (batch: LaneBatch, pipe: any MessagePipe)? {
    guard var first = queue.first else { return nil }
    var count = 1
    // What will be refused or is a repetition is answered by itself.
    let isDue = cursors[first.batch.incarnation] == first.batch.after
    while isDue, count < queue.count, queue[count].pipe === first.pipe,
      let joined = first.batch.joined(queue[count].batch)
    {
      first.batch = joined
      count += 1
    }
    queue.removeFirst(count)
    return first
  }

  private func take(_ batch: LaneBatch, _ pipe: any MessagePipe) async {
    let names = streams[ObjectIdentifier(pipe)]?.names ?? []
    func answer(_ number: UInt64, refused: Bool) {
      pipe.send(LaneMessage.applied(batch.incarnation, number: number, refused: refused).encode(names))
    }
    do throws(SkerryError) {
      let position = try cursor(batch.incarnation)
      switch SinkDecision.decide(batch, cursor: position) {
      case .apply:
        try await effect.apply(batch, node: node, lane: lane)
        cursors[batch.incarnation] = batch.through
        applied.add(UInt64(batch.entries.count + (batch.packed?.count ?? 0)))
        if streams[ObjectIdentifier(pipe)]?.isTold?(batch.incarnation, batch.through) != true {
          answer(batch.through, refused: false)
        }
      case .duplicate: answer(position, refused: false)
      case .outOfOrder: answer(position, refused: true)
      }
    } catch {
      refuse(pipe, error)
    }
  }
}
