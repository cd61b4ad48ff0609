import Base
import EventLoop
import Store
import Synchronization
import Testing

@testable import ObjectLog

/// Runs the writer by hand, on the loop's thread, as a simulator does.
private final class HandDriver: SerialDriver {
  private let queue = Mutex<[@Sendable () -> Void]>([])
  func run(_ body: @escaping @Sendable () -> Void) { queue.withLock { $0.append(body) } }
  func stop() {}
  /// What the log said of who waits for it.
  @LoopActor var expected = 0
  @LoopActor var awake: [Duration] = []
  @LoopActor func expectWork() { expected += 1 }
  @LoopActor func keepLoopAwake(for time: Duration) { awake.append(time) }
  /// Runs one step; false if none waits.
  func step() -> Bool {
    let next = queue.withLock { $0.isEmpty ? nil : $0.removeFirst() }
    next?()
    return next != nil
  }
  /// Runs until nothing waits; answers the number of steps.
  func drain(limit: Int = 10_000) -> Int {
    var steps = 0
    while steps < limit, step() { steps += 1 }
    return steps
  }
}

/// Time that the test moves.
@LoopActor private final class HandScheduler: Scheduler {
  nonisolated private let clock = Mutex<UInt64>(1_000_000_000)
  private var timers: [(at: UInt64, id: UInt64, action: @LoopActor () -> Void)] = []
  private var next: UInt64 = 1
  nonisolated init() {}
  /// What happens once, the next time that somebody asks for the time: so a test gets in between.
  nonisolated let beforeNow = Mutex<(@Sendable () -> Void)?>(nil)
  nonisolated var now: Instant {
    let once = beforeNow.withLock { action in
      defer { action = nil }
      return action
    }
    once?()
    return Instant(nanoseconds: clock.withLock { $0 })
  }
  nonisolated var wall: WallTime { WallTime(seconds: 0) }
  func schedule(after delay: Duration, _ action: @escaping @LoopActor () -> Void) -> TimerID {
    defer { next += 1 }
    timers.append(((now + delay).nanoseconds, next, action))
    return TimerID(raw: next)
  }
  /// A turn of this loop is over at once.
  func nextTurn(_ task: any TurnTask) { task.takeTurn() }
  func cancel(_ timer: TimerID) { timers.removeAll { $0.id == timer.raw } }
  func advance(_ time: Duration) {
    let end = (now + time).nanoseconds
    while let due = timers.filter({ $0.at <= end }).min(by: { $0.at < $1.at }) {
      clock.withLock { $0 = max($0, due.at) }
      timers.removeAll { $0.id == due.id }
      due.action()
    }
    clock.withLock { $0 = end }
  }
}

@LoopActor private func openLog(
  _ path: String, _ driver: HandDriver, _ scheduler: HandScheduler, role: LogRole = .leader,
  limits: LogLimits = LogLimits()
) throws -> SQLiteObjectLog {
  try SQLiteObjectLog.open(
    SQLiteObjectLog.Configuration(path: path, role: role, limits: limits), scheduler: scheduler,
    random: SeededRandom(seed: 4), driver: driver)
}

@LoopActor private func close(_ log: SQLiteObjectLog, _ driver: HandDriver) async throws {
  let closing = spawnThrowing { try await log.close() }
  await Task.yield()
  while driver.step() { await Task.yield() }
  try await closing.value
}

/// The only one who holds a log.
@LoopActor private final class Holder {
  var log: SQLiteObjectLog?
  nonisolated init() {}
}

private func put(_ key: String, _ body: Bytes) -> Change {
  Change(key: key, guarding: .any, operation: .put(body: body, status: nil, meta: [1]))
}

