import API
import Base
import CloudHub
import EventLoop
import Logging
import ObjectLog
import Sync
import Testing
import Wire

@Suite struct LaneSinkTests {
  @LoopActor private final class Effect: LaneEffect {
    var applied: [UInt64] = []
    var stored: [Incarnation: UInt64] = [:]
    var kept: [Incarnation] = []
    var fails = false
    /// How many batches it was given.
    var batches = 0
    func cursor(node: String, lane: Lane, incarnation: Incarnation) throws(SkerryError) -> UInt64 {
      stored[incarnation] ?? 0
    }
    func keepOnly(_ incarnations: [Incarnation], node: String, lane: Lane) { kept = incarnations }
    func apply(_ batch: LaneBatch, node: String, lane: Lane) async throws(SkerryError) {
      if fails { throw SkerryError(.unavailable, "the disk is full") }
      batches += 1
      applied += batch.entries.map(\.number)
      stored[batch.incarnation] = batch.through
    }
  }

  private func batch(_ id: Incarnation, _ after: UInt64, _ through: UInt64) -> Bytes {
    let entries = ((after + 1)...through).map { LaneEntry(number: $0, payload: []) }
    return LaneMessage.batch(LaneBatch(incarnation: id, after: after, through: through, entries: entries)).encode()
  }

  /// Lets the sink's tasks run until it has answered so often.
  @LoopActor private func answers(_ pipe: Pipe, _ count: Int, _ names: [Incarnation]) async throws -> [LaneMessage] {
    for _ in 0..<1000 where pipe.sent.count < count && pipe.failure == nil { await Task.yield() }
    defer { pipe.sent = [] }
    return try pipe.sent.map { try LaneMessage.decode($0, names) }
  }

