import API
import Base
import ObjectModel

/// What the garbage collector keeps of an object: its metadata.
package struct MetaState: Informed, Hashable {
  package var key: ObjectKey
  package var uid: String
  package var revision: UInt64
  package var owners: [OwnerReference]
  package var finalizers: [String]
  package var isBeingDeleted: Bool
  /// Of the metadata that it was read from; nil if that is not known.
  private var mark: Int?

  package init(stored: APIObject) throws(SkerryError) {
    try self.init(stored, stored.metadataMark())
  }

  private init(_ stored: APIObject, _ mark: Int) throws(SkerryError) {
    let object = Object(["metadata": try stored.decodedMetadata()])
    self.init(object, key: ObjectKey(stored.reference), revision: stored.revision)
    self.mark = mark
  }

  package static func read(
    _ stored: APIObject, after old: MetaState?, beside neighbour: MetaState?
  ) throws(SkerryError) -> MetaState {
    var new = try MetaState(stored: stored)
    new.owners = held(new.owners, or: neighbour?.owners)
    new.finalizers = held(new.finalizers, or: neighbour?.finalizers)
    return new
  }

  /// A change of anything but metadata is a new revision and nothing else.
  package mutating func passes(_ stored: APIObject) throws(SkerryError) -> Bool {
    guard let mark, try stored.metadataMark() == mark else { return false }
    revision = stored.revision
    return true
  }

  package init(_ object: Object, key: ObjectKey, revision: UInt64) {
    self.key = key
    self.revision = revision
    uid = object.uid
    owners = object.ownerReferences
    finalizers = object.finalizers
    isBeingDeleted = object.isBeingDeleted
    mark = nil
  }

  package static let foreground = "foregroundDeletion"
  package static let orphan = "orphan"

  /// True if nothing differs that a decision here reads; most changes are of status alone.
  func isSame(as other: MetaState) -> Bool {
    owners == other.owners && finalizers == other.finalizers && isBeingDeleted == other.isBeingDeleted
  }

  /// Waits for its dependents to go first.
  package var isDeletingForeground: Bool { isBeingDeleted && finalizers.contains(Self.foreground) }
  /// Waits for its dependents to be let go of.
  package var isOrphaning: Bool { isBeingDeleted && finalizers.contains(Self.orphan) }
}

/// What becomes of one object by its owners, or by its own deletion's finalizers. Pure.
/// Source: https://kubernetes.io/docs/concepts/architecture/garbage-collection/
package enum GarbageDecision: Sendable, Hashable {
  case nothing
  /// Every owner is gone, or goes and waits for this.
  case delete(Propagation)
  /// Some owner is there: the references to those that are not are stripped.
  case strip(uids: Set<String>)
  /// The object itself waits: deletes these dependents, and comes again when they are gone.
  case deleteDependents([Dependent])
  /// The object itself waits: these dependents no longer name it.
  case orphanDependents([Dependent])
  /// What the object waited for has happened.
  case removeFinalizer(String)

  /// A dependent and its resource.
  package struct Dependent: Sendable, Hashable {
    package var resource: String
    package var meta: MetaState
    package init(resource: String, meta: MetaState) {
      self.resource = resource
      self.meta = meta
    }
  }

  package enum Owner: Sendable, Hashable {
    case present
    /// Being deleted in the foreground: it waits for dependents that block it.
    case waiting
    /// Verified: no object with that uid is there.
    case absent
  }

  /// `owner` answers for an owner's uid; `dependents` are the objects that name this one.
  package init(_ object: MetaState, owner: (OwnerReference) -> Owner, dependents: [Dependent]) {
    if object.isOrphaning {
      let left = dependents.filter { $0.meta.owners.contains { $0.uid == object.uid } }
      self = left.isEmpty ? .removeFinalizer(MetaState.orphan) : .orphanDependents(left)
    } else if object.isDeletingForeground {
      let blocking = dependents.filter { dependent in
        dependent.meta.owners.contains { $0.uid == object.uid && $0.blockOwnerDeletion }
      }
      self =
        blocking.isEmpty
        ? .removeFinalizer(MetaState.foreground) : .deleteDependents(blocking.filter { !$0.meta.isBeingDeleted })
    } else {
      self.init(ownersOf: object, owner: owner, hasDependents: !dependents.isEmpty)
    }
  }

  private init(ownersOf object: MetaState, owner: (OwnerReference) -> Owner, hasDependents: Bool) {
    guard !object.owners.isEmpty, !object.isBeingDeleted else {
      self = .nothing
      return
    }
    var (solid, dangling, waiting): (Int, Set<String>, Set<String>) = (0, [], [])
    for reference in object.owners {
      switch owner(reference) {
      case .present: solid += 1
      case .absent: dangling.insert(reference.uid)
      case .waiting: waiting.insert(reference.uid)
      }
    }
    if solid > 0 {
      let stripped = dangling.union(waiting)
      self = stripped.isEmpty ? .nothing : .strip(uids: stripped)
    } else if !waiting.isEmpty, hasDependents {
      self = .delete(.foreground)
    } else if object.finalizers.contains(MetaState.orphan) {
      self = .delete(.orphan)
    } else {
      self = .delete(object.finalizers.contains(MetaState.foreground) ? .foreground : .background)
    }
  }
}
