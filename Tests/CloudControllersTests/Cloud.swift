import API
import APIServer
import Base
import CloudControllers
import CloudScheduler
import EventLoop
import Logging
import ObjectLog
import ObjectModel
import Testing

struct WaitFailed: Error, CustomStringConvertible {
  let description: String
}

/// A whole control plane in memory: the real API server, controllers and scheduler, and nodes that obey at once.
@LoopActor final class Cloud {
  final class Liveness: NodeLiveness {
    let scheduler: any Scheduler
    /// Nodes that are heard all the time.
    var talking: Set<String> = []
    init(scheduler: any Scheduler) { self.scheduler = scheduler }
    func lastHeard(_ node: String) -> Instant? { talking.contains(node) ? scheduler.now : nil }
  }
  private struct Waiter {
    let resource: String
    let predicate: @LoopActor ([Object]) -> Bool
    let continuation: CheckedContinuation<[Object], any Error>
    let timer: TimerID
  }

  let loop: Loop
  let server: APIServer
  let liveness: Liveness
  let manager: ControllerManager
  let pods: PodScheduler
  let admin = Caller(user: "admin", groups: [Caller.adminGroup], node: nil, origin: .network)
  private var observers: [String: Informer<Object>] = [:]
  private var waiters: [Int: Waiter] = [:]
  private var nextWaiter = 0
  /// Pods whose containers never become ready.
  var isBroken: @LoopActor (Object) -> Bool = { _ in false }

  private init(_ settings: ControllerManager.Settings) {
    loop = Loop.startShared()
    var logger = Logger(label: "test")
    logger.logLevel = .error
    let random = SystemRandom()
    server = APIServer(
      log: MemoryObjectLog(random: random), authorizer: HouseAuthorizer(logger: logger), scheduler: loop,
      random: random, logger: logger)
    liveness = Liveness(scheduler: loop)
    manager = ControllerManager(
      api: server, scheduler: loop, random: random, liveness: liveness, metrics: Metrics(), logger: logger,
      settings: settings)
    pods = PodScheduler(api: server, scheduler: loop, random: random, metrics: Metrics(), logger: logger)
    for resource in ["pods", "replicasets.apps", "deployments.apps", "nodes", "events", "namespaces", "configmaps"] {
      let informer = Informer<Object>(
        api: server, caller: admin, options: ListOptions(resource: resource), scheduler: loop, random: random,
        logger: logger)
      observers[resource] = informer
      informer.onChange { [weak self] _, _, new in
        if resource == "pods", let new { self?.actAsNode(new) }
        self?.check(resource)
      }
    }
  }

  /// Runs `body` against a cloud of its own with `nodes` nodes, `n1` and so on.
  nonisolated static func run(
    nodes: Int = 2, settings: ControllerManager.Settings = .init(),
    _ body: @escaping @LoopActor (Cloud) async throws -> Void
  ) async throws {
    try await onLoop {
      let cloud = Cloud(settings)
      cloud.server.start()
      try await cloud.server.bootstrap()
      for observer in cloud.observers.values { observer.start() }
      cloud.manager.start()
      cloud.pods.start()
      for index in 1...max(1, nodes) where index <= nodes { try await cloud.addNode("n\(index)") }
      defer { cloud.stop() }
      try await body(cloud)
    }
  }

  private func stop() {
    pods.stop()
    manager.stop()
    for observer in observers.values { observer.stop() }
    server.stop()
  }

  func addNode(_ name: String, cpu: String = "4") async throws {
    liveness.talking.insert(name)
    try await create("nodes", "", ["metadata": ["name": .string(name)]])
    try await patch(
      "nodes", "", name,
      [
        "status": [
          "allocatable": ["cpu": .string(cpu), "memory": "8Gi", "pods": "110"],
          "conditions": [["type": "Ready", "status": "True", "reason": "Ready"]],
        ]
      ], subresource: "status")
  }

  // MARK: Calls

