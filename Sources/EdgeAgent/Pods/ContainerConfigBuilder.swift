import Base
import ContainerRuntime
import ObjectModel

/// Names under which a pod's parts are known to the runtime; everything else about them can be lost.
package enum PodLabels {
  package static let podUID = RuntimeLabels.podUID
  package static let podName = "io.kubernetes.pod.name"
  package static let podNamespace = "io.kubernetes.pod.namespace"
  package static let containerName = "io.kubernetes.container.name"

  static func of(_ facts: PodFacts) -> [String: String] {
    [podUID: facts.uid, podName: facts.name, podNamespace: facts.namespace]
  }
}

/// Builds what the runtime is asked for from a pod's spec. Pure.
package enum ContainerConfigBuilder {
  package static func containerID(_ facts: PodFacts, _ name: String, attempt: Int) -> String {
    "\(facts.uid)_\(name)_\(attempt)"
  }

  package static func sandbox(_ facts: PodFacts, id: String, logRoot: String) -> SandboxConfig {
    var ports: [PortMapping] = []
    for container in facts.containers {
      for port in container.value["ports"].array ?? [] {
        guard let hostPort = port["hostPort"].int, hostPort > 0, let containerPort = port["containerPort"].int else {
          continue
        }
        ports.append(
          PortMapping(
            hostPort: Int(hostPort), containerPort: Int(containerPort),
            transport: (port["protocol"].string ?? "TCP").lowercased()))
      }
    }
    let dns = facts.pod.spec["dnsConfig"]
    return SandboxConfig(
      id: id, podName: facts.name, podNamespace: facts.namespace, podUID: facts.uid,
      hostname: facts.pod.spec["hostname"].string ?? String(facts.name.prefix(63)), hostNetwork: facts.hostNetwork,
      portMappings: facts.hostNetwork ? [] : ports,
      dnsServers: (dns["nameservers"].array ?? []).compactMap(\.string),
      dnsSearches: (dns["searches"].array ?? []).compactMap(\.string), logDirectory: "\(logRoot)/\(facts.uid)",
      labels: PodLabels.of(facts))
  }

  /// `volumes` maps a volume's name to its host path.
  package static func container(
    _ container: PodFacts.Container, _ facts: PodFacts, attempt: Int, sandboxID: String, image: String,
    environment: [(key: String, value: String)], volumes: [String: String]
  ) throws(PodConfigError) -> ContainerConfig {
    let values = Dictionary(environment.map { ($0.key, $0.value) }) { $1 }
    func words(_ key: String) -> [String] {
      (container.value[key].array ?? []).compactMap(\.string).map { PodEnvironment.expand($0, values) }
    }
    var labels = PodLabels.of(facts)
    labels[PodLabels.containerName] = container.name
    return ContainerConfig(
      id: containerID(facts, container.name, attempt: attempt), sandboxID: sandboxID, name: container.name,
      attempt: attempt, image: image, command: words("command"), arguments: words("args"),
      workingDirectory: container.value["workingDir"].string ?? "", environment: environment,
      mounts: try mounts(container, volumes: volumes, values: values),
      resources: resources(container.value["resources"]),
      security: security(pod: facts.pod.spec["securityContext"], container: container.value["securityContext"]),
      tty: container.value["tty"].bool ?? false, stdin: container.value["stdin"].bool ?? false, labels: labels)
  }

  private static func mounts(
    _ container: PodFacts.Container, volumes: [String: String], values: [String: String]
  ) throws(PodConfigError) -> [Mount] {
    var mounts: [Mount] = []
    for mount in container.value["volumeMounts"].array ?? [] {
      let name = mount["name"].string ?? ""
      guard var path = volumes[name] else {
        throw PodConfigError("container \"\(container.name)\" mounts volume \"\(name)\", which the pod does not have")
      }
      let sub = mount["subPath"].string ?? mount["subPathExpr"].string.map { PodEnvironment.expand($0, values) } ?? ""
      guard !sub.split(separator: "/").contains(".."), !sub.hasPrefix("/") else {
        throw PodConfigError("subPath \"\(sub)\" must be relative and must not contain '..'")
      }
      if !sub.isEmpty { path += "/\(sub)" }
      mounts.append(
        Mount(
          hostPath: path, containerPath: mount["mountPath"].string ?? "/", readOnly: mount["readOnly"].bool ?? false))
    }
    return mounts
  }

  private static func resources(_ value: Value) -> ResourceLimits {
    func quantity(_ section: String, _ name: String) -> Quantity? { Quantity(value[section][name]) }
    return ResourceLimits(
      cpuMillis: quantity("limits", "cpu")?.milli,
      cpuRequestMillis: (quantity("requests", "cpu") ?? quantity("limits", "cpu"))?.milli,
      memoryBytes: quantity("limits", "memory")?.units)
  }

  /// The container's own settings win over the pod's.
  package static func security(pod: Value, container: Value) -> SecurityConfig {
    func pick(_ key: String) -> Value { container[key].isNull ? pod[key] : container[key] }
    var security = SecurityConfig()
    security.runAsUser = pick("runAsUser").int
    security.runAsGroup = pick("runAsGroup").int
    security.supplementalGroups = (pod["supplementalGroups"].array ?? []).compactMap(\.int)
    if let group = pod["fsGroup"].int { security.supplementalGroups.append(group) }
    security.runAsNonRoot = pick("runAsNonRoot").bool ?? false
    security.privileged = container["privileged"].bool ?? false
    security.readOnlyRootFilesystem = container["readOnlyRootFilesystem"].bool ?? false
    security.allowPrivilegeEscalation = container["allowPrivilegeEscalation"].bool ?? false
    security.addCapabilities = (container["capabilities"]["add"].array ?? []).compactMap(\.string)
    security.dropCapabilities = (container["capabilities"]["drop"].array ?? []).compactMap(\.string)
    return security
  }
}
