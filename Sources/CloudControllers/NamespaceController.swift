import API
import Base
import Logging
import ObjectModel

/// What the namespace controller keeps of a Namespace.
package struct NamespaceState: Informed {
  package var name: String
  package var uid: String
  package var isBeingDeleted: Bool
  package var specFinalizers: [String]
  package var status: Value

  package init(stored: APIObject) throws(SkerryError) {
    let object = try stored.decoded()
    name = object.name
    uid = object.uid
    isBeingDeleted = object.isBeingDeleted
    specFinalizers = Namespace(object).specFinalizers
    status = object.status
  }
}

/// Empties namespaces that are being deleted, and lets them go.
/// Source: https://kubernetes.io/docs/tasks/administer-cluster/namespaces/#deleting-a-namespace
@LoopActor package final class NamespaceController {
  /// Objects deleted in one batch.
  static let batchSize = 200
  /// How soon a namespace whose content goes slowly (pods that stop) is looked at again.
  static let pollInterval = Duration.seconds(1)

  private let namespaces: Informer<NamespaceState>
  private let resources: [String]
  private let scheduler: any Scheduler
  private let controller: Controller<ObjectKey>

  package init(_ environment: ControllerEnvironment, registry: KindRegistry = .standard) {
    namespaces = environment.informer(Namespace.resource)
    resources = registry.kinds.filter(\.isNamespaced).map(\.resource)
    scheduler = environment.scheduler
    let box = Weak<NamespaceController>()
    controller = environment.controller("namespace", of: box) { owner, key, context throws(APIError) in
      try await owner.reconcile(key, context)
    }
    box.value = self
    controller.onRoom = { [weak self] in
      guard let self else { return }
      for key in self.namespaces.keys { self.controller.enqueue(key) }
    }
    namespaces.onChange { [weak self] key, _, new in
      if new?.isBeingDeleted == true { self?.controller.enqueue(key) }
    }
  }

  package func start() {
    controller.start(after: [namespaces])
    namespaces.start()
  }

  package func stop() {
    controller.stop()
    namespaces.stop()
  }

  private func reconcile(_ key: ObjectKey, _ context: ReconcileContext) async throws(APIError) -> Duration? {
    guard let namespace = namespaces[key], namespace.isBeingDeleted,
      namespace.specFinalizers.contains(Namespace.finalizer)
    else { return nil }
    var remaining: [(resource: String, count: Int)] = []
    var refusals: [String] = []
    for resource in resources {
      let left = try await empty(resource, namespace.name, &refusals, context)
      if left > 0 { remaining.append((resource, left)) }
    }
    let reference = key.reference(in: Namespace.resource)
    if remaining.isEmpty {
      let left = namespace.specFinalizers.filter { $0 != Namespace.finalizer }.map(Value.string)
      try await context.patch(
        reference, ["metadata": ["uid": .string(namespace.uid)], "spec": ["finalizers": .array(left)]],
        subresource: "finalize", seenBy: namespaces)
      return nil
    }
    let status = Self.status(namespace.status, remaining, refusals, now: scheduler.wall)
    if status != namespace.status {
      try await context.patch(
        reference, ["status": MergePatch.difference(from: namespace.status, to: status)], subresource: "status",
        seenBy: namespaces)
    }
    return Self.pollInterval
  }

  /// Deletes everything of a resource; answers how many objects are still there afterwards.
  private func empty(
    _ resource: String, _ namespace: String, _ refusals: inout [String], _ context: ReconcileContext
  ) async throws(APIError) -> Int {
    var page = ListOptions(resource: resource, namespace: namespace, limit: Self.batchSize)
    var left = 0
    repeat {
      let list = try await context.api.list(page, caller: context.caller)
      let items = list.items.map { BatchItem.delete($0.reference, DeleteOptions(propagation: .background)) }
      if !items.isEmpty {
        let answers = try await context.api.batch(items, caller: context.caller)
        for (object, answer) in zip(list.items, answers) {
          switch answer {
          case .success(let gone): if Self.waits(gone) { left += 1 }
          case .failure(let error) where error.reason == .notFound: continue
          case .failure(let error):
            left += 1
            refusals.append("\(resource) \(object.reference.name): \(error.message)")
          }
        }
      }
      page.continuation = list.continuation
    } while !page.continuation.isEmpty
    return left
  }

  /// True if the object is still there and waits to go.
  private static func waits(_ object: APIObject) -> Bool {
    guard let metadata = try? object.decodedMetadata() else { return true }
    let finalizers = metadata["finalizers"].array ?? []
    return !finalizers.isEmpty || metadata["deletionGracePeriodSeconds"].int ?? 0 > 0
  }

  private static func status(
    _ old: Value, _ remaining: [(resource: String, count: Int)], _ refusals: [String], now: WallTime
  ) -> Value {
    var status = old
    let counts = remaining.map { "\($0.resource) has \($0.count) resource instances" }.joined(separator: ", ")
    Conditions.set(
      &status,
      Condition(
        "NamespaceContentRemaining", true, reason: "SomeResourcesRemain",
        message: "Some resources are remaining: \(counts)"), now: now)
    if refusals.isEmpty {
      Conditions.set(
        &status,
        Condition(
          "NamespaceDeletionContentFailure", false, reason: "ContentDeleted",
          message: "All content successfully deleted, may be waiting on finalization"), now: now)
    } else {
      Conditions.set(
        &status,
        Condition(
          "NamespaceDeletionContentFailure", true, reason: "ContentDeletionFailed",
          message: "Failed to delete all resource types: " + refusals.prefix(10).joined(separator: "; ")), now: now)
    }
    return status
  }
}
