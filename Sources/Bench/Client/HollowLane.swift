import Base
import Sync
import Wire

/// The status lane of a hollow node: production's sender over entries that are kept in memory.
@LoopActor final class HollowLane {
  let incarnation: Incarnation
  private var sender: LaneSender?
  private var entries: [LaneEntry] = []
  private var due: [UInt64] = []
  /// The log keys that entries are about, by their numbers; also of the latest that are applied, since the slice names
  /// objects by them.
  private var keys: [UInt64: String] = [:]
  /// The number before the first of `entries`.
  private var base: UInt64 = 0
  private var stream: UInt32 = 0
  private weak var link: HollowLink?
  /// Entries that the cloud has applied.
  private(set) var applied: UInt64 = 0

  init(random: any RandomSource) {
    guard let incarnation = Incarnation(random.bytes(16)) else { preconditionFailure("16 bytes are an incarnation") }
    self.incarnation = incarnation
  }

  /// Applied entries whose keys are remembered at least.
  private static let remembered: UInt64 = 64

  private var last: UInt64 { base + UInt64(entries.count) }
  var waiting: Int { entries.count }

  func open(on link: HollowLink) {
    self.link = link
    sender = nil
    stream = link.open(
      "lane",
      CBOR.encode([
        "lane": .string(Lane.status.rawValue), "incarnations": [.string(incarnation.description)], "told": true,
      ]),
      priority: .status, last: false)
  }

  func owns(_ id: UInt32) -> Bool { id == stream && link != nil }

  /// Adds an entry about an object that was due at `time`.
  func add(_ payload: Bytes, about key: String, due time: UInt64) {
    keys[last + 1] = key
    entries.append(LaneEntry(number: last + 1, payload: payload))
    due.append(time)
  }

  /// Sends what waits.
  func push() {
    sender?.grew(incarnation, last: last)
    pump()
  }

  /// A message of the sink; latencies of what it applied go to `tally`.
  func took(_ message: UnsafeRawBufferPointer, now: UInt64, into tally: inout Tally) {
    switch try? LaneMessage.decode(Bytes(message), [incarnation]) {
    case .cursors(let cursors):
      if cursors[incarnation] ?? 0 > last { tally.damaged += 1 }
      if let known = cursors[incarnation], known > base { forget(through: known, now: now, into: &tally) }
      sender = LaneSender(
        incarnations: [(incarnation, last)], cursors: [incarnation: max(base, cursors[incarnation] ?? 0)])
    case .applied(let id, let number, let refused):
      // What was not made cannot have been applied.
      guard id == incarnation, number <= last else {
        tally.damaged += 1
        return
      }
      if sender?.acknowledged(id, through: number, refused: refused) == true {
        forget(through: number, now: now, into: &tally)
      }
    case .batch, .readings, nil: tally.damaged += 1
    }
    push()
  }

  /// The object that an entry was about; nil if it was never made, or long ago.
  func key(toldBy number: UInt64) -> String? { keys[number] }

  /// The slice said that the lane is applied through `number`, which was made.
  func told(through number: UInt64, now: UInt64, into tally: inout Tally) {
    guard sender?.acknowledged(incarnation, through: number, refused: false) == true else { return }
    forget(through: number, now: now, into: &tally)
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
    guard keys.count > entries.count + 2 * Int(Self.remembered) else { return }
    let (applied, kept) = (base, Self.remembered)
    keys = keys.filter { $0.key + kept > applied }
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
