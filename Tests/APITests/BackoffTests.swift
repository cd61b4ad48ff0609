import API
import Base
import Testing

@Suite struct BackoffTests {
  @Test func doublesUpToItsCap() {
    let backoff = Backoff(base: .milliseconds(5), cap: .seconds(1000))
    #expect(backoff.ceiling(0) == .milliseconds(5))
    #expect(backoff.ceiling(3) == .milliseconds(40))
    #expect(backoff.ceiling(17) == .milliseconds(655_360))
    #expect(backoff.ceiling(18) == .seconds(1000))
    #expect(backoff.ceiling(1_000_000) == .seconds(1000))
  }

  @Test func jitterFillsTheWholeRange() {
    let backoff = Backoff(base: .milliseconds(100), cap: .seconds(30))
    let random = SeededRandom(seed: 7)
    let delays = (0..<1000).map { _ in backoff.delay(2, random: random) }
    #expect(delays.allSatisfy { $0 > .zero && $0 <= .milliseconds(400) })
    #expect(delays.contains { $0 < .milliseconds(40) })
    #expect(delays.contains { $0 > .milliseconds(360) })
  }
}
