import Base
import ObjectModel

/// What the pods that are there mean for one pod that comes: which nodes they close to it, and which they make better.
/// Made for one decision; nil when nobody asks anything.
struct Placement {
  /// A filter over the domains of one topology.
  private struct Gate {
    let topology: Topology
    /// By domain: open to the pod.
    var open: ContiguousArray<Bool>
    /// What nodes without the label are.
    let admitsUnlabelled: Bool
    let refusal: Cluster.Refusal
    let unlabelled: Cluster.Refusal

    func refusal(_ slot: Int) -> Cluster.Refusal? {
      let domain = topology.domains[slot]
      if domain < 0 { return admitsUnlabelled ? nil : unlabelled }
      return open[Int(domain)] ? nil : refusal
    }
  }
  /// A sum for each domain of one topology.
  private struct Sums {
    let topology: Topology
    var values: ContiguousArray<Int64>
  }
  private struct SoftSpread {
    let sums: Sums
    let maxSkew: Int64
  }

  private var gates: [Gate] = []
  private var draws: [String: Sums] = [:]
  private var softSpreads: [SoftSpread] = []

  var filters: Bool { !gates.isEmpty }

  /// `isEligible` tells whether a slot's node takes part in a spread.
  init?(
    _ demand: PodDemand, _ cluster: Cluster, _ topologies: inout TopologyCache,
    isEligible: (PodRules.Spread, Int) -> Bool
  ) {
    let index = cluster.podIndex
    guard demand.rules != nil || index.hasSay else { return nil }
    if let rules = demand.rules {
      spread(rules.spread, demand, cluster, &topologies, isEligible)
      affinity(rules.affinity, demand, cluster, &topologies)
      antiAffinity(rules.antiAffinity, cluster, &topologies)
    }
    existingAntiAffinity(demand, cluster, &topologies)
    wishes(demand, cluster, &topologies)
    if gates.isEmpty, draws.isEmpty, softSpreads.isEmpty { return nil }
  }

  /// The first filter, in kube-scheduler's order, that has something against the node.
  func refusal(_ slot: Int) -> Cluster.Refusal? {
    for gate in gates { if let refusal = gate.refusal(slot) { return refusal } }
    return nil
  }

  // MARK: Filters

  /// The pod goes where a pod that matches all terms is; the first of its own kind goes anywhere.
  private mutating func affinity(
    _ terms: [TopologyTerm], _ demand: PodDemand, _ cluster: Cluster, _ topologies: inout TopologyCache
  ) {
    guard !terms.isEmpty else { return }
    let query = PodQuery(terms: terms.map(\.pods))
    let counts = cluster.counts(query)
    let sums = terms.map { term in
      let topology = topologies.topology(term.topologyKey, cluster)
      return Sums(topology: topology, values: topology.sums(counts))
    }
    let isFirst =
      !sums.contains { $0.values.contains { $0 > 0 } } && query.matches(demand, cluster.podIndex.namespaceLabels)
    for sum in sums {
      gates.append(
        Gate(
          topology: sum.topology, open: ContiguousArray(sum.values.map { isFirst || $0 > 0 }), admitsUnlabelled: false,
          refusal: .podAffinity, unlabelled: .podAffinity))
    }
  }

  private mutating func antiAffinity(
    _ terms: [TopologyTerm], _ cluster: Cluster, _ topologies: inout TopologyCache
  ) {
    for term in terms {
      let topology = topologies.topology(term.topologyKey, cluster)
      let sums = topology.sums(cluster.counts(PodQuery(terms: [term.pods])))
      gates.append(
        Gate(
          topology: topology, open: ContiguousArray(sums.map { $0 == 0 }), admitsUnlabelled: true,
          refusal: .podAntiAffinity, unlabelled: .podAntiAffinity))
    }
  }

  /// Anti-affinity holds both ways: placed pods keep away what they do not want beside them.
  private mutating func existingAntiAffinity(
    _ demand: PodDemand, _ cluster: Cluster, _ topologies: inout TopologyCache
  ) {
    let index = cluster.podIndex
    var closed: [String: Gate] = [:]
    for (term, counts) in index.keepsAway where term.pods.matches(demand, index.namespaceLabels) {
      let topology = topologies.topology(term.topologyKey, cluster)
      var gate =
        closed[term.topologyKey]
        ?? Gate(
          topology: topology, open: ContiguousArray(repeating: true, count: topology.count), admitsUnlabelled: true,
          refusal: .existingAntiAffinity, unlabelled: .existingAntiAffinity)
      for slot in counts.keys where topology.domains[slot] >= 0 { gate.open[Int(topology.domains[slot])] = false }
      closed[term.topologyKey] = gate
    }
    gates += closed.sorted { $0.key < $1.key }.map(\.value)
  }

