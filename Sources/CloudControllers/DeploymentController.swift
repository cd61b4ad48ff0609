import API
import Base
import Logging
import ObjectModel

/// Rolls deployments out. The decisions are `DeploymentDecision`'s.
@LoopActor package final class DeploymentController {
  private let caches: ControllerCaches
  private let scheduler: any Scheduler
  private let events: EventRecorder
  private let controller: Controller<ObjectKey>

  package init(_ environment: ControllerEnvironment, caches: ControllerCaches) {
    self.caches = caches
    scheduler = environment.scheduler
    events = environment.recorder("deployment-controller")
    let box = Weak<DeploymentController>()
    controller = environment.controller("deployment", of: box) { owner, key, context throws(APIError) in
      try await owner.reconcile(key, context)
    }
    box.value = self
    controller.onRoom = { [weak self] in self?.enqueueAll() }
    caches.deployments.onChange { [weak self] key, _, _ in self?.controller.enqueue(key) }
    caches.replicaSets.onChange { [weak self] _, old, new in self?.replicaSetChanged(old, new) }
    caches.pods.onChange { [weak self] _, old, new in self?.podChanged(old, new) }
  }

  package func start() { controller.start(after: [caches.deployments, caches.replicaSets, caches.pods]) }

  package func stop() {
    controller.stop()
    events.stop()
  }

  private func enqueueAll() { for key in caches.deployments.keys { controller.enqueue(key) } }

  private func replicaSetChanged(_ old: ReplicaSet?, _ new: ReplicaSet?) {
    if let old, old.controller != new?.controller { enqueueOwner(of: old) }
    guard let new else { return }
    if new.controller != nil { return enqueueOwner(of: new) }
    for deployment in caches.deployments.items(caches.deploymentsByNamespace, new.namespace)
    where deployment.selector?.matches(new.labels) == true { controller.enqueue(deployment.key) }
  }

  private func enqueueOwner(of set: ReplicaSet) {
    guard let owner = set.controller, owner.kind == Deployment.kind else { return }
    controller.enqueue(ObjectKey(namespace: set.namespace, name: owner.name))
  }

  /// Only the end of a pod matters here, and only to a deployment that waits for the last old pod to go.
  private func podChanged(_ old: PodState?, _ new: PodState?) {
    guard let old, new == nil || new?.isTerminal == true, let owner = old.controller, owner.kind == ReplicaSet.kind,
      let set = caches.replicaSets[ObjectKey(namespace: old.key.namespace, name: owner.name)],
      let parent = set.controller,
      caches.deployments[ObjectKey(namespace: set.namespace, name: parent.name)]?.strategy == .recreate
    else { return }
    enqueueOwner(of: set)
  }

  private func reconcile(_ key: ObjectKey, _ context: ReconcileContext) async throws(APIError) -> Duration? {
    guard let deployment = caches.deployments[key] else { return nil }
    let sets =
      caches.replicaSets.items(caches.replicaSetsByOwner, deployment.uid)
      + caches.replicaSets.items(caches.orphanReplicaSets, key.namespace)
    var inputs = DeploymentDecision.Inputs(deployment: deployment, sets: sets, now: scheduler.wall)
    if deployment.strategy == .recreate {
      for set in sets {
        inputs.livePods[set.uid] = caches.pods.items(caches.podsByOwner, set.uid).count { !$0.isTerminal }
      }
    }
    let decision = DeploymentDecision(inputs)
    let reference = key.reference(in: Deployment.resource)
    try await context.claim(
      by: deployment.reference, at: reference, adopt: decision.adopt, release: decision.release,
      seenBy: caches.replicaSets)
    if let new = decision.create, try await !create(new, deployment, context) { return nil }
    for change in decision.changes { try await apply(change, deployment, context) }
    for set in decision.delete {
      try await context.delete(set.key.reference(in: ReplicaSet.resource), uid: set.uid, seenBy: caches.replicaSets)
    }
    if let revision = decision.revision {
      let patch: Value = [
        "metadata": [
          "uid": .string(deployment.uid),
          "annotations": .object([DeploymentDecision.Annotation.revision: .string(revision)]),
        ]
      ]
      try await context.patch(reference, patch, seenBy: caches.deployments)
    }
    if let patch = decision.statusPatch {
      try await context.patch(reference, patch, subresource: "status", seenBy: caches.deployments)
    }
    return decision.again
  }

  /// Creates the new replica set. False if its name is taken by another template's: then a collision is counted,
  /// which changes the name, and the deployment comes again.
  private func create(
    _ new: Value, _ deployment: Deployment, _ context: ReconcileContext
  ) async throws(APIError) -> Bool {
    do throws(APIError) {
      try await context.create(ReplicaSet.resource, namespace: deployment.namespace, new, seenBy: caches.replicaSets)
      let (name, size) = (Object(new).name, new["spec"]["replicas"].int ?? 0)
      if size > 0 { tell(deployment, "Scaled up replica set \(name) from 0 to \(size)") }
      return true
    } catch {
      if error.isNamespaceTerminating { return false }
      guard error.reason == .alreadyExists else {
        events.record(
          EventSubject(deployment.object), .warning, reason: "ReplicaSetCreateError",
          message: "Failed to create new replica set \"\(Object(new).name)\": \(error.message)")
        throw error
      }
    }
    let name = ObjectReference(resource: ReplicaSet.resource, namespace: deployment.namespace, name: Object(new).name)
    let found = try await context.api.get(name, caller: context.caller)
    if let there = try? found.decoded(), there.controllerReference?.uid == deployment.uid,
      TemplateHash.stripped(there.spec["template"]) == TemplateHash.stripped(deployment.template)
    {
      // Ours after all: the cache is behind it.
      context.wrote(found.revision, seenBy: caches.replicaSets)
      controller.enqueue(deployment.key)
      return false
    }
    let patch: Value = ["status": ["collisionCount": .int(deployment.collisionCount + 1)]]
    try await context.patch(
      deployment.key.reference(in: Deployment.resource), patch, subresource: "status", seenBy: caches.deployments)
    return false
  }

  private func apply(
    _ change: DeploymentDecision.Change, _ deployment: Deployment, _ context: ReconcileContext
  ) async throws(APIError) {
    let reference = change.set.key.reference(in: ReplicaSet.resource)
    try await context.patch(reference, change.patch, seenBy: caches.replicaSets)
    guard let (from, to) = change.scaled else { return }
    tell(deployment, "Scaled \(to > from ? "up" : "down") replica set \(change.set.name) from \(from) to \(to)")
  }

  private func tell(_ deployment: Deployment, _ message: String) {
    events.record(EventSubject(deployment.object), .normal, reason: "ScalingReplicaSet", message: message)
  }
}
