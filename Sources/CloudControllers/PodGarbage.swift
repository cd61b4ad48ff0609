import API
import Base
import Logging
import ObjectModel

/// Which pods nobody else clears away. Pure.
package struct PodGarbageDecision {
  package struct Settings: Sendable {
    /// Ended pods that may stay (Kubernetes' default).
    package var maxTerminated = 12_500
    /// How long a pod's node must have been missing.
    package var quarantine = Duration.seconds(40)
    /// Pods deleted in one round; what is left waits for the next.
    package var maxDeletions = 500
    /// Time between rounds.
    package var interval = Duration.seconds(20)
    package init() {}
  }

  /// In this order, at once and without grace: no node is there to stop them.
  package var delete: [PodState] = []

  /// `missing`: since how long the nodes are missing that pods name, by name.
  package init(pods: some Collection<PodState>, missing: [String: Duration], settings: Settings = Settings()) {
    for pod in pods {
      if !pod.nodeName.isEmpty, let since = missing[pod.nodeName], since >= settings.quarantine {
        delete.append(pod)
      } else if pod.isBeingDeleted, pod.nodeName.isEmpty {
        delete.append(pod)
      }
    }
    let going = Set(delete.map(\.uid))
    let ended = pods.filter { $0.isTerminal && !$0.isBeingDeleted && !going.contains($0.uid) }
    let surplus = ended.count - settings.maxTerminated
    if surplus > 0 {
      let oldest = ended.sorted { a, b in
        (a.creation?.nanoseconds ?? 0, a.uid) < (b.creation?.nanoseconds ?? 0, b.uid)
      }
      delete += oldest.prefix(surplus)
    }
    delete = Array(delete.prefix(settings.maxDeletions))
  }
}

/// Clears away pods that ended long ago or whose node is gone, every so often.
@LoopActor package final class PodGarbageController {
  private let caches: ControllerCaches
  private let scheduler: any Scheduler
  private let settings: PodGarbageDecision.Settings
  private let controller: Controller<ObjectKey>
  private var missingSince: [String: Instant] = [:]
  /// The one key: the whole cluster is looked at in a round.
  private static let round = ObjectKey(name: "round")

  package init(
    _ environment: ControllerEnvironment, caches: ControllerCaches, settings: PodGarbageDecision.Settings = .init()
  ) {
    self.caches = caches
    self.settings = settings
    scheduler = environment.scheduler
    let box = Weak<PodGarbageController>()
    controller = environment.controller("pod-garbage-collector", of: box, workers: 1) {
      owner, _, context throws(APIError) in
      try await owner.reconcile(context)
    }
    box.value = self
  }

  package func start() {
    controller.start(after: [caches.pods, caches.nodes])
    controller.enqueue(Self.round)
  }

  package func stop() { controller.stop() }

  private func reconcile(_ context: ReconcileContext) async throws(APIError) -> Duration? {
    let now = scheduler.now
    let named = caches.pods.values(caches.podsByNode)
    let missing = named.filter { caches.nodes[ObjectKey(name: $0)] == nil }
    missingSince = missingSince.filter { missing.contains($0.key) }
    var durations: [String: Duration] = [:]
    for node in missing {
      let since = missingSince[node] ?? now
      missingSince[node] = since
      durations[node] = now - since
    }
    let decision = PodGarbageDecision(pods: Array(caches.pods.items), missing: durations, settings: settings)
    for pod in decision.delete {
      if durations[pod.nodeName] != nil, try await nodeExists(pod.nodeName, context) { continue }
      try await context.delete(pod.reference, uid: pod.uid, gracePeriod: 0, seenBy: caches.pods)
    }
    return settings.interval
  }

  /// The cache may be behind: a pod is lost only if its node is really gone.
  private func nodeExists(_ name: String, _ context: ReconcileContext) async throws(APIError) -> Bool {
    do throws(APIError) {
      _ = try await context.api.get(ObjectReference(resource: NodeState.resource, name: name), caller: context.caller)
      return true
    } catch {
      guard error.reason == .notFound else { throw error }
      return false
    }
  }
}
