import Base
import EdgeAgent
import EventLoop
import Logging
import ObjectLog
import Sync
import Synchronization
import Testing

/// A scheduler whose time stands still until a test moves it, and whose wall clock shows what the test says.
final class StandingClock: Scheduler {
  private struct Timer {
    let id: TimerID
    let at: Instant
    let action: @LoopActor () -> Void
  }
  private let time = Mutex<UInt64>(1_000_000_000)
  private let shown: Mutex<Int64>
  @LoopActor private var timers: [Timer] = []
  @LoopActor private var next: UInt64 = 0

  init(wall: WallTime) { shown = Mutex(wall.nanoseconds - 1_000_000_000) }
  var now: Instant { Instant(nanoseconds: time.withLock { $0 }) }
  var wall: WallTime { WallTime(nanoseconds: shown.withLock { $0 } + Int64(time.withLock { $0 })) }
  func set(wall: WallTime) { shown.withLock { $0 = wall.nanoseconds - Int64(now.nanoseconds) } }

  func schedule(after delay: Duration, _ action: @escaping @LoopActor () -> Void) -> TimerID {
    next += 1
    let id = TimerID(raw: next)
    timers.append(Timer(id: id, at: now + delay, action: action))
    return id
  }
  func cancel(_ timer: TimerID) { timers.removeAll { $0.id == timer } }

  @LoopActor func advance(_ duration: Duration) {
    let end = now + duration
    while let first = timers.filter({ $0.at <= end }).min(by: { $0.at < $1.at }) {
      timers.removeAll { $0.id == first.id }
      time.withLock { $0 = max($0, first.at.nanoseconds) }
      first.action()
    }
    time.withLock { $0 = end.nanoseconds }
  }
}

@Suite struct RestoredCloudTests {
  @LoopActor private final class Edge {
    let clock = StandingClock(wall: WallTime(seconds: 2_000_000_000))
    let replica: MemoryObjectLog
    var grace: UnknownGrace
    let follower: ReplicaFollower
    var isOver = 0
    let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
    let log = Bytes(repeating: 7, count: 16)

    init(replica: MemoryObjectLog? = nil, grace length: Duration = .seconds(600)) {
      _ = Loop.startShared()
      self.replica = replica ?? MemoryObjectLog(role: .follower, random: SystemRandom())
      grace = UnknownGrace(
        replica: self.replica, grace: length, scheduler: clock, metrics: Metrics(), logger: logger)
      follower = ReplicaFollower(replica: self.replica, grace: grace, logger: logger)
      grace.onOver = { [weak self] in self?.isOver += 1 }
    }

    func take(_ messages: SliceMessage...) async throws {
      for message in messages {
        try await follower.take(message.encode()) { (_: Bytes) async throws(SkerryError) in }
      }
      for _ in 0..<5 { await Task.yield() }
    }

    func object(_ key: String, _ revision: UInt64) -> SliceMessage {
      .object(
        SliceObject(
          key: key, body: [0xa0], status: nil, meta: [0xa0], bodyRevision: revision, statusRevision: 0,
          createRevision: revision, sealed: false))
    }

    func begin(_ epoch: UInt64, _ position: UInt64) -> SliceMessage {
      .begin(log: log, epoch: epoch, position: position)
    }

    var keys: [String] { (try? replica.list(prefix: "", at: nil, after: nil, limit: 99).objects.map(\.key)) ?? [] }
  }

  @Test func anOldBackupOfTheCloudEndsNothingAtOnceAndConvergesAfterTheGrace() async throws {
    try await onLoop {
      let edge = Edge()
      try await edge.take(
        edge.begin(1, 20), edge.object("configmaps/a/c", 4), edge.object("pods/a/old", 5), edge.object("pods/a/new", 9),
        .end(position: 20))
      #expect(edge.keys == ["configmaps/a/c", "pods/a/new", "pods/a/old"] && edge.grace.condition == nil)
      // The backup is of revision 6.
      try await edge.take(
        edge.begin(2, 1_000_000_020), edge.object("pods/a/old", 5), .end(position: 1_000_000_020))
      #expect(edge.keys == ["configmaps/a/c", "pods/a/new", "pods/a/old"])
      #expect(edge.grace.kept == ["configmaps/a/c", "pods/a/new"] && edge.grace.condition?.count == 2)
      #expect(edge.replica.tail.epoch == 2)
      // A session that breaks within the grace changes nothing.
      #expect(try edge.follower.parameters()["epoch"] == 2)
      try await edge.take(
        edge.begin(2, 1_000_000_030), edge.object("pods/a/old", 5), .end(position: 1_000_000_030))
      #expect(edge.grace.kept.count == 2)
      // What is applied again is known.
      try await edge.take(
        .position(
          1_000_000_031,
          [
            .put(
              SliceObject(
                key: "configmaps/a/c", body: [0xa0], status: nil, meta: [0xa0], bodyRevision: 1_000_000_031,
                statusRevision: 0, createRevision: 1_000_000_031, sealed: false))
          ]))
      #expect(edge.grace.kept == ["pods/a/new"])
      edge.clock.advance(.seconds(599))
      #expect(edge.isOver == 0 && !edge.grace.isOver)
      edge.clock.advance(.seconds(2))
      #expect(edge.isOver == 1 && edge.grace.isOver)
      // The slice is asked for whole.
      let parameters = try edge.follower.parameters()
      #expect(parameters["epoch"].isNull && parameters["digest"] == "")
      try await edge.take(
        edge.begin(2, 1_000_000_040), edge.object("configmaps/a/c", 1_000_000_031), edge.object("pods/a/old", 5),
        .end(position: 1_000_000_040))
      #expect(edge.keys == ["configmaps/a/c", "pods/a/old"])
      #expect(edge.grace.condition == nil && !edge.grace.isOver)
    }
  }

  @Test func theGraceGoesOnAfterARestartAndDoesNotBeginAnew() async throws {
    try await onLoop {
      let edge = Edge()
      try await edge.take(edge.begin(1, 20), edge.object("pods/a/new", 9), .end(position: 20))
      try await edge.take(edge.begin(2, 1_000_000_020), .end(position: 1_000_000_020))
      edge.clock.advance(.seconds(400))
      for _ in 0..<20 { await Task.yield() }
      let again = Edge(replica: edge.replica)
      #expect(again.grace.kept == ["pods/a/new"])
      again.clock.advance(.seconds(150))
      #expect(!again.grace.isOver)
      again.clock.advance(.seconds(120))
      #expect(again.grace.isOver)
    }
  }

  @Test func withinOneHistoryWhatASnapshotLacksGoesAtOnce() async throws {
    try await onLoop {
      let edge = Edge()
      try await edge.take(edge.begin(1, 20), edge.object("pods/a/p", 9), .end(position: 20))
      try await edge.take(edge.begin(1, 30), .end(position: 30))
      #expect(edge.keys == [] && edge.grace.condition == nil)
      let none = Edge(grace: .zero)
      try await none.take(none.begin(1, 20), none.object("pods/a/p", 9), .end(position: 20))
      try await none.take(none.begin(2, 1_000_000_020), .end(position: 1_000_000_020))
      #expect(none.keys == [])
    }
  }
}
