import Base

/// Random 128 bits drawn when a log is created.
package struct LogID: Sendable, Hashable, CustomStringConvertible {
  package let bytes: Bytes
  /// Exactly 16 bytes.
  package init?(_ bytes: Bytes) {
    guard bytes.count == 16 else { return nil }
    self.bytes = bytes
  }
  package init(random: any RandomSource) { bytes = random.bytes(16) }
  package var description: String { bytes.hex }
}

/// How far a reader got: (log id, epoch, position). A position of another log or epoch means nothing here.
package struct Cursor: Sendable, Hashable {
  package var log: LogID
  /// Rises when acknowledged entries may be missing: a restored backup, an unclean stop with relaxed durability.
  package var epoch: UInt64
  package var position: UInt64
  package init(log: LogID, epoch: UInt64, position: UInt64) {
    self.log = log
    self.epoch = epoch
    self.position = position
  }
}

package enum EntryType: UInt8, Sendable {
  case created = 1
  case modified = 2
  case deleted = 3
}

/// One object as the log keeps it: two byte strings, each with the revision of its last change.
///
/// Stored bytes never hold the resourceVersion. `meta` is what selectors and indexes need, extracted once at the
/// write (the log does not look into it). Sealed values are opened by the log when read; on disk and in backups
/// they stay sealed.
package struct StoredObject: Sendable, Hashable {
  package var body: Bytes
  package var status: Bytes?
  package var meta: Bytes
  package var bodyRevision: UInt64
  package var statusRevision: UInt64
  /// Revision of the write that created it.
  package var createRevision: UInt64
  /// Whether the value is kept sealed. Set when read; a follower seals what `apply` and `replace` bring with it.
  package var sealed: Bool
  /// The object's last change: its resourceVersion.
  package var revision: UInt64 { max(bodyRevision, statusRevision) }
  package init(
    body: Bytes, status: Bytes?, meta: Bytes, bodyRevision: UInt64, statusRevision: UInt64, createRevision: UInt64,
    sealed: Bool = false
  ) {
    self.body = body
    self.status = status
    self.meta = meta
    self.bodyRevision = bodyRevision
    self.statusRevision = statusRevision
    self.createRevision = createRevision
    self.sealed = sealed
  }
}

/// One object change in the log's order. On a leader position and revision are equal; in a replica several entries
/// may share a position, told apart by `index`, and carry the older revision of an object that entered the slice.
package struct Entry: Sendable {
  package let position: UInt64
  package let index: UInt32
  package let key: String
  package let revision: UInt64
  /// The revision that this one replaced; 0 when created.
  package let previousRevision: UInt64
  package let type: EntryType
  /// The object after the change; on delete the last value.
  package let object: StoredObject
  /// `meta` before the change, for selectors that an object enters or leaves; nil when created.
  package let previousMeta: Bytes?
  package init(
    position: UInt64, index: UInt32, key: String, revision: UInt64, previousRevision: UInt64, type: EntryType,
    object: StoredObject, previousMeta: Bytes?
  ) {
    self.position = position
    self.index = index
    self.key = key
    self.revision = revision
    self.previousRevision = previousRevision
    self.type = type
    self.object = object
    self.previousMeta = previousMeta
  }
}

/// A guarded change. Keys are `resource/namespace/name`, with an empty namespace for cluster scope: the prefix
/// `pods/default/` lists a namespace and `pods/` a resource.
package struct Change: Sendable {
  /// What must hold for this change to be applied; checked by the writer inside the transaction.
  package enum Guard: Sendable, Hashable {
    case absent
    /// The object's current revision is exactly this.
    case revision(UInt64)
    /// Whatever is there, or nothing.
    case any
  }
  package enum Operation: Sendable {
    /// Replaces body, status and meta. Equal bytes to what is stored make no revision (a no-op write).
    case put(body: Bytes, status: Bytes?, meta: Bytes)
    case delete
    /// No object change: only `privates` are written, if the guard holds. Takes no revision, leaves no entry.
    case privatesOnly
  }
  package var key: String
  package var guarding: Guard
  package var operation: Operation
  /// Seal body and status with the log's key ring.
  package var seal: Bool
  /// Private values written in the same transaction (a lane's cursor); nil deletes. Never shown by list or watch.
  package var privates: [(key: String, value: Bytes?)]
  package init(
    key: String, guarding: Guard, operation: Operation, seal: Bool = false,
    privates: [(key: String, value: Bytes?)] = []
  ) {
    self.key = key
    self.guarding = guarding
    self.operation = operation
    self.seal = seal
    self.privates = privates
  }
}

