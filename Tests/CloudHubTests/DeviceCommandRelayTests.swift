import API
import Base
import EventLoop
import Testing

@testable import CloudHub

/// Time that stands still until the test moves it.
@LoopActor private final class Clock: Scheduler {
  private nonisolated(unsafe) var time: UInt64 = 1  // Read and written on the loop alone, by the tests below.
  private var timers: [(id: TimerID, at: Instant, action: @LoopActor () -> Void)] = []
  nonisolated var now: Instant { Instant(nanoseconds: time) }
  nonisolated var wall: WallTime { WallTime(nanoseconds: Int64(time)) }

  func schedule(after delay: Duration, _ action: @escaping @LoopActor () -> Void) -> TimerID {
    let id = TimerID(raw: UInt64(timers.count + 1))
    timers.append((id, now + delay, action))
    return id
  }
  func cancel(_ timer: TimerID) { timers.removeAll { $0.id == timer } }
  func advance(_ duration: Duration) {
    time += UInt64(duration.nanosecondCount)
    let due = timers.filter { $0.at <= now }
    timers.removeAll { $0.at <= now }
    for timer in due { timer.action() }
  }
}

@Suite(.timeLimit(.minutes(1))) struct DeviceCommandRelayTests {
  private static let device = ObjectReference(resource: "devices", namespace: "default", name: "d")
  private static let caller = Caller(user: "ann", groups: [], node: nil, origin: .network)

  @Test func aCommandForANodeThatStaysAwayExpires() async throws {
    try await onLoop {
      let clock = Clock()
      let relay = DeviceCommandRelay(scheduler: clock, random: SystemRandom())
      var looks = 0
      let answer = spawn { () -> APIError? in
        do throws(APIError) {
          _ = try await relay.run(
            Self.device, node: "n1", options: ["timeoutSeconds": 5], caller: Self.caller,
            session: {
              looks += 1
              return nil
            })
          return nil
        } catch { return error }
      }
      while looks == 0 { await Task.yield() }
      // A session of which nothing is left when the command looks: it goes on waiting.
      clock.advance(.seconds(4))
      relay.connected("n1")
      while looks == 1 { await Task.yield() }
      relay.connected("n2")
      clock.advance(.seconds(1))
      let error = await answer.value
      #expect(error?.reason == .timeout)
      #expect(error?.message.hasPrefix("Expired: ") == true)
      #expect(looks == 2)
    }
  }

  @Test func whatNobodyWaitsForHasNoTimeLeft() async throws {
    try await onLoop {
      let relay = DeviceCommandRelay(scheduler: Clock(), random: SystemRandom())
      #expect(relay.left("a ticket") == nil)
    }
  }
}
