import Base
import ObjectModel

/// Decides where a pod goes. Pure: the same cluster, pod and random numbers give the same node.
package struct Scheduling {
  /// How much each score counts. Kubernetes' weights, but spread counts more: on an edge the loss of a node is the
  /// usual failure.
  package struct Weights: Sendable {
    package var taints: Int64 = 3
    package var affinity: Int64 = 2
    package var hostSpread: Int64 = 3
    package var zoneSpread: Int64 = 2
    package var podAffinity: Int64 = 2
    package var topologySpread: Int64 = 2
    package var leastAllocated: Int64 = 1
    package var balanced: Int64 = 1
    package var imageLocality: Int64 = 1
    package init() {}
  }

  package enum Outcome: Sendable, Hashable {
    case node(String)
    /// No node fits; the text is what PodScheduled and the event say.
    case unschedulable(String)
  }

  /// Below this every node is looked at; above, at least so many that fit.
  package static let fewestFeasible = 100

  package var weights = Weights()
  private var start = 0
  // Kept from one decision to the next, so that none allocates.
  private var feasible: ContiguousArray<Int> = []
  private var scores: ContiguousArray<Int64> = []
  private var raw: ContiguousArray<Int64> = []
  private var hostCounts: ContiguousArray<Int64> = []
  private var zoneCounts: ContiguousArray<Int64> = []
  private var affinities = AffinityCache()
  private var topologies = TopologyCache()

  package init() {}

  /// Nodes that must be found fit before the best of them is taken: all of up to 100; else a share that falls from
  /// half towards a twentieth, since the best of a thousand is hardly better than the best of a hundred.
  package static func feasibleGoal(_ nodes: Int) -> Int {
    guard nodes > fewestFeasible else { return nodes }
    let percent = max(5, 50 - nodes / 125)
    return max(fewestFeasible, nodes * percent / 100)
  }

  package mutating func decide(_ demand: PodDemand, _ cluster: Cluster, random: any RandomSource) -> Outcome {
    let placement = placement(demand, cluster)
    findFeasible(demand, cluster, placement)
    guard !feasible.isEmpty else { return .unschedulable(Self.explain(demand, cluster, placement)) }
    guard feasible.count > 1 else { return name(feasible[0], cluster) }
    score(demand, cluster, placement)
    var (best, ties): (Int, UInt64) = (0, 1)
    for index in 1..<feasible.count {
      if scores[index] > scores[best] {
        (best, ties) = (index, 1)
      } else if scores[index] == scores[best] {
        // Each of n equal ones is kept with probability 1/n in the end.
        ties += 1
        if random.below(ties) == 0 { best = index }
      }
    }
    return name(feasible[best], cluster)
  }

  private func name(_ slot: Int, _ cluster: Cluster) -> Outcome {
    guard let node = cluster.nodes[slot] else { preconditionFailure("a slot that fits holds a node") }
    return .node(node.name)
  }

  /// nil if neither the pod nor those that are placed ask anything of each other, which costs next to nothing.
  private mutating func placement(_ demand: PodDemand, _ cluster: Cluster) -> Placement? {
    guard demand.rules != nil || cluster.podIndex.hasSay else { return nil }
    affinities.begin(demand, cluster)
    // Taken out while they are used, so that neither is copied.
    var known = AffinityCache()
    swap(&known, &affinities)
    defer { swap(&known, &affinities) }
    return Placement(demand, cluster, &topologies) { constraint, slot in
      (constraint.ignoresAffinity || known.matches(demand, cluster, slot))
        && (!constraint.honorsTaints || cluster.isAdmitted(demand, slot))
    }
  }

  /// Looks from where the last decision stopped, so that all nodes get their turn.
  private mutating func findFeasible(_ demand: PodDemand, _ cluster: Cluster, _ placement: Placement?) {
    feasible.removeAll(keepingCapacity: true)
    let count = cluster.slots.count
    guard count > 0 else { return }
    let goal = Self.feasibleGoal(cluster.nodeCount)
    let look = Cluster.Look(demand)
    affinities.begin(demand, cluster)
    if start >= count { start = 0 }
    var slot = start
    for _ in 0..<count {
      if cluster.fits(demand, look, slot), affinities.matches(demand, cluster, slot),
        placement?.refusal(slot) == nil
      {
        feasible.append(slot)
      }
      slot = slot + 1 == count ? 0 : slot + 1
      if feasible.count == goal { break }
    }
    start = slot
  }

  /// `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint {k: v}.`
  static func explain(_ demand: PodDemand, _ cluster: Cluster, _ placement: Placement?) -> String {
    guard cluster.nodeCount > 0 else { return "no nodes available to schedule pods" }
    var counts: [Cluster.Refusal: Int] = [:]
    for slot in cluster.slots.indices where cluster.slots[slot].isUsed {
      let refusals = cluster.refusals(demand, slot)
      for refusal in refusals { counts[refusal, default: 0] += 1 }
      if refusals.isEmpty, let refusal = placement?.refusal(slot) { counts[refusal, default: 0] += 1 }
    }
    let reasons = counts.map { "\($0.value) \($0.key.text)" }.sorted()
    return "0/\(cluster.nodeCount) nodes are available: \(reasons.joined(separator: ", "))."
  }
}

// MARK: Scores, each 0 to 100 for every feasible node

extension Scheduling {
  private mutating func score(_ demand: PodDemand, _ cluster: Cluster, _ placement: Placement?) {
    scores.removeAll(keepingCapacity: true)
    for slot in feasible { scores.append(resources(demand, cluster, slot)) }
    addTaints(demand, cluster)
    addAffinity(demand, cluster)
    // Who says how to spread is spread so and not otherwise.
    if demand.rules?.spread.isEmpty ?? true { addSpread(demand, cluster) }
    if let placement { addPlacement(placement) }
    addImages(demand, cluster)
  }