@Suite struct WriterTests {
  @Test func whatWaitsIsOneStep() async throws {
    let directory = try TemporaryDirectory()
    try await onLoop {
      let driver = HandDriver()
      let log = try openLog(directory.log, driver, HandScheduler())
      var published: [[UInt64]] = []
      var answers: [String] = []
      _ = log.observe { published.append($0.map(\.position)) }
      for index in 0..<5 {
        log.append([put("k/a/\(index)", [1])]) { answers.append("\(index):\($0[0].revision ?? 0)") }
      }
      #expect(driver.step())
      #expect(answers.isEmpty, "answered before the loop took the outcome")
      while answers.count < 5 { await Task.yield() }
      #expect(answers == ["0:2", "1:3", "2:4", "3:5", "4:6"])
      #expect(published == [[2, 3, 4, 5, 6]])
      try await close(log, driver)
    }
  }

  /// The threads stay awake for one client that waits for each write, and for nobody else.
  @Test func whoWaitsForEachWriteIsKnown() async throws {
    let directory = try TemporaryDirectory()
    try await onLoop {
      let driver = HandDriver()
      let scheduler = HandScheduler()
      let log = try openLog(directory.log, driver, scheduler)
      @LoopActor func write(_ count: Int) async -> (expected: Int, awake: [Duration]) {
        (driver.expected, driver.awake) = (0, [])
        var answers = 0
        for index in 0..<count {
          log.expectChange()
          log.append([put("k/a/\(index)", [1])]) { _ in answers += 1 }
        }
        #expect(driver.step())
        while answers < count { await Task.yield() }
        await Task.yield()
        return (driver.expected, driver.awake)
      }
      let (answer, change) = (LoneWriter.maxAnswerPoll, LoneWriter.maxChangePoll)
      #expect(await write(1) == (0, []), "nothing is known at the first")
      #expect(await write(1) == (1, [answer, change]))
      scheduler.advance(.seconds(1))
      #expect(await write(1) == (1, [answer]), "it had not come back at once")
      #expect(await write(5).expected == 1, "the writer is not idle after the first")
      #expect(await write(1) == (0, []), "the last commit was of many")
      #expect(await write(1) == (1, [answer, change]))
      try await close(log, driver)
    }
  }

  /// Committed, but not yet taken by the loop: nobody sees it.
  @Test func whatIsCommittedIsNotYetPublished() async throws {
    let directory = try TemporaryDirectory()
    try await onLoop {
      let driver = HandDriver()
      let log = try openLog(directory.log, driver, HandScheduler())
      let first = Change(
        key: "k/a/1", guarding: .any, operation: .put(body: [1], status: nil, meta: []), privates: [("p/1", [1])])
      log.append([first, put("k/a/2", [1])]) { _ in }
      #expect(driver.step())
      await Task.yield()
      await Task.yield()
      #expect(log.tail.position == 3)
      let second = Change(
        key: "k/a/1", guarding: .any, operation: .put(body: [2], status: nil, meta: []),
        privates: [("p/1", [2]), ("p/2", [2])])
      let gone = Change(key: "k/a/2", guarding: .any, operation: .delete)
      log.append([second, gone, put("k/a/3", [2])]) { _ in }
      #expect(driver.step())
      #expect(try log.read("k/a/1", at: nil)?.body == [1])
      #expect(try log.list(prefix: "", at: nil, after: nil, limit: 9).objects.map(\.key) == ["k/a/1", "k/a/2"])
      #expect(try log.list(prefix: "", at: nil, after: nil, limit: 9).objects.map(\.object.body) == [[1], [1]])
      #expect(try log.entries(after: 1, prefix: "", limit: 9).through == 3)
      #expect(try log.privateValue("p/1") == [1])
      #expect(try log.privateValues(prefix: "p/").map(\.key) == ["p/1"])
      await Task.yield()
      await Task.yield()
      #expect(try log.list(prefix: "", at: nil, after: nil, limit: 9).objects.map(\.key) == ["k/a/1", "k/a/3"])
      #expect(try log.privateValues(prefix: "p/").map(\.value) == [[2], [2]])
      try await close(log, driver)
    }
  }

