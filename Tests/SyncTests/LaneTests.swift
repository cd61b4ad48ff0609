import Base
import Sync
import Testing

@Suite struct LaneTests {
  private func incarnation(_ byte: UInt8) throws -> Incarnation {
    try #require(Incarnation(Bytes(repeating: byte, count: 16)))
  }

  @Test func aSinkAppliesOnlyWhatFollowsItsCursor() throws {
    let id = try incarnation(1)
    func batch(_ after: UInt64, _ through: UInt64) -> LaneBatch {
      LaneBatch(incarnation: id, after: after, through: through, entries: [])
    }
    #expect(SinkDecision.decide(batch(5, 9), cursor: 5) == .apply)
    #expect(SinkDecision.decide(batch(0, 5), cursor: 5) == .duplicate)
    #expect(SinkDecision.decide(batch(3, 7), cursor: 5) == .outOfOrder)
    #expect(SinkDecision.decide(batch(7, 9), cursor: 5) == .outOfOrder)
  }

  @Test func batchesThatFollowEachOtherJoinUpToABound() throws {
    let (id, other) = (try incarnation(1), try incarnation(2))
    func batch(_ after: UInt64, _ through: UInt64, of id: Incarnation, closes: Bool = false) -> LaneBatch {
      let entries = ((after + 1)...through).map { LaneEntry(number: $0, payload: [UInt8(truncatingIfNeeded: $0)]) }
      return LaneBatch(incarnation: id, after: after, through: through, entries: entries, closes: closes)
    }
    let first = batch(3, 5, of: id)
    #expect(first.joined(batch(5, 9, of: id)) == batch(3, 9, of: id))
    #expect(first.joined(batch(6, 9, of: id)) == nil)
    #expect(first.joined(batch(5, 9, of: other)) == nil)
    #expect(first.joined(batch(5, 9, of: id, closes: true)) == nil)
    let most = UInt64(LaneSender.maxBatchEntries)
    #expect(first.joined(batch(5, 3 + most, of: id)) != nil)
    #expect(first.joined(batch(5, 4 + most, of: id)) == nil)
  }

  @Test func olderIncarnationsGoFirstAndTheWindowHolds() throws {
    let (old, new) = (try incarnation(1), try incarnation(2))
    var sender = LaneSender(incarnations: [(old, 3), (new, 2)], cursors: [old: 1], window: 1)
    let first = try #require(sender.next())
    #expect(first.incarnation == old && first.after == 1 && first.through == 3)
    sender.didSend(old, through: 3)
    #expect(sender.next() == nil)
    sender.acknowledged(old, through: 3, refused: false)
    let second = try #require(sender.next())
    #expect(second.incarnation == new && second.after == 0 && second.through == 2)
    sender.didSend(new, through: 2)
    sender.acknowledged(new, through: 1, refused: true)
    let again = try #require(sender.next())
    #expect(again.after == 1)
    sender.didSend(new, through: 2)
    sender.acknowledged(new, through: 2, refused: false)
    #expect(sender.isDrained)
    sender.grew(new, last: 4)
    #expect(!sender.isDrained)
    #expect(sender.next()?.after == 2)
  }

  /// A sink that is slow is not sent a batch for every entry that comes: they gather.
  @Test func whatComesWhileManyBatchesAreUnansweredTravelsTogether() throws {
    let id = try incarnation(1)
    var sender = LaneSender(incarnations: [], cursors: [:])
    for number in 1...UInt64(LaneSender.maxBatches) {
      sender.grew(id, last: number)
      #expect(sender.next()?.through == number)
      sender.didSend(id, through: number)
      #expect(sender.next() == nil)
    }
    sender.grew(id, last: 100)
    #expect(sender.next() == nil)
    sender.acknowledged(id, through: 1, refused: false)
    let gathered = try #require(sender.next())
    #expect(gathered.after == UInt64(LaneSender.maxBatches) && gathered.through == 100)
    sender.didSend(id, through: 100)
    sender.grew(id, last: 101)
    #expect(sender.next() == nil)
    // What was refused is sent again, all of it at once.
    sender.acknowledged(id, through: 2, refused: true)
    #expect(sender.next()?.after == 2)
    #expect(sender.next()?.through == 101)
  }
}
