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
}
