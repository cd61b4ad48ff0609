import API
import Base
import EventLoop
import Testing

@LoopActor private func makeQueue(_ scheduler: ManualScheduler, limits: WorkQueue<String>.Limits = .init())
  -> WorkQueue<String>
{
  WorkQueue(limits: limits, scheduler: scheduler, random: SeededRandom(seed: 1))
}

@Suite struct WorkQueueTests {
  @Test func eachKeyOnceAndInOrder() async throws {
    try await onLoop {
      let queue = makeQueue(ManualScheduler())
      for key in ["a", "b", "a", "c", "b"] { queue.add(key) }
      #expect(queue.depth == 3)
      #expect([queue.take(), queue.take(), queue.take(), queue.take()] == ["a", "b", "c", nil])
    }
  }

  @Test func aKeyInHandWaitsForItsReturn() async throws {
    try await onLoop {
      let queue = makeQueue(ManualScheduler())
      queue.add("a")
      #expect(queue.take() == "a")
      queue.add("a")
      queue.add("a")
      #expect(queue.take() == nil)
      queue.done("a")
      #expect(queue.take() == "a")
      queue.done("a")
      #expect(queue.take() == nil)
    }
  }

  @Test func ofSeveralTimesTheEarliestCounts() async throws {
    try await onLoop {
      let scheduler = ManualScheduler()
      let queue = makeQueue(scheduler)
      queue.add("a", after: .seconds(10))
      queue.add("a", after: .seconds(3))
      queue.add("a", after: .seconds(5))
      scheduler.advance(.seconds(2))
      #expect(queue.take() == nil)
      scheduler.advance(.seconds(1))
      #expect(queue.take() == "a")
      queue.done("a")
      scheduler.advance(.seconds(20))
      #expect(queue.take() == nil)
    }
  }

  @Test func failuresBackOffAndAreForgotten() async throws {
    try await onLoop {
      let scheduler = ManualScheduler()
      let queue = makeQueue(scheduler)
      for attempt in 0..<12 {
        queue.add("a")
        #expect(queue.take() == "a")
        queue.retry("a")
        queue.done("a")
        #expect(queue.take() == nil)
        scheduler.advance(.milliseconds(5 << attempt))
        #expect(queue.take() == "a")
        queue.done("a")
      }
      #expect(queue.failureCount("a") == 12)
      queue.forget("a")
      #expect(queue.failureCount("a") == 0)
    }
  }

  @Test func aFullQueueRefusesAndSaysSo() async throws {
    try await onLoop {
      var limits = WorkQueue<String>.Limits()
      limits.maxKeys = 2
      let queue = makeQueue(ManualScheduler(), limits: limits)
      #expect(queue.add("a"))
      #expect(queue.add("b"))
      #expect(!queue.overflowed)
      #expect(!queue.add("c"))
      #expect(queue.overflowed)
      // What waits already needs no room.
      #expect(queue.add("a"))
    }
  }

  @Test func stoppedItForgetsEverything() async throws {
    try await onLoop {
      let scheduler = ManualScheduler()
      let queue = makeQueue(scheduler)
      queue.add("a")
      queue.add("b", after: .seconds(1))
      queue.stop()
      #expect(scheduler.pending == 0)
      #expect(queue.take() == nil)
      queue.add("c")
      #expect(queue.take() == nil)
    }
  }
}
