import Base

/// The keys that wait to be reconciled: first in, first out; each key once; no key in two hands at a time.
///
/// A key that is added while it is being worked on is kept and handed out again afterwards. Failing keys come back
/// with backoff, each at its own pace.
@LoopActor package final class WorkQueue<Key: Hashable & Sendable> {
  package struct Limits: Sendable {
    /// Keys waiting at once; stops a flood of names from filling memory. Past it `add` refuses and `overflowed` is
    /// set, upon which the owner adds all keys again when there is room.
    package var maxKeys = 500_000
    /// client-go's default: 5 ms, doubling up to 1000 s.
    package var backoff = Backoff(base: .milliseconds(5), cap: .seconds(1000))
    package init() {}
  }

  private struct Delayed {
    var deadline: Instant
    var timer: TimerID
  }

  private let limits: Limits
  private let scheduler: any Scheduler
  private let random: any RandomSource
  /// Slots before `head` were handed out; nothing is moved until half of the array is empty.
  private var order: [Key] = []
  private var head = 0
  private var waiting: Set<Key> = []
  private var inHand: Set<Key> = []
  private var dirty: Set<Key> = []
  private var delayed: [Key: Delayed] = [:]
  private var failures: [Key: Int] = [:]
  private var stopped = false

  /// Called when a key became ready and `take` would answer it.
  package var onReady: (@LoopActor () -> Void)?
  /// A key was refused for want of room; reset by whoever adds everything again.
  package var overflowed = false

  package init(limits: Limits = Limits(), scheduler: any Scheduler, random: any RandomSource) {
    self.limits = limits
    self.scheduler = scheduler
    self.random = random
  }

  /// Keys that `take` can answer now.
  package var depth: Int { order.count - head }
  /// Keys that are being worked on.
  package var taken: Int { inHand.count }
  /// Keys that wait for their time.
  package var delayedCount: Int { delayed.count }

  /// Adds a key unless it waits already. Answers false when there is no room.
  @discardableResult
  package func add(_ key: Key) -> Bool {
    guard !stopped else { return false }
    if inHand.contains(key) {
      dirty.insert(key)
      return true
    }
    guard !waiting.contains(key) else { return true }
    guard waiting.count + delayed.count < limits.maxKeys else {
      overflowed = true
      return false
    }
    waiting.insert(key)
    order.append(key)
    onReady?()
    return true
  }

  /// Adds a key when `delay` has passed; of several pending times of a key the earliest counts.
  package func add(_ key: Key, after delay: Duration) {
    guard !stopped else { return }
    guard delay > .zero else {
      add(key)
      return
    }
    let deadline = scheduler.now + delay
    if let pending = delayed[key] {
      guard deadline < pending.deadline else { return }
      scheduler.cancel(pending.timer)
    } else if waiting.count + delayed.count >= limits.maxKeys {
      overflowed = true
      return
    }
    let timer = scheduler.schedule(after: delay) { [weak self] in
      guard let self, self.delayed.removeValue(forKey: key) != nil else { return }
      self.add(key)
    }
    delayed[key] = Delayed(deadline: deadline, timer: timer)
  }

  /// Adds a key that failed, after its next backoff.
  package func retry(_ key: Key) {
    let attempt = failures[key] ?? 0
    failures[key] = attempt + 1
    add(key, after: limits.backoff.delay(attempt, random: random))
  }

  /// The key succeeded: its next failure starts from the shortest backoff.
  package func forget(_ key: Key) { failures[key] = nil }

  /// Failures in a row of a key.
  package func failureCount(_ key: Key) -> Int { failures[key] ?? 0 }

  /// The next key, which is then in the caller's hand until `done`; nil when none is ready.
  package func take() -> Key? {
    guard head < order.count else { return nil }
    let key = order[head]
    head += 1
    if head == order.count || head > 1024 && head * 2 > order.count {
      order.removeFirst(head)
      head = 0
    }
    waiting.remove(key)
    inHand.insert(key)
    return key
  }

  /// Gives a key back; if it was added meanwhile it is ready again.
  package func done(_ key: Key) {
    inHand.remove(key)
    if dirty.remove(key) != nil { add(key) }
  }

  /// Forgets everything and takes no more.
  package func stop() {
    stopped = true
    for pending in delayed.values { scheduler.cancel(pending.timer) }
    delayed = [:]
    order = []
    head = 0
    waiting = []
    dirty = []
    failures = [:]
    onReady = nil
  }
}
