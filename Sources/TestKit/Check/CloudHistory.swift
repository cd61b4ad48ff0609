import Base
import ObjectLog
import Wire

/// Everything that the cloud's log ever published, as it was seen to happen.
@LoopActor package final class CloudHistory {
  /// One change, with what selectors look at.
  package struct Item: Sendable {
    package let position: UInt64
    package let key: String
    package let type: EntryType
    package let before: [String: String]?
    package let after: [String: String]?
  }
  package struct State: Sendable {
    package var revision: UInt64
    package var labels: [String: String]
  }
  /// What a backup holds: what the log has to be at after it is restored.
  package struct Mark {
    let cursor: Cursor
    let states: [String: State]
  }

  package private(set) var log: LogID?
  package private(set) var epoch: UInt64 = 0
  package private(set) var position: UInt64 = 0
  /// Changes since the epoch began, in order.
  package private(set) var items: [Item] = []
  package private(set) var base: UInt64 = 0
  package private(set) var baseStates: [String: State] = [:]
  package private(set) var states: [String: State] = [:]
  package private(set) var model = SliceModel()
  private var acknowledged: Set<UInt64> = []
  private var highest: UInt64 = 0
  /// The log that lives now.
  private weak var current: (any ObjectLog)?
  /// Entries up to here were taken before the observers heard of them.
  private var foreseen: UInt64 = 0
  private let judge: Judge
  private let trace: SimTrace
  /// A new change, for other recorders.
  package var onEntry: (@LoopActor (Entry, Value) -> Void)?

  package init(judge: Judge, trace: SimTrace) {
    self.judge = judge
    self.trace = trace
  }

  package var mark: Mark {
    Mark(
      cursor: Cursor(log: log ?? LogID(random: SeededRandom(seed: 0)), epoch: epoch, position: position), states: states
    )
  }

  /// The newest place that was ever published.
  package var highestCursor: Cursor? { log.map { Cursor(log: $0, epoch: epoch, position: highest) } }

  // MARK: Lives of the cloud

  /// A cloudcore opened the log. `restored` is what an older backup that was put in place holds.
  package func started(_ log: any ObjectLog, restored: Mark?) throws(SkerryError) {
    let tail = log.tail
    current = log
    foreseen = 0
    defer { highest = max(highest, tail.position) }
    if self.log == nil {
      self.log = tail.log
      epoch = tail.epoch
      return try begin(log, at: tail)
    }
    judge.check(.durable, tail.log == self.log, "the cloud's log is another one after its start")
    if let restored {
      judge.check(
        .revisionsNeverLower, tail.epoch > epoch && tail.position > highest,
        "a restored backup goes on at epoch \(tail.epoch) position \(tail.position) after \(epoch)/\(highest)")
      states = restored.states
      epoch = tail.epoch
      acknowledged = []
      return try begin(log, at: tail)
    }
    judge.check(
      .durable, tail.epoch == epoch && tail.position >= position,
      "the log is at \(tail.epoch)/\(tail.position) after its start, and \(epoch)/\(position) was published")
    guard tail.epoch == epoch else {
      epoch = tail.epoch
      return try begin(log, at: tail)
    }
    // Committed and not published before the process died: history like any other, from now on.
    while position < tail.position {
      let (entries, through) = try log.entries(after: position, prefix: "", limit: 1000)
      take(entries)
      if through <= position { break }
      position = max(position, through)
    }
    position = tail.position
    for revision in acknowledged.sorted() where revision > tail.position {
      judge.check(.durable, false, "revision \(revision) was acknowledged, and the log ends at \(tail.position)")
    }
    try compare(log)
  }

  /// A history that begins at the tail: its state has to be what is known.
  private func begin(_ log: any ObjectLog, at tail: Cursor) throws(SkerryError) {
    try compare(log)
    items = []
    base = tail.position
    position = tail.position
    baseStates = states
    model = SliceModel()
    try scan(log) { key, object in
      let body = (try? CBOR.decode(object.body)) ?? .null
      self.model.apply(
        position: tail.position, key: key, revision: SliceFactReader.revision(key: key, object),
        fact: SliceFactReader.fact(key: key, body: body))
    }
    model.settle()
  }

  private func compare(_ log: any ObjectLog) throws(SkerryError) {
    var found: [String: UInt64] = [:]
    try scan(log) { key, object in found[key] = object.revision }
    judge.check(.durable, found == states.mapValues(\.revision), Self.difference(states.mapValues(\.revision), found))
  }

  private func scan(_ log: any ObjectLog, _ body: (String, StoredObject) -> Void) throws(SkerryError) {
    var after: String?
    while true {
      let page = try log.list(prefix: "", at: nil, after: after, limit: 500)
      for (key, object) in page.objects { body(key, object) }
      guard page.more, let last = page.objects.last else { return }
      after = last.key
    }
  }

  /// In words, how `found` differs from `expected`; at most a few keys.
  package nonisolated static func difference(_ expected: [String: UInt64], _ found: [String: UInt64]) -> String {
    var words: [String] = []
    for key in Set(expected.keys).union(found.keys).sorted() where expected[key] != found[key] {
      let (a, b) = (expected[key].map(String.init) ?? "nothing", found[key].map(String.init) ?? "nothing")
      words.append("\(key): \(b) instead of \(a)")
    }
    return words.prefix(6).joined(separator: "; ") + (words.count > 6 ? "; and \(words.count - 6) more" : "")
  }

  // MARK: What happens

  package func published(_ entries: [Entry]) { take(entries.filter { $0.position > foreseen }) }

  /// Takes what is in the log's tail and was not told yet: who waited for an answer may run before the observers.
  private func foresee() {
    guard let current, current.tail.epoch == epoch, current.tail.position > position,
      let (entries, through) = try? current.entries(after: position, prefix: "", limit: 1000)
    else { return }
    take(entries)
    foreseen = through
  }

  private func take(_ entries: [Entry]) {
    for entry in entries {
      judge.check(
        .ordered, entry.position > position, "\(entry.key) was published at \(entry.position) after \(position)")
      let known = states[entry.key]
      judge.check(
        .noGap, entry.previousRevision == known?.revision ?? 0,
        "\(entry.key) at \(entry.position) replaces \(entry.previousRevision), but \(known?.revision ?? 0) was there")
      position = max(position, entry.position)
      highest = max(highest, position)
      let body = (try? CBOR.decode(entry.object.body)) ?? .null
      let labels = body["metadata"]["labels"].stringMap
      let deleted = entry.type == .deleted
      states[entry.key] = deleted ? nil : State(revision: entry.revision, labels: labels)
      items.append(
        Item(
          position: entry.position, key: entry.key, type: entry.type, before: known?.labels,
          after: deleted ? nil : labels))
      model.apply(
        position: entry.position, key: entry.key,
        revision: deleted ? nil : SliceFactReader.revision(key: entry.key, entry.object),
        fact: SliceFactReader.fact(key: entry.key, body: body))
      trace.mix(entry.position)
      onEntry?(entry, body)
    }
  }

  /// A write was answered with this revision.
  package func acknowledge(_ revision: UInt64, epoch: UInt64) {
    guard epoch == self.epoch else { return }
    if revision > position { foresee() }
    judge.check(
      .durable, revision <= position, "revision \(revision) was acknowledged before it was published (\(position))")
    acknowledged.insert(revision)
  }

  // MARK: Questions

  /// Index of the first change after a position.
  package func index(after position: UInt64) -> Int {
    var (low, high) = (0, items.count)
    while low < high {
      let middle = (low + high) / 2
      if items[middle].position <= position { low = middle + 1 } else { high = middle }
    }
    return low
  }

  /// Objects of a resource as they were at a position of this epoch.
  package func states(_ prefix: String, at position: UInt64) -> [String: State] {
    var found = baseStates.filter { $0.key.hasPrefix(prefix) }
    for item in items {
      if item.position > position { break }
      guard item.key.hasPrefix(prefix) else { continue }
      found[item.key] = item.after.map { State(revision: item.position, labels: $0) }
    }
    return found
  }
}
