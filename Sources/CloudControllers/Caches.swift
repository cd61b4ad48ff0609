import API
import Base
import Logging
import ObjectModel

extension ReplicaSet: Informed, Ownable {
  package init(stored: APIObject) throws(SkerryError) { self.init(try stored.decoded()) }
  package var place: ObjectReference { key.reference(in: Self.resource) }
  package var revision: UInt64 { object.resourceVersion }
  package var owners: [OwnerReference] { object.ownerReferences }
  package var key: ObjectKey { ObjectKey(namespace: namespace, name: name) }
}

extension Deployment: Informed {
  package init(stored: APIObject) throws(SkerryError) { self.init(try stored.decoded()) }
  package var key: ObjectKey { ObjectKey(namespace: namespace, name: name) }
}

/// What every part of the controllers is built from.
package struct ControllerEnvironment {
  package var api: any API
  package var scheduler: any Scheduler
  package var random: any RandomSource
  package var metrics: Metrics
  package var logger: Logger

  package init(
    api: any API, scheduler: any Scheduler, random: any RandomSource, metrics: Metrics, logger: Logger
  ) {
    self.api = api
    self.scheduler = scheduler
    self.random = random
    self.metrics = metrics
    self.logger = logger
  }

  @LoopActor func informer<Item: Informed>(
    _ resource: String, of item: Item.Type = Item.self, caller: Caller = .controller("controller-manager")
  ) -> Informer<Item> {
    Informer(
      api: api, caller: caller, options: ListOptions(resource: resource),
      scheduler: scheduler, random: random, logger: logger)
  }

  @LoopActor func recorder(_ component: String) -> EventRecorder {
    EventRecorder(
      api: api, caller: .controller(component), component: component, scheduler: scheduler, metrics: metrics,
      logger: logger)
  }

  /// A controller that hands each key to `owner`, without keeping it alive: the owner puts itself into `owner` at the
  /// end of its `init`.
  @LoopActor func controller<Owner: AnyObject, Key: Hashable & Sendable>(
    _ name: String, of owner: Weak<Owner>, workers: Int = 5,
    _ reconcile: @escaping @LoopActor (Owner, Key, ReconcileContext) async throws(APIError) -> Duration?
  ) -> Controller<Key> {
    Controller(
      name: name, api: api, scheduler: scheduler, random: random, metrics: metrics, logger: logger, workers: workers
    ) { key, context throws(APIError) in
      guard let owner = owner.value else { return nil }
      return try await reconcile(owner, key, context)
    }
  }
}

/// Lets a closure that is made before its owner reach it.
@LoopActor final class Weak<T: AnyObject> {
  weak var value: T?
}

/// The caches that the controllers share: one watch a resource, however many read it.
@LoopActor package final class ControllerCaches {
  package let pods: Informer<PodState>
  package let replicaSets: Informer<ReplicaSet>
  package let deployments: Informer<Deployment>
  package let nodes: Informer<NodeState>
  /// Pods by the uid of their controller.
  package let podsByOwner: Informer<PodState>.Index
  /// Pods without a controller by namespace.
  package let orphanPods: Informer<PodState>.Index
  package let podsByNode: Informer<PodState>.Index
  package let replicaSetsByOwner: Informer<ReplicaSet>.Index
  package let orphanReplicaSets: Informer<ReplicaSet>.Index
  package let replicaSetsByNamespace: Informer<ReplicaSet>.Index
  package let deploymentsByNamespace: Informer<Deployment>.Index
  package let readyClock: ReadyClock

  package init(_ environment: ControllerEnvironment) {
    pods = environment.informer(PodState.resource)
    replicaSets = environment.informer(ReplicaSet.resource)
    deployments = environment.informer(Deployment.resource)
    nodes = environment.informer(NodeState.resource)
    podsByOwner = pods.addIndex { $0.controller.map { [$0.uid] } ?? [] }
    orphanPods = pods.addIndex { $0.controller == nil ? [$0.key.namespace] : [] }
    podsByNode = pods.addIndex { $0.nodeName.isEmpty ? [] : [$0.nodeName] }
    replicaSetsByOwner = replicaSets.addIndex { $0.controller.map { [$0.uid] } ?? [] }
    orphanReplicaSets = replicaSets.addIndex { $0.controller == nil ? [$0.namespace] : [] }
    replicaSetsByNamespace = replicaSets.addIndex { [$0.namespace] }
    deploymentsByNamespace = deployments.addIndex { [$0.namespace] }
    readyClock = ReadyClock(scheduler: environment.scheduler)
    pods.onChange { [readyClock, pods] _, old, new in readyClock.changed(old, new, listed: !pods.isSynced) }
  }

  package func start() {
    pods.start()
    replicaSets.start()
    deployments.start()
    nodes.start()
  }

  package func stop() {
    pods.stop()
    replicaSets.stop()
    deployments.stop()
    nodes.stop()
  }
}

/// How long pods have been ready, by this machine's monotonic clock. A pod that was ready before this process began
/// has only its node's word for it.
@LoopActor package final class ReadyClock {
  private let scheduler: any Scheduler
  private var since: [String: Instant] = [:]

  package init(scheduler: any Scheduler) { self.scheduler = scheduler }

  func changed(_ old: PodState?, _ new: PodState?, listed: Bool) {
    if let new, new.isReady {
      if since[new.uid] == nil, !(listed && old == nil) { since[new.uid] = scheduler.now }
    } else if let gone = new ?? old {
      since[gone.uid] = nil
    }
  }

  package func readyFor(_ pod: PodState) -> Duration {
    if let seen = since[pod.uid] { return scheduler.now - seen }
    guard let told = pod.readyChanged else { return .zero }
    return max(.zero, scheduler.wall - told)
  }
}
