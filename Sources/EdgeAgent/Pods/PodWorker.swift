import Base
import ContainerRuntime
import EventLoop
import Logging
import ObjectModel

/// What a pod's worker needs of its surroundings.
@LoopActor package protocol PodHost: AnyObject {
  var runtime: any ContainerRuntime { get }
  var volumes: PodVolumeStore { get }
  var scheduler: any Scheduler { get }
  var logRoot: String { get }
  var nodeName: String { get }
  var hostIP: String { get }
  var logger: Logger { get }
  /// How pods reach the edge API; nil: they do not.
  var edgeAPI: PodEdgeAPI? { get }
  /// The object as the replica has it now; nil when it left the slice or has another uid. Throws when the replica
  /// cannot be read, which is no reason to stop a pod.
  func pod(key: String, uid: String) throws(SkerryError) -> Object?
  func sources(namespace: String) -> PodSources
  func credentials(for facts: PodFacts) -> RegistryCredentials?
  /// The node's word on the pod changed.
  func statusChanged(key: String, uid: String, status: Value)
  func finished(key: String, uid: String, wasDeleted: Bool)
  func event(_ pod: Object, type: String, reason: String, message: String)
}

extension PodHost {
  package var edgeAPI: PodEdgeAPI? { nil }
}

/// Drives one pod (one uid) towards its spec, one step at a time: observe, plan, act, tell.
///
/// Nothing here is remembered on disk: after a restart the runtime's state and the replica lead to the same plan.
@LoopActor package final class PodWorker {
  package let key: String
  package let uid: String
  /// Kept, since a step that is under way outlives whoever lets the pods go; `stop` and the pod's end free it.
  private let host: any PodHost
  private(set) var memory = PodMemory()
  private(set) var observed = PodObservation(sandboxes: [], containers: [])
  /// The object as it was last seen: what names things while the pod is going away.
  private var last: Object
  private var lastStatus: Value
  private var running = false
  private var dirty = false
  private var timer: TimerID?
  private var done = false
  private lazy var probes = PodProbes(worker: self, host: host)

  /// Between tries at what failed: images, volumes, sandboxes.
  static let retryDelay = Duration.seconds(5)
  static let maxImageRetry = Duration.seconds(300)
  /// Why a container waits whose image is not there: at first, and from the second time on.
  static let imageReasons = ["ErrImagePull", "ImagePullBackOff"]
  /// How long stopping may take beyond its grace before the plan is made anew.
  private var imageRetry: [String: (delay: Duration, at: Instant)] = [:]

  package init(key: String, pod: Object, host: any PodHost) {
    self.key = key
    uid = pod.uid
    last = pod
    lastStatus = pod.status
    self.host = host
  }

  /// Something changed: look again. Cheap, and may be called at any time.
  package func poke() {
    dirty = true
    guard !running, !done else { return }
    running = true
    spawn { await self.run() }
  }

  /// Something that the pod refers to changed: what failed for want of it is tried again at once.
  package func inputsChanged() {
    memory.retryAt = nil
    for (name, failure) in memory.imageFailures where failure.reason == "CreateContainerConfigError" {
      memory.backoff[name] = nil
      imageRetry[name] = nil
    }
    poke()
  }

  /// The agent ends and leaves the pod as it is: no further step.
  package func stop() {
    done = true
    if let timer { host.scheduler.cancel(timer) }
    probes.stop()
  }

  private func run() async {
    while dirty, !done {
      dirty = false
      do throws(SkerryError) {
        try await step()
      } catch {
        host.logger.error(EdgeLog.podStep, "pod \(key): \(error)", ["uid": "\(uid)"])
        lookAgain(at: host.scheduler.now + Self.retryDelay)
      }
    }
    running = false
  }

  private func observe() async throws(SkerryError) {
    observed = PodObservation(
      sandboxes: try await host.runtime.sandboxes(ofPod: uid),
      containers: try await host.runtime.containers(ofPod: uid))
  }

  private func step() async throws(SkerryError) {
    try await observe()
    if done { return }
    let pod = try host.pod(key: key, uid: uid)
    if let pod { last = pod }
    let facts = PodFacts(last)
    let plan = PodPlanner.plan(
      pod: pod, observed: observed, memory: memory, grace: facts.grace, now: host.scheduler.now,
      wall: host.scheduler.wall)
    if pod?.isBeingDeleted == false { try await refreshVolumes(facts) }
    if done { return }
    tell(facts, present: pod != nil)
    probes.update(facts, observed)
    try await stop(plan.actions.compactMap(Self.stop))
    for action in plan.actions where Self.stop(action) == nil {
      try await perform(action, facts)
      if done { return }
    }
    if !plan.actions.isEmpty { dirty = true } else if let at = plan.lookAgain { lookAgain(at: at) }
  }

  private func perform(_ action: PodAction, _ facts: PodFacts) async throws(SkerryError) {
    let runtime = host.runtime
    switch action {
    case .setUp(let id): await setUp(facts, sandboxID: id)
    case .stopSandbox(let id): try await runtime.stopSandbox(id)
    case .removeSandbox(let id): try await runtime.removeSandbox(id)
    case .start(let name, let attempt, _): await start(facts, name, attempt: attempt)
    case .stop(let id, let grace): try await stop([(id, grace)])
    case .remove(let id): try await runtime.removeContainer(id)
    case .backOff(let name, let attempt, let ran):
      let next = RestartBackoff.next(after: memory.backoff[name], attempt: attempt, ran: ran, now: host.scheduler.now)
      memory.backoff[name] = next
      if next.delay > .zero {
        host.event(
          last, type: "Warning", reason: "BackOff",
          message: "Back-off restarting failed container \(name) in pod \(last.name)")
      }
    case .forget: try await forget()
    }
  }

  private static func stop(_ action: PodAction) -> (id: String, grace: Duration)? {
    if case .stop(let id, let grace) = action { return (id, grace) }
    return nil
  }

  /// Stops containers together: a pod is gone after the longest of their grace times, not after their sum.
  private func stop(_ list: [(id: String, grace: Duration)]) async throws(SkerryError) {
    let stops = list.map { (id, grace) in
      spawn { () async -> SkerryError? in
        do throws(SkerryError) {
          try await self.stop(id, grace: grace)
          return nil
        } catch {
          return error
        }
      }
    }
    var failure: SkerryError?
    for stop in stops { failure = await stop.value ?? failure }
    if let failure { throw failure }
  }

  private func stop(_ id: String, grace: Duration) async throws(SkerryError) {
    let message = memory.unhealthy[id] ?? "Stopping container \(name(of: id))"
    host.event(last, type: "Normal", reason: "Killing", message: message)
    try await host.runtime.stopContainer(id, grace: grace)
    memory.unhealthy[id] = nil
  }

  private func name(of id: String) -> String { observed.containers.first { $0.id == id }?.name ?? id }

  private func forget() async throws(SkerryError) {
    let (volumes, uid, logs) = (host.volumes, uid, "\(host.logRoot)/\(uid)")
    do {
      try await offload {
        try volumes.remove(podUID: uid)
        try Files.removeTree(logs)
      }
    } catch {
      throw SkerryError(.system, "cannot remove what pod \(key) left behind", cause: error)
    }
    done = true
    if let timer { host.scheduler.cancel(timer) }
    probes.stop()
    host.finished(key: key, uid: uid, wasDeleted: last.isBeingDeleted)
  }

  // MARK: Setting up

  private func fields(_ facts: PodFacts, podIP: String) -> FieldSource {
    FieldSource(facts: facts, podIP: podIP, hostIP: host.hostIP, nodeName: host.nodeName)
  }

  private func setUp(_ facts: PodFacts, sandboxID: String) async {
    do {
      _ = try await prepareVolumes(facts)
      // Containers of an earlier sandbox ended with it; they are not started again inside the new one.
      try await stop(observed.containers.filter(\.isRunning).map { ($0.id, facts.grace) })
      for sandbox in observed.sandboxes where !sandbox.ready { try await host.runtime.stopSandbox(sandbox.id) }
      let config = ContainerConfigBuilder.sandbox(facts, id: sandboxID, logRoot: host.logRoot)
      _ = try await host.runtime.runSandbox(config)
      memory.setupFailure = nil
      memory.retryAt = nil
    } catch {
      failSetup(error)
    }
  }

  private func failSetup(_ error: any Error) {
    let reason = error is PodConfigError ? "CreateContainerConfigError" : "FailedCreatePodSandBox"
    let message = (error as? PodConfigError)?.message ?? "\(error)"
    if memory.setupFailure?.message != message {
      host.event(last, type: "Warning", reason: error is PodConfigError ? "FailedMount" : reason, message: message)
    }
    memory.setupFailure = PodMemory.Waiting(
      reason: error is PodConfigError ? "ContainerCreating" : reason, message: message)
    memory.retryAt = host.scheduler.now + Self.retryDelay
  }

  /// Host paths of the pod's volumes by name.
  private func prepareVolumes(_ facts: PodFacts) async throws -> [String: String] {
    let sources = host.sources(namespace: facts.namespace)
    let fields = fields(facts, podIP: observed.readySandbox?.addresses.first ?? "")
    var resolved: [(String, ResolvedVolume)] = []
    for volume in facts.pod.spec["volumes"].array ?? [] {
      resolved.append((volume["name"].string ?? "", try PodVolumeResolver.resolve(volume, fields, sources: sources)))
    }
    if let api = host.edgeAPI, PodEdgeAPI.isWanted(by: facts) {
      resolved.append((PodEdgeAPI.volume, .files(api.files(facts))))
    }
    let (store, uid, list) = (host.volumes, uid, resolved)
    return try await offload {
      var paths: [String: String] = [:]
      for (name, volume) in list { paths[name] = try store.prepare(podUID: uid, name: name, volume) }
      return paths
    }
  }

  /// ConfigMaps and Secrets that changed reach the files of running pods.
  private func refreshVolumes(_ facts: PodFacts) async throws(SkerryError) {
    guard observed.readySandbox != nil else { return }
    do { _ = try await prepareVolumes(facts) } catch {
      host.logger.debug("pod \(key): volumes are not refreshed: \(error)")
    }
  }

  private func start(_ facts: PodFacts, _ name: String, attempt: Int) async {
    guard let container = facts.container(name), let sandbox = observed.readySandbox else { return }
    guard let image = await resolveImage(container, facts) else { return }
    do {
      let podIP = facts.hostNetwork ? host.hostIP : sandbox.addresses.first ?? ""
      let environment = try PodEnvironment.resolve(
        container, facts, sources: host.sources(namespace: facts.namespace), podIP: podIP, hostIP: host.hostIP,
        nodeName: host.nodeName)
      let volumes = try await prepareVolumes(facts)
      var config = try ContainerConfigBuilder.container(
        container, facts, attempt: attempt, sandboxID: sandbox.id, image: image, environment: environment,
        volumes: volumes)
      if let path = volumes[PodEdgeAPI.volume] {
        host.edgeAPI?.add(to: &config, files: path, hasMounts: host.runtime.name != "process")
      }
      try await host.runtime.createContainer(config)
      host.event(last, type: "Normal", reason: "Created", message: "Created container: \(name)")
      try await host.runtime.startContainer(config.id)
      host.event(last, type: "Normal", reason: "Started", message: "Started container \(name)")
      memory.imageFailures[name] = nil
      imageRetry[name] = nil
      memory.ready[name] = container.value["readinessProbe"].isNull ? nil : false
    } catch {
      let config = error as? PodConfigError
      let message = config?.message ?? "\(error)"
      let reason = config == nil ? "RunContainerError" : "CreateContainerConfigError"
      failImage(name, reason, message)
      host.event(last, type: "Warning", reason: "Failed", message: "Error: \(message)")
    }
  }

  private func failImage(_ name: String, _ reason: String, _ message: String) {
    memory.imageFailures[name] = PodMemory.Waiting(reason: reason, message: message)
    let delay = imageRetry[name].map { min($0.delay * 2, Self.maxImageRetry) } ?? Self.retryDelay
    let at = host.scheduler.now + delay
    imageRetry[name] = (delay, at)
    memory.backoff[name] = PodMemory.Backoff(
      attempt: observed.latest(name).map { $0.attempt + 1 } ?? 0, delay: delay, notBefore: at)
  }

  private func resolveImage(_ container: PodFacts.Container, _ facts: PodFacts) async -> String? {
    do throws(SkerryError) {
      let image = try await host.runtime.pull(
        container.image, policy: container.pullPolicy, credentials: host.credentials(for: facts))
      memory.images[container.name] = image.digest
      // What went wrong behind the image goes on backing off until the container starts.
      if let reason = memory.imageFailures[container.name]?.reason, Self.imageReasons.contains(reason) {
        memory.imageFailures[container.name] = nil
        imageRetry[container.name] = nil
      }
      return image.digest
    } catch {
      let again = memory.imageFailures[container.name] != nil
      failImage(
        container.name, again ? Self.imageReasons[1] : Self.imageReasons[0],
        again ? "Back-off pulling image \"\(container.image)\": \(error)" : "\(error)")
      host.event(
        last, type: "Warning", reason: "Failed", message: "Failed to pull image \"\(container.image)\": \(error)")
      return nil
    }
  }

  // MARK: Telling

  private func tell(_ facts: PodFacts, present: Bool) {
    guard present else { return }
    let status = PodStatusBuilder.status(
      facts, observed, memory, previous: lastStatus, hostIP: host.hostIP, now: host.scheduler.now,
      wall: host.scheduler.wall)
    lastStatus = status
    host.statusChanged(key: key, uid: uid, status: status)
  }

  private func lookAgain(at instant: Instant) {
    if let timer { host.scheduler.cancel(timer) }
    timer = host.scheduler.schedule(after: max(.zero, instant - host.scheduler.now)) { [weak self] in
      self?.timer = nil
      self?.poke()
    }
  }

  // MARK: Probes' word

  func setReady(_ container: String, _ ready: Bool) {
    guard memory.ready[container] != ready else { return }
    memory.ready[container] = ready
    poke()
  }

  func setStarted(_ id: String) {
    guard memory.started.insert(id).inserted else { return }
    poke()
  }

  func setUnhealthy(_ id: String, _ message: String) {
    memory.unhealthy[id] = message
    poke()
  }
}
