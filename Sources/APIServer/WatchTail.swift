import API
import Base
import ObjectLog
import ObjectModel

/// The newest entries of every resource, and the watches that wait for more.
///
/// A watch is a place in here or in the log; nothing is queued for it. Publication asks the watches that may be
/// concerned (`WatchIndex`) and wakes those that are and had caught up.
@LoopActor final class WatchTail {
  private let log: any ObjectLog
  private let scheduler: any Scheduler
  let limits: APIServerLimits
  private var rings: [String: WatchRing] = [:]
  /// What a ring that does not exist yet reaches back to.
  private var ringFloor: UInt64
  private var watches: [String: WatchIndex] = [:]
  /// Selections of everything in a namespace, by prefix: thousands of watches select the same.
  private var selections: [String: Selection] = [:]
  /// Namespaces are made by users.
  private static let maxSelections = 4_096
  private var lastNumber: UInt64 = 0
  /// Watches that did not end.
  private(set) var count = 0
  /// Everything up to here is in the rings.
  private(set) var position: UInt64
  /// Rises when the log begins another history; watches of an older one end.
  private(set) var history = 0
  private var seenLog: LogID
  private var seenEpoch: UInt64
  private var observation: ObservationID?
  private var bookmarkTimer: TimerID?
  private let gauge: Gauge
  private let published: Counter
  private let asked: Counter

  init(log: any ObjectLog, scheduler: any Scheduler, limits: APIServerLimits, metrics: Metrics) {
    self.log = log
    self.scheduler = scheduler
    self.limits = limits
    position = log.tail.position
    ringFloor = log.tail.position
    seenLog = log.tail.log
    seenEpoch = log.tail.epoch
    gauge = metrics.gauge("skerry_apiserver_watches", "Open watches.")
    published = metrics.counter("skerry_apiserver_entries_total", "Object changes published to watches.")
    asked = metrics.counter(
      "skerry_apiserver_watches_asked_total", "Watches that were asked whether a publication concerns them.")
    observation = log.observe { [weak self] entries in self?.publish(entries) }
  }

  func start() { scheduleBookmarks() }

  func stop() {
    if let observation { log.cancelObservation(observation) }
    observation = nil
    if let bookmarkTimer { scheduler.cancel(bookmarkTimer) }
    bookmarkTimer = nil
  }

  /// The ring of a resource, which its watches hold on to.
  func ring(_ resource: String) -> WatchRing {
    if let known = rings[resource] { return known }
    let made = WatchRing(floor: ringFloor)
    rings[resource] = made
    return made
  }

  // MARK: Watches

  func add(_ watch: LogWatch) throws(APIError) {
    guard count < limits.maxWatches else {
      throw APIError(
        .tooManyRequests, "\(limits.maxWatches) watches are open, no more are taken: end some, or try again later",
        details: ["retryAfterSeconds": 5])
    }
    lastNumber += 1
    watch.number = lastNumber
    let index = watches[watch.resource] ?? WatchIndex()
    watches[watch.resource] = index
    index.add(watch, published: position)
    count += 1
    gauge.set(Int64(count))
  }

  /// The selection, or an equal one that is there already.
  func shared(_ selection: Selection) -> Selection {
    guard selection.selectsAll else { return selection }
    if let known = selections[selection.prefix] { return known }
    if selections.count >= Self.maxSelections { selections = [:] }
    selections[selection.prefix] = selection
    return selection
  }

  func remove(_ watch: LogWatch) {
    guard watches[watch.resource]?.remove(watch) == true else { return }
    count -= 1
    gauge.set(Int64(count))
  }

  private func publish(_ entries: [Entry]) {
    guard let last = entries.last else { return }
    published.add(UInt64(entries.count))
    noticeHistory(entries)
    position = last.position
    // Everything is known here before the first watch looks at any of it.
    var concerns: [WatchConcern] = []
    for (resource, fresh) in decode(entries) {
      let ring = ring(resource)
      let before = ring.entries.last?.place ?? (ring.floor, .max)
      for entry in fresh { ring.append(entry) }
      ring.trim(entries: limits.tailEntries, bytes: limits.tailBytes)
      watches[resource]?.note(fresh, behind: before, into: &concerns)
    }
    for concern in concerns {
      asked.add(UInt64(concern.watches.live))
      concern.watches.forEach { $0.offer(concern.entries, behind: concern.before, through: last.position) }
    }
  }

  /// A follower may begin another history: what is here then means nothing to it.
  private func noticeHistory(_ entries: [Entry]) {
    let now = log.tail
    if now.log == seenLog, now.epoch == seenEpoch { return }
    (seenLog, seenEpoch) = (now.log, now.epoch)
    ringFloor = max(1, entries.first?.position ?? 1) - 1
    for ring in rings.values { ring.reset(floor: ringFloor) }
    history += 1
    for index in watches.values {
      index.restart(published: now.position)
      index.all.forEach { $0.wake() }
    }
  }

  /// By resource, each in order. A publication is of few resources, most often of one: they are compared, not hashed.
  private func decode(_ entries: [Entry]) -> [(resource: String, entries: [TailEntry])] {
    var found: [(resource: String, entries: [TailEntry])] = []
    for entry in entries.reversed() {
      guard let reference = ObjectReference(key: entry.key) else { continue }
      if let place = found.firstIndex(where: { $0.resource == reference.resource }) {
        let endsPosition = found[place].entries.last?.entry.position != entry.position
        found[place].entries.append(TailEntry(entry, reference, endsPosition: endsPosition))
      } else {
        found.append((reference.resource, [TailEntry(entry, reference, endsPosition: true)]))
      }
    }
    return found.map { ($0.resource, $0.entries.reversed()) }
  }

  private func scheduleBookmarks() {
    bookmarkTimer = scheduler.schedule(after: limits.bookmarkInterval) { [weak self] in
      guard let self else { return }
      for index in watches.values { index.all.forEach { $0.bookmarkDue() } }
      scheduleBookmarks()
    }
  }
}
