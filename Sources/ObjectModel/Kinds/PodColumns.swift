import Base

/// The cells of a pod's row, as Kubernetes computes them.
enum PodColumns {
  static let all: [Kind.Column] = [
    .name, Kind.Column("Ready") { .string(ready($0)) }, Kind.Column("Status") { .string(status($0)) },
    Kind.Column("Restarts", at: { .string(restarts($0, $1)) }), .age,
    Kind.Column("IP", wide: true) { .string(orNone(Pod($0).podIP)) },
    Kind.Column("Node", wide: true) { .string(orNone(Pod($0).nodeName)) },
    Kind.Column("Nominated Node", wide: true) { .string(orNone($0.status["nominatedNodeName"].string ?? "")) },
    Kind.Column("Readiness Gates", wide: true) { .string(readinessGates($0)) },
  ]

  static func orNone(_ text: String) -> String { text.isEmpty ? "<none>" : text }

  private static func sidecars(_ object: Object) -> Set<String> {
    Set(PodSpec(object.spec).initContainers.filter { $0.restartPolicy == "Always" }.map(\.name))
  }

  private static func ready(_ object: Object) -> String {
    let (pod, sidecars) = (Pod(object), sidecars(object))
    let total = pod.spec.containers.count + sidecars.count
    let ready =
      pod.containerStatuses.filter { $0.isReady && $0.state.isRunning }.count
      + pod.initContainerStatuses.filter { sidecars.contains($0.name) && $0.isReady }.count
    return "\(ready)/\(total)"
  }

  private static func readinessGates(_ object: Object) -> String {
    let gates = object.spec["readinessGates"].array ?? []
    if gates.isEmpty { return "<none>" }
    let met = gates.filter { Pod(object).condition($0["conditionType"].string ?? "")?.isTrue ?? false }
    return "\(met.count)/\(gates.count)"
  }

  private static func restarts(_ object: Object, _ now: WallTime) -> String {
    let (pod, sidecars) = (Pod(object), sidecars(object))
    let counted = pod.containerStatuses + pod.initContainerStatuses.filter { sidecars.contains($0.name) }
    let count = counted.reduce(0) { $0 + $1.restartCount }
    let ends = counted.compactMap { status -> WallTime? in
      guard case .terminated(_, _, _, _, _, let finished) = status.lastState else { return nil }
      return Timestamp.parse(finished)
    }
    guard count > 0, let last = ends.max() else { return "\(count)" }
    return "\(count) (\(HumanDuration.format(now - last)) ago)"
  }

  static func status(_ object: Object) -> String {
    let pod = Pod(object)
    var reason = object.status["phase"].string ?? "Unknown"
    if let given = object.status["reason"].string, !given.isEmpty { reason = given }
    if pod.condition("PodScheduled")?.reason == "SchedulingGated" { reason = "SchedulingGated" }
    if let starting = initStatus(pod, sidecars(object)) {
      reason = starting
    } else if let main = mainStatus(pod) {
      reason =
        main == "Completed" && pod.containerStatuses.contains { $0.isReady && $0.state.isRunning }
        ? (pod.isReady ? "Running" : "NotReady") : main
    }
    guard object.isBeingDeleted else { return reason }
    if object.status["reason"].string == "NodeLost" { return "Unknown" }
    return pod.isTerminal ? reason : "Terminating"
  }

  private static func initStatus(_ pod: Pod, _ sidecars: Set<String>) -> String? {
    let total = pod.spec.initContainers.count
    for (index, status) in pod.initContainerStatuses.enumerated() {
      switch status.state {
      case .terminated(let code, let signal, let reason, _, _, _):
        if code == 0 { continue }
        if !reason.isEmpty { return "Init:\(reason)" }
        return signal != 0 ? "Init:Signal:\(signal)" : "Init:ExitCode:\(code)"
      case .running where sidecars.contains(status.name) && status.isStarted: continue
      case .waiting(let reason, _) where !reason.isEmpty && reason != "PodInitializing": return "Init:\(reason)"
      default: return "Init:\(index)/\(total)"
      }
    }
    return nil
  }

  private static func mainStatus(_ pod: Pod) -> String? {
    var found: String?
    for status in pod.containerStatuses.reversed() {
      switch status.state {
      case .waiting(let reason, _) where !reason.isEmpty: found = reason
      case .terminated(let code, let signal, let reason, _, _, _):
        found = !reason.isEmpty ? reason : signal != 0 ? "Signal:\(signal)" : "ExitCode:\(code)"
      default: break
      }
    }
    return found
  }
}
