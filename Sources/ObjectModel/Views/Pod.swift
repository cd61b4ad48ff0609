import Base

/// A view of a Pod (v1). Reads and writes go straight to the object; nothing unknown is lost.
package struct Pod: Sendable, Hashable {
  package var object: Object
  package init(_ object: Object) { self.object = object }

  package static let resource = "pods"

  package enum Phase: String, Sendable {
    case pending = "Pending"
    case running = "Running"
    case succeeded = "Succeeded"
    case failed = "Failed"
    case unknown = "Unknown"
  }

  package var name: String { object.name }
  package var namespace: String { object.namespace }
  package var uid: String { object.uid }
  package var labels: [String: String] { object.labels }

  package var spec: PodSpec {
    get { PodSpec(object.spec) }
    set { object.spec = newValue.value }
  }
  package var status: Value {
    get { object.status }
    set { object.status = newValue }
  }

  /// Empty while it is not bound to a node.
  package var nodeName: String {
    get { object.spec["nodeName"].string ?? "" }
    set { object.spec["nodeName"] = .string(newValue) }
  }
  package var phase: Phase { Phase(rawValue: status["phase"].string ?? "") ?? .pending }
  /// Succeeded or Failed: its containers will never run again.
  package var isTerminal: Bool { phase == .succeeded || phase == .failed }
  /// Neither terminal nor being deleted: it counts for a ReplicaSet.
  package var isActive: Bool { !isTerminal && !object.isBeingDeleted }
  package var podIP: String { status["podIP"].string ?? "" }
  package var hostIP: String { status["hostIP"].string ?? "" }
  package var startTime: String? { status["startTime"].string }
  package var conditions: [Condition] { Conditions.all(status) }
  package func condition(_ type: String) -> Condition? { Conditions.get(status, type) }
  package var isReady: Bool { condition("Ready")?.isTrue ?? false }

  /// Ready for at least `minReadySeconds` at `now`.
  package func isAvailable(minReadySeconds: Int64, now: WallTime) -> Bool {
    guard let ready = condition("Ready"), ready.isTrue else { return false }
    if minReadySeconds == 0 { return true }
    guard let since = ready.lastTransitionTime.flatMap(Timestamp.parse) else { return false }
    return since + .seconds(minReadySeconds) <= now
  }

  /// Seconds that a deletion under way gives the containers; nil while it is not being deleted.
  package var deletionGracePeriod: Int64? { object.metadata["deletionGracePeriodSeconds"].int }

  package var containerStatuses: [ContainerStatus] {
    (status["containerStatuses"].array ?? []).map(ContainerStatus.init)
  }
  package var initContainerStatuses: [ContainerStatus] {
    (status["initContainerStatuses"].array ?? []).map(ContainerStatus.init)
  }
  package var restarts: Int64 { containerStatuses.reduce(0) { $0 + $1.restartCount } }

  /// `Guaranteed`, `Burstable` or `BestEffort`, from the containers' requests and limits.
  package var qosClass: String {
    var (any, guaranteed) = (false, true)
    for container in spec.containers + spec.initContainers {
      for resource in ["cpu", "memory"] {
        let (request, limit) = (container.request(resource), container.limit(resource))
        if (request.map { !$0.isZero } ?? false) || (limit.map { !$0.isZero } ?? false) { any = true }
        if limit == nil || limit?.isZero == true || (request ?? limit) != limit { guaranteed = false }
      }
    }
    return !any ? "BestEffort" : guaranteed ? "Guaranteed" : "Burstable"
  }

  /// status.containerStatuses[].
  package struct ContainerStatus: Sendable, Hashable {
    package var value: Value
    package init(_ value: Value) { self.value = value }
    package init(name: String) { value = ["name": .string(name), "restartCount": 0, "ready": false] }
    package var name: String { value["name"].string ?? "" }
    package var isReady: Bool { value["ready"].bool ?? false }
    package var isStarted: Bool { value["started"].bool ?? false }
    package var restartCount: Int64 { value["restartCount"].int ?? 0 }
    package var image: String { value["image"].string ?? "" }
    package var imageID: String { value["imageID"].string ?? "" }
    package var containerID: String { value["containerID"].string ?? "" }
    package var state: ContainerState { ContainerState(value["state"]) }
    package var lastState: ContainerState { ContainerState(value["lastState"]) }
  }

  /// A container's state or last state; `.none` where nothing is told.
  package enum ContainerState: Sendable, Hashable {
    case none
    case waiting(reason: String, message: String)
    case running(startedAt: String)
    case terminated(
      exitCode: Int64, signal: Int64, reason: String, message: String, startedAt: String, finishedAt: String)

    package init(_ value: Value) {
      if let waiting = value.object?["waiting"] {
        self = .waiting(reason: waiting["reason"].string ?? "", message: waiting["message"].string ?? "")
      } else if let running = value.object?["running"] {
        self = .running(startedAt: running["startedAt"].string ?? "")
      } else if let end = value.object?["terminated"] {
        self = .terminated(
          exitCode: end["exitCode"].int ?? 0, signal: end["signal"].int ?? 0, reason: end["reason"].string ?? "",
          message: end["message"].string ?? "", startedAt: end["startedAt"].string ?? "",
          finishedAt: end["finishedAt"].string ?? "")
      } else {
        self = .none
      }
    }

    package var isRunning: Bool { if case .running = self { true } else { false } }
    package var isTerminated: Bool { if case .terminated = self { true } else { false } }
    package var exitCode: Int64? { if case .terminated(let code, _, _, _, _, _) = self { code } else { nil } }
  }
}
