import Base
import Sync
import Wire

/// One lane of a hollow node: production's sender over entries that are kept in memory.
@LoopActor final class HollowLane {
  let lane: Lane
  let incarnation: Incarnation
  private var sender: LaneSender?
  private var entries: [LaneEntry] = []
  private var due: [UInt64] = []
  /// The number before the first of `entries`.
  private var base: UInt64 = 0
  private var stream: UInt32 = 0
  private weak var link: HollowLink?
  /// Entries that the cloud has applied.
  private(set) var applied: UInt64 = 0

  init(_ lane: Lane, random: any RandomSource) {
    self.lane = lane
    guard let incarnation = Incarnation(random.bytes(16)) else { preconditionFailure("16 bytes are an incarnation") }
    self.incarnation = incarnation
  }

  private var last: UInt64 { base + UInt64(entries.count) }
  var waiting: Int { entries.count }

  func open(on link: HollowLink) {
    self.link = link
    sender = nil
    stream = link.open(
      "lane",
      CBOR.encode(["lane": .string(lane.rawValue), "incarnations": [.string(incarnation.description)]]),
      priority: lane == .status ? .status : .telemetry, last: false)
  }

  func owns(_ id: UInt32) -> Bool { id == stream && link != nil }

  /// Adds an entry that was due at `time`.
  func add(_ payload: Bytes, due time: UInt64) {
    entries.append(LaneEntry(number: last + 1, payload: payload))
    due.append(time)
  }

  /// What `add` will number its next entry.
  var nextNumber: UInt64 { last + 1 }

  /// Sends what waits.
  func push() {
    sender?.grew(incarnation, last: last)
    pump()
  }

  /// A message of the sink; latencies of what it applied go to `tally`.
  func took(_ message: UnsafeRawBufferPointer, now: UInt64, into tally: inout Tally) {
    switch try? LaneMessage.decode(Bytes(message), [incarnation]) {
    case .cursors(let cursors):
      if let known = cursors[incarnation], known > base { forget(through: known, now: now, into: &tally) }
      sender = LaneSender(
        incarnations: [(incarnation, last)], cursors: [incarnation: max(base, cursors[incarnation] ?? 0)])
    case .applied(let id, let number, let refused):
      if sender?.acknowledged(id, through: number, refused: refused) == true {
        forget(through: number, now: now, into: &tally)
      }
    case .batch, .readings, nil: tally.damaged += 1
    }
    push()
  }

  private func forget(through number: UInt64, now: UInt64, into tally: inout Tally) {
    let count = Int(min(number - min(base, number), UInt64(entries.count)))
    for index in 0..<count {
      tally.latency.record(now > due[index] ? now - due[index] : 0)
    }
    tally.deliveries += UInt64(count)
    applied += UInt64(count)
    entries.removeFirst(count)
    due.removeFirst(count)
    base += UInt64(count)
  }

  func pump() {
    guard let link, link.isReady, sender != nil else { return }
    while link.canSend(on: stream), let range = sender?.next() {
      let (from, to) = (Int(range.after - base), Int(range.through - base))
      guard from >= 0, to <= entries.count else { return }
      let batch = LaneBatch(
        incarnation: incarnation, after: range.after, through: range.through, entries: Array(entries[from..<to]))
      link.send(LaneMessage.batch(batch).encode([incarnation]), on: stream)
      sender?.didSend(incarnation, through: range.through)
    }
  }
}
