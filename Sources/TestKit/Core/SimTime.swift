import Base

/// The world's one clock and its heap of what is to happen: whoever owns the timers owns the time.
///
/// Confined to the simulation's one thread (the reason for `@unchecked Sendable`).
package final class SimTime: @unchecked Sendable {
  private struct Item {
    let at: UInt64
    let id: UInt64
    static func < (a: Item, b: Item) -> Bool { a.at != b.at ? a.at < b.at : a.id < b.id }
  }
  private struct Body {
    let owner: ObjectIdentifier?
    let run: @LoopActor () -> Void
  }

  /// Nanoseconds since the world began.
  package private(set) var now: UInt64 = 0
  /// Timers that fired.
  package private(set) var steps: UInt64 = 0
  private var heap: [Item] = []
  private var bodies: [UInt64: Body] = [:]
  private var nextID: UInt64 = 1
  /// What killed processes waited for. A continuation that is let go complains, so it is kept until the end.
  private var graveyard: [Any] = []

  package init() {}

  package func bury(_ anything: Any) { graveyard.append(anything) }

  @discardableResult
  package func schedule(at moment: UInt64, owner: AnyObject? = nil, _ run: @escaping @LoopActor () -> Void) -> UInt64 {
    let id = nextID
    nextID += 1
    bodies[id] = Body(owner: owner.map { ObjectIdentifier($0) }, run: run)
    push(Item(at: max(moment, now), id: id))
    return id
  }

  @discardableResult
  package func schedule(after delay: Duration, owner: AnyObject? = nil, _ run: @escaping @LoopActor () -> Void)
    -> UInt64
  {
    schedule(at: now &+ UInt64(max(delay.nanosecondCount, 0)), owner: owner, run)
  }

  package func cancel(_ id: UInt64) { bodies[id] = nil }

  /// The timers of a killed process never fire.
  package func drop(owner: AnyObject) {
    let gone = ObjectIdentifier(owner)
    for (id, body) in bodies where body.owner == gone {
      bury(body.run)
      bodies[id] = nil
    }
  }

  /// When the next thing happens; nil if nothing ever does.
  package func peek() -> UInt64? {
    while let top = heap.first, bodies[top.id] == nil { pop() }
    return heap.first?.at
  }

  /// Moves time to the next thing and hands it out.
  package func next() -> (id: UInt64, run: @LoopActor () -> Void)? {
    while let top = heap.first {
      pop()
      guard let body = bodies.removeValue(forKey: top.id) else { continue }
      now = top.at
      steps &+= 1
      return (top.id, body.run)
    }
    return nil
  }

  /// Time passes without anything happening; nothing is due before `moment`.
  package func wait(until moment: UInt64) { now = max(now, moment) }

  private func push(_ item: Item) {
    heap.append(item)
    var index = heap.count - 1
    while index > 0 {
      let parent = (index - 1) / 2
      guard heap[index] < heap[parent] else { return }
      heap.swapAt(index, parent)
      index = parent
    }
  }

  private func pop() {
    let last = heap.removeLast()
    guard !heap.isEmpty else { return }
    heap[0] = last
    var index = 0
    while true {
      var least = index
      let left = 2 * index + 1
      if left < heap.count, heap[left] < heap[least] { least = left }
      if left + 1 < heap.count, heap[left + 1] < heap[least] { least = left + 1 }
      if least == index { return }
      heap.swapAt(index, least)
      index = least
    }
  }
}

/// One process's view of time: its machine's wall clock, a monotonic clock of its own, and timers that die with it.
@LoopActor package final class SimClock: Scheduler {
  /// Confined to the simulation's one thread.
  private nonisolated(unsafe) var offset: Int64
  private nonisolated(unsafe) var alive = true
  private nonisolated let time: SimTime
  private nonisolated let origin: UInt64

  /// The world begins on 2027-01-15 08:00:00 UTC.
  package nonisolated static let epoch: Int64 = 1_800_000_000_000_000_000
  /// What every monotonic clock shows when its process begins.
  private nonisolated static let uptime: UInt64 = 1_000_000_000_000

  /// `skew` is what the machine's wall clock is ahead.
  package nonisolated init(_ time: SimTime, skew: Duration) {
    self.time = time
    offset = skew.nanosecondCount
    origin = time.now
  }

  package nonisolated var isAlive: Bool { alive }
  package nonisolated var now: Instant { Instant(nanoseconds: time.now &- origin &+ Self.uptime) }
  package nonisolated var wall: WallTime {
    WallTime(nanoseconds: max(0, Self.epoch &+ Int64(time.now) &+ offset))
  }

  /// The wall clock jumps.
  package func setSkew(_ skew: Duration) { offset = skew.nanosecondCount }

  @discardableResult
  package func schedule(after delay: Duration, _ action: @escaping @LoopActor () -> Void) -> TimerID {
    guard alive else {
      time.bury(action)
      return TimerID(raw: 0)
    }
    return TimerID(raw: time.schedule(after: delay, owner: self, action))
  }

  package func cancel(_ timer: TimerID) { time.cancel(timer.raw) }

  /// The process is dead: nothing that it waits for ever comes.
  package func kill() {
    alive = false
    time.drop(owner: self)
  }
}
