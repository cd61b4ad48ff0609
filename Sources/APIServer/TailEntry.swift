import API
import Base
import ObjectLog
import ObjectModel

/// A place between the entries of the log: behind the entry with this index among those of its position.
typealias LogPlace = (position: UInt64, index: UInt32)

/// One entry, its metadata decoded and its events made when a watch asks first: once for all watches.
@LoopActor final class TailEntry {
  let entry: Entry
  let reference: ObjectReference
  /// Whether no later entry of the same resource has this position.
  let endsPosition: Bool
  var place: LogPlace { (entry.position, entry.index) }
  /// The place right before it.
  var placeBefore: LogPlace {
    entry.index > 0 ? (entry.position, entry.index - 1) : (max(entry.position, 1) - 1, .max)
  }
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

  /// The values that a selectable field has and had, where the object is and was there: only selections that take one
  /// of them can be concerned. An absent field is the empty string, as for selectors.
  func forEachValue(of field: String, _ body: (String) -> Void) {
    switch field {
    case Selection.name: body(reference.name)
    case Selection.namespaceName: body(reference.namespace)
    default:
      let now = entry.type == .deleted ? nil : meta.fields[field] ?? ""
      let before = entry.type == .created ? nil : (previousMeta ?? meta).fields[field] ?? ""
      if let now { body(now) }
      if let before, before != now { body(before) }
    }
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
  convenience init?(_ entry: Entry, endsPosition: Bool) {
    guard let reference = ObjectReference(key: entry.key) else { return nil }
    self.init(entry, reference, endsPosition: endsPosition)
  }

  init(_ entry: Entry, _ reference: ObjectReference, endsPosition: Bool) {
    self.entry = entry
    self.reference = reference
    self.endsPosition = endsPosition
  }
}
