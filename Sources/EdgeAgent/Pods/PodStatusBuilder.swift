import Base
import ContainerRuntime
import ObjectModel

/// Builds a pod's status from what the runtime shows, as kubelet does. Pure.
/// Source: https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/
package enum PodStatusBuilder {
  /// The status fields that the node owns. `previous` is the status that the node last knew: it gives transition
  /// times and the start time.
  package static func status(
    _ facts: PodFacts, _ observed: PodObservation, _ memory: PodMemory, previous: Value, hostIP: String,
    now: Instant, wall: WallTime
  ) -> Value {
    let phase = phase(facts, observed)
    var status: Value = [:]
    status["phase"] = .string(phase)
    status["hostIP"] = .string(hostIP)
    status["startTime"] = previous["startTime"].string.map { .string($0) } ?? .string(Timestamp.format(wall))
    if let sandbox = observed.readySandbox, let first = address(facts, sandbox, hostIP) {
      status["podIP"] = .string(first)
      let all = facts.hostNetwork ? [hostIP] : sandbox.addresses
      status["podIPs"] = .array(all.map { ["ip": .string($0)] })
    }
    let mains = facts.containers.map { containerStatus($0, isInit: false, facts, observed, memory, now) }
    let initials = facts.initContainers.map { containerStatus($0, isInit: true, facts, observed, memory, now) }
    status["containerStatuses"] = .array(mains)
    if !initials.isEmpty { status["initContainerStatuses"] = .array(initials) }
    status["conditions"] = conditions(facts, observed, mains: mains, phase: phase, previous: previous, wall: wall)
    return status
  }

  private static func address(_ facts: PodFacts, _ sandbox: SandboxStatus, _ hostIP: String) -> String? {
    facts.hostNetwork ? hostIP : sandbox.addresses.first
  }

  /// Pending, Running, Succeeded or Failed.
  package static func phase(_ facts: PodFacts, _ observed: PodObservation) -> String {
    for container in facts.initContainers where facts.containers.allSatisfy({ observed.latest($0.name) == nil }) {
      guard case .exited(let code, _)? = observed.latest(container.name)?.state else { return "Pending" }
      if code != 0 { return facts.restartPolicy == "Never" ? "Failed" : "Pending" }
    }
    var running = 0
    var waiting = 0
    var succeeded = 0
    var failed = 0
    for container in facts.containers {
      switch observed.latest(container.name)?.state {
      case nil, .created?: waiting += 1
      case .running?: running += 1
      case .exited(0, _)?: succeeded += 1
      case .exited?, .unknown?: failed += 1
      }
    }
    if waiting > 0 && running + succeeded + failed == 0 { return "Pending" }
    if waiting > 0 || running > 0 { return "Running" }
    switch facts.restartPolicy {
    case "Never": return failed > 0 ? "Failed" : "Succeeded"
    case "OnFailure": return failed > 0 ? "Running" : "Succeeded"
    default: return "Running"
    }
  }

  private static func containerStatus(
    _ container: PodFacts.Container, isInit: Bool, _ facts: PodFacts, _ observed: PodObservation,
    _ memory: PodMemory, _ now: Instant
  ) -> Value {
    let latest = observed.latest(container.name)
    var value: Value = ["name": .string(container.name), "image": .string(container.image)]
    value["imageID"] = .string(latest?.image ?? memory.images[container.name] ?? "")
    value["restartCount"] = .int(Int64(latest?.attempt ?? 0))
    var ready = false
    var running = false
    switch latest?.state {
    case .running?:
      running = true
      ready = isInit ? false : memory.ready[container.name] ?? !hasProbe(container, "readinessProbe")
      value["state"] = ["running": ["startedAt": time(latest?.startedAt)]]
    case .exited?, .unknown?:
      if isInit, case .exited(0, _)? = latest?.state { ready = true }
      let terminated = latest.map(terminated) ?? .null
      if !isInit || !ready, let waiting = backingOff(container, memory, now), restartsAgain(facts, latest) {
        value["state"] = ["waiting": waiting]
        value["lastState"] = ["terminated": terminated]
      } else {
        value["state"] = ["terminated": terminated]
      }
    case nil, .created?: value["state"] = ["waiting": waiting(container, isInit: isInit, facts, memory)]
    }
    if let latest {
      value["containerID"] = .string("skerry://\(latest.id)")
      let before = observed.containers.first { $0.name == container.name && $0.attempt == latest.attempt - 1 }
      if let before, value["lastState"].isNull, !before.isRunning {
        value["lastState"] = ["terminated": terminated(before)]
      }
    }
    value["ready"] = .bool(ready)
    value["started"] = .bool(
      running && (!hasProbe(container, "startupProbe") || memory.started.contains(latest?.id ?? "")))
    return value
  }

  private static func hasProbe(_ container: PodFacts.Container, _ name: String) -> Bool {
    !container.value[name].isNull
  }

  private static func restartsAgain(_ facts: PodFacts, _ latest: ContainerStatus?) -> Bool {
    if case .exited(0, _)? = latest?.state, facts.restartPolicy == "OnFailure" { return false }
    return facts.restartPolicy != "Never"
  }

  private static func backingOff(_ container: PodFacts.Container, _ memory: PodMemory, _ now: Instant) -> Value? {
    guard let backoff = memory.backoff[container.name], now < backoff.notBefore else { return nil }
    let seconds = Int(backoff.delay.seconds.rounded())
    return [
      "reason": "CrashLoopBackOff",
      "message": .string("back-off \(seconds)s restarting failed container=\(container.name)"),
    ]
  }

  private static func waiting(
    _ container: PodFacts.Container, isInit: Bool, _ facts: PodFacts, _ memory: PodMemory
  ) -> Value {
    if let failure = memory.imageFailures[container.name] ?? memory.setupFailure {
      return ["reason": .string(failure.reason), "message": .string(failure.message)]
    }
    return ["reason": isInit || facts.initContainers.isEmpty ? "ContainerCreating" : "PodInitializing"]
  }

  private static func terminated(_ status: ContainerStatus) -> Value {
    var value: Value = ["containerID": .string("skerry://\(status.id)")]
    switch status.state {
    case .exited(let code, let reason):
      value["exitCode"] = .int(Int64(code))
      value["reason"] = .string(reason)
    default:
      // It was running when the node stopped; nobody saw its exit code.
      value["exitCode"] = 137
      value["reason"] = "ContainerStatusUnknown"
    }
    value["startedAt"] = time(status.startedAt)
    value["finishedAt"] = time(status.finishedAt)
    return value
  }

  private static func time(_ wall: WallTime?) -> Value { wall.map { .string(Timestamp.format($0)) } ?? .null }

  private static func conditions(
    _ facts: PodFacts, _ observed: PodObservation, mains: [Value], phase: String, previous: Value, wall: WallTime
  ) -> Value {
    let notReady = mains.filter { $0["ready"].bool != true }.compactMap { $0["name"].string }
    let initialized =
      facts.containers.contains { observed.latest($0.name) != nil }
      || facts.initContainers.allSatisfy {
        if case .exited(0, _)? = observed.latest($0.name)?.state { true } else { false }
      }
    let finished = phase == "Succeeded" || phase == "Failed"
    var reason = ""
    var message = ""
    if finished {
      reason = phase == "Succeeded" ? "PodCompleted" : "PodFailed"
    } else if !notReady.isEmpty {
      reason = "ContainersNotReady"
      message = "containers with unready status: [\(notReady.joined(separator: " "))]"
    }
    let ready = !finished && notReady.isEmpty
    let uninitialized = initialized ? "" : "ContainersNotInitialized"
    let rows: [(String, Bool, String, String)] = [
      ("PodReadyToStartContainers", observed.readySandbox != nil, "", ""),
      ("Initialized", initialized, uninitialized, ""), ("Ready", ready, reason, message),
      ("ContainersReady", ready, reason, message),
    ]
    return .array(
      rows.map { type, holds, reason, message in
        condition(type, holds, reason: reason, message: message, previous: previous, wall: wall)
      })
  }

  private static func condition(
    _ type: String, _ holds: Bool, reason: String, message: String, previous: Value, wall: WallTime
  ) -> Value {
    let old = (previous["conditions"].array ?? []).first { $0["type"].string == type } ?? .null
    let status = holds ? "True" : "False"
    var value: Value = ["type": .string(type), "status": .string(status), "lastProbeTime": .null]
    let changed = old["status"].string != status
    value["lastTransitionTime"] =
      changed ? .string(Timestamp.format(wall)) : old["lastTransitionTime"]
    if !reason.isEmpty { value["reason"] = .string(reason) }
    if !message.isEmpty { value["message"] = .string(message) }
    return value
  }
}
