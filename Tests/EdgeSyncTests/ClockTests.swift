import Base
import EdgeAgent
import EventLoop
import Identity
import Testing

@Suite struct ClockTests {
  private func path() -> String { "/tmp/skerry-clock-\(SystemRandom().bytes(8).hex)" }

  @LoopActor private func clock(_ base: StandingClock, _ path: String, _ known: [WallTime] = []) -> NodeClock {
    NodeClock(base, path: path, notBefore: known, metrics: Metrics()) { _ in }
  }

  @Test func aClockBeforeTheReleaseOrTheNodesCertificatesIsNotBelieved() async throws {
    try await onLoop {
      _ = Loop.startShared()
      let base = StandingClock(wall: WallTime(seconds: 1_000))
      let node = clock(base, path())
      #expect(!node.believesSystem && node.wall == Version.released)
      base.advance(.seconds(60))
      #expect(node.wall == Version.released + .seconds(60))
      let made = Version.released + .seconds(1_000_000)
      #expect(clock(base, path(), [made]).wall == made)
      // The system's clock is set right while it runs.
      let right = Version.released + .seconds(5_000_000)
      base.set(wall: right)
      #expect(node.believesSystem && node.wall == right)
    }
  }

  @Test func theTimeThatWasStoredLastIsALowerBound() async throws {
    try await onLoop {
      _ = Loop.startShared()
      let path = path()
      defer { try? Files.removeTree(path) }
      let right = Version.released + .seconds(9_000_000)
      let base = StandingClock(wall: right)
      let first = clock(base, path)
      first.heard(cloud: right)
      base.advance(NodeClock.storeInterval)
      try await until("the time is stored") { Files.exists(path) }
      // Without a battery: 1970 again.
      let later = clock(StandingClock(wall: WallTime(seconds: 10)), path)
      #expect(!later.believesSystem && later.wall >= right)
      // A file that says nothing is no reason not to start.
      try Files.write(path, "garbage")
      #expect(clock(StandingClock(wall: WallTime(seconds: 10)), path).wall == Version.released)
    }
  }

  @Test func aClockThatRanAheadLeavesNoTrace() async throws {
    try await onLoop {
      _ = Loop.startShared()
      let path = path()
      defer { try? Files.removeTree(path) }
      let future = Version.released + .seconds(900_000_000)
      let base = StandingClock(wall: future)
      let node = clock(base, path)
      #expect(node.wall == future)
      node.start()
      try await until("the time is stored") { Files.exists(path) }
      let right = Version.released + .seconds(1_000)
      base.set(wall: right)
      #expect(clock(base, path).wall == right)
    }
  }

  @Test func theCloudsTimeCountsWhereTheNodesIsWrong() async throws {
    try await onLoop {
      _ = Loop.startShared()
      let path = path()
      defer { try? Files.removeTree(path) }
      let right = Version.released + .seconds(3_000_000)
      for wrong in [WallTime(seconds: 10), right + .seconds(86_400), right + .seconds(-86_400)] {
        let base = StandingClock(wall: wrong)
        let node = clock(base, path)
        node.heard(cloud: right)
        #expect(!node.believesSystem && node.wall == right && node.offset == right - wrong)
        base.advance(.seconds(5))
        #expect(node.wall == right + .seconds(5))
      }
      // A small difference is none.
      let base = StandingClock(wall: right + .seconds(20))
      let node = clock(base, path)
      node.heard(cloud: right)
      #expect(node.believesSystem && node.wall == right + .seconds(20))
    }
  }
}
