import Base
import ContainerRuntime
import ObjectModel

/// What the node knows of one pod's past that neither the object nor the runtime tells.
package struct PodMemory: Sendable, Hashable {
  /// Per container: when its next start may happen, and the delay that led there.
  package var backoff: [String: Backoff] = [:]
  /// Per container: why its image cannot be had, as a waiting reason with its message.
  package var imageFailures: [String: Waiting] = [:]
  /// Per container: the digest that its image was resolved to.
  package var images: [String: String] = [:]
  /// Why volumes, configuration or the sandbox cannot be made; retried with `retryAt`.
  package var setupFailure: Waiting?
  package var retryAt: Instant?
  /// Per container: whether its readiness probe passes; absent without such a probe.
  package var ready: [String: Bool] = [:]
  /// Per container id: its liveness or startup probe gave up on it, with the message.
  package var unhealthy: [String: String] = [:]
  /// Per container id: its startup probe passed.
  package var started: Set<String> = []
  package init() {}

  package struct Backoff: Sendable, Hashable {
    /// The start that it holds back.
    package var attempt: Int
    package var delay: Duration
    package var notBefore: Instant
    package init(attempt: Int, delay: Duration, notBefore: Instant) {
      self.attempt = attempt
      self.delay = delay
      self.notBefore = notBefore
    }
  }
  package struct Waiting: Sendable, Hashable {
    package var reason: String
    package var message: String
    package init(reason: String, message: String) {
      self.reason = reason
      self.message = message
    }
  }
}

/// Kubernetes' restart back-off: at once, then after 10 s doubled to 300 s, forgotten after 10 minutes of running.
/// Source: https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#restart-policy
package enum RestartBackoff {
  package static let initial = Duration.seconds(10)
  package static let cap = Duration.seconds(300)
  package static let resetAfter = Duration.seconds(600)

  /// The back-off after a container that ran for `ran` ended.
  package static func next(
    after last: PodMemory.Backoff?, attempt: Int, ran: Duration, now: Instant
  ) -> PodMemory.Backoff {
    var delay = Duration.zero
    if let last, ran < resetAfter { delay = last.delay == .zero ? initial : min(last.delay * 2, cap) }
    return PodMemory.Backoff(attempt: attempt, delay: delay, notBefore: now + delay)
  }
}

/// The next step for one pod.
package enum PodAction: Sendable, Hashable {
  /// Make volumes and the sandbox, in that order. The sandbox's id is new when an earlier one is not ready.
  case setUp(sandboxID: String)
  case stopSandbox(id: String)
  case removeSandbox(id: String)
  /// Resolve the image, create and start the container.
  case start(container: String, attempt: Int, isInit: Bool)
  case stop(id: String, grace: Duration)
  case remove(id: String)
  /// Note the end of a run, so that the next start of that container backs off.
  case backOff(container: String, attempt: Int, ran: Duration)
  /// Everything of the pod is gone from the runtime: remove volumes and logs, tell the cloud.
  case forget
}

/// What to do, and when to look again if nothing happens before.
package struct PodPlan: Sendable, Hashable {
  package var actions: [PodAction]
  package var lookAgain: Instant?
  package init(actions: [PodAction], lookAgain: Instant? = nil) {
    self.actions = actions
    self.lookAgain = lookAgain
  }
}

/// What the runtime has of one pod.
package struct PodObservation: Sendable, Hashable {
  package var sandboxes: [SandboxStatus]
  package var containers: [ContainerStatus]
  package init(sandboxes: [SandboxStatus], containers: [ContainerStatus]) {
    self.sandboxes = sandboxes
    self.containers = containers
  }

  /// The newest start of a container.
  package func latest(_ name: String) -> ContainerStatus? {
    containers.filter { $0.name == name }.max { $0.attempt < $1.attempt }
  }
  package var readySandbox: SandboxStatus? { sandboxes.filter(\.ready).max { $0.id < $1.id } }
}