/// The outcome of one change of a group.
package enum ChangeResult: Sendable {
  /// Durable, with the object's new revision (the unchanged one of a no-op; 0 for privatesOnly).
  case applied(revision: UInt64)
  /// The guard did not hold; the current revision, or nil if there is no object.
  case conflict(current: UInt64?)
  case failed(SkerryError)
}

/// One page of a listing at a fixed position.
package struct Page: Sendable {
  package var objects: [(key: String, object: StoredObject)]
  /// The position that the whole listing is at: ask for the next page `at` it.
  package var position: UInt64
  /// True if keys after the last one remain.
  package var more: Bool
  package init(objects: [(key: String, object: StoredObject)], position: UInt64, more: Bool) {
    self.objects = objects
    self.position = position
    self.more = more
  }
}

/// An ordered log of object changes, and the current state that it leads to.
///
/// Order of a write: commit durable, publish to the tail, answer, wake observers; nothing unpublished can be read. What
/// answers have queued on the loop may run before the observers, but nothing else is published before they have heard.
/// After a failed commit the writer stops and answers `unavailable` until the log is opened again.
/// A new leader's log is at position 1 with nothing in it, so that no position that anybody is told is 0; the first
/// change gets position 2. A new follower is at position 0 of a log and epoch of its own until `replace`.
/// Completions are called later on the loop, never inside the call, in the order of the calls.
/// Reads are synchronous and short (one page); writes are grouped by the writer thread and answered on the loop.
@LoopActor package protocol ObjectLog: AnyObject {
  /// Log id, epoch, and the newest published position.
  var tail: Cursor { get }
  /// Positions up to and including this one can no longer be followed or listed at.
  var compacted: UInt64 { get }

  /// A change is being decided and will come in this turn of the loop: who would have to be woken for it may wake up
  /// now. Nothing has to follow.
  func expectChange()
  /// Leader: applies a group, change by change (one conflict fails alone), positions assigned in order.
  func append(_ group: [Change], completion: @escaping @LoopActor ([ChangeResult]) -> Void)

  /// Follower: applies one whole position as given, in one transaction with `privates`; positions only rise.
  func apply(
    position: Cursor, entries: [Entry], privates: [(key: String, value: Bytes?)],
    completion: @escaping @LoopActor (SkerryError?) -> Void)

  /// Follower: replaces everything by a snapshot at `position` (a new log, an epoch change, a cursor too old).
  /// Objects not named are deleted, as entries of that position; equal ones leave no entry.
  func replace(
    position: Cursor, objects: [(key: String, object: StoredObject)],
    completion: @escaping @LoopActor (SkerryError?) -> Void)

  /// The object, now or at an older position within retention; nil if there was none.
  func read(_ key: String, at position: UInt64?) throws(SkerryError) -> StoredObject?

  /// Objects whose keys start with `prefix`, in key order, strictly after `after`; at most `limit` (and
  /// `Limits.pageBytes` bytes, but at least one). Throws `tooOld` for a compacted position.
  func list(prefix: String, at position: UInt64?, after: String?, limit: Int) throws(SkerryError) -> Page

  /// Entries after `position` whose keys start with `prefix`, oldest first, at most `limit`; the second value is
  /// the position through which the answer is complete (a cursor may move there). Throws `tooOld`.
  func entries(after position: UInt64, prefix: String, limit: Int) throws(SkerryError) -> (
    entries: [Entry], through: UInt64
  )

  /// Lets go of the history through `position` (at most the newest position less one): nobody can follow or list
  /// there any more. The disk follows by and by. Nothing happens if it is already gone.
  func compact(through position: UInt64)

  func privateValue(_ key: String) throws(SkerryError) -> Bytes?
  /// Private keys with a prefix, in order.
  func privateValues(prefix: String) throws(SkerryError) -> [(key: String, value: Bytes)]

  /// Calls `body` on the loop after every publication, until the observation is cancelled. One call may cover
  /// several entries; it carries them, so that a tail reader needs no read at all.
  func observe(_ body: @escaping @LoopActor (_ published: [Entry]) -> Void) -> ObservationID
  func cancelObservation(_ id: ObservationID)
}

package struct ObservationID: Sendable, Hashable {
  package let raw: UInt64
  package init(raw: UInt64) { self.raw = raw }
}

extension ObjectLog {
  package func expectChange() {}
}
