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
    var allCPU: Int64 = 0
    var allMemory: Int64 = 0
    var zone: Int32 = 0
    /// Unschedulable or with hard taints: not every pod may go there.
    var isGuarded = false
    var hasSoftTaints = false
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
  private var lastImageNumber: Int32 = 0
  private var placed: [String: Placed] = [:]
  private var placedOn: [String: Set<String>] = [:]
  /// Pods by owner and slot, without those that are being deleted.
  private(set) var spread: [String: [Int: Int32]] = [:]
  /// The numbers under which images are known; how many nodes hold each; and each slot's, by number.
  private(set) var imageNumbers: [String: Int32] = [:]
  private(set) var imageNodes: [Int32: Int] = [:]
  private(set) var images: ContiguousArray<[HeldImage]> = []
  /// Where pods are that others ask about.
  private(set) var podIndex = PodIndex()
  /// Rises with every change that may alter which nodes a selector or an affinity matches.
  private(set) var labelsVersion: UInt64 = 0
  /// Zones so far, and the empty one.
  var zoneCount: Int { zones.count }

  struct HeldImage {
    var number: Int32
    var bytes: Int64
  }

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
    } else {
      slot = freeSlots.popLast() ?? grow()
      slotByName[node.name] = slot
      slots[slot] = Slot(isUsed: true)
    }
    let old = nodes[slot]
    nodes[slot] = node
    if old?.labels != node.labels { labelsVersion += 1 }
    if old?.images != node.images { holdImages(node.images, slot) }
    slots[slot].zone = zone(node.zone)
    slots[slot].isGuarded = node.isUnschedulable || !node.hardTaints.isEmpty
    slots[slot].hasSoftTaints = !node.softTaints.isEmpty
    slots[slot].allCPU = node.allocatable.cpu
    slots[slot].allMemory = node.allocatable.memory
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
    holdImages([:], slot)
    labelsVersion += 1
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
    images.append([])
    return slots.count - 1
  }

  private mutating func zone(_ name: String) -> Int32 {
    if let known = zones[name] { return known }
    let number = Int32(zones.count)
    zones[name] = number
    return number
  }

  private mutating func holdImages(_ held: [String: Int64], _ slot: Int) {
    for image in images[slot] {
      let count = (imageNodes[image.number] ?? 0) - 1
      imageNodes[image.number] = count == 0 ? nil : count
    }
    // Names that no node holds any more are forgotten when they are most of what is known.
    if imageNumbers.count > 2 * imageNodes.count + 1000 {
      imageNumbers = imageNumbers.filter { imageNodes[$0.value] != nil }
    }
    images[slot] = held.map { HeldImage(number: number(ofImage: $0.key), bytes: $0.value) }
    for image in images[slot] { imageNodes[image.number, default: 0] += 1 }
  }

  private mutating func number(ofImage name: String) -> Int32 {
    if let known = imageNumbers[name] { return known }
    lastImageNumber += 1
    imageNumbers[name] = lastImageNumber
    return lastImageNumber
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
    podIndex.count(demand, slot, by: Int32(sign))
    // A pod on its way out holds its resources, but its replacement belongs where it leaves a gap.
    guard !demand.owner.isEmpty, !demand.isBeingDeleted else { return }
    let count = (spread[demand.owner]?[slot] ?? 0) + Int32(sign)
    spread[demand.owner, default: [:]][slot] = count == 0 ? nil : count
    if spread[demand.owner]?.isEmpty == true { spread[demand.owner] = nil }
  }

  // MARK: Pods that others ask about

  /// Labels of a namespace, by which affinities may select; nil: it is gone.
  package mutating func setNamespace(_ name: String, labels: [String: String]?) {
    podIndex.setNamespace(name, labels: labels)
  }

  /// Keeps up the counts that a decision on such a pod needs, instead of counting all pods at each decision.
  package mutating func prepare(for demand: PodDemand) {
    for query in demand.rules?.queries ?? [] where !podIndex.use(query) { podIndex.track(query, count(query)) }
  }

  /// The pods that match, by slot.
  func counts(_ query: PodQuery) -> PodIndex.Counts { podIndex.counts(query) ?? count(query) }

  private func count(_ query: PodQuery) -> PodIndex.Counts {
    var counts: PodIndex.Counts = [:]
    for pod in placed.values where query.matches(pod.demand, podIndex.namespaceLabels) {
      if let slot = slotByName[pod.node] { counts[slot, default: 0] += 1 }
    }
    return counts
  }
}