  @discardableResult
  func create(_ resource: String, _ namespace: String, _ object: Value) async throws -> Object {
    try await server.create(resource: resource, namespace: namespace, object: object, caller: admin).decoded()
  }
  func patch(
    _ resource: String, _ namespace: String, _ name: String, _ patch: Value, subresource: String = ""
  ) async throws {
    let reference = ObjectReference(resource: resource, namespace: namespace, name: name)
    _ = try await server.patch(reference, type: .merge, patch: patch, subresource: subresource, caller: admin)
  }
  func delete(_ resource: String, _ namespace: String, _ name: String, _ propagation: Propagation? = nil) async throws {
    let reference = ObjectReference(resource: resource, namespace: namespace, name: name)
    _ = try await server.delete(reference, options: DeleteOptions(propagation: propagation), caller: admin)
  }

  // MARK: Waiting

  /// Waits until all objects of a resource satisfy `predicate` together, and answers them.
  @discardableResult
  func wait(
    _ what: String, _ resource: String, for deadline: Duration = .seconds(20),
    until predicate: @escaping @LoopActor ([Object]) -> Bool
  ) async throws -> [Object] {
    let id = nextWaiter
    nextWaiter += 1
    return try await withCheckedThrowingContinuation { continuation in
      let timer = loop.schedule(after: deadline) { [weak self] in
        guard let self, let waiter = self.waiters.removeValue(forKey: id) else { return }
        let seen = self.objects(resource).map { "\($0.name): \($0.spec) \($0.status)" }.joined(separator: "\n")
        waiter.continuation.resume(throwing: WaitFailed(description: "not in time: \(what); seen:\n\(seen)"))
      }
      waiters[id] = Waiter(resource: resource, predicate: predicate, continuation: continuation, timer: timer)
      check(resource)
    }
  }

  func objects(_ resource: String) -> [Object] {
    observers[resource]?.keys.sorted().compactMap { observers[resource]?[$0] } ?? []
  }

  private func check(_ resource: String) {
    for (id, waiter) in waiters where waiter.resource == resource {
      let now = objects(resource)
      guard waiter.predicate(now) else { continue }
      waiters[id] = nil
      loop.cancel(waiter.timer)
      waiter.continuation.resume(returning: now)
    }
  }

  // MARK: The nodes

  private func actAsNode(_ pod: Object) {
    guard let node = pod.spec["nodeName"].string, liveness.talking.contains(node) else { return }
    let reference = ObjectReference(resource: "pods", namespace: pod.namespace, name: pod.name)
    if pod.isBeingDeleted {
      spawn { [server, admin] in
        _ = try? await server.delete(
          reference, options: DeleteOptions(gracePeriod: 0, uid: pod.uid), caller: admin)
      }
    } else if pod.status["phase"].string == "Pending" {
      let ready: Value = ["type": "Ready", "status": isBroken(pod) ? "False" : "True"]
      let others = (pod.status["conditions"].array ?? []).filter { $0["type"].string != "Ready" }
      let patch: Value = [
        "metadata": ["uid": .string(pod.uid)],
        "status": ["phase": "Running", "conditions": .array(others + [ready])],
      ]
      spawn { [server, admin] in
        _ = try? await server.patch(
          reference, type: .merge, patch: patch, subresource: "status", caller: admin)
      }
    }
  }
}

/// A deployment's manifest.
func manifest(_ name: String, replicas: Int64, image: String = "web:1", surge: Value = 1, missing: Value = 0) -> Value {
  [
    "apiVersion": "apps/v1", "kind": "Deployment", "metadata": ["name": .string(name)],
    "spec": [
      "replicas": .int(replicas), "selector": ["matchLabels": ["app": .string(name)]],
      "strategy": ["type": "RollingUpdate", "rollingUpdate": ["maxSurge": surge, "maxUnavailable": missing]],
      "template": [
        "metadata": ["labels": ["app": .string(name)]],
        "spec": ["containers": [["name": "c", "image": .string(image)]]],
      ],
    ],
  ]
}
