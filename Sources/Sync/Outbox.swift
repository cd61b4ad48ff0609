import Base

/// The upward logs of a node.
package enum Lane: String, Sendable, Hashable, CaseIterable {
  case status
  case events
  case readings
  case replies

  /// Whether an entry that was superseded by a newer one of the same subject may be skipped.
  package var latestWins: Bool { self == .status }
}

/// A lane's log id is (node uid, lane, incarnation): the incarnation is 16 random bytes drawn when the store that
/// holds the entries is opened, so that no number is ever reused, whatever was restored or wiped.
package struct Incarnation: Sendable, Hashable, CustomStringConvertible {
  package let bytes: Bytes
  package init?(_ bytes: Bytes) {
    guard bytes.count == 16 else { return nil }
    self.bytes = bytes
  }
  package var description: String { bytes.hex }
}

/// One entry of a lane, numbered from 1 within its incarnation.
package struct LaneEntry: Sendable, Hashable {
  package let number: UInt64
  package let payload: Bytes
  package init(number: UInt64, payload: Bytes) {
    self.number = number
    self.payload = payload
  }
}

/// A piece of a lane on its way: "after a, through b". Numbers between that carry no entry were superseded.
package struct LaneBatch: Sendable, Hashable {
  package var incarnation: Incarnation
  package var after: UInt64
  package var through: UInt64
  package var entries: [LaneEntry]
  /// Of the readings lane, where they travel packed: an entry each.
  package var packed: ReadingBatch?
  /// No entry of this incarnation will follow: the sink may close its cursor.
  package var closes: Bool
  package init(
    incarnation: Incarnation, after: UInt64, through: UInt64, entries: [LaneEntry] = [],
    packed: ReadingBatch? = nil, closes: Bool = false
  ) {
    self.packed = packed
    self.incarnation = incarnation
    self.after = after
    self.through = through
    self.entries = entries
    self.closes = closes
  }

  /// The readings that travelled packed, one by one.
  package var readings: [Reading] { packed?.list(after: after) ?? [] }

  /// This batch and the one that follows on it as one; nil if it does not follow, closes anything or travelled packed, or
  /// if there would be more entries than a batch may have.
  package func joined(_ next: LaneBatch) -> LaneBatch? {
    guard next.incarnation == incarnation, next.after == through, !closes, !next.closes, packed == nil,
      next.packed == nil, entries.count + next.entries.count <= LaneSender.maxBatchEntries
    else { return nil }
    var joined = self
    joined.through = next.through
    joined.entries += next.entries
    return joined
  }

  /// The one entry behind `after` and nothing else: said in fewer bytes.
  var isOne: Bool {
    guard !closes, entries.count == 1, let only = entries.first?.number else { return false }
    return only == through && only > after && only - after == 1
  }
}

/// What a sink does with a batch, given its cursor for that incarnation.
package enum SinkDecision: Sendable, Hashable {
  case apply
  /// Everything in it was applied before (its answer was lost): answer the cursor again.
  case duplicate
  /// It does not start where the cursor stands: an old session that still speaks, or a gap. Answer the cursor.
  case outOfOrder

  /// `cursor` is the number that was applied last; 0 for an incarnation that the sink never saw.
  package static func decide(_ batch: LaneBatch, cursor: UInt64) -> SinkDecision {
    if batch.after == cursor { return .apply }
    if batch.through <= cursor { return .duplicate }
    return .outOfOrder
  }
}

/// The sender's half of a lane over one session: what to send next, from the sink's cursors and what the store holds.
///
/// Several batches travel at once (`window`); the sink's answers are cumulative. After a disconnect a new sender
/// starts from the cursors that the sink tells.
package struct LaneSender: Sendable {
  /// Entries a batch.
  package static let maxBatchEntries = 512
  /// Entries on their way without an answer.
  package static let defaultWindow: UInt64 = 4096
  /// Batches on their way without an answer: where the sink is slow, what is new meanwhile gathers and travels together.
  /// A sink takes more (`LaneSink.maxQueued`), but not 4,096 batches of one entry.
  package static let maxBatches = 8

  /// Incarnations that hold entries, oldest first, with the newest number of each.
  private var incarnations: [(id: Incarnation, last: UInt64)]
  private var applied: [Incarnation: UInt64] = [:]
  private var sent: [Incarnation: UInt64] = [:]
  /// The last numbers of the batches that are on their way, oldest first; all are of one incarnation.
  private var open: [UInt64] = []
  private let window: UInt64

  package init(
    incarnations: [(id: Incarnation, last: UInt64)], cursors: [Incarnation: UInt64],
    window: UInt64 = LaneSender.defaultWindow
  ) {
    self.incarnations = incarnations
    self.window = window
    for (id, _) in incarnations {
      applied[id] = cursors[id] ?? 0
      sent[id] = cursors[id] ?? 0
    }
  }

  /// The range to read and send next; nil while there is nothing, or the window is full.
  package func next() -> (incarnation: Incarnation, after: UInt64, through: UInt64)? {
    for (id, last) in incarnations {
      let (done, gone) = (applied[id] ?? 0, sent[id] ?? 0)
      if gone < last {
        guard gone - done < window, open.count < Self.maxBatches else { return nil }
        return (id, gone, min(last, gone + UInt64(Self.maxBatchEntries)))
      }
      // A younger incarnation waits until the older one is applied, so that a lane stays ordered in itself.
      if done < last { return nil }
    }
    return nil
  }

  package mutating func didSend(_ incarnation: Incarnation, through: UInt64) {
    sent[incarnation] = max(sent[incarnation] ?? 0, through)
    open.append(through)
  }

  /// New entries were stored.
  package mutating func grew(_ incarnation: Incarnation, last: UInt64) {
    if let index = incarnations.firstIndex(where: { $0.id == incarnation }) {
      incarnations[index].last = max(incarnations[index].last, last)
    } else {
      incarnations.append((incarnation, last))
      applied[incarnation] = 0
      sent[incarnation] = 0
    }
  }

  /// The sink's answer: everything through `number` is applied; the store may forget it. False if it is older than
  /// what was known. A cursor below what was sent means that a batch was refused as out of order: send from there.
  @discardableResult
  package mutating func acknowledged(_ incarnation: Incarnation, through number: UInt64, refused: Bool) -> Bool {
    if refused {
      sent[incarnation] = number
      open = []
    }
    open.removeAll { $0 <= number }
    guard number > (applied[incarnation] ?? 0) else { return false }
    applied[incarnation] = number
    sent[incarnation] = max(sent[incarnation] ?? 0, number)
    return true
  }

  /// Whether everything that was stored is applied.
  package var isDrained: Bool { incarnations.allSatisfy { (applied[$0.id] ?? 0) >= $0.last } }
}