  @Test func duplicatesAndOldSessionsHaveNoEffect() async throws {
    try await onLoop {
      _ = Loop.startShared()
      let id = try #require(Incarnation(Bytes(repeating: 3, count: 16)))
      let effect = Effect()
      let sink = LaneSink(
        node: "n1", lane: .status, effect: effect, logger: Logger(label: "test"), applied: Counter())
      let old = Pipe()
      sink.attach(old, incarnations: [id])
      #expect(try await answers(old, 1, [id]) == [.cursors([id: 0])])
      old.onMessage?(batch(id, 0, 2))
      #expect(try await answers(old, 1, [id]) == [.applied(id, number: 2, refused: false)])
      let new = Pipe()
      sink.attach(new, incarnations: [id])
      #expect(try await answers(new, 1, [id]) == [.cursors([id: 2])])
      new.onMessage?(batch(id, 2, 4))
      #expect(try await answers(new, 1, [id]) == [.applied(id, number: 4, refused: false)])
      // The node repeats what it never heard an answer to, and leaves a gap.
      new.onMessage?(batch(id, 0, 2))
      new.onMessage?(batch(id, 2, 3))
      new.onMessage?(batch(id, 5, 6))
      #expect(
        try await answers(new, 3, [id]) == [
          .applied(id, number: 4, refused: false), .applied(id, number: 4, refused: false),
          .applied(id, number: 4, refused: true),
        ])
      #expect(effect.applied == [1, 2, 3, 4])
      #expect(effect.kept == [id])
    }
  }

  @Test func aHalfOpenSessionThatStillSpeaksIsFenced() async throws {
    try await onLoop {
      _ = Loop.startShared()
      let id = try #require(Incarnation(Bytes(repeating: 5, count: 16)))
      let effect = Effect()
      let sink = LaneSink(
        node: "n1", lane: .events, effect: effect, logger: Logger(label: "test"), applied: Counter())
      let (old, new, late) = (Pipe(), Pipe(), Pipe())
      sink.attach(old, incarnations: [id], session: 1)
      _ = try await answers(old, 1, [id])
      let speaksStill = old.onMessage
      // One batch is being applied, one waits, when the newer session takes over.
      speaksStill?(batch(id, 0, 2))
      speaksStill?(batch(id, 2, 3))
      sink.attach(new, incarnations: [id], session: 2)
      #expect(old.failure?.reason == "Conflict" && old.onMessage == nil)
      #expect(try await answers(new, 1, [id]) == [.cursors([id: 0])])
      new.onMessage?(batch(id, 0, 3))
      // It was told a cursor that moved meanwhile: it goes on from there.
      #expect(try await answers(new, 1, [id]) == [.applied(id, number: 2, refused: true)])
      new.onMessage?(batch(id, 2, 3))
      #expect(try await answers(new, 1, [id]) == [.applied(id, number: 3, refused: false)])
      #expect(effect.applied == [1, 2, 3])
      // A stream of the older session that is opened only now is refused.
      sink.attach(late, incarnations: [id], session: 1)
      #expect(late.failure?.reason == "Conflict" && late.sent.isEmpty)
      #expect(new.failure == nil && new.onMessage != nil)
    }
  }

  @Test func aStoreFromABackupTakesNoEffectTwice() async throws {
    try await onLoop {
      _ = Loop.startShared()
      let log = MemoryObjectLog(random: SystemRandom())
      let effect = ObjectLaneEffect(
        writer: Cursors(log: log), log: log, metrics: Metrics(), logger: Logger(label: "test"))
      func incarnation(_ number: Int) throws -> Incarnation {
        var bytes: Bytes = []
        for _ in 0..<2 { bytes.append(bigEndian: UInt64(number)) }
        return try #require(Incarnation(bytes))
      }
      let old = try incarnation(1)
      try await effect.apply(LaneBatch(incarnation: old, after: 0, through: 10, entries: []), node: "n1", lane: .events)
      // The node starts again, once more, and comes out of a backup that still holds the first incarnation.
      effect.keepOnly([try incarnation(2)], node: "n1", lane: .events)
      effect.keepOnly([try incarnation(3)], node: "n1", lane: .events)
      await Task.yield()
      #expect(try effect.cursor(node: "n1", lane: .events, incarnation: old) == 10)
      // What is remembered is bounded: the oldest goes.
      for number in 4..<(5 + LaneSink.maxClosedCursors) {
        let next = try incarnation(number)
        try await effect.apply(
          LaneBatch(incarnation: next, after: 0, through: 1, entries: []), node: "n1", lane: .events)
        effect.keepOnly([], node: "n1", lane: .events)
        await Task.yield()
      }
      for _ in 0..<10 { await Task.yield() }
      #expect(try log.privateValues(prefix: "lanes/n1/events/").count == LaneSink.maxClosedCursors)
      #expect(try effect.cursor(node: "n1", lane: .events, incarnation: old) == 0)
    }
  }

  /// Stores cursors alone.
  @LoopActor private final class Cursors: LaneWriter {
    let log: MemoryObjectLog
    init(log: MemoryObjectLog) { self.log = log }
    func applyLane(_ intents: [LaneIntent], cursor: (key: String, value: Bytes), caller: Caller)
      async throws(APIError) -> [APIError?]
    {
      let change = Change(
        key: "nodes//", guarding: .any, operation: .privatesOnly, privates: [(cursor.key, cursor.value)])
      await withCheckedContinuation { continuation in log.append([change]) { _ in continuation.resume() } }
      return intents.map { _ in nil }
    }
  }

  /// What the node's slice says is not said again; a batch that comes twice is answered all the same.
  @Test func whatIsToldElsewhereIsNotAnswered() async throws {
    try await onLoop {
      _ = Loop.startShared()
      let id = try #require(Incarnation(Bytes(repeating: 5, count: 16)))
      let effect = Effect()
      let sink = LaneSink(node: "n1", lane: .status, effect: effect, logger: Logger(label: "test"), applied: Counter())
      let pipe = Pipe()
      sink.attach(pipe, incarnations: [id], isTold: { $0 == id && $1 <= 2 })
      _ = try await answers(pipe, 1, [id])
      pipe.onMessage?(batch(id, 0, 2))
      pipe.onMessage?(batch(id, 2, 3))
      pipe.onMessage?(batch(id, 0, 2))
      #expect(
        try await answers(pipe, 2, [id]) == [
          .applied(id, number: 3, refused: false), .applied(id, number: 3, refused: false),
        ])
      #expect(effect.stored[id] == 3)
    }
  }

  @Test func whatCouldNotBeStoredIsNotAcknowledged() async throws {
    try await onLoop {
      _ = Loop.startShared()
      let id = try #require(Incarnation(Bytes(repeating: 4, count: 16)))
      let effect = Effect()
      effect.fails = true
      let sink = LaneSink(
        node: "n1", lane: .readings, effect: effect, logger: Logger(label: "test"), applied: Counter())
      let pipe = Pipe()
      sink.attach(pipe, incarnations: [id])
      _ = try await answers(pipe, 1, [id])
      pipe.onMessage?(batch(id, 0, 2))
      #expect(try await answers(pipe, 1, [id]) == [])
      #expect(pipe.failure?.reason == "ServiceUnavailable")
      #expect(effect.stored[id] == nil)
    }
  }

  /// What arrives while a batch is applied is one batch, and answered once.
  @Test func whatWaitedIsAppliedTogether() async throws {
    try await onLoop {
      _ = Loop.startShared()
      let id = try #require(Incarnation(Bytes(repeating: 6, count: 16)))
      let effect = Effect()
      let sink = LaneSink(node: "n1", lane: .status, effect: effect, logger: Logger(label: "test"), applied: Counter())
      let pipe = Pipe()
      sink.attach(pipe, incarnations: [id])
      _ = try await answers(pipe, 1, [id])
      for number in 0..<4 as Range<UInt64> { pipe.onMessage?(batch(id, number, number + 1)) }
      // A gap is not bridged: it is refused by itself.
      pipe.onMessage?(batch(id, 5, 6))
      #expect(
        try await answers(pipe, 3, [id]) == [
          .applied(id, number: 1, refused: false), .applied(id, number: 4, refused: false),
          .applied(id, number: 4, refused: true),
        ])
      #expect(effect.applied == [1, 2, 3, 4])
      #expect(effect.batches == 2)
      #expect(effect.stored[id] == 4)
    }
  }
}