  /// A writer that is told to close while it does something else has not been told by its driver: it looks itself. A
  /// relaxed log that was not closed in order would begin another epoch.
  @Test func aCloseInTheMiddleOfAStepIsNotOverlooked() async throws {
    let directory = try TemporaryDirectory()
    try await onLoop {
      let (driver, scheduler) = (HandDriver(), HandScheduler())
      @LoopActor func open() throws -> SQLiteObjectLog {
        try SQLiteObjectLog.open(
          SQLiteObjectLog.Configuration(path: directory.log, durability: .normal), scheduler: scheduler,
          random: SeededRandom(seed: 4), driver: driver)
      }
      let holder = Holder()
      holder.log = try open()
      let before = holder.log?.tail.epoch
      holder.log?.append([put("k/a/1", [1])]) { _ in }
      scheduler.beforeNow.withLock { $0 = { LoopActor.entered { holder.log = nil } } }
      _ = driver.drain()
      #expect(holder.log == nil)
      let again = try open()
      #expect(again.tail.epoch == before && again.tail.position == 2)
      try await close(again, driver)
    }
  }

  /// A snapshot of another history exchanges everything at once, also for who reads while it is committed.
  @Test func aSnapshotIsSeenWholeOrNotAtAll() async throws {
    let directory = try TemporaryDirectory()
    try await onLoop {
      let driver = HandDriver()
      let log = try openLog(directory.log, driver, HandScheduler(), role: .follower)
      let id = LogID(random: SeededRandom(seed: 1))
      func object(_ body: Bytes, _ revision: UInt64) -> StoredObject {
        StoredObject(
          body: body, status: nil, meta: [], bodyRevision: revision, statusRevision: 0, createRevision: revision)
      }
      log.replace(
        position: Cursor(log: id, epoch: 1, position: 900),
        objects: [("k/a/1", object([1], 5)), ("k/a/2", object([1], 6))]
      ) { _ in }
      #expect(driver.step())
      await Task.yield()
      await Task.yield()
      log.replace(position: Cursor(log: id, epoch: 2, position: 100), objects: [("k/a/3", object([3], 7))]) { _ in }
      var applied = false
      log.apply(position: Cursor(log: id, epoch: 2, position: 101), entries: [], privates: []) { applied = $0 == nil }
      #expect(driver.drain() == 1, "the next position waits for the snapshot's answer")
      #expect(log.tail.position == 900)
      #expect(try log.list(prefix: "", at: nil, after: nil, limit: 9).objects.map(\.key) == ["k/a/1", "k/a/2"])
      #expect(try log.read("k/a/1", at: nil)?.body == [1])
      #expect(try log.read("k/a/3", at: nil) == nil)
      while driver.step() || !applied { await Task.yield() }
      #expect(log.tail.position == 101)
      #expect(try log.list(prefix: "", at: nil, after: nil, limit: 9).objects.map(\.key) == ["k/a/3"])
      try await close(log, driver)
    }
  }

  /// Any of many versions of one key is a few rows away.
  @Test func oldVersionsAreNear() async throws {
    let directory = try TemporaryDirectory()
    try await onLoop {
      let driver = HandDriver()
      let log = try openLog(directory.log, driver, HandScheduler())
      for index in 0..<2000 { log.append([put("k/a/1", Bytes("\(index)".utf8))]) { _ in } }
      while driver.step() { await Task.yield() }
      await Task.yield()
      for position in stride(from: 2, to: 2002, by: 37) as StrideTo<UInt64> {
        #expect(try log.read("k/a/1", at: position)?.body == Bytes("\(position - 2)".utf8))
      }
      try await close(log, driver)
      let database = try Database.reader(path: directory.log)
      var worst = 0
      for wanted in stride(from: 2, to: 2002, by: 97) as StrideTo<Int64> {
        var (position, hops) = (2001 as Int64, 0)
        while position > wanted {
          let skip = try database.int("SELECT skip >> 18 FROM history WHERE place >> 18 = \(position)")
          let previous = try database.int("SELECT previous >> 18 FROM history WHERE place >> 18 = \(position)")
          position = skip > wanted ? skip : previous
          hops += 1
        }
        worst = max(worst, hops)
      }
      #expect(worst > 1 && worst <= 33, "\(worst) rows to reach one of 2000 versions")
    }
  }

