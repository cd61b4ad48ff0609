import API
import Base
import Logging
import ObjectLog
import Sync

/// Feeds the slice index from the cloud's log, once for all nodes, and wakes the pumps of the nodes that an entry
/// concerns. Each node is a cursor into the index; nothing is queued for it.
@LoopActor package final class SliceHub: NodeGraph {
  /// Resources whose objects are placed on nodes.
  private let anchors: [String]
  let log: any ObjectLog
  private let logger: Logger
  private(set) var index = SliceIndex(at: 0)
  /// Each node's in the order of their beginning, so that a run of a seed wakes them alike.
  private var pumps: [String: [SlicePump]] = [:]
  private var observation: ObservationID?
  /// The position message that was encoded last: nodes that see the same changes get the same bytes.
  private var lastEncoded: (through: UInt64, changes: [SliceChange], bytes: Bytes)?

  package init(log: any ObjectLog, anchors: [String], logger: Logger) {
    self.log = log
    self.anchors = anchors
    self.logger = logger
  }

  /// Builds the index from the oldest position that the log still knows, so that nodes which were away while this
  /// hub was down resume by their cursors.
  package func start() throws(SkerryError) {
    let tail = log.tail.position
    let base = min(log.compacted + 1, tail)
    index = SliceIndex(at: base)
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

  private func take(_ entry: Entry) -> Set<String> {
    let deleted = entry.type == .deleted
    let facts = deleted ? SliceFacts(node: nil, references: []) : facts(entry.key, entry.object.meta)
    let log = log
    return index.apply(position: entry.position, key: entry.key, deleted: deleted, facts: facts) { key in
      Self.exists(log, key, nil)
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
  package func attach(node: String, pipe: any MessagePipe, cursor: Cursor?, digest: Bytes) -> SlicePump {
    let pump = SlicePump(hub: self, node: node, pipe: pipe, logger: logger)
    pumps[node, default: []].append(pump)
    pump.begin(cursor: cursor, digest: digest)
    return pump
  }

  func detach(_ pump: SlicePump) {
    pumps[pump.node]?.removeAll { $0 === pump }
    if pumps[pump.node]?.isEmpty == true { pumps[pump.node] = nil }
  }

  /// The object as it travels; nil if it is not there at that position.
  func object(_ key: String, at position: UInt64) throws(SkerryError) -> SliceObject? {
    guard let stored = try log.read(key, at: position == log.tail.position ? nil : position) else { return nil }
    return SliceObject(
      key: key, body: stored.body, status: stored.status, meta: stored.meta, bodyRevision: stored.bodyRevision,
      statusRevision: stored.statusRevision, createRevision: stored.createRevision, sealed: stored.sealed)
  }

  /// One message for a run of changes: the state at `through`, and before it the drop of what left in between, so that
  /// a deletion is never merged with a re-creation.
  func encode(_ changes: [SliceChange], through: UInt64) throws(SkerryError) -> Bytes {
    if let last = lastEncoded, last.through == through, last.changes == changes { return last.bytes }
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
    let bytes = SliceMessage.position(through, entries).encode()
    lastEncoded = (through, changes, bytes)
    return bytes
  }

  func digest(of node: String, at position: UInt64) throws(SkerryError) -> SliceDigest {
    var digest = SliceDigest()
    for key in index.keys(of: node) {
      if let object = try object(key, at: position) { digest.add(key: key, revision: object.revision) }
    }
    return digest
  }
}
