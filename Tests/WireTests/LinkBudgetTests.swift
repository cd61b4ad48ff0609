import Base
import Testing
import Wire

@Suite struct LinkBudgetTests {
  private let start = Instant(nanoseconds: 0)

  @Test func bulkIsHeldBackBeforeTelemetryBeforeStatus() {
    var budget = LinkBudget(LinkBudget.Rates(total: 100_000), now: start)
    // The bucket holds 200,000 bytes; what is left decides who may go on.
    var heldBack: [Priority] = []
    for spent in stride(from: 0, through: 220_000, by: 10_000) {
      for priority in Priority.allCases where !budget.allows(priority) && !heldBack.contains(priority) {
        heldBack.append(priority)
        #expect(priority == .bulk ? spent == 110_000 : spent > 110_000)
      }
      budget.spend(10_000, .control)
    }
    #expect(heldBack == [.bulk, .telemetry, .status])
    #expect(budget.allows(.control))
    // And comes back in the other order, when it was told.
    let status = budget.next(.status)
    #expect(status < budget.next(.telemetry) && budget.next(.telemetry) < budget.next(.bulk))
    budget.refill(status)
    #expect(budget.allows(.status) && !budget.allows(.telemetry))
    budget.refill(budget.next(.bulk))
    #expect(budget.allows(.bulk))
  }

  @Test func aClassHasItsOwnRateBesideTheCommonOne() {
    var budget = LinkBudget(LinkBudget.Rates(classes: [.bulk: 8192]), now: start)
    budget.spend(30_000, .bulk)
    budget.spend(1_000_000, .telemetry)
    #expect(!budget.allows(.bulk) && budget.allows(.telemetry) && budget.allows(.status))
    budget.refill(start + .seconds(2))
    #expect(budget.allows(.bulk))
  }

  /// A machine with a budget sends no faster than it allows, and pings all the same.
  @Test func aSessionKeepsToItsBudget() throws {
    let pair = MachinePair()
    pair.client.limit(LinkBudget.Rates(total: 20_000), at: pair.now)
    let id = try pair.client.open(OpenMessage(method: "logs", priority: .bulk, params: [0xf6]))
    pair.settle()
    let incoming = id
    var sent = 0
    var pings = 0
    let begin = pair.now
    while pair.now - begin < .seconds(60) {
      while pair.client.canSend(id) { try pair.client.send(id, OutgoingMessage(Bytes(repeating: 1, count: 1000))) }
      let received = pair.serverActions.reduce(0) {
        if case .message(_, let bytes) = $1 { $0 + WireLimits.cost(bytes.count) } else { $0 }
      }
      pair.serverActions = []
      pair.server.consumed(incoming, cost: received)
      pair.client.refill(at: pair.now)
      pair.clientActions += pair.client.tick(at: pair.now, position: 0)
      let before = pair.client.scheduler.sent
      pair.settle()
      sent += Int((pair.client.scheduler.sent[.bulk] - before[.bulk]))
      if pair.client.scheduler.sent[.control] > before[.control] { pings += 1 }
      pair.now = pair.now + .milliseconds(50)
    }
    #expect(sent <= 20_000 * 62 + 2 * WireLimits.frameBytes)
    #expect(sent > 20_000 * 40)
    #expect(pings >= 3)
    // The frame that opens a stream is counted before its class is known.
    #expect(pair.client.scheduler.sent[.bulk] - pair.server.received[.bulk] < 64)
  }

  @Test func countsOfAClassSurviveTheEndOfTheSession() throws {
    let pair = MachinePair()
    _ = try pair.client.open(OpenMessage(method: "status", priority: .status, params: [0xf6]))
    pair.settle()
    let before = pair.client.scheduler.sent
    #expect(before[.status] > 0 && before[.control] > 0)
    _ = pair.client.close(GoAway(reason: GoAway.shutdown))
    #expect(pair.client.scheduler.sent == before)
  }
}