  /// Least allocated, and how alike the shares of CPU and memory are that would then be taken.
  private func resources(_ demand: PodDemand, _ cluster: Cluster, _ slot: Int) -> Int64 {
    let room = cluster.slots[slot]
    let weighed = demand.weighed
    func share(_ taken: Int64, _ all: Int64) -> Int64 { all <= 0 ? 1000 : min(1000, taken * 1000 / all) }
    let cpu = share(room.weighedCPU + weighed.cpu, room.allCPU)
    let memory = share(room.weighedMemory + weighed.memory, room.allMemory)
    let least = (2000 - cpu - memory) / 20
    let balanced = 100 - abs(cpu - memory) / 20
    return least * weights.leastAllocated + balanced * weights.balanced
  }

  /// Adds `raw` stretched to 0 … 100 (or its reverse) times `weight`; nothing if all are zero.
  private mutating func add(_ weight: Int64, reversed: Bool) {
    guard let most = raw.max(), most > 0 else { return }
    for index in raw.indices {
      let share = raw[index] * 100 / most
      scores[index] += (reversed ? 100 - share : share) * weight
    }
  }

  private mutating func addTaints(_ demand: PodDemand, _ cluster: Cluster) {
    raw.removeAll(keepingCapacity: true)
    for slot in feasible {
      var count: Int64 = 0
      guard cluster.slots[slot].hasSoftTaints else {
        raw.append(0)
        continue
      }
      for taint in cluster.nodes[slot]?.softTaints ?? []
      where !demand.tolerations.contains(where: { $0.tolerates(taint) }) { count += 1 }
      raw.append(count)
    }
    add(weights.taints, reversed: true)
  }

  private mutating func addAffinity(_ demand: PodDemand, _ cluster: Cluster) {
    guard !demand.preferredTerms.isEmpty else { return }
    raw.removeAll(keepingCapacity: true)
    for slot in feasible {
      var sum: Int64 = 0
      if let node = cluster.nodes[slot] {
        for preferred in demand.preferredTerms where preferred.term.matches(name: node.name, labels: node.labels) {
          sum += preferred.weight
        }
      }
      raw.append(max(0, sum))
    }
    add(weights.affinity, reversed: false)
  }

  /// What other pods draw this one to, from the worst node's 0 to the best one's 100; and the wished spread.
  private mutating func addPlacement(_ placement: Placement) {
    if placement.hasDraws {
      raw.removeAll(keepingCapacity: true)
      for slot in feasible { raw.append(placement.draw(slot)) }
      let (least, most) = (raw.min() ?? 0, raw.max() ?? 0)
      if most > least {
        for index in raw.indices {
          scores[index] += (raw[index] - least) * 100 / (most - least) * weights.podAffinity
        }
      }
    }
    guard placement.hasSoftSpread else { return }
    raw.removeAll(keepingCapacity: true)
    for slot in feasible { raw.append(placement.crowding(slot) ?? -1) }
    guard let most = raw.max(), most >= 0, let least = raw.lazy.filter({ $0 >= 0 }).min() else { return }
    for index in raw.indices where raw[index] >= 0 {
      let share = most == 0 ? 100 : (most + least - raw[index]) * 100 / most
      scores[index] += share * weights.topologySpread
    }
  }

  /// Fewer pods of the same owner on the host and in its zone are better.
  private mutating func addSpread(_ demand: PodDemand, _ cluster: Cluster) {
    guard !demand.owner.isEmpty, let mine = cluster.spread[demand.owner] else { return }
    while hostCounts.count < cluster.slots.count { hostCounts.append(0) }
    while zoneCounts.count < cluster.zoneCount { zoneCounts.append(0) }
    var hasZones = false
    for (slot, count) in mine {
      hostCounts[slot] = Int64(count)
      let zone = Int(cluster.slots[slot].zone)
      guard zone != 0 else { continue }
      zoneCounts[zone] += Int64(count)
      hasZones = true
    }
    raw.removeAll(keepingCapacity: true)
    for slot in feasible { raw.append(hostCounts[slot]) }
    add(weights.hostSpread, reversed: true)
    if hasZones {
      raw.removeAll(keepingCapacity: true)
      for slot in feasible { raw.append(zoneCounts[Int(cluster.slots[slot].zone)]) }
      add(weights.zoneSpread, reversed: true)
    }
    for slot in mine.keys {
      hostCounts[slot] = 0
      zoneCounts[Int(cluster.slots[slot].zone)] = 0
    }
  }

  /// Bytes that need not be fetched. An image that few nodes hold counts less, so that they are not flooded; below
  /// 23 MB it counts nothing, from 1000 MB a container on all.
  private mutating func addImages(_ demand: PodDemand, _ cluster: Cluster) {
    let least: Int64 = 23 << 20
    let most = max(least + 1, (1000 << 20) * Int64(demand.images.count))
    raw.removeAll(keepingCapacity: true)
    for _ in feasible { raw.append(0) }
    var isHeld = false
    for image in demand.images {
      guard let number = cluster.imageNumbers[image], let holders = cluster.imageNodes[number] else { continue }
      isHeld = true
      for (index, slot) in feasible.enumerated() {
        guard let held = cluster.images[slot].first(where: { $0.number == number }) else { continue }
        raw[index] += held.bytes / Int64(max(1, cluster.nodeCount)) * Int64(holders)
      }
    }
    guard isHeld else { return }
    for index in raw.indices {
      let clamped = min(max(raw[index], least), most)
      scores[index] += (clamped - least) * 100 / (most - least) * weights.imageLocality
    }
  }
}
