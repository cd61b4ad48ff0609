import API
import Base
import ObjectLog
import ObjectModel

/// A watch over the log: a place, and what it selects. It pulls from the ring of newest entries, or from the log when
/// it lags behind that; it holds no queue, so a slow reader costs nothing but the place.
@LoopActor final class LogWatch: WatchCursor {
  /// About what one takes.
  nonisolated static let bytes = 320

  private enum Phase {
    /// The current state, page by page at one revision; then changes after it.
    case listing(Continuation)
    case following
    case ended
  }

  var onAvailable: (@LoopActor () -> Void)?
  let selection: Selection
  /// Its name in the tail, from 1; 0 before it is there.
  var number: UInt64 = 0
  /// Where its selection requires a value, while it is in the tail.
  var group: WatchGroup?
  private let log: any ObjectLog
  private let tail: WatchTail
  private let ring: WatchRing
  private let scheduler: any Scheduler
  private var limits: APIServerLimits { tail.limits }
  private let history: Int
  private var phase: Phase
  /// The last entry seen.
  private var place: LogPlace
  /// Every entry up to this position was seen.
  private var complete: UInt64
  /// `next` answered less than was asked, and the reader waits for `onAvailable`.
  private var hungry = false
  private var bookmarkWanted = false

  var resource: String { selection.resource }

  /// `after` nil: the current state first.
  init(
    _ selection: Selection, after: UInt64?, log: any ObjectLog, tail: WatchTail, scheduler: any Scheduler
  ) {
    self.selection = tail.shared(selection)
    self.log = log
    self.tail = tail
    ring = tail.ring(selection.resource)
    self.scheduler = scheduler
    history = tail.history
    let start = after ?? log.tail.position
    phase = after == nil ? .listing(Continuation(revision: start, after: "")) : .following
    place = (start, .max)
    complete = start
  }

  var hasBookmarks: Bool { true }

  func cancel() {
    phase = .ended
    onAvailable = nil
    tail.remove(self)
  }

  func next(limit: Int) throws(APIError) -> [WatchEvent] {
    var events: [WatchEvent] = []
    _ = try deliver(limit: limit) { events.append($0) }
    return events
  }

  func deliver(limit: Int, _ take: (WatchEvent) -> Void) throws(APIError) -> Int {
    if case .ended = phase { return 0 }
    hungry = false
    var count = 0
    do throws(APIError) {
      guard history == tail.history else {
        throw Failures.tooOld(complete, compacted: log.compacted, newest: log.tail.position)
      }
      if case .listing = phase { try list(limit, &count, take) }
      if case .following = phase {
        try follow(limit, &count, take)
        if bookmarkWanted, count < limit, complete >= tail.position {
          bookmarkWanted = false
          count += 1
          take(WatchEvent(kind: .bookmark, position: complete, object: nil))
        }
      }
    } catch {
      cancel()
      throw error
    }
    hungry = count < limit
    return count
  }

  // MARK: Runs

  /// The run that was answered last and not passed.
  private var offered: TailRun?

  func sharedRun() -> EventRun? {
    guard case .following = phase, selection.selectsAll, !bookmarkWanted, history == tail.history else { return nil }
    settle()
    guard complete >= ring.floor else { return nil }
    let index = ring.first(behind: place)
    guard index < ring.entries.count, let run = ring.run(from: index, namespace: selection.namespace) else {
      return nil
    }
    offered = run
    return run.events
  }

  func pass(_ run: EventRun) -> Bool {
    guard let offered, offered.events === run else { return true }
    self.offered = nil
    place = (offered.last.entry.position, offered.last.entry.index)
    complete = place.position
    guard offered.last === ring.entries.last else { return true }
    complete = max(complete, tail.position)
    place = (complete, .max)
    hungry = true
    return false
  }

  // MARK: Waking

  /// What waking the reader touches.
  private var touched = WorkingSet()

  func expect(_ touched: WorkingSet) { self.touched = touched }

  /// A publication comes here next: what it will touch may be on its way meanwhile.
  func approach() {
    if hungry { touched.fetch() }
  }

  /// Tells the reader to pull, if it waits.
  func wake() {
    guard hungry else { return }
    hungry = false
    onAvailable?()
  }

  func bookmarkDue() {
    bookmarkWanted = true
    wake()
  }

  /// New entries of this resource, which may concern it. A watch that had caught up with `before` and is not concerned
  /// just moves on.
  func offer(_ entries: [TailEntry], behind before: LogPlace, through: UInt64) {
    settle()
    guard hungry else { return }
    if case .following = phase, place >= before, !entries.contains(where: { change($0) != nil }) {
      return move(to: (max(through, complete), .max))
    }
    wake()
  }

  /// Moves over what is known not to concern it.
  private func settle() {
    guard let further = group?.settled(place, published: tail.position), further > place else { return }
    move(to: further)
  }

  private func move(to further: LogPlace) {
    place = further
    complete = max(complete, further.index == .max ? further.position : further.position - 1)
  }

  /// Goes on in a later turn of the loop: there is more to look at than one turn should take.
  private func later() {
    scheduler.schedule(after: .zero) { [weak self] in self?.wake() }
  }

  // MARK: The current state

