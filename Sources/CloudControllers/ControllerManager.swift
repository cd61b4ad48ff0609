import API
import Base
import Logging
import ObjectModel

/// All controllers of a cloud, over one API and one set of caches.
@LoopActor package final class ControllerManager {
  package struct Settings: Sendable {
    package var nodes = NodeLifecycleDecision.Settings()
    package var podGarbage = PodGarbageDecision.Settings()
    package init() {}
  }

  private let caches: ControllerCaches
  private let replicaSets: ReplicaSetController
  private let deployments: DeploymentController
  private let nodes: NodeLifecycleController
  private let evictions: TaintEvictionController
  private let garbage: GarbageCollector
  private let namespaces: NamespaceController
  private let podGarbage: PodGarbageController

  /// `liveness` tells when nodes were last heard (the hub).
  package init(
    api: any API, scheduler: any Scheduler, random: any RandomSource, liveness: any NodeLiveness, metrics: Metrics,
    logger: Logger, settings: Settings = Settings()
  ) {
    let environment = ControllerEnvironment(
      api: api, scheduler: scheduler, random: random, metrics: metrics, logger: logger)
    caches = ControllerCaches(environment)
    replicaSets = ReplicaSetController(environment, caches: caches)
    deployments = DeploymentController(environment, caches: caches)
    nodes = NodeLifecycleController(environment, caches: caches, liveness: liveness, settings: settings.nodes)
    evictions = TaintEvictionController(environment, caches: caches, settings: settings.nodes)
    garbage = GarbageCollector(environment)
    namespaces = NamespaceController(environment)
    podGarbage = PodGarbageController(environment, caches: caches, settings: settings.podGarbage)
  }

  package func start() {
    replicaSets.start()
    deployments.start()
    nodes.start()
    evictions.start()
    garbage.start()
    namespaces.start()
    podGarbage.start()
    caches.start()
  }

  package func stop() {
    podGarbage.stop()
    namespaces.stop()
    garbage.stop()
    evictions.stop()
    nodes.stop()
    deployments.stop()
    replicaSets.stop()
    caches.stop()
  }
}
