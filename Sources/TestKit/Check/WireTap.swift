import Base
import Sync
import Wire

/// Listens in on one connection, below the sessions, and counts what their state machines do.
@LoopActor package final class WireTap {
  private enum Kind {
    case slice(log: String, position: Int64)
    case following
    /// With the incarnations that its messages name by their places.
    case lane(String, [Incarnation])
  }
  private unowned let world: SimWorld
  private var up = FrameDecoder()
  private var down = FrameDecoder()
  private var kinds: [UInt32: Kind] = [:]
  /// Batches of a lane that were not answered yet, and when they were sent.
  private var unanswered: [UInt32: [(batch: Ledger.Sent?, at: UInt64)]] = [:]
  private var continues: Set<UInt64> = []
  private var isBroken = false

  /// Taps both directions of a new connection.
  package static func attach(_ dialling: SimStream, _ accepting: SimStream, world: SimWorld) {
    let tap = WireTap(world)
    dialling.tap = { tap.heard($0, isUp: true) }
    accepting.tap = { tap.heard($0, isUp: false) }
  }

  private init(_ world: SimWorld) { self.world = world }

  private func heard(_ bytes: Bytes, isUp: Bool) {
    world.trace.mix(bytes)
    guard !isBroken else { return }
    var frames: [Frame] = []
    do throws(SkerryError) {
      if isUp { try up.decode(bytes, into: &frames) } else { try down.decode(bytes, into: &frames) }
    } catch { isBroken = true }
    for frame in frames { took(frame, isUp: isUp) }
  }

  private func took(_ frame: Frame, isUp: Bool) {
    let key = UInt64(frame.stream) * 2 + (isUp ? 1 : 0)
    let isContinuation = continues.contains(key)
    let carries = [.open, .data, .end].contains(frame.type)
    if carries, frame.flags.contains(.more) {
      continues.insert(key)
      world.take(.messageSplit)
    } else if carries {
      continues.remove(key)
    }
    if isContinuation { return }
    switch frame.type {
    case .hello: world.take(.hello)
    case .welcome: world.take(.welcome)
    case .ping: world.take(frame.flags.contains(.reply) ? .pong : .ping)
    case .goAway: world.take(Self.transition(of: frame.payload))
    case .open: opened(frame)
    case .data: message(frame, isUp: isUp)
    case .credit: world.take(.streamCredit)
    case .end: world.take(.streamEnded)
    case .reset: world.take(.streamReset)
    default: break
    }
  }

  private static func transition(of goAway: Bytes) -> Transition {
    switch (try? GoAway(goAway))?.reason {
    case GoAway.shutdown: .goAwayShutdown
    case GoAway.timeout: .goAwayTimeout
    case GoAway.unsupportedVersion: .goAwayVersion
    default: .goAwayOther
    }
  }

  private func opened(_ frame: Frame) {
    world.take(.streamOpened)
    guard let open = try? OpenMessage(frame.payload) else { return }
    switch open.method {
    case "slice":
      let params = (try? CBOR.decode(open.params)) ?? .null
      kinds[frame.stream] = .slice(log: params["log"].string ?? "", position: params["position"].int ?? 0)
    case "lane":
      let params = (try? CBOR.decode(open.params)) ?? .null
      let names = (params["incarnations"].array ?? []).compactMap { $0.string.flatMap { Bytes(hex: $0) } }
      kinds[frame.stream] = .lane(params["lane"].string ?? "", names.compactMap { Incarnation($0) })
      if names.count > 1 { world.take(.laneIncarnations) }
    default: break
    }
  }

  private func message(_ frame: Frame, isUp: Bool) {
    guard let kind = kinds[frame.stream], frame.payload.count > 1 else { return }
    switch kind {
    case .lane(let lane, let names): self.lane(frame, lane, names, isUp: isUp)
    case .slice, .following: if !isUp { slice(frame, kind) }
    }
  }

  private func slice(_ frame: Frame, _ kind: Kind) {
    switch frame.payload[1] {
    case 1:
      if case .slice(let log, let position) = kind,
        case .resume(let id, _, let at)? = try? SliceMessage.decode(frame.payload)
      {
        world.take(id.hex == log && Int64(at) == position ? .sliceByCursor : .sliceByDigest)
      }
      kinds[frame.stream] = .following
    case 2: world.take(.sliceSnapshot)
    case 3: world.take(.sliceObject)
    case 4: world.take(.sliceKeep)
    case 5:
      world.take(.sliceEnd)
      kinds[frame.stream] = .following
    case 6: world.take(.slicePosition)
    case 7:
      if case .following = kind { world.take(.sliceLagged) } else { world.take(.sliceInventory) }
    default: break
    }
  }

  private func lane(_ frame: Frame, _ lane: String, _ names: [Incarnation], isUp: Bool) {
    if isUp {
      world.take(.laneBatch)
      unanswered[frame.stream, default: []].append((Self.sent(frame, lane, names), world.time.now))
      return
    }
    switch try? LaneMessage.decode(frame.payload, names) {
    case .cursors(let cursors): world.take(cursors.values.contains { $0 > 0 } ? .laneResumed : .laneNew)
    case .applied(_, let number, let refused): answered(frame.stream, number, isRefused: refused)
    default: break
    }
  }

  /// The sink answered a batch. Those before it that took effect were answered by the slice.
  private func answered(_ stream: UInt32, _ number: UInt64, isRefused: Bool) {
    while unanswered[stream]?.isEmpty == false, let sent = unanswered[stream]?.removeFirst() {
      if let batch = sent.batch, !world.ledger.tookEffect(batch, at: sent.at) {
        return world.take(isRefused ? .laneRefused : .laneDuplicate)
      }
      world.take(.laneApplied)
      if !isRefused, sent.batch.map({ $0.through == number }) ?? true { return }
    }
  }

  /// The batch in a message; nil if it goes on in another frame.
  private static func sent(_ frame: Frame, _ lane: String, _ names: [Incarnation]) -> Ledger.Sent? {
    switch try? LaneMessage.decode(frame.payload, names) {
    case .batch(let batch):
      Ledger.Sent(lane: lane, incarnation: batch.incarnation, after: batch.after, through: batch.through)
    case .readings(let packed):
      (try? ReadingBlock.count(packed.block)).map {
        Ledger.Sent(
          lane: lane, incarnation: packed.incarnation, after: packed.after, through: packed.after + UInt64($0))
      }
    default: nil
    }
  }
}
