import Base
import ObjectModel

/// Where the pods are that others ask about, and what placed pods ask of those that come.
///
/// Invariant: a tracked query's counts, and what is held, are those of the pods that `count` was called with.
struct PodIndex {
  /// Queries whose counts are kept up with every pod that is placed; others are counted when somebody asks. It bounds
  /// what a placement costs.
  static let maxTracked = 64

  /// Pods by slot.
  typealias Counts = [Int: Int32]

  private struct Tracked {
    let query: PodQuery
    var counts: Counts
    var lastUse: UInt64
  }

  private(set) var namespaceLabels: [String: [String: String]] = [:]
  /// Required anti-affinity of placed pods: it keeps others away, whatever these ask for themselves.
  private(set) var keepsAway: [TopologyTerm: Counts] = [:]
  /// Required affinity (weight 1, as Kubernetes has it) and preferred terms of placed pods.
  private(set) var draws: [PodRules.Wish: Counts] = [:]
  private var tracked: [Tracked] = []
  private var places: [PodQuery: Int] = [:]
  private var uses: UInt64 = 0

  /// Whether any placed pod has a say in where others go.
  var hasSay: Bool { !keepsAway.isEmpty || !draws.isEmpty }

  /// nil if the query is not tracked.
  func counts(_ query: PodQuery) -> Counts? { places[query].map { tracked[$0].counts } }

  /// Marks a tracked query as used; false if it is not tracked.
  mutating func use(_ query: PodQuery) -> Bool {
    guard let place = places[query] else { return false }
    uses += 1
    tracked[place].lastUse = uses
    return true
  }

  /// Keeps up a query's counts, which are `counts` now, in place of what was not used for longest.
  mutating func track(_ query: PodQuery, _ counts: Counts) {
    uses += 1
    let entry = Tracked(query: query, counts: counts, lastUse: uses)
    if tracked.count < Self.maxTracked {
      places[query] = tracked.count
      tracked.append(entry)
    } else if let oldest = tracked.indices.min(by: { tracked[$0].lastUse < tracked[$1].lastUse }) {
      places[tracked[oldest].query] = nil
      places[query] = oldest
      tracked[oldest] = entry
    }
  }

  /// Takes a namespace's labels; nil: it is gone. What was counted by them is counted anew when it is asked for.
  mutating func setNamespace(_ name: String, labels: [String: String]?) {
    guard namespaceLabels[name] != labels else { return }
    namespaceLabels[name] = labels
    tracked.removeAll { $0.query.asksForNamespaces }
    places = Dictionary(uniqueKeysWithValues: tracked.enumerated().map { ($1.query, $0) })
  }

  /// A pod came to a slot (1) or left it (-1).
  mutating func count(_ pod: PodDemand, _ slot: Int, by sign: Int32) {
    for place in tracked.indices where tracked[place].query.matches(pod, namespaceLabels) {
      Self.add(sign, to: &tracked[place].counts, slot)
    }
    guard let rules = pod.rules else { return }
    for term in rules.antiAffinity { Self.add(sign, to: &keepsAway, term, slot) }
    for term in rules.affinity { Self.add(sign, to: &draws, PodRules.Wish(weight: 1, term: term), slot) }
    for wish in rules.wishes { Self.add(sign, to: &draws, wish, slot) }
  }

  private static func add<Key: Hashable>(_ sign: Int32, to table: inout [Key: Counts], _ key: Key, _ slot: Int) {
    add(sign, to: &table[key, default: [:]], slot)
    if table[key]?.isEmpty == true { table[key] = nil }
  }

  private static func add(_ sign: Int32, to counts: inout Counts, _ slot: Int) {
    let count = (counts[slot] ?? 0) + sign
    counts[slot] = count == 0 ? nil : count
  }
}

/// The nodes' values under one label, as numbers from 0: what "the same topology" means.
struct Topology {
  /// By slot; -1 where the node lacks the label.
  let domains: ContiguousArray<Int32>
  /// How many different values there are.
  let count: Int

  init(_ key: String, _ cluster: Cluster) {
    var numbers: [String: Int32] = [:]
    var domains = ContiguousArray<Int32>(repeating: -1, count: cluster.slots.count)
    for slot in cluster.slots.indices {
      guard let value = cluster.nodes[slot]?.labels[key] else { continue }
      let number = numbers[value] ?? Int32(numbers.count)
      numbers[value] = number
      domains[slot] = number
    }
    self.domains = domains
    count = numbers.count
  }

  func sums(_ counts: PodIndex.Counts, where isCounted: (Int) -> Bool = { _ in true }) -> ContiguousArray<Int64> {
    var sums = ContiguousArray<Int64>(repeating: 0, count: count)
    for (slot, pods) in counts where domains[slot] >= 0 && isCounted(slot) {
      sums[Int(domains[slot])] += Int64(pods)
    }
    return sums
  }
}

/// Topologies that were asked for, until labels change.
struct TopologyCache {
  /// Keys that are remembered; a cluster uses a handful.
  static let maxKeys = 32
  private var topologies: [String: Topology] = [:]
  private var version: UInt64 = 0

  mutating func topology(_ key: String, _ cluster: Cluster) -> Topology {
    if version != cluster.labelsVersion || topologies.count >= Self.maxKeys {
      topologies = [:]
      version = cluster.labelsVersion
    }
    if let known = topologies[key] { return known }
    let made = Topology(key, cluster)
    topologies[key] = made
    return made
  }
}
