import Base
import ObjectModel

/// The nodes and what is taken of each, kept up with every change, so that a decision copies nothing.
///
/// Nodes live in slots. A pod that was placed counts at once, before any cache shows it; what the cache then shows
/// under the same uid takes its place.
package struct Cluster {
  /// What the first look at a node needs, side by side in memory.
  struct Slot {
    var isUsed = false
    var freeCPU: Int64 = 0
    var freeMemory: Int64 = 0
    var freePods: Int64 = 0
    var weighedCPU: Int64 = 0
    var weighedMemory: Int64 = 0
    var zone: Int32 = 0
  }
  private struct Placed {
    var demand: PodDemand
    var node: String
  }

  private(set) var slots: ContiguousArray<Slot> = []
  private(set) var nodes: ContiguousArray<NodeRecord?> = []
  /// Extended resources and host ports in use by slot; empty for most.
  private(set) var takenExtended: ContiguousArray<[String: Int64]> = []
  private(set) var takenPorts: ContiguousArray<[PodSpec.HostPort: Int]> = []
  private(set) var slotByName: [String: Int] = [:]
  private var freeSlots: [Int] = []
  private var zones: [String: Int32] = ["": 0]
  private var placed: [String: Placed] = [:]
  private var placedOn: [String: Set<String>] = [:]
  /// Pods by owner and slot.
  private(set) var spread: [String: [Int: Int32]] = [:]
  /// Nodes that hold an image.
  private(set) var imageNodes: [String: Int] = [:]

  package init() {}

  package var nodeCount: Int { slotByName.count }
  package var podCount: Int { placed.count }
  package func node(_ name: String) -> NodeRecord? { slotByName[name].flatMap { nodes[$0] } }
  /// What of a node is not taken: thousandths of cores, bytes, pods.
  package func free(_ name: String) -> (cpu: Int64, memory: Int64, pods: Int64)? {
    slotByName[name].map { (slots[$0].freeCPU, slots[$0].freeMemory, slots[$0].freePods) }
  }
  package func placement(of uid: String) -> String? { placed[uid]?.node }

  // MARK: Nodes

  /// Adds a node or takes its new state.
  package mutating func set(_ node: NodeRecord) {
    let slot: Int
    if let known = slotByName[node.name] {
      slot = known
      countImages(nodes[slot], by: -1)
    } else {
      slot = freeSlots.popLast() ?? grow()
      slotByName[node.name] = slot
      slots[slot] = Slot(isUsed: true)
    }
    let old = nodes[slot]
    nodes[slot] = node
    countImages(node, by: 1)
    slots[slot].zone = zone(node.zone)
    slots[slot].freeCPU += node.allocatable.cpu - (old?.allocatable.cpu ?? 0)
    slots[slot].freeMemory += node.allocatable.memory - (old?.allocatable.memory ?? 0)
    slots[slot].freePods += node.maxPods - (old?.maxPods ?? 0)
    if old == nil {
      for uid in placedOn[node.name] ?? [] {
        if let pod = placed[uid] { take(pod.demand, slot, by: 1) }
      }
    }
  }

  /// Takes a node away. Its pods stay known, should it come back under its name.
  package mutating func removeNode(_ name: String) {
    guard let slot = slotByName.removeValue(forKey: name) else { return }
    for uid in placedOn[name] ?? [] {
      if let pod = placed[uid] { take(pod.demand, slot, by: -1) }
    }
    countImages(nodes[slot], by: -1)
    nodes[slot] = nil
    slots[slot] = Slot()
    takenExtended[slot] = [:]
    takenPorts[slot] = [:]
    freeSlots.append(slot)
  }

  private mutating func grow() -> Int {
    slots.append(Slot())
    nodes.append(nil)
    takenExtended.append([:])
    takenPorts.append([:])
    return slots.count - 1
  }

  private mutating func zone(_ name: String) -> Int32 {
    if let known = zones[name] { return known }
    let number = Int32(zones.count)
    zones[name] = number
    return number
  }

  private mutating func countImages(_ node: NodeRecord?, by sign: Int) {
    for name in node?.images.keys ?? [:].keys {
      let count = (imageNodes[name] ?? 0) + sign
      imageNodes[name] = count == 0 ? nil : count
    }
  }

  // MARK: Pods

  /// Counts a pod on a node, in place of what was counted under its uid.
  package mutating func place(_ demand: PodDemand, on node: String) {
    if let old = placed[demand.uid] {
      if old.node == node, old.demand == demand { return }
      removePod(demand.uid)
    }
    placed[demand.uid] = Placed(demand: demand, node: node)
    placedOn[node, default: []].insert(demand.uid)
    if let slot = slotByName[node] { take(demand, slot, by: 1) }
  }

  /// Gives back what a pod takes; answers its node.
  @discardableResult
  package mutating func removePod(_ uid: String) -> String? {
    guard let old = placed.removeValue(forKey: uid) else { return nil }
    placedOn[old.node]?.remove(uid)
    if placedOn[old.node]?.isEmpty == true { placedOn[old.node] = nil }
    if let slot = slotByName[old.node] { take(old.demand, slot, by: -1) }
    return old.node
  }

  private mutating func take(_ demand: PodDemand, _ slot: Int, by sign: Int64) {
    slots[slot].freeCPU -= sign * demand.requests.cpu
    slots[slot].freeMemory -= sign * demand.requests.memory
    slots[slot].freePods -= sign
    let weighed = demand.weighed
    slots[slot].weighedCPU += sign * weighed.cpu
    slots[slot].weighedMemory += sign * weighed.memory
    for (name, amount) in demand.requests.extended { takenExtended[slot][name, default: 0] += sign * amount }
    for port in demand.hostPorts {
      let count = (takenPorts[slot][port] ?? 0) + Int(sign)
      takenPorts[slot][port] = count == 0 ? nil : count
    }
    guard !demand.owner.isEmpty else { return }
    let count = (spread[demand.owner]?[slot] ?? 0) + Int32(sign)
    spread[demand.owner, default: [:]][slot] = count == 0 ? nil : count
    if spread[demand.owner]?.isEmpty == true { spread[demand.owner] = nil }
  }
}
