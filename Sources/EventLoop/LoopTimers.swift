import Base
import CLibUV
import Glibc

/// The deadlines of one loop: a binary heap of (deadline, number) beside the actions by number. Cancelling takes
/// the action away at once; the heap's entry stays until it comes up or the heap is rebuilt.
struct TimerQueue {
  private struct Entry {
    var deadline: UInt64
    var id: UInt64
    func precedes(_ other: Entry) -> Bool { (deadline, id) < (other.deadline, other.id) }
  }
  private var heap: [Entry] = []
  private var actions: [UInt64: @LoopActor () -> Void] = [:]
  /// The number that the next timer gets.
  private(set) var nextID: UInt64 = 1
  /// What the loop's one timer is armed for.
  var armed: UInt64?

  /// The nearest deadline of a live timer.
  var next: UInt64? {
    mutating get {
      while let first = heap.first, actions[first.id] == nil { _ = pop() }
      return heap.first?.deadline
    }
  }
  var count: Int { actions.count }

  /// Adds an action; one without a deadline is found by `take` only.
  mutating func add(deadline: UInt64?, _ action: @escaping @LoopActor () -> Void) -> UInt64 {
    let id = nextID
    nextID += 1
    actions[id] = action
    if let deadline { push(Entry(deadline: deadline, id: id)) }
    return id
  }

  mutating func take(_ id: UInt64) -> (@LoopActor () -> Void)? { actions.removeValue(forKey: id) }

  mutating func cancel(_ id: UInt64) {
    guard actions.removeValue(forKey: id) != nil else { return }
    if heap.count > 64, heap.count > actions.count * 2 { rebuild() }
  }

  /// The next live action whose deadline is not after `now` and that was added before `limit`.
  mutating func popDue(now: UInt64, limit: UInt64) -> (@LoopActor () -> Void)? {
    guard let deadline = next, deadline <= now, heap[0].id < limit else { return nil }
    return actions.removeValue(forKey: pop().id)
  }

  private mutating func rebuild() {
    let live = heap.filter { actions[$0.id] != nil }
    heap.removeAll(keepingCapacity: true)
    for entry in live { push(entry) }
  }

  private mutating func push(_ entry: Entry) {
    heap.append(entry)
    var child = heap.count - 1
    while child > 0 {
      let parent = (child - 1) / 2
      guard heap[child].precedes(heap[parent]) else { break }
      heap.swapAt(child, parent)
      child = parent
    }
  }

  private mutating func pop() -> Entry {
    let first = heap[0]
    let last = heap.removeLast()
    guard !heap.isEmpty else { return first }
    heap[0] = last
    var parent = 0
    while true {
      var least = parent
      for child in [2 * parent + 1, 2 * parent + 2] where child < heap.count && heap[child].precedes(heap[least]) {
        least = child
      }
      guard least != parent else { return first }
      heap.swapAt(parent, least)
      parent = least
    }
  }
}

extension Loop: Scheduler {
  /// CLOCK_MONOTONIC, which is also what libuv's timers count in.
  package nonisolated var now: Instant {
    Instant(nanoseconds: uv_hrtime())
  }

  package nonisolated var wall: WallTime {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return WallTime(nanoseconds: Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec))
  }

  @discardableResult
  package func schedule(after delay: Duration, _ action: @escaping @LoopActor () -> Void) -> TimerID {
    guard delay > .zero else {
      let id = timers.add(deadline: nil, action)
      append(.timer(id))
      return TimerID(raw: id)
    }
    let deadline = now.nanoseconds &+ UInt64(delay.nanosecondCount)
    let id = timers.add(deadline: deadline, action)
    if deadline < timers.armed ?? .max { arm(deadline) }
    return TimerID(raw: id)
  }

  package func cancel(_ timer: TimerID) { timers.cancel(timer.raw) }

  package func nextTurn(_ task: any TurnTask) { append(.turn(task)) }

  /// Runs a timer that had no delay.
  @LoopActor func fire(_ id: UInt64) {
    if let action = timers.take(id) { action() }
  }

  /// Arms the one libuv timer. Its time has millisecond steps on the same clock, so rounding the deadline up to a
  /// whole one means that it never comes early.
  private func arm(_ deadline: UInt64) {
    timers.armed = deadline
    uv_update_time(uv)  // else the delay counts from the start of this turn
    let due = deadline / 1_000_000 + (deadline.isMultiple(of: 1_000_000) ? 0 : 1)
    let current = uv_now(uv)
    uv_timer_start(timerHandle, timerFired, due > current ? due - current : 0, 0)
  }

  @LoopActor func runDueTimers() {
    timers.armed = nil
    let (now, limit) = (now.nanoseconds, timers.nextID)
    while let action = timers.popDue(now: now, limit: limit) { action() }
    if let next = timers.next, next < timers.armed ?? .max { arm(next) }
  }
}

private func timerFired(_ handle: UnsafeMutablePointer<uv_timer_t>?) {
  Loop.of(handle?.pointee.loop).noteDueTimers()
}