  private func list(_ limit: Int, _ count: inout Int, _ take: (WatchEvent) -> Void) throws(APIError) {
    guard case .listing(var place) = phase else { return }
    var scanned = 0
    while count < limit {
      guard scanned < limits.scannedEntries else {
        phase = .listing(place)
        return later()
      }
      let page = try read(place, limit: limit - count)
      for (key, object) in page.objects {
        place.after = key
        scanned += 1
        guard let reference = ObjectReference(key: key) else { continue }
        if !selection.selectsAll, !selection.matches(try object.decodedMeta(), reference) { continue }
        // Position 0: a listing that is cut cannot be resumed, it starts over.
        count += 1
        take(WatchEvent(kind: .added, position: 0, object: object.answer(reference)))
      }
      if !page.more {
        phase = .following
        bookmarkWanted = true
        return
      }
    }
    phase = .listing(place)
  }

  private func read(_ place: Continuation, limit: Int) throws(APIError) -> Page {
    do throws(SkerryError) {
      if let single = selection.single {
        let found = try log.read(single.key, at: place.position)
        return Page(objects: found.map { [(single.key, $0)] } ?? [], position: place.revision, more: false)
      }
      return try log.list(
        prefix: selection.prefix, at: place.position, after: place.after.isEmpty ? nil : place.after, limit: limit)
    } catch {
      throw expired(error)
    }
  }

  private func expired(_ error: SkerryError) -> APIError {
    guard error.code == .tooOld || error.code == .invalidArgument else { return Failures.from(error) }
    return Failures.tooOld(complete, compacted: log.compacted, newest: log.tail.position)
  }

  // MARK: Changes

  private func follow(_ limit: Int, _ count: inout Int, _ take: (WatchEvent) -> Void) throws(APIError) {
    var scanned = 0
    while count < limit {
      guard scanned < limits.scannedEntries else { return later() }
      settle()
      if complete >= ring.floor {
        var index = ring.first(behind: place)
        while index < ring.entries.count, count < limit, scanned < limits.scannedEntries {
          if see(ring.entries[index], take) { count += 1 }
          index += 1
          scanned += 1
          if let group, place >= group.last { index = ring.entries.count }
        }
        if index == ring.entries.count {
          // Nothing of this resource is left up to the newest publication.
          complete = max(complete, tail.position)
          place = (complete, .max)
          return
        }
      } else {
        scanned += try catchUp(limit, &count, take)
        if complete >= tail.position { return }
      }
    }
  }

  /// Reads a page of the log behind the ring; answers how many entries it looked at.
  private func catchUp(_ limit: Int, _ count: inout Int, _ take: (WatchEvent) -> Void) throws(APIError) -> Int {
    let page: (entries: [Entry], through: UInt64)
    do throws(SkerryError) {
      page = try log.entries(after: complete, prefix: selection.prefix, limit: max(64, limit))
    } catch {
      throw expired(error)
    }
    let start = place
    for (index, entry) in page.entries.enumerated() where (entry.position, entry.index) > start {
      if count >= limit { return index }
      let ends = index + 1 == page.entries.count || page.entries[index + 1].position != entry.position
      if let known = TailEntry(entry, endsPosition: ends), see(known, take) { count += 1 }
    }
    complete = max(complete, page.through)
    place = (complete, .max)
    return page.entries.count + 1
  }

  /// Moves past an entry; true if it was an event here.
  private func see(_ entry: TailEntry, _ take: (WatchEvent) -> Void) -> Bool {
    place = (entry.entry.position, entry.entry.index)
    if entry.endsPosition { complete = entry.entry.position }
    guard let kind = change(entry) else { return false }
    if kind == .deleted, entry.entry.type != .deleted, let old = before(entry) {
      take(WatchEvent(kind: kind, position: complete, object: old))
    } else {
      take(entry.event(kind, at: complete))
    }
    return true
  }

  /// What an entry is to this watch; nil: nothing. An object that enters or leaves the selection is added or deleted.
  private func change(_ entry: TailEntry) -> WatchEvent.Kind? {
    if !selection.namespace.isEmpty, entry.reference.namespace != selection.namespace { return nil }
    if selection.selectsAll { return entry.kind }
    let isIn = entry.entry.type != .deleted && selection.matches(entry.meta, entry.reference)
    let wasIn =
      entry.entry.type != .created && selection.matches(entry.previousMeta ?? entry.meta, entry.reference)
    switch (wasIn, isIn) {
    case (false, true): return .added
    case (true, true): return .modified
    case (true, false): return .deleted
    case (false, false): return nil
    }
  }

  /// An object that leaves the selection is shown as it last was in it, under the revision of the change.
  private func before(_ entry: TailEntry) -> APIObject? {
    guard entry.entry.position > 0,
      let old = try? log.read(entry.entry.key, at: entry.entry.position - 1)
    else { return nil }
    return APIObject(
      reference: entry.reference, revision: entry.entry.revision, body: old.body, status: old.status)
  }
}

extension APIServer {
  package func watch(_ options: WatchOptions, caller: Caller) async throws(APIError) -> any WatchCursor {
    let kind = try kind(options.resource)
    let selection = try Selection(
      kind, namespace: options.namespace, labels: options.labelSelector, fields: options.fieldSelector)
    let scope = ObjectReference(resource: options.resource, namespace: options.namespace, name: "")
    try authorize(AccessRequest(.watch, scope, fields: selection.fields), caller)
    let newest = log.tail.position
    if let after = options.after, after > newest || (after < newest && after <= log.compacted) {
      throw Failures.tooOld(after, compacted: log.compacted, newest: newest)
    }
    let watch = LogWatch(
      selection, after: options.after, log: log, tail: tail, scheduler: scheduler)
    try tail.add(watch)
    return watch
  }
}