  @Test func historyGoesWithTime() async throws {
    let directory = try TemporaryDirectory()
    try await onLoop {
      let (driver, scheduler) = (HandDriver(), HandScheduler())
      var limits = LogLimits()
      limits.retentionTime = .seconds(600)
      limits.compactionSlice = 8
      let log = try openLog(directory.log, driver, scheduler, limits: limits)
      for minute in 0..<30 {
        for _ in 0..<10 { log.append([put("k/a/1", [UInt8(minute)] + log.tail.log.bytes)]) { _ in } }
        log.append([put("k/a/1", [UInt8(minute), 1])]) { _ in }
        _ = driver.drain()
        await Task.yield()
        await Task.yield()
        scheduler.advance(.seconds(60))
      }
      while driver.step() { await Task.yield() }
      #expect(log.tail.position == 61, "two of eleven writes a minute change something")
      // Two entries a minute; the marks are 37.5 s apart.
      #expect((35...41).contains(log.compacted), "compacted \(log.compacted)")
      #expect(throws: SkerryError.self) { try log.entries(after: log.compacted, prefix: "", limit: 1) }
      #expect(try log.entries(after: log.compacted + 1, prefix: "", limit: 100).entries.count > 15)
      let kept = log.retainedBytes
      scheduler.advance(.seconds(1200))
      while driver.step() { await Task.yield() }
      await Task.yield()
      #expect(log.compacted == 60)
      #expect(kept > 0 && log.retainedBytes == 0)
      try await close(log, driver)
      #expect(try LogCheck.run(path: directory.log).versions == 1)
    }
  }

  @Test func historyGoesWithSize() async throws {
    let directory = try TemporaryDirectory()
    try await onLoop {
      let (driver, scheduler) = (HandDriver(), HandScheduler())
      var limits = LogLimits()
      limits.retentionBytes = 1 << 20
      let log = try openLog(directory.log, driver, scheduler, limits: limits)
      for round in 0..<400 {
        log.append([put("k/a/1", Bytes(repeating: UInt8(truncatingIfNeeded: round), count: 20_000))]) { _ in }
        while driver.step() { await Task.yield() }
        await Task.yield()
        #expect(log.retainedBytes < 1_400_000)
      }
      #expect(log.retainedBytes > 400_000)
      #expect(log.compacted > 330)
      try await close(log, driver)
    }
  }

  @Test func anotherHistoryDoesNotInheritItsCompaction() async throws {
    let directory = try TemporaryDirectory()
    try await onLoop {
      let driver = HandDriver()
      let log = try openLog(directory.log, driver, HandScheduler(), role: .follower)
      let id = LogID(random: SeededRandom(seed: 1))
      log.replace(position: Cursor(log: id, epoch: 1, position: 1000), objects: []) { _ in }
      while driver.step() { await Task.yield() }
      await Task.yield()
      log.replace(position: Cursor(log: id, epoch: 2, position: 50), objects: []) { _ in }
      #expect(driver.step())
      log.compact(through: 999)
      while driver.step() { await Task.yield() }
      await Task.yield()
      #expect(log.tail.position == 50)
      for position in 51...60 as ClosedRange<UInt64> {
        log.apply(position: Cursor(log: id, epoch: 2, position: position), entries: [], privates: []) { _ in }
      }
      #expect(driver.drain() < 50, "the writer never rests")
      await Task.yield()
      #expect(try log.entries(after: 51, prefix: "", limit: 1).through == 60)
      try await close(log, driver)
      #expect(try LogCheck.run(path: directory.log).compacted == 49)
    }
  }
}
