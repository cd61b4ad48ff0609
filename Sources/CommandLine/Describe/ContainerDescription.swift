import Base
import ObjectModel

/// The containers of a pod or of a template, as kubectl describes them.
extension TabbedText {
  /// `statuses` is nil for a template, which has none.
  mutating func containers(
    _ level: Int, _ title: String, _ containers: [PodSpec.Container], _ statuses: [Pod.ContainerStatus]?
  ) {
    guard !containers.isEmpty else { return }
    line(level, "\(title):")
    for container in containers {
      line(level + 1, "\(container.name):")
      let status = statuses?.first { $0.name == container.name }
      if statuses != nil { line(level + 2, "Container ID:", status?.containerID ?? "") }
      line(level + 2, "Image:", container.image)
      if statuses != nil { line(level + 2, "Image ID:", status?.imageID ?? "") }
      ports(level + 2, container.ports)
      words(level + 2, "Command", container.command)
      words(level + 2, "Args", container.args)
      if let status { state(level + 2, status) }
      resources(level + 2, container.value["resources"])
      for (title, field) in [
        ("Liveness", "livenessProbe"), ("Readiness", "readinessProbe"), ("Startup", "startupProbe"),
      ] where !container.value[field].isNull {
        line(level + 2, "\(title):", Self.probe(container.value[field]))
      }
      environment(level + 2, container)
      mounts(level + 2, container.volumeMounts)
    }
  }

  private mutating func ports(_ level: Int, _ ports: [PodSpec.Port]) {
    func text(_ number: (PodSpec.Port) -> Int64) -> String {
      ports.isEmpty ? "<none>" : ports.map { "\(number($0))/\($0.protocol)" }.joined(separator: ", ")
    }
    let many = ports.count > 1
    line(level, many ? "Ports:" : "Port:", text { $0.containerPort })
    line(level, many ? "Host Ports:" : "Host Port:", text { $0.hostPort })
  }

  private mutating func words(_ level: Int, _ title: String, _ words: [String]) {
    guard !words.isEmpty else { return }
    line(level, "\(title):")
    for word in words {
      for part in word.split(separator: "\n", omittingEmptySubsequences: false) { line(level + 1, String(part)) }
    }
  }

  private mutating func state(_ level: Int, _ status: Pod.ContainerStatus) {
    state(level, "State", status.state)
    if status.lastState != .none { state(level, "Last State", status.lastState) }
    line(level, "Ready:", status.isReady ? "True" : "False")
    line(level, "Restart Count:", "\(status.restartCount)")
  }

  private mutating func state(_ level: Int, _ title: String, _ state: Pod.ContainerState) {
    switch state {
    case .none: line(level, "\(title):", "Waiting")
    case .running(let startedAt):
      line(level, "\(title):", "Running")
      line(level + 1, "Started:", Self.date(startedAt))
    case .waiting(let reason, let message):
      line(level, "\(title):", "Waiting")
      if !reason.isEmpty { line(level + 1, "Reason:", reason) }
      if !message.isEmpty { line(level + 1, "Message:", message) }
    case .terminated(let code, let signal, let reason, let message, let startedAt, let finishedAt):
      line(level, "\(title):", "Terminated")
      if !reason.isEmpty { line(level + 1, "Reason:", reason) }
      if !message.isEmpty { line(level + 1, "Message:", message) }
      line(level + 1, "Exit Code:", "\(code)")
      if signal > 0 { line(level + 1, "Signal:", "\(signal)") }
      line(level + 1, "Started:", Self.date(startedAt))
      line(level + 1, "Finished:", Self.date(finishedAt))
    }
  }

  private mutating func resources(_ level: Int, _ resources: Value) {
    for (title, field) in [("Limits", "limits"), ("Requests", "requests")] {
      let amounts = resources[field].object ?? [:]
      guard !amounts.isEmpty else { continue }
      line(level, "\(title):")
      for (name, amount) in amounts.sorted(by: { $0.key < $1.key }) {
        line(level + 1, "\(name):", Quantity(amount)?.description ?? "")
      }
    }
  }

  private static func probe(_ probe: Value) -> String {
    func seconds(_ field: String, _ otherwise: Int64) -> Int64 { probe[field].int ?? otherwise }
    let attributes =
      "delay=\(seconds("initialDelaySeconds", 0))s timeout=\(seconds("timeoutSeconds", 1))s "
      + "period=\(seconds("periodSeconds", 10))s #success=\(seconds("successThreshold", 1)) "
      + "#failure=\(seconds("failureThreshold", 3))"
    func port(_ value: Value) -> String { value.int.map(String.init) ?? value.string ?? "" }
    if let words = probe["exec"]["command"].array {
      return "exec [\(words.compactMap(\.string).joined(separator: " "))] \(attributes)"
    }
    if !probe["httpGet"].isNull {
      let get = probe["httpGet"]
      let scheme = (get["scheme"].string ?? "HTTP").lowercased()
      return
        "http-get \(scheme)://\(get["host"].string ?? ""):\(port(get["port"]))\(get["path"].string ?? "") \(attributes)"
    }
    if !probe["tcpSocket"].isNull {
      return "tcp-socket \(probe["tcpSocket"]["host"].string ?? ""):\(port(probe["tcpSocket"]["port"])) \(attributes)"
    }
    return "unknown \(attributes)"
  }

  private mutating func environment(_ level: Int, _ container: PodSpec.Container) {
    if !container.envFrom.isEmpty {
      line(level, "Environment Variables from:")
      for source in container.envFrom {
        for (kind, field) in [("ConfigMap", "configMapRef"), ("Secret", "secretRef")] {
          guard let name = source[field]["name"].string else { continue }
          let prefix = source["prefix"].string.map { " with prefix '\($0)'" } ?? ""
          line(level + 1, name, "\(kind)\(prefix)", "Optional: \(source[field]["optional"].bool == true)")
        }
      }
    }
    guard !container.env.isEmpty else { return line(level, "Environment:", "<none>") }
    line(level, "Environment:")
    for variable in container.env {
      let name = "\(variable["name"].string ?? ""):"
      let from = variable["valueFrom"]
      if from.isNull {
        line(level + 1, name, variable["value"].string ?? "")
      } else if let path = from["fieldRef"]["fieldPath"].string {
        line(level + 1, name, " (\(from["fieldRef"]["apiVersion"].string ?? "v1"):\(path))")
      } else if let resource = from["resourceFieldRef"]["resource"].string {
        line(level + 1, name, " (\(resource))")
      } else {
        for (kind, field) in [("config map", "configMapKeyRef"), ("secret", "secretKeyRef")] {
          guard let key = from[field]["key"].string else { continue }
          line(
            level + 1, name, "<set to the key '\(key)' of \(kind) '\(from[field]["name"].string ?? "")'>",
            "Optional: \(from[field]["optional"].bool == true)")
        }
      }
    }
  }

  private mutating func mounts(_ level: Int, _ mounts: [PodSpec.VolumeMount]) {
    guard !mounts.isEmpty else { return line(level, "Mounts:", "<none>") }
    line(level, "Mounts:")
    for mount in mounts.sorted(by: { $0.mountPath < $1.mountPath }) {
      let path = mount.subPath.isEmpty ? "" : ",path=\"\(mount.subPath)\""
      line(level + 1, "\(mount.mountPath) from \(mount.name) (\(mount.readOnly ? "ro" : "rw")\(path))")
    }
  }
}
