import API
import Base
import Logging
import ObjectModel

/// How long a pod may stay on a node with NoExecute taints. Pure.
/// Source: https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/#taint-based-evictions
package enum EvictionDecision: Sendable, Hashable {
  case stays
  /// Counted from when the taints were first seen; zero: at once.
  case leaves(after: Duration)

  /// `override` stands in for tolerations that the pod got by default; those that it asked for stay.
  package init(
    tolerations: [Toleration], taints: [Taint], override: NodeLifecycleDecision.Settings.Eviction = .standard
  ) {
    let tolerations = tolerations.map { $0.overridden(override) }
    var shortest: Int64?
    for taint in taints where taint.effect == "NoExecute" {
      let matching = tolerations.filter { $0.tolerates(taint) }
      guard !matching.isEmpty else {
        self = .leaves(after: .zero)
        return
      }
      for toleration in matching {
        guard let seconds = toleration.seconds else { continue }
        shortest = min(shortest ?? .max, max(0, seconds))
      }
    }
    self = shortest.map { .leaves(after: .seconds($0)) } ?? .stays
  }
}

/// Deletes pods from nodes whose NoExecute taints they do not bear, or no longer.
///
/// The time a pod has runs on this machine's clock from when this process saw node and taint, so that a restart of
/// the cloud, during which no node could speak, evicts nobody early.
@LoopActor package final class TaintEvictionController {
  private struct Sighting {
    var key: String
    var since: Instant
  }

  private let caches: ControllerCaches
  private let settings: NodeLifecycleDecision.Settings
  private let scheduler: any Scheduler
  private let events: EventRecorder
  private let controller: Controller<ObjectKey>
  /// Since when a node's NoExecute taints are seen, by the node's uid.
  private var seen: [String: [Sighting]] = [:]

  package init(
    _ environment: ControllerEnvironment, caches: ControllerCaches, settings: NodeLifecycleDecision.Settings = .init()
  ) {
    self.caches = caches
    self.settings = settings
    scheduler = environment.scheduler
    events = environment.recorder("taint-eviction-controller")
    let box = Weak<TaintEvictionController>()
    controller = environment.controller("taint-eviction", of: box) { owner, key, context throws(APIError) in
      try await owner.reconcile(key, context)
    }
    box.value = self
    controller.onRoom = { [weak self] in self?.enqueueAll() }
    caches.nodes.onChange { [weak self] _, old, new in self?.nodeChanged(old, new) }
    caches.pods.onChange { [weak self] key, old, new in
      guard let self, let new, !new.nodeName.isEmpty else { return }
      if old?.nodeName != new.nodeName || old?.tolerations != new.tolerations { self.controller.enqueue(key) }
    }
  }

  package func start() { controller.start(after: [caches.nodes, caches.pods]) }

  package func stop() {
    controller.stop()
    events.stop()
  }

  private func enqueueAll() { for key in caches.pods.keys { controller.enqueue(key) } }

  private func nodeChanged(_ old: NodeState?, _ new: NodeState?) {
    guard let new else {
      if let old { seen[old.uid] = nil }
      return
    }
    if let old, old.uid == new.uid, old.taints == new.taints { return }
    let taints = new.taints.filter { $0.effect == "NoExecute" }
    let before = seen[new.uid] ?? []
    let after = taints.map { taint in
      before.first { $0.key == taint.key } ?? Sighting(key: taint.key, since: scheduler.now)
    }
    seen[new.uid] = after.isEmpty ? nil : after
    guard after.map(\.key) != before.map(\.key) else { return }
    for key in caches.pods.keys(caches.podsByNode, new.name).sorted() { controller.enqueue(key) }
  }

  private func reconcile(_ key: ObjectKey, _ context: ReconcileContext) async throws(APIError) -> Duration? {
    guard let pod = caches.pods[key], !pod.isBeingDeleted, !pod.nodeName.isEmpty,
      let node = caches.nodes[ObjectKey(name: pod.nodeName)], let sightings = seen[node.uid], !sightings.isEmpty
    else { return nil }
    let decision = EvictionDecision(
      tolerations: pod.tolerations, taints: node.taints, override: settings.eviction(node))
    guard case .leaves(let after) = decision else { return nil }
    let since = sightings.map(\.since).min() ?? scheduler.now
    let left = after - (scheduler.now - since)
    if left > .zero { return left }
    let subject = EventSubject(apiVersion: "v1", kind: "Pod", namespace: key.namespace, name: key.name, uid: pod.uid)
    events.record(
      subject, .normal, reason: "TaintManagerEviction", message: "Marking for deletion Pod \(key)")
    try await context.delete(pod.reference, uid: pod.uid, seenBy: caches.pods)
    return nil
  }
}

extension Toleration {
  /// Seconds of the tolerations that every pod gets (`PodDefaults`).
  static let defaultSeconds: Int64 = 300

  /// The toleration with another time, if it is one of those that every pod gets.
  func overridden(_ eviction: NodeLifecycleDecision.Settings.Eviction) -> Toleration {
    guard [Taint.notReady, Taint.unreachable].contains(key), effect == "NoExecute", seconds == Self.defaultSeconds
    else {
      return self
    }
    var changed = self
    switch eviction {
    case .standard: break
    case .after(let duration): changed.seconds = Int64(duration.seconds)
    case .never: changed.seconds = nil
    }
    return changed
  }
}
