import API
import Base
import Logging
import ObjectModel

/// Watches over nodes: marks silent ones unknown, and taints by their conditions. The decisions are
/// `NodeLifecycleDecision`'s.
///
/// Silence is measured on this machine's monotonic clock, from when the hub last heard the node, and at the earliest
/// from when this process first saw it: after a restart every node has its whole grace.
@LoopActor package final class NodeLifecycleController {
  /// How long a node that may not be tainted yet waits before it asks again.
  static let evictionRetry = Duration.seconds(5)

  private let caches: ControllerCaches
  private let liveness: any NodeLiveness
  private let scheduler: any Scheduler
  private let events: EventRecorder
  private let settings: NodeLifecycleDecision.Settings
  private let controller: Controller<ObjectKey>
  private var firstSeen: [String: Instant] = [:]
  private var budget: DisruptionBudget

  package init(
    _ environment: ControllerEnvironment, caches: ControllerCaches, liveness: any NodeLiveness,
    settings: NodeLifecycleDecision.Settings = .init()
  ) {
    self.caches = caches
    self.liveness = liveness
    self.settings = settings
    scheduler = environment.scheduler
    budget = DisruptionBudget(now: environment.scheduler.now)
    events = environment.recorder("node-controller")
    let box = Weak<NodeLifecycleController>()
    controller = environment.controller("node-lifecycle", of: box) { owner, key, context throws(APIError) in
      try await owner.reconcile(key, context)
    }
    box.value = self
    controller.onRoom = { [weak self] in self?.enqueueAll() }
    caches.nodes.onChange { [weak self] key, old, new in self?.nodeChanged(key, old, new) }
  }

  package func start() { controller.start(after: [caches.nodes]) }

  package func stop() {
    controller.stop()
    events.stop()
  }

  private func enqueueAll() { for key in caches.nodes.keys { controller.enqueue(key) } }

  private func nodeChanged(_ key: ObjectKey, _ old: NodeState?, _ new: NodeState?) {
    if let new {
      // A heartbeat: silence is looked for by time, and what is decided otherwise has not changed.
      if let old, new.decidesTheSame(as: old) { return }
      if firstSeen[new.uid] == nil { firstSeen[new.uid] = scheduler.now }
    } else {
      let uids = Set(caches.nodes.items.map(\.uid))
      firstSeen = firstSeen.filter { uids.contains($0.key) }
    }
    controller.enqueue(key)
  }

  private func reconcile(_ key: ObjectKey, _ context: ReconcileContext) async throws(APIError) -> Duration? {
    guard let node = caches.nodes[key], !node.isBeingDeleted else { return nil }
    var inputs = NodeLifecycleDecision.Inputs(
      node: node, lastHeard: liveness.lastHeard(node.name), interval: liveness.interval(node.name),
      firstSeen: firstSeen[node.uid] ?? scheduler.now,
      now: scheduler.now, wall: scheduler.wall)
    var decision = NodeLifecycleDecision(inputs, settings: settings)
    if decision.holdsBack, mayEvict() {
      inputs.mayEvict = true
      decision = NodeLifecycleDecision(inputs, settings: settings)
    }
    if let conditions = decision.conditions {
      let patch: Value = ["metadata": ["uid": .string(node.uid)], "status": ["conditions": .array(conditions)]]
      try await context.patch(node.reference, patch, subresource: "status", seenBy: caches.nodes)
    }
    if let event = decision.event {
      let subject = EventSubject(apiVersion: "v1", kind: "Node", namespace: "", name: node.name, uid: node.uid)
      events.record(subject, .normal, reason: event.reason, message: event.message)
    }
    if let taints = decision.taints {
      // The taints of others are in the list, too: what they changed meanwhile must not be undone.
      let patch: Value = [
        "metadata": ["uid": .string(node.uid), "resourceVersion": .string(String(node.revision))],
        "spec": ["taints": taints.isEmpty ? .null : .array(taints.map(\.object))],
      ]
      try await context.patch(node.reference, patch, seenBy: caches.nodes)
    }
    guard decision.holdsBack else { return decision.again }
    return min(decision.again ?? Self.evictionRetry, Self.evictionRetry)
  }

  private func mayEvict() -> Bool {
    let ready = caches.nodes.items.count(where: \.isReady)
    return budget.take(ready: ready, silent: caches.nodes.count - ready, now: scheduler.now)
  }
}
