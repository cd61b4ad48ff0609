import Base

/// A view of a pod's spec: of a Pod, or of a template's.
package struct PodSpec: Sendable, Hashable {
  package var value: Value
  package init(_ value: Value) { self.value = value }

  package var nodeName: String { value["nodeName"].string ?? "" }
  /// `Always`, `OnFailure` or `Never`.
  package var restartPolicy: String { value["restartPolicy"].string ?? "Always" }
  package var terminationGracePeriod: Int64 { value["terminationGracePeriodSeconds"].int ?? 30 }
  package var activeDeadline: Int64? { value["activeDeadlineSeconds"].int }
  package var hostNetwork: Bool { value["hostNetwork"].bool ?? false }
  package var hostname: String { value["hostname"].string ?? "" }
  package var schedulerName: String { value["schedulerName"].string ?? "default-scheduler" }
  package var serviceAccountName: String { value["serviceAccountName"].string ?? "" }
  package var nodeSelector: [String: String] { value["nodeSelector"].stringMap }
  package var affinity: Value { value["affinity"] }
  package var tolerations: [Toleration] { (value["tolerations"].array ?? []).map(Toleration.init) }
  package var priority: Int64 { value["priority"].int ?? 0 }
  package var securityContext: Value { value["securityContext"] }
  package var containers: [Container] { (value["containers"].array ?? []).map(Container.init) }
  package var initContainers: [Container] { (value["initContainers"].array ?? []).map(Container.init) }
  package var volumes: [Volume] { (value["volumes"].array ?? []).map(Volume.init) }
  package var imagePullSecrets: [String] { (value["imagePullSecrets"].array ?? []).compactMap { $0["name"].string } }

  /// What the scheduler reserves: the larger of the sum of the containers and each init container, plus overhead.
  package func request(_ resource: String) -> Quantity {
    let zero = Quantity(units: 0)
    let sum = containers.reduce(zero) { $0 + ($1.request(resource) ?? zero) }
    let start = initContainers.reduce(zero) { max($0, $1.request(resource) ?? zero) }
    return max(sum, start) + (Quantity(value["overhead"][resource]) ?? zero)
  }

  /// Host ports as (protocol, address, port); with the host's network every container port is one.
  package var hostPorts: [HostPort] {
    containers.flatMap(\.ports).compactMap { port in
      let number = port.hostPort != 0 ? port.hostPort : hostNetwork ? port.containerPort : 0
      return number == 0 ? nil : HostPort(protocol: port.protocol, address: port.hostIP, port: number)
    }
  }

  package struct HostPort: Sendable, Hashable {
    package var `protocol`: String
    /// Empty or `0.0.0.0`: every address.
    package var address: String
    package var port: Int64
    package init(protocol: String, address: String, port: Int64) {
      self.protocol = `protocol`
      self.address = address
      self.port = port
    }
  }

  /// A view of spec.containers[] or spec.initContainers[].
  package struct Container: Sendable, Hashable {
    package var value: Value
    package init(_ value: Value) { self.value = value }
    package var name: String { value["name"].string ?? "" }
    package var image: String { value["image"].string ?? "" }
    /// `Always`, `IfNotPresent` or `Never`.
    package var imagePullPolicy: String { value["imagePullPolicy"].string ?? "IfNotPresent" }
    package var command: [String] { (value["command"].array ?? []).compactMap(\.string) }
    package var args: [String] { (value["args"].array ?? []).compactMap(\.string) }
    package var workingDir: String { value["workingDir"].string ?? "" }
    /// `{name, value | valueFrom}` in order.
    package var env: [Value] { value["env"].array ?? [] }
    package var envFrom: [Value] { value["envFrom"].array ?? [] }
    package var ports: [Port] { (value["ports"].array ?? []).map(Port.init) }
    package var volumeMounts: [VolumeMount] { (value["volumeMounts"].array ?? []).map(VolumeMount.init) }
    package var securityContext: Value { value["securityContext"] }
    /// Only init containers: `Always` makes a sidecar.
    package var restartPolicy: String { value["restartPolicy"].string ?? "" }
    package var stdin: Bool { value["stdin"].bool ?? false }
    package var tty: Bool { value["tty"].bool ?? false }
    package func limit(_ resource: String) -> Quantity? { Quantity(value["resources"]["limits"][resource]) }
    /// A limit without a request is also the request.
    package func request(_ resource: String) -> Quantity? {
      Quantity(value["resources"]["requests"][resource]) ?? limit(resource)
    }
    /// `livenessProbe`, `readinessProbe` or `startupProbe`; null if there is none.
    package func probe(_ name: String) -> Value { value[name] }
  }

  package struct Port: Sendable, Hashable {
    package var name: String
    package var containerPort: Int64
    package var hostPort: Int64
    package var hostIP: String
    package var `protocol`: String
    package init(_ value: Value) {
      name = value["name"].string ?? ""
      containerPort = value["containerPort"].int ?? 0
      hostPort = value["hostPort"].int ?? 0
      hostIP = value["hostIP"].string ?? ""
      `protocol` = value["protocol"].string ?? "TCP"
    }
  }

  package struct VolumeMount: Sendable, Hashable {
    package var name: String
    package var mountPath: String
    package var subPath: String
    package var readOnly: Bool
    package init(_ value: Value) {
      name = value["name"].string ?? ""
      mountPath = value["mountPath"].string ?? ""
      subPath = value["subPath"].string ?? ""
      readOnly = value["readOnly"].bool ?? false
    }
  }

  /// A view of spec.volumes[]: a name and exactly one source member.
  package struct Volume: Sendable, Hashable {
    package var value: Value
    package init(_ value: Value) { self.value = value }
    package var name: String { value["name"].string ?? "" }
    /// `emptyDir`, `hostPath`, `configMap`, `secret`, `projected` …; empty if there is none.
    package var kind: String { value.object?.keys.first { $0 != "name" } ?? "" }
    package var source: Value { value[kind] }
  }
}

/// spec.tolerations[].
package struct Toleration: Sendable, Hashable {
  package var key: String
  /// `Exists` or `Equal`.
  package var condition: String
  package var value: String
  /// Empty: every effect.
  package var effect: String
  /// nil: for ever.
  package var seconds: Int64?
  package init(_ value: Value) {
    key = value["key"].string ?? ""
    condition = value["operator"].string ?? "Equal"
    self.value = value["value"].string ?? ""
    effect = value["effect"].string ?? ""
    seconds = value["tolerationSeconds"].int
  }

  package func tolerates(_ taint: Taint) -> Bool {
    if !effect.isEmpty, effect != taint.effect { return false }
    if key.isEmpty { return condition == "Exists" }
    return key == taint.key && (condition == "Exists" || value == taint.value)
  }
}

/// spec.taints[] of a Node.
package struct Taint: Sendable, Hashable {
  package var key: String
  package var value: String
  /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
  package var effect: String
  package var timeAdded: String?
  package init(key: String, value: String = "", effect: String, timeAdded: String? = nil) {
    self.key = key
    self.value = value
    self.effect = effect
    self.timeAdded = timeAdded
  }
  package init(_ value: Value) {
    key = value["key"].string ?? ""
    self.value = value["value"].string ?? ""
    effect = value["effect"].string ?? ""
    timeAdded = value["timeAdded"].string
  }
  package var object: Value {
    var fields: Value.Fields = ["key": .string(key), "effect": .string(effect)]
    if !value.isEmpty { fields["value"] = .string(value) }
    if let timeAdded { fields["timeAdded"] = .string(timeAdded) }
    return .object(fields)
  }
}
