import Base
import ObjectModel

/// Which nodes a selector and affinity match, remembered from one pod to the next: pods come in families that ask
/// for the same, and labels hardly change.
struct AffinityCache {
  /// Different demands that are remembered; the least number that makes forgetting them rare.
  static let maxFamilies = 64

  private struct Family: Hashable {
    var selector: [String: String]
    var terms: [NodeSelectorTerm]?
  }
  private enum Verdict {
    case unknown
    case matches
    case fails
  }

  private var families: [Family: Int] = [:]
  private var verdicts: ContiguousArray<ContiguousArray<Verdict>> = []
  private var version: UInt64 = 0
  /// The family of the demand at hand; nil: it goes anywhere.
  private var current: Int?

  /// To be called before `matches` for each demand.
  mutating func begin(_ demand: PodDemand, _ cluster: Cluster) {
    guard !demand.nodeSelector.isEmpty || demand.requiredTerms != nil else {
      current = nil
      return
    }
    if version != cluster.labelsVersion || families.count >= Self.maxFamilies {
      families = [:]
      verdicts = []
      version = cluster.labelsVersion
    }
    let family = Family(selector: demand.nodeSelector, terms: demand.requiredTerms)
    if let known = families[family] {
      current = known
    } else {
      families[family] = verdicts.count
      current = verdicts.count
      verdicts.append(ContiguousArray(repeating: .unknown, count: cluster.slots.count))
    }
  }

  mutating func matches(_ demand: PodDemand, _ cluster: Cluster, _ slot: Int) -> Bool {
    guard let current else { return true }
    switch verdicts[current][slot] {
    case .matches: return true
    case .fails: return false
    case .unknown:
      guard let node = cluster.nodes[slot] else { return false }
      let matches = Cluster.matchesAffinity(demand, node)
      verdicts[current][slot] = matches ? .matches : .fails
      return matches
    }
  }
}
