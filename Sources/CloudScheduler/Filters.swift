import Base
import ObjectModel

extension Cluster {
  /// Why a pod cannot go to a node, in kube-scheduler's words.
  package enum Refusal: Sendable, Hashable {
    case unschedulable
    case nodeName
    case taint(key: String, value: String)
    case affinity
    case ports
    case tooManyPods
    case insufficient(String)
    case spread
    case spreadLabel
    case podAffinity
    case podAntiAffinity
    case existingAntiAffinity

    package var text: String {
      switch self {
      case .unschedulable: "node(s) were unschedulable"
      case .nodeName: "node(s) didn't match the requested node name"
      case .taint(let key, let value): "node(s) had untolerated taint {\(key): \(value)}"
      case .affinity: "node(s) didn't match Pod's node affinity/selector"
      case .ports: "node(s) didn't have free ports for the requested pod ports"
      case .tooManyPods: "Too many pods"
      case .insufficient(let resource): "Insufficient \(resource)"
      case .spread: "node(s) didn't match pod topology spread constraints"
      case .spreadLabel: "node(s) didn't match pod topology spread constraints (missing required label)"
      case .podAffinity: "node(s) didn't match pod affinity rules"
      case .podAntiAffinity: "node(s) didn't match pod anti-affinity rules"
      case .existingAntiAffinity: "node(s) didn't satisfy existing pods anti-affinity rules"
      }
    }
  }

  /// What a decision looks for on every node, taken out of the demand once.
  struct Look {
    let cpu: Int64
    let memory: Int64
    let hasExtended: Bool
    let hasPorts: Bool
    init(_ demand: PodDemand) {
      cpu = demand.requests.cpu
      memory = demand.requests.memory
      hasExtended = !demand.requests.extended.isEmpty
      hasPorts = !demand.hostPorts.isEmpty
    }
  }

  /// True if the pod fits, affinity aside; allocates nothing. The cheapest looks come first, and most nodes need no
  /// others.
  func fits(_ demand: PodDemand, _ look: Look, _ slot: Int) -> Bool {
    guard slots[slot].isUsed, slots[slot].freePods >= 1 else { return false }
    // A pod that asks for none of a resource fits even where more than there is was given away.
    if look.cpu > 0, look.cpu > slots[slot].freeCPU { return false }
    if look.memory > 0, look.memory > slots[slot].freeMemory { return false }
    if slots[slot].isGuarded, !isAdmitted(demand, slot) { return false }
    if look.hasExtended, let node = nodes[slot], missingExtended(demand, slot, node) != nil { return false }
    return !look.hasPorts || portsAreFree(demand, slot)
  }

  /// Whether the pod tolerates what keeps others off the node.
  func isAdmitted(_ demand: PodDemand, _ slot: Int) -> Bool {
    guard let node = nodes[slot] else { return false }
    if node.isUnschedulable, !Self.tolerates(demand, NodeRecord.unschedulableTaint) { return false }
    return node.hardTaints.allSatisfy { Self.tolerates(demand, $0) }
  }

  /// Everything that the first failing filter has against the node, in kube-scheduler's order of filters; empty if
  /// the pod fits as far as the node itself goes. What other pods have against it is `Placement`'s.
  package func refusals(_ demand: PodDemand, node name: String) -> [Refusal] {
    guard let slot = slotByName[name] else { return [.nodeName] }
    return refusals(demand, slot)
  }

  func refusals(_ demand: PodDemand, _ slot: Int) -> [Refusal] {
    guard let node = nodes[slot] else { return [.nodeName] }
    if node.isUnschedulable, !Self.tolerates(demand, NodeRecord.unschedulableTaint) { return [.unschedulable] }
    for taint in node.hardTaints where !Self.tolerates(demand, taint) {
      return [.taint(key: taint.key, value: taint.value)]
    }
    if !Self.matchesAffinity(demand, node) { return [.affinity] }
    if !portsAreFree(demand, slot) { return [.ports] }
    var refusals: [Refusal] = []
    let room = slots[slot]
    if room.freePods < 1 { refusals.append(.tooManyPods) }
    if demand.requests.cpu > 0, demand.requests.cpu > room.freeCPU { refusals.append(.insufficient("cpu")) }
    if demand.requests.memory > 0, demand.requests.memory > room.freeMemory { refusals.append(.insufficient("memory")) }
    if let name = missingExtended(demand, slot, node) { refusals.append(.insufficient(name)) }
    return refusals
  }

  /// The first, by name, of the other resources that the node lacks.
  private func missingExtended(_ demand: PodDemand, _ slot: Int, _ node: NodeRecord) -> String? {
    demand.requests.extended.keys.sorted().first { name in
      let free = (node.allocatable.extended[name] ?? 0) - (takenExtended[slot][name] ?? 0)
      return (demand.requests.extended[name] ?? 0) > free
    }
  }

  private static func tolerates(_ demand: PodDemand, _ taint: Taint) -> Bool {
    demand.tolerations.contains { $0.tolerates(taint) }
  }

  static func matchesAffinity(_ demand: PodDemand, _ node: NodeRecord) -> Bool {
    for (key, value) in demand.nodeSelector where node.labels[key] != value { return false }
    guard let terms = demand.requiredTerms else { return true }
    return terms.contains { $0.matches(name: node.name, labels: node.labels) }
  }

  /// A port is taken by the same port and protocol on the same address, or on every address.
  private func portsAreFree(_ demand: PodDemand, _ slot: Int) -> Bool {
    if demand.hostPorts.isEmpty || takenPorts[slot].isEmpty { return true }
    func isAny(_ address: String) -> Bool { address.isEmpty || address == "0.0.0.0" }
    for wanted in demand.hostPorts {
      for taken in takenPorts[slot].keys where taken.port == wanted.port && taken.protocol == wanted.protocol {
        if isAny(taken.address) || isAny(wanted.address) || taken.address == wanted.address { return false }
      }
    }
    return true
  }
}
