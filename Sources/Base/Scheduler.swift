/// A point on one machine's monotonic clock, in nanoseconds from an origin that means nothing elsewhere.
package struct Instant: Sendable, Hashable, Comparable {
  package let nanoseconds: UInt64
  package init(nanoseconds: UInt64) { self.nanoseconds = nanoseconds }

  package static func < (a: Instant, b: Instant) -> Bool { a.nanoseconds < b.nanoseconds }
  package static func + (a: Instant, b: Duration) -> Instant {
    Instant(nanoseconds: a.nanoseconds &+ UInt64(bitPattern: b.nanosecondCount))
  }
  /// The signed distance from `b` to `a`.
  package static func - (a: Instant, b: Instant) -> Duration {
    .nanoseconds(Int64(bitPattern: a.nanoseconds &- b.nanoseconds))
  }
}

extension Duration {
  /// The whole duration in nanoseconds, saturating at about 292 years.
  package var nanosecondCount: Int64 {
    let (seconds, attoseconds) = components
    let (product, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
    if overflow { return seconds < 0 ? .min : .max }
    return product &+ attoseconds / 1_000_000_000
  }
  package var milliseconds: Int64 { nanosecondCount / 1_000_000 }
  package var seconds: Double { Double(nanosecondCount) / 1e9 }
}

/// Wall-clock time as the machine believes it: nanoseconds since 1970 in UTC. Never compared across machines.
package struct WallTime: Sendable, Hashable, Comparable {
  package let nanoseconds: Int64
  package init(nanoseconds: Int64) { self.nanoseconds = nanoseconds }
  package init(seconds: Int64) { self.nanoseconds = seconds * 1_000_000_000 }
  package var seconds: Int64 { nanoseconds.quotientFlooring(1_000_000_000) }
  package static func < (a: WallTime, b: WallTime) -> Bool { a.nanoseconds < b.nanoseconds }
  package static func + (a: WallTime, b: Duration) -> WallTime {
    WallTime(nanoseconds: a.nanoseconds + b.nanosecondCount)
  }
  package static func - (a: WallTime, b: WallTime) -> Duration { .nanoseconds(a.nanoseconds - b.nanoseconds) }
}

extension Int64 {
  func quotientFlooring(_ divisor: Int64) -> Int64 {
    let (quotient, remainder) = quotientAndRemainder(dividingBy: divisor)
    return remainder < 0 ? quotient - 1 : quotient
  }
}

/// A timer that was scheduled; unique within its scheduler.
package struct TimerID: Sendable, Hashable {
  package let raw: UInt64
  package init(raw: UInt64) { self.raw = raw }
}

/// Whoever owns the timers owns the time: the one source of both, with a libuv and a simulated implementation.
@LoopActor package protocol Scheduler: AnyObject, Sendable {
  nonisolated var now: Instant { get }
  nonisolated var wall: WallTime { get }
  /// Runs `action` once on the loop, not before `delay` has passed, never inside this call.
  @discardableResult
  func schedule(after delay: Duration, _ action: @escaping @LoopActor () -> Void) -> TimerID
  /// Forgets a timer; nothing happens if it has fired.
  func cancel(_ timer: TimerID)
  /// Gives `task` a turn of the loop soon, never inside this call; what hot paths use instead of a timer without delay.
  func nextTurn(_ task: any TurnTask)
}

/// Whoever takes a turn of the loop again and again: it is queued as it is, without a closure or a timer made for it.
@LoopActor package protocol TurnTask: AnyObject, Sendable {
  func takeTurn()
}

extension Scheduler {
  @LoopActor package func nextTurn(_ task: any TurnTask) {
    schedule(after: .zero) { task.takeTurn() }
  }
}

extension Scheduler {
  /// Suspends for `duration`; ends early, by throwing `CancellationError`, when the task is cancelled.
  @LoopActor package func sleep(for duration: Duration) async throws {
    try Task.checkCancellation()
    let box = SleepBox()
    try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
        if box.cancelled { return continuation.resume(throwing: CancellationError()) }
        box.continuation = continuation
        box.timer = schedule(after: duration) { box.finish(nil) }
      }
    } onCancel: {
      spawn {
        if let timer = box.timer { self.cancel(timer) }
        box.cancelled = true
        box.finish(CancellationError())
      }
    }
  }
}

@LoopActor private final class SleepBox {
  var continuation: CheckedContinuation<Void, any Error>?
  var timer: TimerID?
  var cancelled = false
  nonisolated init() {}
  func finish(_ error: (any Error)?) {
    guard let waiting = continuation else { return }
    continuation = nil
    if let error { waiting.resume(throwing: error) } else { waiting.resume() }
  }
}
