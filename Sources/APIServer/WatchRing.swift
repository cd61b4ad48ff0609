import API
import Base
import ObjectLog

/// The newest entries of one resource: all after `floor`.
@LoopActor final class WatchRing {
  private(set) var floor: UInt64
  private(set) var entries: [TailEntry] = []
  private(set) var head = 0
  private var bytes = 0

  init(floor: UInt64) { self.floor = floor }

  /// Another history begins: nothing of this one is kept.
  func reset(floor: UInt64) {
    self.floor = floor
    entries = []
    found = nil
    runs = []
    nextRun = 0
    head = 0
    bytes = 0
  }

  func append(_ entry: TailEntry) {
    // A watch may have looked from the log's tail before the tail's entries came here: they are not behind its place.
    if let found, entry.place <= found.place { self.found = nil }
    entries.append(entry)
    bytes += entry.size
  }

  /// Whole positions fall out at the other end; the newest entry stays.
  func trim(entries limit: Int, bytes most: Int) {
    while head < entries.count,
      (entries.count - head > 1 && (entries.count - head > limit || bytes > most))
        || entries[head].entry.position <= floor
    {
      floor = max(floor, entries[head].entry.position)
      bytes -= entries[head].size
      head += 1
    }
    if head > 16, head * 2 > entries.count {
      entries.removeFirst(head)
      head = 0
      found = nil
    }
  }

  /// The last answer of `first`: watches that keep up ask for the same place one after the other.
  private var found: (place: LogPlace, index: Int)?

  /// The index of the first entry behind a place.
  func first(behind place: LogPlace) -> Int {
    if let found, found.place == place { return found.index }
    let index = search(place)
    found = (place, index)
    return index
  }

  private func search(_ place: LogPlace) -> Int {
    var (low, high) = (head, entries.count)
    while low < high {
      let middle = (low + high) / 2
      if entries[middle].place <= place { low = middle + 1 } else { high = middle }
    }
    return low
  }

  // MARK: Runs

  /// Runs that watches were just told: those that follow closely share them.
  private static let keptRuns = 8
  private var runs: [TailRun] = []
  private var nextRun = 0

  /// The entries from `index` on as events of a watch that selects everything in a namespace (empty: everywhere), as
  /// many as go together; nil if there are none, or if they cannot be told alike to everybody.
  func run(from index: Int, namespace: String) -> TailRun? {
    let first = entries[index]
    if let known = runs.first(where: { $0.first === first && $0.namespace == namespace }) { return known }
    var (events, bytes, last) = ([WatchEvent](), 0, first)
    for entry in entries[index...] {
      // A position that goes on in the next entry is told differently to whoever saw what was before it.
      guard entry.endsPosition else { return nil }
      if namespace.isEmpty || entry.reference.namespace == namespace {
        let event = entry.event(entry.kind, at: entry.entry.position)
        bytes += EventRun.bytes(event)
        guard bytes <= EventRun.maxBytes else { break }
        events.append(event)
      }
      last = entry
    }
    guard !events.isEmpty else { return nil }
    let made = TailRun(EventRun(events), first: first, last: last, namespace: namespace)
    if runs.count < Self.keptRuns { runs.append(made) } else { runs[nextRun] = made }
    nextRun = (nextRun + 1) % Self.keptRuns
    return made
  }
}

/// A run of a ring's entries: from the first to the last that it covers, told or passed over.
@LoopActor final class TailRun {
  let events: EventRun
  let first: TailEntry
  let last: TailEntry
  let namespace: String

  init(_ events: EventRun, first: TailEntry, last: TailEntry, namespace: String) {
    self.events = events
    self.first = first
    self.last = last
    self.namespace = namespace
  }
}
