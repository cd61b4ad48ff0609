import Base
import Synchronization

/// A scheduler whose time stands still until a test moves it.
@LoopActor final class ManualScheduler: Scheduler {
  private struct Timer {
    let id: TimerID
    let at: Instant
    let action: @LoopActor () -> Void
  }
  private let time = Mutex<UInt64>(1_000_000_000)
  private var timers: [Timer] = []
  private var next: UInt64 = 0

  nonisolated init() {}
  nonisolated var now: Instant { Instant(nanoseconds: time.withLock { $0 }) }
  nonisolated var wall: WallTime { WallTime(nanoseconds: Int64(time.withLock { $0 })) }
  var pending: Int { timers.count }

  func schedule(after delay: Duration, _ action: @escaping @LoopActor () -> Void) -> TimerID {
    next += 1
    let id = TimerID(raw: next)
    timers.append(Timer(id: id, at: now + delay, action: action))
    return id
  }
  func cancel(_ timer: TimerID) { timers.removeAll { $0.id == timer } }

  /// Moves the time on and runs what falls due, in its order.
  func advance(_ duration: Duration) {
    let end = now + duration
    while let first = timers.filter({ $0.at <= end }).min(by: { ($0.at, $0.id.raw) < ($1.at, $1.id.raw) }) {
      timers.removeAll { $0.id == first.id }
      time.withLock { $0 = max($0, first.at.nanoseconds) }
      first.action()
    }
    time.withLock { $0 = end.nanoseconds }
  }
}
