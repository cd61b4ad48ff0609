import Base
import ObjectModel

/// `describe pod`, as kubectl prints it in its main parts.
enum PodDescription {
  static func text(_ pod: Pod, events: [Event], now: WallTime) -> String {
    var out = TabbedText()
    let (object, spec) = (pod.object, pod.spec)
    out.line(0, "Name:", pod.name)
    out.line(0, "Namespace:", pod.namespace)
    out.line(0, "Priority:", "\(spec.priority)")
    out.line(0, "Service Account:", spec.serviceAccountName.isEmpty ? "default" : spec.serviceAccountName)
    out.line(0, "Node:", pod.nodeName.isEmpty ? "<none>" : "\(pod.nodeName)/\(pod.hostIP)")
    if let start = pod.startTime { out.line(0, "Start Time:", TabbedText.date(start)) }
    out.map(0, "Labels", pod.labels)
    out.annotations(object)
    if let deletion = object.deletionTimestamp, pod.phase != .failed {
      let late = HumanDuration.age(of: deletion, now: now)
      out.line(0, "Status:", "Terminating (lasts \(late))")
      out.line(0, "Termination Grace Period:", "\(pod.deletionGracePeriod ?? 0)s")
    } else {
      out.line(0, "Status:", pod.phase.rawValue)
    }
    for (title, field) in [("Reason", "reason"), ("Message", "message")] {
      if let text = pod.status[field].string, !text.isEmpty { out.line(0, "\(title):", text) }
    }
    out.line(0, "IP:", pod.podIP)
    let addresses = (pod.status["podIPs"].array ?? []).compactMap { $0["ip"].string }
    let known = addresses.isEmpty && !pod.podIP.isEmpty ? [pod.podIP] : addresses
    if known.isEmpty {
      out.line(0, "IPs:", "<none>")
    } else {
      out.line(0, "IPs:")
      for address in known { out.line(1, "IP:", address) }
    }
    if let owner = object.controllerReference { out.line(0, "Controlled By:", "\(owner.kind)/\(owner.name)") }
    out.containers(0, "Init Containers", spec.initContainers, pod.initContainerStatuses)
    out.containers(0, "Containers", spec.containers, pod.containerStatuses)
    if !pod.conditions.isEmpty {
      out.line(0, "Conditions:")
      out.row(1, ["Type", "Status"])
      for condition in pod.conditions { out.row(1, [condition.type, condition.status]) }
    }
    out.volumes(0, spec.volumes)
    out.line(0, "QoS Class:", pod.status["qosClass"].string ?? pod.qosClass)
    out.placement(0, spec)
    spread(spec, &out)
    out.events(events, now: now)
    return out.text
  }

  private static func spread(_ spec: PodSpec, _ out: inout TabbedText) {
    let constraints = (spec.value["topologySpreadConstraints"].array ?? []).map { constraint in
      var text =
        "\(constraint["topologyKey"].string ?? ""):\(constraint["whenUnsatisfiable"].string ?? "") when max skew "
        + "\(constraint["maxSkew"].int ?? 0) is exceeded"
      if let selector = try? LabelSelector(constraint["labelSelector"]), !constraint["labelSelector"].isNull {
        text += " for selector \(selector)"
      }
      return text
    }
    if !constraints.isEmpty { out.list("Topology Spread Constraints", constraints) }
  }
}
