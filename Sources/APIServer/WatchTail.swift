import API
import Base
import ObjectLog
import ObjectModel

/// One entry, its metadata decoded and its events made when a watch asks first: once for all watches.
@LoopActor final class TailEntry {
  let entry: Entry
  let reference: ObjectReference
  /// Whether no later entry of the same resource has this position.
  let endsPosition: Bool
  var place: (position: UInt64, index: UInt32) { (entry.position, entry.index) }
  /// The event that the watches were told of last: nearly all see the same kind at the same position.
  private var told: WatchEvent?

  /// The metadata, for watches that select; most do not.
  private(set) lazy var meta = Self.decode(entry.object.meta)
  /// Most changes are of a status, and leave the metadata as it is.
  private(set) lazy var previousMeta =
    entry.previousMeta == entry.object.meta ? meta : entry.previousMeta.map(Self.decode)

  /// What does not decode has no labels and no fields.
  private nonisolated static func decode(_ bytes: Bytes) -> ObjectMeta {
    (try? ObjectMeta(decoding: bytes)) ?? ObjectMeta()
  }

  /// The entry as an event of this kind.
  func event(_ kind: WatchEvent.Kind, at position: UInt64) -> WatchEvent {
    if let told, told.kind == kind, told.position == position { return told }
    let made = WatchEvent(
      kind: kind, position: position,
      object: APIObject(
        reference: reference, revision: entry.revision, body: entry.object.body, status: entry.object.status),
      head: ItemMessage.head(kind, position: position, revision: entry.revision))
    told = made
    return made
  }

  /// What the entry is to a watch that selects everything.
  var kind: WatchEvent.Kind {
    switch entry.type {
    case .created: .added
    case .modified: .modified
    case .deleted: .deleted
    }
  }

  /// About what it keeps in memory.
  var size: Int {
    512 + entry.object.body.count + (entry.object.status?.count ?? 0) + entry.object.meta.count
      + (entry.previousMeta?.count ?? 0)
  }

  /// nil for an entry that is no object; it is passed over.
  init?(_ entry: Entry, endsPosition: Bool) {
    guard let reference = ObjectReference(key: entry.key) else { return nil }
    self.entry = entry
    self.reference = reference
    self.endsPosition = endsPosition
  }
}

/// The newest entries of every resource, and the watches that wait for more.
///
/// A watch is a place in here or in the log; nothing is queued for it. Publication wakes the watches of the
/// resources that changed, and only those that had caught up.
@LoopActor final class WatchTail {
  private let log: any ObjectLog
  private let scheduler: any Scheduler
  let limits: APIServerLimits
  private var rings: [String: WatchRing] = [:]
  /// What a ring that does not exist yet reaches back to.
  private var ringFloor: UInt64
  private var watches: [String: WatchList] = [:]
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
    let list = watches[watch.resource] ?? WatchList()
    watches[watch.resource] = list
    list.append(watch)
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
    for (resource, fresh) in decode(entries) {
      let ring = ring(resource)
      let before = ring.entries.last?.entry.position ?? ring.floor
      for entry in fresh { ring.append(entry) }
      ring.trim(entries: limits.tailEntries, bytes: limits.tailBytes)
      guard let group = watches[resource] else { continue }
      group.forEach { $0.offer(fresh, lastBefore: before, through: position) }
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
    for group in watches.values { group.forEach { $0.wake() } }
  }

  /// By resource, each in order.
  private func decode(_ entries: [Entry]) -> [String: [TailEntry]] {
    var found: [String: [TailEntry]] = [:]
    var later: [String: UInt64] = [:]
    for entry in entries.reversed() {
      let resource = String(Substring(entry.key.utf8.prefix { $0 != UInt8(ascii: "/") }))
      if let known = TailEntry(entry, endsPosition: later[resource] != entry.position) {
        found[resource, default: []].append(known)
        later[resource] = entry.position
      }
    }
    return found.mapValues { $0.reversed() }
  }

  private func scheduleBookmarks() {
    bookmarkTimer = scheduler.schedule(after: limits.bookmarkInterval) { [weak self] in
      guard let self else { return }
      for group in watches.values { group.forEach { $0.bookmarkDue() } }
      scheduleBookmarks()
    }
  }
}
