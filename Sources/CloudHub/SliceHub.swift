import API
import Base
import Logging
import ObjectLog
import ObjectModel
import Sync

/// Feeds the slice index from the cloud's log, once for all nodes, and wakes the pumps of the nodes that an entry
/// concerns. Each node is a cursor into the index; nothing is queued for it.
@LoopActor package final class SliceHub: NodeGraph {
  /// Resources whose objects are placed on nodes.
  private let anchors: [String]
  let log: any ObjectLog
  private let logger: Logger
  private(set) var index = SliceIndex(at: 0)
  private let journalLimit: Int
  /// Each node's in the order of their beginning, so that a run of a seed wakes them alike.
  private var pumps: [String: [SlicePump]] = [:]
  /// What nodes tell of statuses right now: where such a status changes it need not be sent back.
  private var told: [String: Telling] = [:]

  private struct Telling {
    /// By log key, the entry of the status lane that told it last.
    var keys: [String: (incarnation: Incarnation, number: UInt64)] = [:]
    /// A batch of the lane takes effect right now; the slice waits for that, and says then what became of it.
    var isApplying = false
  }
  /// Resources whose status is of no use to a node: it is not in slices, and changes of it alone change none.
  private let bodyOnly: Set<String>
  private var observation: ObservationID?
  /// The position message that was encoded last: nodes that see the same changes get the same bytes.
  private var lastEncoded: (through: UInt64, changes: [SliceChange], bytes: Bytes)?

  /// `journalLimit`: changes that are remembered over all nodes; a node that is further behind compares inventories.
  package init(
    log: any ObjectLog, anchors: [String], bodyOnly: Set<String> = [],
    journalLimit: Int = SliceIndex.defaultJournalLimit, logger: Logger
  ) {
    self.log = log
    self.journalLimit = journalLimit
    self.bodyOnly = bodyOnly
    self.anchors = anchors
    self.logger = logger
  }

  /// The hub of a cluster's log, as every cloudcore has it: what the kinds place is placed, and of devices, whose
  /// status is the cloud's own, nodes see the body.
  package convenience init(
    cluster log: any ObjectLog, registry: KindRegistry, journalLimit: Int = SliceIndex.defaultJournalLimit,
    logger: Logger
  ) {
    self.init(
      log: log, anchors: registry.kinds.map(\.resource), bodyOnly: [Device.resource], journalLimit: journalLimit,
      logger: logger)
  }

  /// A cursor below this position cannot be followed.
  package var floor: UInt64 { index.floor }

  /// Builds the index from the oldest position that the log still knows, so that nodes which were away while this
  /// hub was down resume by their cursors.
  package func start() throws(SkerryError) {
    let tail = log.tail.position
    let base = min(log.compacted + 1, tail)
    index = SliceIndex(at: base, journalLimit: journalLimit)
    if base > 0 {
      for anchor in anchors { try seed(prefix: "\(anchor)/", at: base) }
      let log = log
      index.finishSeeding { key in Self.exists(log, key, base) }
    }
    var position = base
    while true {
      let (entries, through) = try log.entries(after: position, prefix: "", limit: 1000)
      for entry in entries { _ = take(entry) }
      if through <= position { break }
      position = through
    }
    observation = log.observe { [weak self] entries in self?.published(entries) }
  }

  package func stop() {
    if let observation { log.cancelObservation(observation) }
  }

  private func seed(prefix: String, at position: UInt64) throws(SkerryError) {
    var after: String?
    while true {
      let page = try log.list(prefix: prefix, at: position, after: after, limit: 500)
      for (key, object) in page.objects { index.seed(key: key, facts: facts(key, object.meta)) }
      guard page.more, let last = page.objects.last else { return }
      after = last.key
    }
  }

  /// What the object means for slices, as its kind declared it when the object was written.
  private func facts(_ key: String, _ meta: Bytes) -> SliceFacts {
    do throws(SkerryError) {
      let meta = try ObjectMeta(decoding: meta)
      return SliceFacts(node: meta.node, references: meta.references)
    } catch {
      logger.error(HubLog.sliceIndex, "the metadata of \(key) cannot be read, so no node sees it: \(error)")
      return SliceFacts(node: nil, references: [])
    }
  }

  private static func exists(_ log: any ObjectLog, _ key: String, _ position: UInt64?) -> Bool {
    (try? log.read(key, at: position)) != nil
  }

  private func isBodyOnly(_ key: String) -> Bool { bodyOnly.contains(String(key.prefix { $0 != "/" })) }

  private func take(_ entry: Entry) -> Set<String> {
    let deleted = entry.type == .deleted
    if entry.type == .modified, entry.object.bodyRevision < entry.revision, isBodyOnly(entry.key) {
      index.pass(position: entry.position)
      return []
    }
    // Most changes are of a status, and mean for slices what the object meant before.
    if entry.type == .modified, entry.previousMeta == entry.object.meta {
      return index.change(position: entry.position, key: entry.key)
    }
    let facts = deleted ? SliceFacts(node: nil, references: []) : facts(entry.key, entry.object.meta)
    let log = log
    // As of this entry, not of the log's end: at a start the rest of history is still to come.
    return index.apply(position: entry.position, key: entry.key, deleted: deleted, facts: facts) { key in
      Self.exists(log, key, entry.position)
    }
  }

  private func published(_ entries: [Entry]) {
    var touched: Set<String> = []
    for entry in entries where entry.position > index.position { touched.formUnion(take(entry)) }
    for node in touched.sorted() { for pump in pumps[node] ?? [] { pump.pump() } }
  }

  /// True if the node's slice has, or waits for, that key: the read rule of nodes.
  package func mayRead(node: String, key: String) -> Bool { index.mayRead(node: node, key: key) }

  // MARK: Pumps

  /// Serves a node's `slice` stream until it ends.
  /// `whole`: what lies behind the cursor is sent with every status, also those that the node told.
  package func attach(
    node: String, pipe: any MessagePipe, cursor: Cursor?, digest: Bytes, whole: Bool = false,
    statusLane: Incarnation? = nil
  ) -> SlicePump {
    let pump = SlicePump(hub: self, node: node, pipe: pipe, logger: logger)
    pump.statusLane = statusLane
    pump.wholeThrough = whole ? index.position : 0
    pumps[node, default: []].append(pump)
    pump.begin(cursor: cursor, digest: digest)
    return pump
  }

  func detach(_ pump: SlicePump) {
    pumps[pump.node]?.removeAll { $0 === pump }
    if pumps[pump.node]?.isEmpty == true {
      pumps[pump.node] = nil
      told[pump.node] = nil
    }
  }

  /// Hears from `effect` what nodes tell.
  package func listen(to effect: ObjectLaneEffect) {
    effect.onStatus = { [weak self] in self?.nodeTells($0, $1, $2, $3) }
    effect.onStatusesApplied = { [weak self] in self?.nodeTold($0, isStored: $1) }
  }

  /// The node tells the status of an object by an entry of its status lane: the change that follows is what it told.
  /// `nodeTold` follows in any case.
  package func nodeTells(_ node: String, _ key: String, _ incarnation: Incarnation, _ number: UInt64) {
    guard pumps[node] != nil else { return }
    told[node, default: Telling()].keys[key] = (incarnation, number)
    told[node]?.isApplying = true
  }

  /// What the node told has taken effect and the lane's cursor is behind it; or nothing is certain.
  package func nodeTold(_ node: String, isStored: Bool) {
    guard told[node] != nil else { return }
    told[node]?.isApplying = false
    if !isStored { told[node] = nil }
    let pumps = pumps[node] ?? []
    for pump in pumps { pump.pump() }
    // What has made no change will make none: the next change of that status is another's.
    if pumps.allSatisfy({ $0.cursor >= index.position }) { told[node] = nil }
  }

  func isApplying(_ node: String) -> Bool { told[node]?.isApplying == true }

  /// How many changes of its slice a node at `cursor` has not had, counted up to a page; nil if nobody knows any more.
  func behind(_ node: String, _ cursor: UInt64) -> Int? {
    index.changes(of: node, after: cursor, limit: 10_000)?.changes.count
  }

  /// The object as it travels; nil if it is not there at that position.
  func object(_ key: String, at position: UInt64) throws(SkerryError) -> SliceObject? {
    guard let stored = try log.read(key, at: position == log.tail.position ? nil : position) else { return nil }
    let hidden = isBodyOnly(key)
    return SliceObject(
      key: key, body: stored.body, status: hidden ? nil : stored.status, meta: stored.meta,
      bodyRevision: stored.bodyRevision, statusRevision: hidden ? 0 : stored.statusRevision,
      createRevision: stored.createRevision, sealed: stored.sealed)
  }

  /// The same for the node of a pump, which has what lies before its cursor: statuses that it told are only named.
  func encode(_ changes: [SliceChange], through: UInt64, for pump: SlicePump) throws(SkerryError) -> Bytes {
    let node = pump.node
    guard let told = told[node]?.keys, pump.cursor >= pump.wholeThrough else {
      return try encode(changes, through: through)
    }
    var named: [SliceEntry] = []
    var known: Set<String> = []
    for key in Set(changes.map(\.key)).sorted() {
      guard let word = told[key] else { continue }
      self.told[node]?.keys[key] = nil
      let effects = changes.filter { $0.key == key }.map(\.effect)
      guard effects.allSatisfy({ $0 == .changed }), let object = try object(key, at: through),
        let status = object.status, object.bodyRevision <= pump.cursor, !object.sealed
      else { continue }
      known.insert(key)
      named.append(pump.named(key, by: word, revision: object.statusRevision, check: SliceEntry.check(status)))
    }
    guard !named.isEmpty else { return try encode(changes, through: through) }
    let others = try entries(changes.filter { !known.contains($0.key) }, through: through)
    return SliceMessage.position(through, others + named).encode()
  }

  /// One message for a run of changes: the state at `through`, and before it the drop of what left in between, so that
  /// a deletion is never merged with a re-creation.
  func encode(_ changes: [SliceChange], through: UInt64) throws(SkerryError) -> Bytes {
    if let last = lastEncoded, last.through == through, last.changes == changes { return last.bytes }
    let bytes = SliceMessage.position(through, try entries(changes, through: through)).encode()
    lastEncoded = (through, changes, bytes)
    return bytes
  }

  private func entries(_ changes: [SliceChange], through: UInt64) throws(SkerryError) -> [SliceEntry] {
    var entries: [SliceEntry] = []
    var final: [String: SliceChange.Effect] = [:]
    var order: [String] = []
    for change in changes {
      if final[change.key] == nil { order.append(change.key) }
      if change.effect == .leaves, final[change.key] != .leaves { entries.append(.drop(key: change.key)) }
      final[change.key] = change.effect
    }
    for key in order where final[key] != .leaves {
      if let object = try object(key, at: through) { entries.append(.put(object)) }
    }
    return entries
  }

  func digest(of node: String, at position: UInt64) throws(SkerryError) -> SliceDigest {
    var digest = SliceDigest()
    for key in index.keys(of: node) {
      if let object = try object(key, at: position) { digest.add(key: key, revision: object.revision) }
    }
    return digest
  }
}
