import Base
import Testing

@testable import EdgeAgent

@Suite struct RepeatedEventTests {
  @Test func whatComesEveryFiveSecondsIsToldEverMoreSeldom() {
    var event = RepeatedEvent(name: "p.1", first: "")
    var now = Instant(nanoseconds: 0)
    var told: [Int64] = []
    for _ in 0..<720 {  // an hour
      if event.came(at: now) { told.append(event.count) }
      now = now + .seconds(5)
    }
    #expect(told.prefix(9) == [1, 2, 3, 4, 5, 7, 11, 19, 35])
    #expect(told.count <= 20 && event.count == 720)
    #expect(zip(told, told.dropFirst()).allSatisfy { $1 - $0 <= 60 })
  }

  @Test func afterALongSilenceItIsNews() {
    var event = RepeatedEvent(name: "p.1", first: "")
    var now = Instant(nanoseconds: 0)
    for _ in 0..<20 { _ = event.came(at: now) }
    let isTold = event.came(at: now)
    #expect(!isTold)
    now = now + .seconds(301)
    let told = (0..<6).map { _ in event.came(at: now) }
    #expect(told == [true, true, true, true, true, false])
  }
}
