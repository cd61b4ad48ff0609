import API
import Base
import Logging
import ObjectModel

/// Deletes what belonged to objects that are gone, and works off foreground and orphan deletions. The decisions are
/// `GarbageDecision`'s.
@LoopActor package final class GarbageCollector {
  struct Item: Sendable, Hashable, CustomStringConvertible {
    var resource: String
    var key: ObjectKey
    var description: String { "\(resource) \(key)" }
    var reference: ObjectReference { key.reference(in: resource) }
  }
  private struct Source {
    let informer: Informer<MetaState>
    let byOwner: Informer<MetaState>.Index
  }
  /// Uids of objects that are known to be gone; they never come back, so only memory bounds the list.
  static let maxAbsent = 10_000

  private let registry: KindRegistry
  private var sources: [String: Source] = [:]
  private let controller: Controller<Item>
  /// Where each object is that somebody may name as owner.
  private var places: [String: Item] = [:]
  private var absent: Set<String> = []

  /// Watches every kind of the registry but Events, which own nothing and are many.
  package init(_ environment: ControllerEnvironment, registry: KindRegistry = .standard) {
    self.registry = registry
    let box = Weak<GarbageCollector>()
    controller = environment.controller("garbage-collector", of: box, workers: 20) {
      owner, item, context throws(APIError) in
      try await owner.reconcile(item, context)
    }
    box.value = self
    for kind in registry.kinds where kind.resource != Event.resource {
      let informer = environment.informer(
        kind.resource, of: MetaState.self, caller: .controller("garbage-collector"))
      let byOwner = informer.addIndex { $0.owners.map(\.uid) }
      sources[kind.resource] = Source(informer: informer, byOwner: byOwner)
      informer.onChange { [weak self] key, old, new in
        self?.changed(Item(resource: kind.resource, key: key), old, new)
      }
    }
    controller.onRoom = { [weak self] in self?.enqueueAll() }
  }

  package func start() {
    controller.start(after: sources.values.map(\.informer))
    for source in sources.values { source.informer.start() }
  }

  package func stop() {
    controller.stop()
    for source in sources.values { source.informer.stop() }
  }

  private func enqueueAll() {
    for (resource, source) in sources {
      for key in source.informer.keys { controller.enqueue(Item(resource: resource, key: key)) }
    }
  }

  private func changed(_ item: Item, _ old: MetaState?, _ new: MetaState?) {
    if let new {
      if old == nil {
        places[new.uid] = item
        absent.remove(new.uid)
      }
      let matters = !new.owners.isEmpty || new.isDeletingForeground || new.isOrphaning
      if matters, old?.isSame(as: new) != true { controller.enqueue(item) }
    } else if let old {
      places[old.uid] = nil
      note(absent: old.uid)
      for dependent in dependents(of: old.uid) {
        controller.enqueue(Item(resource: dependent.resource, key: dependent.meta.key))
      }
    }
    // An owner that waits in the foreground, or for its dependents to be let go of, looks again.
    for owner in old?.owners ?? [] {
      guard let place = places[owner.uid], let meta = sources[place.resource]?.informer[place.key] else { continue }
      if meta.isDeletingForeground || meta.isOrphaning { controller.enqueue(place) }
    }
  }

  private func note(absent uid: String) {
    if absent.count >= Self.maxAbsent { absent = [] }
    absent.insert(uid)
  }

  private func dependents(of uid: String) -> [GarbageDecision.Dependent] {
    var found: [GarbageDecision.Dependent] = []
    for (resource, source) in sources {
      for meta in source.informer.items(source.byOwner, uid) { found.append(.init(resource: resource, meta: meta)) }
    }
    return found
  }

  private func reconcile(_ item: Item, _ context: ReconcileContext) async throws(APIError) -> Duration? {
    guard let source = sources[item.resource], let object = source.informer[item.key] else { return nil }
    var owners: [String: GarbageDecision.Owner] = [:]
    if !object.isBeingDeleted {
      for owner in object.owners { owners[owner.uid] = try await state(of: owner, for: item, context) }
    }
    let decision = GarbageDecision(
      object, owner: { owners[$0.uid] ?? .present }, dependents: dependents(of: object.uid))
    switch decision {
    case .nothing: break
    case .delete(let propagation):
      try await delete(item.reference, object, propagation, source, context)
    case .strip(let uids): try await strip(item.reference, object, uids, source, context)
    case .deleteDependents(let dependents):
      for dependent in dependents {
        guard let source = sources[dependent.resource] else { continue }
        let reference = dependent.meta.key.reference(in: dependent.resource)
        let hasOwn = !self.dependents(of: dependent.meta.uid).isEmpty
        try await delete(reference, dependent.meta, hasOwn ? .foreground : .background, source, context)
      }
    case .orphanDependents(let dependents):
      for dependent in dependents {
        guard let source = sources[dependent.resource] else { continue }
        let reference = dependent.meta.key.reference(in: dependent.resource)
        try await strip(reference, dependent.meta, [object.uid], source, context)
      }
    case .removeFinalizer(let name):
      let left = object.finalizers.filter { $0 != name }.map(Value.string)
      try await write(
        item.reference, object, ["finalizers": left.isEmpty ? .null : .array(left)], source, context)
    }
    return nil
  }

  /// Never takes an owner for gone on the word of a cache: it may be behind the object that names it.
  private func state(
    of owner: OwnerReference, for item: Item, _ context: ReconcileContext
  ) async throws(APIError) -> GarbageDecision.Owner {
    if absent.contains(owner.uid) { return .absent }
    if let place = places[owner.uid], let meta = sources[place.resource]?.informer[place.key] {
      return meta.isDeletingForeground ? .waiting : .present
    }
    // What nobody here serves cannot be looked up, so it counts as there.
    guard let kind = registry.kind(apiVersion: owner.apiVersion, kind: owner.kind) else { return .present }
    if kind.isNamespaced, item.key.namespace.isEmpty { return .present }
    let reference = ObjectReference(
      resource: kind.resource, namespace: kind.isNamespaced ? item.key.namespace : "", name: owner.name)
    do throws(APIError) {
      let found = try await context.api.get(reference, caller: context.caller)
      guard let object = try? found.decoded() else { return .present }
      guard object.uid != owner.uid else {
        return object.isBeingDeleted && object.finalizers.contains(MetaState.foreground) ? .waiting : .present
      }
    } catch {
      guard error.reason == .notFound else { throw error }
    }
    note(absent: owner.uid)
    return .absent
  }

  private func delete(
    _ reference: ObjectReference, _ meta: MetaState, _ propagation: Propagation, _ source: Source,
    _ context: ReconcileContext
  ) async throws(APIError) {
    // The revision guards against an owner that was added since this was decided.
    let options = DeleteOptions(propagation: propagation, uid: meta.uid, revision: meta.revision)
    do throws(APIError) {
      let answer = try await context.api.delete(reference, options: options, caller: context.caller)
      context.wrote(answer.revision, seenBy: source.informer)
    } catch {
      guard error.reason == .notFound else { throw error }
    }
  }

  private func strip(
    _ reference: ObjectReference, _ meta: MetaState, _ uids: Set<String>, _ source: Source, _ context: ReconcileContext
  ) async throws(APIError) {
    let left = meta.owners.filter { !uids.contains($0.uid) }.map(\.value)
    try await write(reference, meta, ["ownerReferences": left.isEmpty ? .null : .array(left)], source, context)
  }

  private func write(
    _ reference: ObjectReference, _ meta: MetaState, _ metadata: Value, _ source: Source, _ context: ReconcileContext
  ) async throws(APIError) {
    var metadata = metadata
    metadata["uid"] = .string(meta.uid)
    metadata["resourceVersion"] = .string(String(meta.revision))
    do throws(APIError) {
      try await context.patch(reference, ["metadata": metadata], seenBy: source.informer)
    } catch {
      guard error.reason == .notFound else { throw error }
    }
  }
}