/// Decides, from the object, the runtime's state and the node's memory, what a pod needs next. Pure: the same inputs
/// give the same plan, so that whatever was interrupted is simply planned again.
package enum PodPlanner {
  /// Dead containers of one name kept for `logs --previous`.
  static let keptDead = 1

  /// `pod` is nil once the object is no longer in the node's slice.
  package static func plan(
    pod: Object?, observed: PodObservation, memory: PodMemory, grace: Duration, now: Instant, wall: WallTime
  ) -> PodPlan {
    guard let pod, !pod.isBeingDeleted else { return ending(observed, grace: grace) }
    let facts = PodFacts(pod)
    if isFinished(facts, observed) { return finished(observed, grace: grace) }
    if let plan = settleSandbox(facts, observed, memory, now) { return plan }
    return containers(facts, observed, memory, now: now, wall: wall)
  }

  /// The pod has to go: containers first, then the sandbox, then its traces.
  private static func ending(_ observed: PodObservation, grace: Duration) -> PodPlan {
    let running = observed.containers.filter { $0.isRunning }
    if !running.isEmpty { return PodPlan(actions: running.map { .stop(id: $0.id, grace: grace) }) }
    if !observed.containers.isEmpty { return PodPlan(actions: observed.containers.map { .remove(id: $0.id) }) }
    if let sandbox = observed.sandboxes.first(where: \.ready) {
      return PodPlan(actions: [.stopSandbox(id: sandbox.id), .removeSandbox(id: sandbox.id)])
    }
    if !observed.sandboxes.isEmpty { return PodPlan(actions: observed.sandboxes.map { .removeSandbox(id: $0.id) }) }
    return PodPlan(actions: [.forget])
  }

  /// Every container has ended for good: the sandbox's network goes, its record stays for logs and status.
  private static func finished(_ observed: PodObservation, grace: Duration) -> PodPlan {
    let running = observed.containers.filter { $0.isRunning }
    if !running.isEmpty { return PodPlan(actions: running.map { .stop(id: $0.id, grace: grace) }) }
    return PodPlan(actions: observed.sandboxes.filter(\.ready).map { .stopSandbox(id: $0.id) })
  }

  package static func isFinished(_ facts: PodFacts, _ observed: PodObservation) -> Bool {
    let phase = PodStatusBuilder.phase(facts, observed)
    return phase == "Succeeded" || phase == "Failed"
  }

  /// A sandbox that is not ready (a reboot) takes its containers with it; then a new one is made.
  private static func settleSandbox(
    _ facts: PodFacts, _ observed: PodObservation, _ memory: PodMemory, _ now: Instant
  ) -> PodPlan? {
    if observed.readySandbox != nil { return nil }
    if let retryAt = memory.retryAt, now < retryAt { return PodPlan(actions: [], lookAgain: retryAt) }
    let number = observed.sandboxes.compactMap { Int($0.id.split(separator: "-").last ?? "") }.max() ?? -1
    return PodPlan(actions: [.setUp(sandboxID: "\(facts.uid)-\(number + 1)")])
  }

  private static func containers(
    _ facts: PodFacts, _ observed: PodObservation, _ memory: PodMemory, now: Instant, wall: WallTime
  ) -> PodPlan {
    var plan = PodPlan(actions: [])
    for status in observed.containers where memory.unhealthy[status.id] != nil && status.isRunning {
      plan.actions.append(.stop(id: status.id, grace: facts.grace))
    }
    if let initial = nextInit(facts, observed) {
      step(initial, isInit: true, facts, observed, memory, now, &plan)
      return plan
    }
    for container in facts.containers { step(container, isInit: false, facts, observed, memory, now, &plan) }
    plan.actions += surplus(observed)
    return plan
  }

  /// The first init container that has not completed.
  private static func nextInit(_ facts: PodFacts, _ observed: PodObservation) -> PodFacts.Container? {
    // Once a main container was started, the init containers are done, whatever became of their records.
    if facts.containers.contains(where: { observed.latest($0.name) != nil }) { return nil }
    return facts.initContainers.first { container in
      guard case .exited(0, _)? = observed.latest(container.name)?.state else { return true }
      return false
    }
  }

  private static func step(
    _ container: PodFacts.Container, isInit: Bool, _ facts: PodFacts, _ observed: PodObservation,
    _ memory: PodMemory, _ now: Instant, _ plan: inout PodPlan
  ) {
    let latest = observed.latest(container.name)
    if let latest, latest.isRunning { return }
    let attempt: Int
    switch latest?.state {
    case nil: attempt = 0
    case .created?:
      // A crash between create and start: begin that attempt again.
      if let latest { plan.actions.append(.remove(id: latest.id)) }
      attempt = latest?.attempt ?? 0
    case .exited?, .unknown?, .running?:
      guard let latest, restarts(latest, isInit: isInit, facts) else { return }
      attempt = latest.attempt + 1
    }
    if let latest, attempt > latest.attempt, memory.backoff[container.name]?.attempt != attempt {
      plan.actions.append(.backOff(container: container.name, attempt: attempt, ran: latest.ran))
      return
    }
    if let backoff = memory.backoff[container.name], backoff.attempt == attempt, now < backoff.notBefore {
      plan.lookAgain = min(plan.lookAgain ?? backoff.notBefore, backoff.notBefore)
      return
    }
    plan.actions.append(.start(container: container.name, attempt: attempt, isInit: isInit))
  }

  /// Whether an ended container is started again.
  private static func restarts(_ status: ContainerStatus, isInit: Bool, _ facts: PodFacts) -> Bool {
    switch status.state {
    case .exited(let code, _):
      switch facts.restartPolicy {
      case "Never": return false
      case "OnFailure": return code != 0
      default: return isInit ? code != 0 : true
      }
    case .unknown: return facts.restartPolicy != "Never"
    case .created, .running: return false
    }
  }

  private static func surplus(_ observed: PodObservation) -> [PodAction] {
    var actions: [PodAction] = []
    for (_, group) in Dictionary(grouping: observed.containers, by: \.name).sorted(by: { $0.key < $1.key }) {
      let dead = group.sorted { $0.attempt > $1.attempt }.dropFirst().filter { !$0.isRunning }
      actions += dead.dropFirst(keptDead).map { .remove(id: $0.id) }
    }
    return actions
  }
}

