import API
import Base
import Logging
import ObjectModel

/// Keeps as many pods of each replica set as it asks for. The decisions are `ReplicaSetDecision`'s.
@LoopActor package final class ReplicaSetController {
  private let caches: ControllerCaches
  private let scheduler: any Scheduler
  private let events: EventRecorder
  private let controller: Controller<ObjectKey>

  package init(_ environment: ControllerEnvironment, caches: ControllerCaches) {
    self.caches = caches
    scheduler = environment.scheduler
    events = environment.recorder("replicaset-controller")
    let box = Weak<ReplicaSetController>()
    controller = environment.controller("replicaset", of: box) { owner, key, context throws(APIError) in
      try await owner.reconcile(key, context)
    }
    box.value = self
    controller.onRoom = { [weak self] in self?.enqueueAll() }
    caches.replicaSets.onChange { [weak self] key, _, _ in self?.controller.enqueue(key) }
    caches.pods.onChange { [weak self] _, old, new in self?.podChanged(old, new) }
  }

  package func start() { controller.start(after: [caches.replicaSets, caches.pods]) }

  package func stop() {
    controller.stop()
    events.stop()
  }

  private func enqueueAll() { for key in caches.replicaSets.keys { controller.enqueue(key) } }

  private func podChanged(_ old: PodState?, _ new: PodState?) {
    if let old, let new, old.isSame(as: new) { return }
    if let old, old.controller != new?.controller { enqueueOwner(of: old) }
    guard let new else { return }
    if new.controller != nil { return enqueueOwner(of: new) }
    for set in caches.replicaSets.items(caches.replicaSetsByNamespace, new.key.namespace)
    where set.selector?.matches(new.labels) == true { controller.enqueue(set.key) }
  }

  private func enqueueOwner(of pod: PodState) {
    guard let owner = pod.controller, owner.kind == ReplicaSet.kind else { return }
    controller.enqueue(ObjectKey(namespace: pod.key.namespace, name: owner.name))
  }

  private func reconcile(_ key: ObjectKey, _ context: ReconcileContext) async throws(APIError) -> Duration? {
    guard let set = caches.replicaSets[key] else { return nil }
    let pods =
      caches.pods.items(caches.podsByOwner, set.uid) + caches.pods.items(caches.orphanPods, key.namespace)
    var inputs = ReplicaSetDecision.Inputs(replicaSet: set, pods: pods, now: scheduler.wall)
    if set.minReadySeconds > 0 {
      for pod in pods where pod.isReady { inputs.readyFor[pod.uid] = caches.readyClock.readyFor(pod) }
    }
    if pods.count > set.replicas { inputs.relatedOnNode = relatedOnNode(set) }
    let decision = ReplicaSetDecision(inputs)
    try await context.claim(
      by: set.reference, at: key.reference(in: ReplicaSet.resource), adopt: decision.adopt, release: decision.release,
      seenBy: caches.pods)
    var failure: (reason: String, message: String)?
    var thrown: APIError?
    do throws(APIError) {
      try await create(decision.create, of: set, context)
    } catch {
      thrown = error
      failure = ("FailedCreate", error.message)
    }
    do throws(APIError) {
      try await delete(decision.delete, of: set, context)
    } catch {
      thrown = error
      failure = ("FailedDelete", error.message)
    }
    if let patch = ReplicaSetDecision.status(set, decision.counts, failure: failure, now: scheduler.wall) {
      try await context.patch(
        key.reference(in: ReplicaSet.resource), patch, subresource: "status", seenBy: caches.replicaSets)
    }
    if let thrown { throw thrown }
    return decision.again
  }

  /// Creates in batches of 1, 2, 4 …: a template that is always refused costs one call, not hundreds.
  private func create(_ count: Int, of set: ReplicaSet, _ context: ReconcileContext) async throws(APIError) {
    guard count > 0 else { return }
    let pod = ReplicaSetDecision.pod(of: set)
    var (left, size) = (count, 1)
    while left > 0 {
      let now = min(left, size)
      let item = BatchItem.create(resource: PodState.resource, namespace: set.namespace, object: pod)
      let answers = try await context.batch(Array(repeating: item, count: now), seenBy: caches.pods)
      for answer in answers {
        switch answer {
        case .success(let made):
          events.record(
            EventSubject(set.object), .normal, reason: "SuccessfulCreate",
            message: "Created pod: \(made.reference.name)")
        case .failure(let error) where error.isNamespaceTerminating: return
        case .failure(let error):
          events.record(
            EventSubject(set.object), .warning, reason: "FailedCreate", message: "Error creating: \(error.message)")
          throw error
        }
      }
      left -= now
      size *= 2
    }
  }

  private func delete(_ pods: [PodState], of set: ReplicaSet, _ context: ReconcileContext) async throws(APIError) {
    guard !pods.isEmpty else { return }
    let items = pods.map {
      BatchItem.delete($0.reference, DeleteOptions(propagation: .background, uid: $0.uid))
    }
    for (pod, answer) in zip(pods, try await context.batch(items, seenBy: caches.pods)) {
      switch answer {
      case .success:
        events.record(
          EventSubject(set.object), .normal, reason: "SuccessfulDelete", message: "Deleted pod: \(pod.key.name)")
      case .failure(let error) where error.reason == .notFound || error.reason == .conflict: continue
      case .failure(let error): throw error
      }
    }
  }

  /// Active pods by node of all replica sets that share this one's owner, since they serve the same thing.
  private func relatedOnNode(_ set: ReplicaSet) -> [String: Int] {
    let family = set.controller.map { caches.replicaSets.items(caches.replicaSetsByOwner, $0.uid) } ?? [set]
    var counts: [String: Int] = [:]
    for member in family {
      for pod in caches.pods.items(caches.podsByOwner, member.uid) where pod.isActive && !pod.nodeName.isEmpty {
        counts[pod.nodeName, default: 0] += 1
      }
    }
    return counts
  }
}

extension PodState {
  /// True if only the revision differs.
  func isSame(as other: PodState) -> Bool {
    var same = other
    same.revision = revision
    return self == same
  }
}

extension APIError {
  /// Creation was refused because the namespace is on its way out: nothing to try again.
  var isNamespaceTerminating: Bool {
    (details["causes"].array ?? []).contains { $0["reason"].string == "NamespaceTerminating" }
  }
}
