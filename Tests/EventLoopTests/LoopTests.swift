import Base
import EventLoop
import EventLoopConformance
import Glibc
import Synchronization
import Testing

@Suite struct LoopTests {
  @Test func hopsOntoTheLoopAndBack() async throws {
    let loop = Loop.startShared()
    #expect(!loop.isCurrent)
    let inside = try await onLoop { Loop.startShared().isCurrent }
    #expect(inside)
  }

  @Test func errorsComeBack() async {
    await #expect(throws: SkerryError.self) {
      try await onLoop { throw SkerryError(.notFound, "nothing") }
    }
  }

  @Test func timersFireInOrderAndNeverEarly() async throws {
    try await onLoop {
      let loop = Loop.startShared()
      let start = loop.now
      var fired: [(Int, Duration)] = []
      await withCheckedContinuation { (done: CheckedContinuation<Void, Never>) in
        for delay in [30, 10, 0, 20] {
          loop.schedule(after: .milliseconds(delay)) {
            fired.append((delay, loop.now - start))
            if fired.count == 4 { done.resume() }
          }
        }
        #expect(fired.isEmpty)
      }
      #expect(fired.map(\.0) == [0, 10, 20, 30])
      for (delay, passed) in fired { #expect(passed >= .milliseconds(delay)) }
    }
  }

  @Test func aCancelledTimerDoesNotFire() async throws {
    try await onLoop {
      let loop = Loop.startShared()
      var fired = 0
      loop.cancel(loop.schedule(after: .milliseconds(1)) { fired += 1 })
      loop.cancel(loop.schedule(after: .zero) { fired += 1 })
      for _ in 0..<500 { loop.cancel(loop.schedule(after: .seconds(3600)) { fired += 1 }) }
      try await loop.sleep(for: .milliseconds(10))
      #expect(fired == 0)
    }
  }

  @Test func sleepEndsWhenItsTaskIsCancelled() async throws {
    try await onLoop {
      let loop = Loop.startShared()
      let start = loop.now
      let task = spawnThrowing { try await loop.sleep(for: .seconds(60)) }
      task.cancel()
      await #expect(throws: CancellationError.self) { try await task.value }
      #expect(loop.now - start < .seconds(30))
    }
  }

  /// Busy polling takes its time from the processor, serves what comes meanwhile, and ends: by a post, or by its limit.
  @Test func busyPollingServesAndEnds() async throws {
    try await onLoop {
      let loop = Loop.startShared()
      let thread = BlockingThread(name: "poster")
      func used(_ time: Duration) async throws -> UInt64 {
        let before = Self.threadNanoseconds
        try await loop.sleep(for: time)
        return Self.threadNanoseconds - before
      }
      loop.busyPoll(for: .seconds(60))
      #expect(try await used(.milliseconds(100)) > 5_000_000, "it slept, or a timer did not come")
      await withCheckedContinuation { done in thread.run { loop.post { done.resume() } } }
      #expect(try await used(.milliseconds(500)) < 100_000_000, "a post did not end it")
      loop.busyPoll(for: .milliseconds(1))
      try await loop.sleep(for: .milliseconds(20))
      #expect(try await used(.milliseconds(500)) < 100_000_000, "its limit did not end it")
      thread.stop()
    }
  }

  private static var threadNanoseconds: UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
  }

  @Test func postsOfOneThreadKeepTheirOrder() async throws {
    let loop = Loop.startShared()
    let order = try await onLoop {
      await withCheckedContinuation { (done: CheckedContinuation<[Int], Never>) in
        let seen = Seen()
        let thread = BlockingThread(name: "poster")
        for index in 0..<10_000 {
          thread.run {
            loop.post {
              seen.values.append(index)
              if seen.values.count == 10_000 { done.resume(returning: seen.values) }
            }
          }
        }
      }
    }
    #expect(order == Array(0..<10_000))
  }

  @Test func tasksThatMakeTasksDoNotStarveTimers() async throws {
    try await onLoop {
      let loop = Loop.startShared()
      let stop = Seen()
      @LoopActor func churn() {
        spawn { if stop.values.isEmpty { churn() } }
      }
      for _ in 0..<3 { churn() }
      try await loop.sleep(for: .milliseconds(20))
      stop.values.append(1)
    }
  }

  @Test(arguments: 1...3) func manyTimersFireOnceUnlessCancelled(_ seed: Int) async throws {
    try await onLoop {
      let loop = Loop.startShared()
      let random = SeededRandom(seed: UInt64(seed))
      let seen = Seen()
      var live: [(delay: Int, id: TimerID)] = []
      var cancelled = 0
      for index in 0..<1000 {
        let delay = Int(random.below(40)) + 10
        let id = loop.schedule(after: .milliseconds(delay)) { seen.values.append(index) }
        live.append((delay, id))
        if random.below(3) == 0 {
          loop.cancel(live.remove(at: Int(random.below(UInt64(live.count)))).id)
          cancelled += 1
        }
      }
      try await loop.sleep(for: .milliseconds(60))
      #expect(seen.values.count == 1000 - cancelled)
      #expect(Set(seen.values).count == seen.values.count)
    }
  }

  /// A stall of our own must not look like the silence of a peer: what waits in a socket is heard before a deadline
  /// that passed meanwhile.
  @Test func afterAStallSocketsComeBeforeTimers() async throws {
    try await onLoop {
      let loop = Loop.startShared()
      let listener = try TCPListener.listen(host: "127.0.0.1", port: 0)
      let client = try await TCPStream.connect(to: HostPort(host: "127.0.0.1", port: listener.boundPort))
      let server = StreamProbe(await accepted(listener), on: loop)
      let order = Seen()
      server.onBytes = { _ in order.values.append(1) }
      loop.schedule(after: .milliseconds(5)) { order.values.append(2) }
      client.write([1])
      let stalledUntil = loop.now + .milliseconds(30)
      while loop.now < stalledUntil {}
      try await server.wait("the byte") { $0.received == [1] }
      while order.values.count < 2 { try await loop.sleep(for: .milliseconds(1)) }
      #expect(order.values == [1, 2])
      client.close()
      server.stream.close()
      listener.close()
    }
  }

  @Test func theSynchronousDoorTrapsOnOtherThreads() async {
    await #expect(processExitsWith: .failure) {
      _ = Loop.startShared()
      LoopActor.entered {}
    }
  }

  @Test func offloadedWorkRunsElsewhereAndAnswers() async throws {
    let loop = Loop.startShared()
    let elsewhere = try await onLoop { try await offload { !loop.isCurrent } }
    #expect(elsewhere)
    await #expect(throws: SkerryError.self) {
      try await onLoop { try await offload { throw SkerryError(.system, "disk") } }
    }
  }

  @Test func aBlockingThreadEndsAfterItsQueue() {
    let thread = BlockingThread(name: "writer")
    let sum = Atomic(0)
    for index in 1...1000 { thread.run { sum.wrappingAdd(index, ordering: .relaxed) } }
    thread.stop()
    #expect(sum.load(ordering: .relaxed) == 500_500)
    thread.run { sum.wrappingAdd(1, ordering: .relaxed) }
    thread.stop()
    #expect(sum.load(ordering: .relaxed) == 500_500)
  }
}

@LoopActor private final class Seen {
  var values: [Int] = []
}
