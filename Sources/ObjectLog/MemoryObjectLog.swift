import Base

/// The log in memory alone: the model that the durable one is compared with, and the log of tests.
///
/// Nothing survives it and nothing bounds its history but `compact`. It answers later on the loop, as any log does.
@LoopActor package final class MemoryObjectLog: ObjectLog {
  package private(set) var tail: Cursor
  package private(set) var compacted: UInt64
  private let role: LogRole
  private let limits: LogLimits
  private var state = MemoryState()
  private var ring: TailRing
  private var privates: [Bytes: Bytes] = [:]
  private var observers = Observers()
  private var jobs: [@LoopActor () -> Void] = []
  private var waitingChanges = 0

  package init(role: LogRole = .leader, random: any RandomSource, limits: LogLimits = LogLimits()) {
    self.role = role
    self.limits = limits
    let start: UInt64 = role == .leader ? 1 : 0
    tail = Cursor(log: LogID(random: random), epoch: role == .leader ? 1 : 0, position: start)
    compacted = 0
    ring = TailRing(floor: start, maxEntries: .max, maxBytes: .max)
  }

  // MARK: Writing

  package func append(_ group: [Change], completion: @escaping @LoopActor ([ChangeResult]) -> Void) {
    guard waitingChanges + group.count <= limits.waitingChanges else {
      let refused = ChangeResult.failed(LogFailures.tooManyWaiting(limits.waitingChanges))
      return enqueue { completion(group.map { _ in refused }) }
    }
    waitingChanges += group.count
    enqueue { [self] in
      waitingChanges -= group.count
      var entries: [Entry] = []
      let results = group.map { apply($0, &entries) }
      var position = tail
      position.position = entries.last?.position ?? tail.position
      publish(entries, at: position) { completion(results) }
    }
  }

  /// Runs jobs one after the other in a later turn.
  private func enqueue(_ job: @escaping @LoopActor () -> Void) {
    jobs.append(job)
    guard jobs.count == 1 else { return }
    spawn { [self] in
      while !jobs.isEmpty {
        let batch = jobs
        for job in batch { job() }
        jobs.removeFirst(batch.count)
      }
    }
  }

  private func apply(_ change: Change, _ entries: inout [Entry]) -> ChangeResult {
    if let error = ChangeRules.refusal(of: change, limits) { return .failed(error) }
    if let error = LogFailures.wrongRole(role, change) { return .failed(error) }
    let key = Bytes(change.key.utf8)
    let position = max(tail.position, entries.last?.position ?? 0) + 1
    let stored = state.newest(key)
    switch ChangeRules.decide(change, stored: stored, position: position) {
    case .conflict(let current): return .conflict(current: current)
    case .privatesOnly(let revision):
      write(change.privates)
      return .applied(revision: revision)
    case .write(let type, let object):
      write(change.privates)
      state.add(key, object: object, deleted: type == .deleted, position: position)
      entries.append(
        Entry(
          position: position, index: 0, key: change.key, revision: position, previousRevision: stored?.revision ?? 0,
          type: type, object: object, previousMeta: stored?.meta))
      return .applied(revision: position)
    }
  }

  private func write(_ items: [(key: String, value: Bytes?)]) {
    for item in items { privates[Bytes(item.key.utf8)] = item.value }
  }

  private func publish(_ entries: [Entry], at position: Cursor, answer: @LoopActor () -> Void) {
    tail = position
    ring.append(entries)
    answer()
    guard !entries.isEmpty else { return }
    for id in observers.ids { observers[id]?(entries) }
  }

  // MARK: Following

  package func apply(
    position: Cursor, entries: [Entry], privates: [(key: String, value: Bytes?)],
    completion: @escaping @LoopActor (SkerryError?) -> Void
  ) {
    enqueue { [self] in
      if let error = FollowerRules.refusal(role, tail: tail, position: position, count: entries.count) {
        return completion(error)
      }
      let given = entries.map { FollowerRules.Given(key: $0.key, revision: $0.revision, type: $0.type, $0.object) }
      write(privates)
      follow(given, position) { completion(nil) }
    }
  }

  package func replace(
    position: Cursor, objects: [(key: String, object: StoredObject)],
    completion: @escaping @LoopActor (SkerryError?) -> Void
  ) {
    enqueue { [self] in
      if let error = FollowerRules.refusal(role, replacing: objects.count) { return completion(error) }
      let stored = state.current()
      let changes = FollowerRules.difference(
        stored: stored.map { (String(decoding: $0.key, as: UTF8.self), $0.object) }, wanted: objects,
        position: position.position)
      if position == tail && changes.isEmpty { return completion(nil) }
      if position.continues(tail) {
        follow(changes, position) { completion(nil) }
      } else {
        let before = Dictionary(uniqueKeysWithValues: stored.map { ($0.key, $0.object) })
        restart(at: position, FollowerRules.entries(changes, stored: before, position), objects) { completion(nil) }
      }
    }
  }

  /// Another history: what was before means nothing to it, and nobody can go on from there.
  private func restart(
    at position: Cursor, _ entries: [Entry], _ objects: [(key: String, object: StoredObject)],
    answer: @LoopActor () -> Void
  ) {
    state = MemoryState()
    for item in objects {
      state.add(Bytes(item.key.utf8), object: item.object, deleted: false, position: position.position)
    }
    compacted = position.position == 0 ? 0 : position.position - 1
    ring.reset(floor: compacted)
    publish(entries, at: position, answer: answer)
  }

  private func follow(_ changes: [FollowerRules.Given], _ position: Cursor, answer: @LoopActor () -> Void) {
    var entries: [Entry] = []
    for change in changes {
      let key = Bytes(change.key.utf8)
      guard
        let entry = FollowerRules.entry(
          change, stored: state.newest(key), position, index: UInt32(entries.count))
      else { continue }
      state.add(key, object: entry.object, deleted: entry.type == .deleted, position: position.position)
      entries.append(entry)
    }
    publish(entries, at: position, answer: answer)
  }

  // MARK: Reading

  package func read(_ key: String, at position: UInt64?) throws(SkerryError) -> StoredObject? {
    try check(position)
    return state.version(Bytes(key.utf8), at: position ?? tail.position)
  }

  private func check(_ position: UInt64?) throws(SkerryError) {
    guard let position else { return }
    try PositionRules.check(position, compacted: compacted, newest: tail.position)
  }

  package func list(prefix: String, at position: UInt64?, after: String?, limit: Int) throws(SkerryError) -> Page {
    try check(position)
    let position = position ?? tail.position
    var page = Page(objects: [], position: position, more: false)
    var size = 0
    let prefix = Bytes(prefix.utf8)
    for key in state.keys(prefix: prefix, after: after.map { Bytes($0.utf8) }) {
      guard let object = state.version(key, at: position) else { continue }
      if page.objects.count >= max(limit, 1) || size >= limits.pageBytes {
        page.more = true
        break
      }
      size += object.size
      page.objects.append((String(decoding: key, as: UTF8.self), object))
    }
    return page
  }

  package func entries(after position: UInt64, prefix: String, limit: Int) throws(SkerryError) -> (
    entries: [Entry], through: UInt64
  ) {
    try check(position)
    return ring.entries(
      after: position, prefix: prefix, limit: max(limit, 1), bytes: limits.pageBytes, scan: limits.scannedEntries,
      newest: tail.position)
  }

  package func compact(through position: UInt64) {
    guard tail.position > 0 else { return }
    compacted = max(compacted, min(position, tail.position - 1))
    ring.drop(through: compacted)
    state.compact(floor: compacted + 1)
  }

  package func privateValue(_ key: String) throws(SkerryError) -> Bytes? { privates[Bytes(key.utf8)] }

  package func privateValues(prefix: String) throws(SkerryError) -> [(key: String, value: Bytes)] {
    let prefix = Bytes(prefix.utf8)
    return privates.filter { $0.key.starts(with: prefix) }
      .sorted { $0.key.lexicographicallyPrecedes($1.key) }
      .map { (String(decoding: $0.key, as: UTF8.self), $0.value) }
  }

  package func observe(_ body: @escaping @LoopActor (_ published: [Entry]) -> Void) -> ObservationID {
    observers.add(body)
  }
  package func cancelObservation(_ id: ObservationID) { observers.remove(id) }
}
