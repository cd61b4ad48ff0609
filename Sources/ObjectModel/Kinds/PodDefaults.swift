import Base

extension Value {
  /// Sets a member that is absent or null.
  mutating func setDefault(_ key: String, _ value: @autoclosure () -> Value) {
    if self[key].isNull { self[key] = value() }
  }

  /// Changes each element of an array member; nothing where there is none.
  mutating func eachElement(_ key: String, _ body: (inout Value) -> Void) {
    guard var values = self[key].array else { return }
    for index in values.indices { body(&values[index]) }
    self[key] = .array(values)
  }

  /// Changes a member if it is there.
  mutating func ifPresent(_ key: String, _ body: (inout Value) -> Void) {
    if !self[key].isNull { body(&self[key]) }
  }
}

/// What Kubernetes 1.32 fills into a pod's spec.
/// Source: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/
enum PodDefaults {
  static func apply(to spec: inout Value) {
    spec.setDefault("restartPolicy", "Always")
    spec.setDefault("terminationGracePeriodSeconds", 30)
    spec.setDefault("dnsPolicy", "ClusterFirst")
    spec.setDefault("securityContext", [:])
    spec.setDefault("schedulerName", "default-scheduler")
    let hostNetwork = spec["hostNetwork"].bool ?? false
    for list in ["initContainers", "containers"] {
      spec.eachElement(list) { container in Self.container(&container, hostNetwork: hostNetwork) }
    }
    spec.eachElement("volumes", volume)
  }

  /// Whether a pod can run on one node only: it names the node, or the host that it wants.
  static func isPinned(_ spec: Value) -> Bool {
    let host: Value = "kubernetes.io/hostname"
    if spec["nodeName"].string?.isEmpty == false || !spec["nodeSelector"]["kubernetes.io/hostname"].isNull {
      return true
    }
    let required = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    let terms = required["nodeSelectorTerms"].array ?? []
    return !terms.isEmpty
      && terms.allSatisfy { term in
        let names = (term["matchFields"].array ?? []).contains { $0["key"] == "metadata.name" }
        return names || (term["matchExpressions"].array ?? []).contains { $0["key"] == host && $0["operator"] == "In" }
      }
  }

  /// The tolerations that every pod gets when it is created: five minutes for a node that is not ready or not heard. A
  /// pod that is pinned to a node stays there, as DaemonSets' pods do: it could run nowhere else.
  static func admit(_ spec: inout Value) {
    spec.setDefault("priority", 0)
    spec.setDefault("preemptionPolicy", "PreemptLowerPriority")
    spec.setDefault("enableServiceLinks", true)
    var tolerations = spec["tolerations"].array ?? []
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
      let taint = Taint(key: key, effect: "NoExecute")
      guard !tolerations.contains(where: { Toleration($0).tolerates(taint) }) else { continue }
      var toleration: Value = ["key": .string(key), "operator": "Exists", "effect": "NoExecute"]
      if !isPinned(spec) { toleration["tolerationSeconds"] = 300 }
      tolerations.append(toleration)
    }
    spec["tolerations"] = .array(tolerations)
  }

  /// Always for a tag `latest` or none; a digest or another tag: only if it is not there yet.
  static func pullPolicy(of image: String) -> String {
    if image.contains("@") { return "IfNotPresent" }
    let last = image.split(separator: "/").last ?? ""
    let parts = last.split(separator: ":", maxSplits: 1)
    return parts.count < 2 || parts[1] == "latest" ? "Always" : "IfNotPresent"
  }

  private static func container(_ container: inout Value, hostNetwork: Bool) {
    let image = container["image"].string ?? ""
    container.setDefault("imagePullPolicy", .string(pullPolicy(of: image)))
    container.setDefault("terminationMessagePath", "/dev/termination-log")
    container.setDefault("terminationMessagePolicy", "File")
    container.setDefault("resources", [:])
    container.eachElement("ports") { port in
      port.setDefault("protocol", "TCP")
      if hostNetwork, let number = port["containerPort"].int { port.setDefault("hostPort", .int(number)) }
    }
    let limits = container["resources"]["limits"].object ?? [:]
    for (name, limit) in limits { container["resources"]["requests"].setDefault(name, limit) }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] { container.ifPresent(probe, Self.probe) }
    container.ifPresent("lifecycle") { lifecycle in
      lifecycle.ifPresent("preStop", handler)
      lifecycle.ifPresent("postStart", handler)
    }
    container.eachElement("env") { variable in
      variable.ifPresent("valueFrom") { $0.ifPresent("fieldRef") { $0.setDefault("apiVersion", "v1") } }
    }
  }

  private static func probe(_ probe: inout Value) {
    probe.setDefault("timeoutSeconds", 1)
    probe.setDefault("periodSeconds", 10)
    probe.setDefault("successThreshold", 1)
    probe.setDefault("failureThreshold", 3)
    handler(&probe)
  }

  private static func handler(_ handler: inout Value) {
    handler.ifPresent("httpGet") { request in
      request.setDefault("path", "/")
      request.setDefault("scheme", "HTTP")
    }
  }

  /// Octal 0644: what files of ConfigMaps and Secrets get.
  static let fileMode: Value = 420

  private static func volume(_ volume: inout Value) {
    if volume.object?.keys.allSatisfy({ $0 == "name" }) ?? false { volume["emptyDir"] = [:] }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
      volume.ifPresent(source) { $0.setDefault("defaultMode", fileMode) }
    }
    volume.ifPresent("hostPath") { $0.setDefault("type", "") }
    volume.ifPresent("downwardAPI", downward)
    volume.ifPresent("projected") { projected in
      projected.eachElement("sources") { source in
        source.ifPresent("serviceAccountToken") { $0.setDefault("expirationSeconds", 3600) }
        source.ifPresent("downwardAPI", downward)
      }
    }
  }

  private static func downward(_ value: inout Value) {
    value.eachElement("items") { $0.ifPresent("fieldRef") { $0.setDefault("apiVersion", "v1") } }
  }
}
