import Base
import EventLoop
import ObjectLog
import Store
import Testing

/// What is asked of a log whose index is behind is what is asked of one in memory.
@Suite struct IndexLagTests {
  private static let keys = (0..<120).map { "k/\($0 % 3 == 0 ? "ä" : "a")/\($0)" }

  private struct Seen: Equatable {
    var listed: [String]
    var bodies: [Bytes]
    var read: [Bytes?]
  }

  /// All objects at a position, in pages and one by one.
  @LoopActor private func seen(_ log: any ObjectLog, at position: UInt64) throws -> Seen {
    var seen = Seen(listed: [], bodies: [], read: [])
    var after: String?
    while true {
      let page = try log.list(prefix: "k/", at: position, after: after, limit: 50)
      seen.listed += page.objects.map(\.key)
      seen.bodies += page.objects.map(\.object.body)
      guard page.more else { break }
      after = page.objects.last?.key
    }
    seen.read = try Self.keys.map { try log.read($0, at: position)?.body }
    return seen
  }

  private func changes(_ random: any RandomSource) -> [Change] {
    (0..<Int(1 + random.below(40))).map { _ in
      let key = Self.keys[Int(random.below(UInt64(Self.keys.count)))]
      return Change(
        key: key, guarding: .any,
        operation: random.below(40) == 0
          ? .delete : .put(body: random.bytes(Int(1 + random.below(9))), status: nil, meta: [1]))
    }
  }

  /// Twice as many entries as an index may lag behind, in transactions of all sizes, some objects ended and made again,
  /// with history let go of and with starts between. The memory of what was written last is too small to answer by itself.
  @Test(arguments: [1, 2, 3]) func aLogReadsAsOneInMemory(_ seed: UInt64) async throws {
    let directory = try TemporaryDirectory()
    try await onLoop {
      var limits = LogLimits()
      (limits.tailEntries, limits.compactionSlice) = (16, 40)
      let configuration = SQLiteObjectLog.Configuration(path: directory.log, limits: limits)
      var log = try SQLiteObjectLog.open(configuration, scheduler: testScheduler(), random: SeededRandom(seed: seed))
      let model = MemoryObjectLog(random: SeededRandom(seed: seed), limits: limits)
      let random = SeededRandom(seed: seed)
      var mostBehind: Int64 = 0
      while log.tail.position < 2600 {
        let group = changes(random)
        let results = await log.append(group)
        let expected = await withCheckedContinuation { continuation in
          model.append(group) { continuation.resume(returning: $0) }
        }
        #expect(results.map(\.revision) == expected.map(\.revision))
        switch random.below(20) {
        case 0:
          let position = log.tail.position - random.below(min(log.tail.position, 60))
          log.compact(through: position)
          model.compact(through: position)
        case 1:
          try await log.close()
          _ = try LogCheck.run(path: directory.log)
          mostBehind = max(mostBehind, try behind(directory.log))
          log = try SQLiteObjectLog.open(configuration, scheduler: testScheduler(), random: SeededRandom(seed: seed))
        case 2: try await log.reopen()
        default: break
        }
        let old = max(
          log.compacted + 1, model.compacted + 1, log.tail.position - random.below(min(log.tail.position, 90)))
        for position in [log.tail.position, old] {
          #expect(try seen(log, at: position) == seen(model, at: position), "at \(position)")
        }
      }
      #expect(mostBehind > 20, "the index was never behind: \(mostBehind)")
      try await log.close()
    }
  }

  /// Objects whose index row is not their newest version's.
  @LoopActor private func behind(_ path: String) throws -> Int64 {
    try Database.reader(path: path).int(
      "SELECT count(*) FROM current c WHERE place < (SELECT max(place) FROM history h WHERE h.key = c.key)")
  }
}
