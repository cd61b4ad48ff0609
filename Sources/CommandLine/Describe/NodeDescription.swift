import Base
import ObjectModel

/// `describe node`, as kubectl prints it in its main parts.
enum NodeDescription {
  /// `pods` are those on the node; `lease` its heartbeat, where there is one.
  static func text(_ node: Node, pods: [Pod], lease: Object?, events: [Event], now: WallTime) -> String {
    var out = TabbedText()
    let object = node.object
    out.line(0, "Name:", node.name)
    out.line(0, "Roles:", node.roles.isEmpty ? "<none>" : node.roles.joined(separator: ","))
    out.map(0, "Labels", node.labels)
    out.annotations(object)
    out.line(0, "CreationTimestamp:", TabbedText.date(object.creationTimestamp))
    out.list("Taints", node.taints.map { "\($0.key)\($0.value.isEmpty ? "" : "=\($0.value)"):\($0.effect)" })
    out.line(0, "Unschedulable:", "\(node.isUnschedulable)")
    if let lease {
      out.line(0, "Lease:")
      out.line(1, "HolderIdentity:", lease.spec["holderIdentity"].string ?? "<unset>")
      out.line(1, "AcquireTime:", TabbedText.date(lease.spec["acquireTime"].string))
      out.line(1, "RenewTime:", TabbedText.date(lease.spec["renewTime"].string))
    }
    conditions(node, &out)
    let addresses = object.status["addresses"].array ?? []
    if !addresses.isEmpty { out.line(0, "Addresses:") }
    for address in addresses { out.line(1, "\(address["type"].string ?? ""):", address["address"].string ?? "") }
    amounts("Capacity", object.status["capacity"], &out)
    amounts("Allocatable", object.status["allocatable"], &out)
    system(node, &out)
    let running = pods.filter { !$0.isTerminal }
    podTable(running, node, now, &out)
    allocated(running, node, &out)
    out.events(events, now: now)
    return out.text
  }

  private static func conditions(_ node: Node, _ out: inout TabbedText) {
    guard !node.conditions.isEmpty else { return }
    out.line(0, "Conditions:")
    out.table(
      1, ["Type", "Status", "LastHeartbeatTime", "LastTransitionTime", "Reason", "Message"],
      node.conditions.map { condition in
        [
          condition.type, condition.status, TabbedText.date(condition.others["lastHeartbeatTime"]?.string),
          TabbedText.date(condition.lastTransitionTime), condition.reason, condition.message,
        ]
      })
  }

  private static func amounts(_ title: String, _ amounts: Value, _ out: inout TabbedText) {
    guard let fields = amounts.object, !fields.isEmpty else { return }
    out.line(0, "\(title):")
    for (name, amount) in fields.sorted(by: { $0.key < $1.key }) {
      out.line(1, "\(name):", Quantity(amount)?.description ?? "")
    }
  }

  private static func system(_ node: Node, _ out: inout TabbedText) {
    out.line(0, "System Info:")
    for (title, field) in [
      ("Machine ID", "machineID"), ("System UUID", "systemUUID"), ("Boot ID", "bootID"),
      ("Kernel Version", "kernelVersion"), ("OS Image", "osImage"), ("Operating System", "operatingSystem"),
      ("Architecture", "architecture"), ("Container Runtime Version", "containerRuntimeVersion"),
      ("Kubelet Version", "kubeletVersion"),
    ] {
      out.line(1, "\(title):", node.info[field].string ?? "")
    }
    if !node.podCIDR.isEmpty { out.line(0, "PodCIDR:", node.podCIDR) }
  }

  private static let resources = ["cpu", "memory"]

  /// A share of what the node gives, in percent as kubectl rounds it: down.
  private static func share(_ amount: Quantity, _ all: Quantity?) -> String {
    guard let all, all.milli > 0 else { return "\(amount) (0%)" }
    return "\(amount) (\(Int64(Double(amount.milli) / Double(all.milli) * 100))%)"
  }

  private static func limit(_ pod: Pod, _ resource: String) -> Quantity {
    pod.spec.containers.reduce(Quantity(units: 0)) { $0 + ($1.limit(resource) ?? Quantity(units: 0)) }
  }

  private static func podTable(_ pods: [Pod], _ node: Node, _ now: WallTime, _ out: inout TabbedText) {
    out.line(0, "Non-terminated Pods:", "(\(pods.count) in total)")
    let rows = pods.sorted { ($0.namespace, $0.name) < ($1.namespace, $1.name) }.map { pod in
      [pod.namespace, pod.name]
        + resources.flatMap { resource in
          [pod.spec.request(resource), limit(pod, resource)].map { share($0, node.allocatable(resource)) }
        } + [HumanDuration.age(of: pod.object.creationTimestamp, now: now)]
    }
    out.table(
      1, ["Namespace", "Name", "CPU Requests", "CPU Limits", "Memory Requests", "Memory Limits", "Age"], rows)
  }

  private static func allocated(_ pods: [Pod], _ node: Node, _ out: inout TabbedText) {
    out.line(0, "Allocated resources:")
    out.line(1, "(Total limits may be over 100 percent, i.e., overcommitted.)")
    let zero = Quantity(units: 0)
    out.table(
      1, ["Resource", "Requests", "Limits"],
      resources.map { resource in
        let requests = pods.reduce(zero) { $0 + $1.spec.request(resource) }
        let limits = pods.reduce(zero) { $0 + limit($1, resource) }
        return [resource, share(requests, node.allocatable(resource)), share(limits, node.allocatable(resource))]
      })
  }
}
