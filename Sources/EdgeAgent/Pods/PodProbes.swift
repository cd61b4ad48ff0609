import Base
import ContainerRuntime
import EventLoop
import ObjectModel

/// The settings of one probe, with Kubernetes' defaults.
/// Source: https://kubernetes.io/docs/tasks/configure-pod-container/configure-liveness-readiness-startup-probes/
struct ProbeSettings: Sendable, Hashable {
  var initialDelay: Duration
  var period: Duration
  var timeout: Duration
  var successThreshold: Int64
  var failureThreshold: Int64

  init(_ value: Value) {
    func seconds(_ key: String, _ otherwise: Int64) -> Duration { .seconds(max(0, value[key].int ?? otherwise)) }
    initialDelay = seconds("initialDelaySeconds", 0)
    period = max(.seconds(1), seconds("periodSeconds", 10))
    timeout = max(.seconds(1), seconds("timeoutSeconds", 1))
    successThreshold = max(1, value["successThreshold"].int ?? 1)
    failureThreshold = max(1, value["failureThreshold"].int ?? 3)
  }
}

/// Counts a probe's outcomes in a row. Pure.
struct ProbeCount: Sendable, Hashable {
  private(set) var successes: Int64 = 0
  private(set) var failures: Int64 = 0

  /// True or false when a threshold was just reached or passed; nil while undecided.
  mutating func took(_ passed: Bool, _ settings: ProbeSettings) -> Bool? {
    if passed {
      failures = 0
      successes += 1
      return successes >= settings.successThreshold ? true : nil
    }
    successes = 0
    failures += 1
    return failures >= settings.failureThreshold ? false : nil
  }
}

/// Runs the probes of one pod's running containers and tells its worker what they say.
@LoopActor final class PodProbes {
  private weak var worker: PodWorker?
  private let host: any PodHost
  private var tasks: [String: Task<Void, Never>] = [:]

  init(worker: PodWorker, host: any PodHost) {
    self.worker = worker
    self.host = host
  }

  /// Starts probes of containers that run, stops those of containers that do not.
  func update(_ facts: PodFacts, _ observed: PodObservation) {
    var wanted: Set<String> = []
    for container in facts.containers {
      guard let status = observed.latest(container.name), status.isRunning else { continue }
      for kind in ["startupProbe", "livenessProbe", "readinessProbe"] where !container.value[kind].isNull {
        let id = "\(status.id)/\(kind)"
        wanted.insert(id)
        if tasks[id] == nil { start(id, kind, container, status, facts) }
      }
    }
    for (id, task) in tasks where !wanted.contains(id) {
      task.cancel()
      tasks[id] = nil
    }
  }

  func stop() {
    for task in tasks.values { task.cancel() }
    tasks = [:]
  }

  private func start(
    _ id: String, _ kind: String, _ container: PodFacts.Container, _ status: ContainerStatus, _ facts: PodFacts
  ) {
    let settings = ProbeSettings(container.value[kind])
    let scheduler = host.scheduler
    tasks[id] = spawn { [weak self] in
      var count = ProbeCount()
      try? await scheduler.sleep(for: settings.initialDelay)
      while !Task.isCancelled, let self {
        if kind == "startupProbe" || self.hasStarted(container, status) {
          let (passed, message) = await self.once(container.value[kind], container, status, facts, settings)
          if Task.isCancelled { return }
          if let verdict = count.took(passed, settings) {
            if self.tell(kind, container, status, verdict, message) { return }
          }
        }
        try? await scheduler.sleep(for: settings.period)
      }
    }
  }

  private func hasStarted(_ container: PodFacts.Container, _ status: ContainerStatus) -> Bool {
    container.value["startupProbe"].isNull || worker?.memory.started.contains(status.id) == true
  }

  /// True when the probe has nothing more to say.
  private func tell(
    _ kind: String, _ container: PodFacts.Container, _ status: ContainerStatus, _ verdict: Bool, _ message: String
  ) -> Bool {
    switch kind {
    case "readinessProbe":
      worker?.setReady(container.name, verdict)
      return false
    case "startupProbe" where verdict:
      worker?.setStarted(status.id)
      return true
    default:
      if verdict { return false }
      worker?.setUnhealthy(
        status.id, "Container \(container.name) failed \(kind.dropLast(5)) probe (\(message)), will be restarted")
      return true
    }
  }

  private func once(
    _ probe: Value, _ container: PodFacts.Container, _ status: ContainerStatus, _ facts: PodFacts,
    _ settings: ProbeSettings
  ) async -> (passed: Bool, message: String) {
    let address =
      facts.hostNetwork
      ? host.hostIP
      : worker?.observed.readySandbox?.addresses.first ?? ""
    if let command = probe["exec"]["command"].array?.compactMap(\.string) {
      return await ProbeExec.run(host.runtime, status.id, command, settings.timeout, host.scheduler)
    }
    if !probe["httpGet"].isNull {
      let port = Self.port(probe["httpGet"]["port"], container)
      return await ProbeNetwork.http(
        host: probe["httpGet"]["host"].string ?? address, port: port, path: probe["httpGet"]["path"].string ?? "/",
        timeout: settings.timeout, scheduler: host.scheduler)
    }
    if !probe["tcpSocket"].isNull {
      let port = Self.port(probe["tcpSocket"]["port"], container)
      return await ProbeNetwork.tcp(
        host: probe["tcpSocket"]["host"].string ?? address, port: port, timeout: settings.timeout,
        scheduler: host.scheduler)
    }
    return (false, "a probe of a kind that is not supported on this node")
  }

  /// A number, or the name of a container port.
  static func port(_ value: Value, _ container: PodFacts.Container) -> Int {
    if let number = value.int { return Int(clamping: number) }
    let named = (container.value["ports"].array ?? []).first { $0["name"].string == value.string }
    return Int(clamping: named?["containerPort"].int ?? Int64(value.string ?? "") ?? 0)
  }
}
