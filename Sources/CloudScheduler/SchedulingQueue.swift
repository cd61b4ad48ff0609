import API
import Base

/// The pods that wait for a node: ready ones by priority and age, refused ones until the cluster changes, and both
/// not before their backoff is over. Pure; the time is told.
package struct SchedulingQueue {
  /// Kubernetes' times: 1 s doubling to 10 s after failures, and another look after 5 minutes in any case.
  package var backoff = Backoff(base: .seconds(1), cap: .seconds(10))
  package var patience = Duration.seconds(300)

  private enum Place: Hashable {
    case ready
    /// Comes back at its `notBefore`.
    case backingOff
    /// No node fits; comes back when something changes.
    case refused(since: Instant)
    /// Being bound.
    case inHand
  }
  private struct Entry {
    var demand: PodDemand
    var sequence: UInt64
    var attempts = 0
    var notBefore: Instant
    var place: Place
  }
  private struct Ready: Comparable {
    var priority: Int64
    var sequence: UInt64
    var key: ObjectKey
    static func < (a: Ready, b: Ready) -> Bool { (-a.priority, a.sequence) < (-b.priority, b.sequence) }
  }
  private struct Due: Comparable {
    var at: Instant
    var key: ObjectKey
    static func < (a: Due, b: Due) -> Bool { a.at < b.at }
  }

  private var entries: [ObjectKey: Entry] = [:]
  /// May hold what is no longer so; each element is checked against its entry when it comes up.
  private var ready = MinHeap<Ready>()
  private var due = MinHeap<Due>()
  private var refused: Set<ObjectKey> = []
  /// Those of them that ask something of other pods.
  private var refusedWithRules: Set<ObjectKey> = []
  private var sequence: UInt64 = 0

  package init() {}

  package var count: Int { entries.count }
  package var refusedCount: Int { refused.count }
  package var hasReady: Bool { !ready.isEmpty }
  package subscript(key: ObjectKey) -> PodDemand? { entries[key]?.demand }

  /// Adds a pod, or takes its new state; one whose demand changed is looked at again.
  package mutating func add(_ demand: PodDemand, now: Instant) {
    guard var entry = entries[demand.key], entry.demand.uid == demand.uid else {
      remove(demand.key)
      sequence += 1
      entries[demand.key] = Entry(demand: demand, sequence: sequence, notBefore: now, place: .ready)
      ready.insert(Ready(priority: demand.priority, sequence: sequence, key: demand.key))
      return
    }
    let asksTheSame = entry.demand.asksTheSame(as: demand)
    entry.demand = demand
    entries[demand.key] = entry
    if !asksTheSame, case .refused = entry.place { wake(demand.key, now: now) }
  }

  package mutating func remove(_ key: ObjectKey) {
    entries[key] = nil
    refused.remove(key)
    refusedWithRules.remove(key)
  }

  /// The next pod, which is then in the caller's hand until `refuse`, `retry` or `remove`.
  package mutating func take(now: Instant) -> PodDemand? {
    release(now: now)
    while let first = ready.popMin() {
      guard var entry = entries[first.key], entry.sequence == first.sequence, entry.place == .ready else { continue }
      entry.place = .inHand
      entry.attempts += 1
      entries[first.key] = entry
      return entry.demand
    }
    return nil
  }

  /// No node fits: waits for a change, and for its backoff.
  package mutating func refuse(_ key: ObjectKey, now: Instant) {
    guard var entry = entries[key] else { return }
    entry.notBefore = now + backoff.ceiling(entry.attempts - 1)
    entry.place = .refused(since: now)
    entries[key] = entry
    refused.insert(key)
    if entry.demand.rules != nil { refusedWithRules.insert(key) }
  }

  /// Binding failed: comes back after its backoff.
  package mutating func retry(_ key: ObjectKey, now: Instant) {
    guard var entry = entries[key] else { return }
    entry.notBefore = now + backoff.ceiling(entry.attempts - 1)
    entries[key] = entry
    postpone(key)
  }

  /// Something changed that may let refused pods in.
  package mutating func clusterChanged(now: Instant) {
    guard !refused.isEmpty else { return }
    for key in refused { wake(key, now: now, keepingSet: true) }
    refused.removeAll(keepingCapacity: true)
    refusedWithRules.removeAll(keepingCapacity: true)
  }

  /// Pods came to nodes or changed their labels, which lets in only those that ask for pods beside them, or for a spread.
  package mutating func podsChanged(now: Instant) {
    guard !refusedWithRules.isEmpty else { return }
    for key in refusedWithRules { wake(key, now: now) }
  }

  /// Looks again at what was refused long ago, lest a change that nobody thought of leaves it waiting for ever.
  package mutating func releaseStale(now: Instant) {
    for key in refused {
      if case .refused(let since)? = entries[key]?.place, now - since >= patience { wake(key, now: now) }
    }
  }

  /// When the next backoff ends.
  package var nextDue: Instant? { due.min?.at }

  private mutating func wake(_ key: ObjectKey, now: Instant, keepingSet: Bool = false) {
    guard let entry = entries[key] else { return }
    if !keepingSet {
      refused.remove(key)
      refusedWithRules.remove(key)
    }
    if entry.notBefore <= now { makeReady(key) } else { postpone(key) }
  }

  private mutating func postpone(_ key: ObjectKey) {
    guard let at = entries[key]?.notBefore else { return }
    entries[key]?.place = .backingOff
    due.insert(Due(at: at, key: key))
  }

  private mutating func makeReady(_ key: ObjectKey) {
    guard let entry = entries[key] else { return }
    entries[key]?.place = .ready
    ready.insert(Ready(priority: entry.demand.priority, sequence: entry.sequence, key: key))
  }

  private mutating func release(now: Instant) {
    while let first = due.min, first.at <= now {
      _ = due.popMin()
      guard let entry = entries[first.key], entry.place == .backingOff, entry.notBefore == first.at else { continue }
      makeReady(first.key)
    }
  }
}

/// A binary heap whose least element comes first.
struct MinHeap<Element: Comparable> {
  private var elements: [Element] = []

  var isEmpty: Bool { elements.isEmpty }
  var min: Element? { elements.first }

  mutating func insert(_ element: Element) {
    elements.append(element)
    var child = elements.count - 1
    while child > 0 {
      let parent = (child - 1) / 2
      guard elements[child] < elements[parent] else { return }
      elements.swapAt(child, parent)
      child = parent
    }
  }

  mutating func popMin() -> Element? {
    guard let first = elements.first else { return nil }
    let last = elements.removeLast()
    guard !elements.isEmpty else { return first }
    elements[0] = last
    var parent = 0
    while true {
      var least = parent
      for child in [2 * parent + 1, 2 * parent + 2] where child < elements.count && elements[child] < elements[least] {
        least = child
      }
      guard least != parent else { return first }
      elements.swapAt(parent, least)
      parent = least
    }
  }
}