  private mutating func spread(
    _ constraints: [PodRules.Spread], _ demand: PodDemand, _ cluster: Cluster, _ topologies: inout TopologyCache,
    _ isEligible: (PodRules.Spread, Int) -> Bool
  ) {
    for isHard in [true, false] {
      let alike = constraints.filter { $0.isHard == isHard }
      let spaces = alike.map { topologies.topology($0.term.topologyKey, cluster) }
      for (constraint, topology) in zip(alike, spaces) {
        // A node without one of the keys is no place to count in.
        let counts = cluster.counts(constraint.query)
        func isCounted(_ slot: Int) -> Bool {
          cluster.slots[slot].isUsed && spaces.allSatisfy { $0.domains[slot] >= 0 } && isEligible(constraint, slot)
        }
        let sums = topology.sums(counts, where: isCounted)
        if isHard {
          let isOwn = constraint.term.pods.matches(demand, cluster.podIndex.namespaceLabels)
          gate(constraint, topology, sums, own: isOwn ? 1 : 0, cluster, isCounted)
        } else {
          softSpreads.append(
            SoftSpread(sums: Sums(topology: topology, values: sums), maxSkew: constraint.maxSkew))
        }
      }
    }
  }

  private mutating func gate(
    _ constraint: PodRules.Spread, _ topology: Topology, _ sums: ContiguousArray<Int64>, own: Int64,
    _ cluster: Cluster, _ isCounted: (Int) -> Bool
  ) {
    var isThere = ContiguousArray<Bool>(repeating: false, count: topology.count)
    for slot in cluster.slots.indices where topology.domains[slot] >= 0 && !isThere[Int(topology.domains[slot])] {
      if isCounted(slot) { isThere[Int(topology.domains[slot])] = true }
    }
    let counted = zip(sums, isThere).filter(\.1).map(\.0)
    let least = counted.count < constraint.minDomains ? 0 : counted.min() ?? 0
    gates.append(
      Gate(
        topology: topology, open: ContiguousArray(sums.map { $0 + own - least <= constraint.maxSkew }),
        admitsUnlabelled: false, refusal: .spread, unlabelled: .spreadLabel))
  }

  // MARK: Scores

  /// The pod's own preferences, and those of placed pods for it.
  private mutating func wishes(_ demand: PodDemand, _ cluster: Cluster, _ topologies: inout TopologyCache) {
    func add(_ weight: Int64, _ key: String, _ counts: PodIndex.Counts, _ topologies: inout TopologyCache) {
      guard weight != 0, !counts.isEmpty else { return }
      let topology = topologies.topology(key, cluster)
      var sums =
        draws[key] ?? Sums(topology: topology, values: ContiguousArray(repeating: 0, count: topology.count))
      for (slot, pods) in counts where topology.domains[slot] >= 0 {
        sums.values[Int(topology.domains[slot])] += weight * Int64(pods)
      }
      draws[key] = sums
    }
    for wish in demand.rules?.wishes ?? [] {
      add(wish.weight, wish.term.topologyKey, cluster.counts(PodQuery(terms: [wish.term.pods])), &topologies)
    }
    let index = cluster.podIndex
    for (wish, counts) in index.draws where wish.term.pods.matches(demand, index.namespaceLabels) {
      add(wish.weight, wish.term.topologyKey, counts, &topologies)
    }
  }

  var hasDraws: Bool { !draws.isEmpty }
  var hasSoftSpread: Bool { !softSpreads.isEmpty }

  /// How much other pods draw this one to the node; below zero: away from it.
  func draw(_ slot: Int) -> Int64 {
    var sum: Int64 = 0
    for sums in draws.values where sums.topology.domains[slot] >= 0 {
      sum += sums.values[Int(sums.topology.domains[slot])]
    }
    return sum
  }

  /// How crowded the node's domains are, less being better; nil where a key is missing. A domain among many weighs
  /// more than one among few, as with kube-scheduler: by the logarithm of their number.
  func crowding(_ slot: Int) -> Int64? {
    var sum: Int64 = 0
    for spread in softSpreads {
      let domain = spread.sums.topology.domains[slot]
      if domain < 0 { return nil }
      let pods = spread.sums.values[Int(domain)]
      sum += pods * Self.logarithm(spread.sums.topology.count + 2) + (spread.maxSkew - 1) * Self.one
    }
    return sum
  }

  /// 1 in the fixed point of `logarithm`.
  static let one: Int64 = 64

  /// The natural logarithm times 64, straight between powers of two: a weight need not be more exact.
  static func logarithm(_ number: Int) -> Int64 {
    guard number > 1 else { return 0 }
    let exponent = Int64(Int.bitWidth - 1 - number.leadingZeroBitCount)
    let power = Int64(1) << exponent
    let binary = exponent * one + (Int64(number) - power) * one / power
    // ln 2 = 0.693147
    return binary * 693_147 / 1_000_000
  }
}