extension ContainerStatus {
  package var isRunning: Bool { if case .running = state { true } else { false } }
  /// How long it ran, as far as it is known.
  package var ran: Duration {
    guard let startedAt, let finishedAt else { return .zero }
    return finishedAt - startedAt
  }
}

/// The parts of a pod's spec that the node acts on.
package struct PodFacts: Sendable, Hashable {
  package struct Container: Sendable, Hashable {
    package var name: String
    package var image: String
    package var value: Value
    package init(_ value: Value) {
      self.value = value
      name = value["name"].string ?? ""
      image = value["image"].string ?? ""
    }
    package var pullPolicy: PullPolicy {
      if let policy = value["imagePullPolicy"].string.flatMap(PullPolicy.init(rawValue:)) { return policy }
      // Kubernetes' rule for a missing policy: no tag, or the tag `latest`, means Always.
      let last = image.split(separator: "/").last ?? ""
      let tagged = last.contains(":") || last.contains("@")
      return !tagged || last.hasSuffix(":latest") ? .always : .ifNotPresent
    }
  }
  package var uid: String
  package var name: String
  package var namespace: String
  package var restartPolicy: String
  package var initContainers: [Container]
  package var containers: [Container]
  package var hostNetwork: Bool
  package var grace: Duration
  package var pod: Object

  package init(_ pod: Object) {
    self.pod = pod
    uid = pod.uid
    name = pod.name
    namespace = pod.namespace
    let spec = pod.spec
    restartPolicy = spec["restartPolicy"].string ?? "Always"
    initContainers = (spec["initContainers"].array ?? []).map(Container.init)
    containers = (spec["containers"].array ?? []).map(Container.init)
    hostNetwork = spec["hostNetwork"].bool ?? false
    let seconds = pod.metadata["deletionGracePeriodSeconds"].int ?? spec["terminationGracePeriodSeconds"].int ?? 30
    grace = .seconds(max(0, seconds))
  }

  package func container(_ name: String) -> Container? {
    initContainers.first { $0.name == name } ?? containers.first { $0.name == name }
  }
}
