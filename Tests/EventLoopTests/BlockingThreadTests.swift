import Base
import EventLoop
import Synchronization
import Testing

@Suite struct BlockingThreadTests {
  @Test func whatWasQueuedRunsBeforeTheEndAndWhatComesLaterIsRefused() {
    let thread = BlockingThread(name: "test")
    let ran = Mutex<[Int]>([])
    for number in 0..<100 { #expect(thread.offer { ran.withLock { $0.append(number) } }) }
    thread.stop()
    #expect(ran.withLock { $0 } == Array(0..<100))
    #expect(!thread.offer { ran.withLock { $0.append(100) } })
    thread.run { ran.withLock { $0.append(101) } }
    thread.stop()
    #expect(ran.withLock { $0.count } == 100)
  }

  /// Polling or asleep, told of work or not: all of it runs, in order, and the end comes.
  @Test func whatIsExpectedRunsAsWhatIsNot() async throws {
    try await onLoop {
      let thread = BlockingThread(name: "test", busyPolls: true)
      let ran = Mutex<[Int]>([])
      for number in 0..<1_000 {
        if number % 3 != 0 { thread.expectWork() }
        if number % 7 == 0 { thread.expectWork() }
        thread.run { ran.withLock { $0.append(number) } }
        while number % 5 == 0, ran.withLock({ $0.last }) != number { await Task.yield() }
      }
      thread.expectWork()
      thread.stop()
      thread.expectWork()
      #expect(ran.withLock { $0 } == Array(0..<1_000))
    }
  }
}
