import Base
import Logging
import ObjectLog
import Sync
import Wire

/// Applies the node's slice to its replica: one position, one transaction, in order.
///
/// The cursor that it resumes from is stored by the log in the transaction that applies the entries, so nothing is
/// applied twice and nothing is missed, wherever the process dies.
@LoopActor package final class ReplicaFollower {
  private enum Phase {
    /// The hub has not said yet whether it resumes.
    case waiting
    case following(log: LogID, epoch: UInt64)
    case snapshot(log: LogID, epoch: UInt64, position: UInt64, objects: [String: StoredObject])
  }

  private let replica: any ObjectLog
  private let logger: Logger
  /// Keeps what a cloud with another history does not know; without it that goes at once.
  private let grace: UnknownGrace?
  private var phase = Phase.waiting
  private var reached: Cursor?
  /// Positions that were applied, for metrics.
  package let applied = Counter()
  /// The status that the node itself told and the cloud shows now, from what was shown before; nil if it is none of its.
  private var toldStatus: ((_ key: String, _ shown: Value, _ isIt: (Bytes) -> Bool) -> Bytes?)?
  /// What an entry of this node's status lane is about; without it the node is told of statuses by their keys.
  private(set) var toldKey: ((_ number: UInt64) -> String?)?
  /// The slice said that the status lane is applied through a number, and what it said of that is durable.
  var onTold: ((_ number: UInt64) -> Void)?
  /// The cloud referred to a status that this node does not know (any more): the slice has to begin again, whole.
  package private(set) var needsWhole = false

  /// `reporter` knows the statuses that the node told: the cloud need not send them back.
  package init(
    replica: any ObjectLog, reporter: NodeReporter? = nil, grace: UnknownGrace? = nil, logger: Logger
  ) {
    self.replica = replica
    self.grace = grace
    self.logger = logger
    if let reporter {
      toldStatus = { key, shown, isIt in reporter.madeOf(key: key, shown: shown, isIt: isIt) }
      toldKey = { number in reporter.key(toldBy: number) }
    }
  }

  /// The hub has sent everything through `position`, all of it was applied, and nothing after the replica's cursor
  /// concerned this node. Kept in memory only, since a write a ping would wear out flash for nothing: after a restart
  /// the stored cursor leads to the same place.
  package func bookmark(_ position: UInt64) {
    guard case .following(let log, let epoch) = phase, position > replica.tail.position else { return }
    reached = Cursor(log: log, epoch: epoch, position: position)
  }

  /// The parameters of the slice stream: where this replica stands.
  package func parameters() throws(SkerryError) -> Value {
    var tail = replica.tail
    if let reached, reached.log == tail.log, reached.epoch == tail.epoch, reached.position > tail.position {
      tail = reached
    }
    phase = .waiting
    var digest = SliceDigest()
    for (key, revision) in try inventory() { digest.add(key: key, revision: revision) }
    // Nothing that is here counts as being where the cloud is: it sends the slice whole, and what it lacks goes.
    if grace?.isOver == true { return ["digest": ""] }
    var parameters: Value = [
      "log": .string(tail.log.description), "epoch": .int(Int64(clamping: tail.epoch)),
      "position": .int(Int64(clamping: tail.position)), "digest": .string(digest.bytes.hex),
    ]
    if needsWhole { parameters["whole"] = true }
    needsWhole = false
    return parameters
  }

  private func inventory() throws(SkerryError) -> [(key: String, revision: UInt64)] {
    var pairs: [(key: String, revision: UInt64)] = []
    var after: String?
    while true {
      let page = try replica.list(prefix: "", at: nil, after: after, limit: 500)
      pairs += page.objects.map { ($0.key, $0.object.revision) }
      guard page.more, let last = page.objects.last else { return pairs }
      after = last.key
    }
  }

  /// Takes one message of the slice stream; `send` answers the hub. Returns once its effect is durable.
  package func take(_ message: Bytes, send: (Bytes) async throws(SkerryError) -> Void) async throws(SkerryError) {
    switch try SliceMessage.decode(message) {
    case .inventory:
      let pairs = try inventory()
      for start in stride(from: 0, to: pairs.count, by: SliceInventory.piece) {
        try await send(SliceInventory.encode(pairs[start..<min(start + SliceInventory.piece, pairs.count)]))
      }
      try await send(SliceInventory.encode([]))
    case .resume(let log, let epoch, let position): try await resume(try id(log), epoch, position)
    case .begin(let log, let epoch, let position):
      phase = .snapshot(log: try id(log), epoch: epoch, position: position, objects: [:])
    case .object(let object): try name(object.key, stored(object))
    case .keep(let key, let revision):
      guard let held = try replica.read(key, at: nil), held.revision == revision else {
        throw SkerryError(.protocolViolation, "the hub wants \(key) kept at \(revision), which is not what is here")
      }
      try name(key, held)
    case .end(let position): try await endSnapshot(position)
    case .position(let position, let entries): try await apply(position, entries)
    }
  }

  private func id(_ bytes: Bytes) throws(SkerryError) -> LogID {
    guard let id = LogID(bytes) else { throw SkerryError(.protocolViolation, "a log id is 16 bytes") }
    return id
  }

  private func resume(_ log: LogID, _ epoch: UInt64, _ position: UInt64) async throws(SkerryError) {
    let tail = replica.tail
    phase = .following(log: log, epoch: epoch)
    let target = Cursor(log: log, epoch: epoch, position: position)
    if tail == target { return }
    if tail.log == log, tail.epoch == epoch, tail.position < position {
      return try await commit { self.replica.apply(position: target, entries: [], privates: [], completion: $0) }
    }
    // The same objects under another log or epoch: nothing was sent, only the cursor moves.
    var objects: [(key: String, object: StoredObject)] = []
    for (key, _) in try inventory() {
      if let object = try replica.read(key, at: nil) { objects.append((key, object)) }
    }
    try await commit { self.replica.replace(position: target, objects: objects, completion: $0) }
  }

  private func name(_ key: String, _ object: StoredObject) throws(SkerryError) {
    guard case .snapshot(let log, let epoch, let position, var objects) = phase else {
      throw SkerryError(.protocolViolation, "\(key) came outside a snapshot")
    }
    phase = .waiting
    objects[key] = object
    phase = .snapshot(log: log, epoch: epoch, position: position, objects: objects)
  }

  private func endSnapshot(_ position: UInt64) async throws(SkerryError) {
    guard case .snapshot(let log, let epoch, let start, let objects) = phase, start == position else {
      throw SkerryError(.protocolViolation, "the end of a snapshot at \(position) that did not begin")
    }
    phase = .following(log: log, epoch: epoch)
    let target = Cursor(log: log, epoch: epoch, position: position)
    let before = replica.tail
    let isOther = before.position > 0 && (before.log != log || before.epoch != epoch)
    let kept = try await grace?.keep(beside: Set(objects.keys), isOther: isOther) ?? []
    let list = (objects.map { (key: $0.key, object: $0.value) } + kept).sorted { $0.key < $1.key }
    try await commit { self.replica.replace(position: target, objects: list, completion: $0) }
    logger.info("the slice was taken as a snapshot at \(position): \(list.count) objects")
    applied.add()
  }

  private func apply(_ position: UInt64, _ entries: [SliceEntry]) async throws(SkerryError) {
    guard case .following(let log, let epoch) = phase else {
      throw SkerryError(.protocolViolation, "position \(position) came before the slice was resumed")
    }
    // Also where the status itself is not known here (any more): the lane is applied all the same.
    defer { if let number = Self.told(entries) { onTold?(number) } }
    var list: [Entry] = []
    for entry in entries {
      if let made = try self.entry(entry, at: position, index: UInt32(list.count), after: list) { list.append(made) }
    }
    let target = Cursor(log: log, epoch: epoch, position: position)
    try await commit { self.replica.apply(position: target, entries: list, privates: [], completion: $0) }
    applied.add()
  }

  private static func told(_ entries: [SliceEntry]) -> UInt64? {
    entries.compactMap { if case .toldBy(let number, _, _) = $0 { number } else { nil } }.max()
  }

  private func entry(_ entry: SliceEntry, at position: UInt64, index: UInt32, after earlier: [Entry])
    throws(SkerryError) -> Entry?
  {
    let key =
      switch entry {
      case .put(let object): object.key
      case .drop(let key): key
      case .told(let key, _, _): key
      case .toldBy(let number, _, _): try key(toldBy: number)
      }
    var held = try replica.read(key, at: nil)
    if let last = earlier.last(where: { $0.key == key }) { held = last.type == .deleted ? nil : last.object }
    switch entry {
    case .drop:
      guard let held else { return nil }
      return Entry(
        position: position, index: index, key: key, revision: held.revision, previousRevision: held.revision,
        type: .deleted, object: held, previousMeta: held.meta)
    case .told(_, let revision, let check), .toldBy(_, let revision, let check):
      return try told(key, held, revision, check, position, index)
    case .put(let object):
      return Entry(
        position: position, index: index, key: key, revision: object.revision, previousRevision: held?.revision ?? 0,
        type: held == nil ? .created : .modified, object: stored(object), previousMeta: held?.meta)
    }
  }

  private func key(toldBy number: UInt64) throws(SkerryError) -> String {
    if let key = toldKey?(number) { return key }
    needsWhole = true
    throw SkerryError(.conflict, "the cloud shows a status that entry \(number) told, and this node does not know it")
  }

  private func told(
    _ key: String, _ held: StoredObject?, _ revision: UInt64, _ check: UInt32, _ position: UInt64, _ index: UInt32
  ) throws(SkerryError) -> Entry {
    guard var object = held else {
      throw SkerryError(.protocolViolation, "the cloud shows the status of \(key), which is not here")
    }
    let shown = try object.status.map { bytes throws(SkerryError) in try CBOR.decode(bytes) } ?? .null
    guard let status = toldStatus?(key, shown, { SliceEntry.check($0) == check }) else {
      needsWhole = true
      throw SkerryError(.conflict, "the cloud shows a status of \(key) that is none of this node's")
    }
    let before = object.revision
    object.status = status
    object.statusRevision = revision
    return Entry(
      position: position, index: index, key: key, revision: object.revision, previousRevision: before,
      type: .modified, object: object, previousMeta: object.meta)
  }

  private func stored(_ object: SliceObject) -> StoredObject {
    StoredObject(
      body: object.body, status: object.status, meta: object.meta, bodyRevision: object.bodyRevision,
      statusRevision: object.statusRevision, createRevision: object.createRevision, sealed: object.sealed)
  }

  private func commit(_ start: (@escaping @LoopActor (SkerryError?) -> Void) -> Void) async throws(SkerryError) {
    let error = await withCheckedContinuation { (continuation: CheckedContinuation<SkerryError?, Never>) in
      start { continuation.resume(returning: $0) }
    }
    if let error { throw error }
  }
}
