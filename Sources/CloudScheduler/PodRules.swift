import API
import Base
import ObjectModel

/// The pods that a term of an affinity or of a spread constraint is about.
package struct PodTerm: Sendable, Hashable {
  /// nil selects no pod, as Kubernetes has it.
  package var selector: LabelSelector?
  package var namespaces: Set<String>
  /// Selects further namespaces by their labels.
  package var namespaceSelector: LabelSelector?

  func matches(_ pod: PodDemand, _ namespaceLabels: [String: [String: String]]) -> Bool {
    guard let selector else { return false }
    let space = pod.key.namespace
    if !namespaces.contains(space) {
      guard let namespaceSelector, namespaceSelector.matches(namespaceLabels[space] ?? [:]) else { return false }
    }
    return selector.matches(pod.labels)
  }
}

/// Such pods, in the same topology: on nodes whose labels have the same value under `topologyKey`.
package struct TopologyTerm: Sendable, Hashable {
  package var pods: PodTerm
  package var topologyKey: String
}

/// What a pod asks of the pods beside it; nil for most pods, which then pay nothing for it.
/// Source: https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/#inter-pod-affinity-and-anti-affinity
/// and https://kubernetes.io/docs/concepts/scheduling-eviction/topology-spread-constraints/
package struct PodRules: Sendable, Hashable {
  package struct Wish: Sendable, Hashable {
    /// Below zero: rather not there.
    package var weight: Int64
    package var term: TopologyTerm
  }

  package struct Spread: Sendable, Hashable {
    package var term: TopologyTerm
    package var maxSkew: Int64
    /// DoNotSchedule; else ScheduleAnyway, which only scores.
    package var isHard: Bool
    package var minDomains: Int64
    /// Whether nodes that the pod's node affinity leaves out count (`nodeAffinityPolicy: Ignore`).
    package var ignoresAffinity: Bool
    /// Whether nodes whose taints the pod does not tolerate are left out (`nodeTaintsPolicy: Honor`).
    package var honorsTaints: Bool
  }

  /// All of them must match one pod in the topology.
  package var affinity: [TopologyTerm] = []
  /// None may match a pod in the topology.
  package var antiAffinity: [TopologyTerm] = []
  package var wishes: [Wish] = []
  package var spread: [Spread] = []

  /// nil if the spec asks nothing of other pods.
  init?(_ spec: Value, labels: [String: String], namespace: String) {
    let required = "requiredDuringSchedulingIgnoredDuringExecution"
    let preferred = "preferredDuringSchedulingIgnoredDuringExecution"
    let reader = Reader(labels: labels, namespace: namespace)
    let (near, far) = (spec["affinity"]["podAffinity"], spec["affinity"]["podAntiAffinity"])
    affinity = (near[required].array ?? []).map(reader.term)
    antiAffinity = (far[required].array ?? []).map(reader.term)
    for (list, sign) in [(near[preferred], Int64(1)), (far[preferred], -1)] {
      for item in list.array ?? [] {
        let weight = max(0, min(100, item["weight"].int ?? 0))
        wishes.append(Wish(weight: sign * weight, term: reader.term(item["podAffinityTerm"])))
      }
    }
    spread = (spec["topologySpreadConstraints"].array ?? []).map(reader.spread)
    if affinity.isEmpty, antiAffinity.isEmpty, wishes.isEmpty, spread.isEmpty { return nil }
  }

  /// The counts of pods that a decision on this pod needs.
  var queries: [PodQuery] {
    var queries: [PodQuery] = []
    if !affinity.isEmpty { queries.append(PodQuery(terms: affinity.map(\.pods))) }
    queries += (antiAffinity + wishes.map(\.term)).map { PodQuery(terms: [$0.pods]) }
    return queries + spread.map(\.query)
  }

  private struct Reader {
    let labels: [String: String]
    let namespace: String

    func term(_ value: Value) -> TopologyTerm {
      var pods = PodTerm(selector: selector(value), namespaces: [], namespaceSelector: nil)
      pods.namespaces = Set((value["namespaces"].array ?? []).compactMap(\.string))
      if value["namespaceSelector"].object != nil {
        pods.namespaceSelector = try? LabelSelector(value["namespaceSelector"])
      } else if pods.namespaces.isEmpty {
        pods.namespaces = [namespace]
      }
      return TopologyTerm(pods: pods, topologyKey: value["topologyKey"].string ?? "")
    }

    func spread(_ value: Value) -> Spread {
      let pods = PodTerm(selector: selector(value), namespaces: [namespace], namespaceSelector: nil)
      return Spread(
        term: TopologyTerm(pods: pods, topologyKey: value["topologyKey"].string ?? ""),
        maxSkew: max(1, value["maxSkew"].int ?? 1), isHard: value["whenUnsatisfiable"].string != "ScheduleAnyway",
        minDomains: max(1, value["minDomains"].int ?? 1),
        ignoresAffinity: value["nodeAffinityPolicy"].string == "Ignore",
        honorsTaints: value["nodeTaintsPolicy"].string == "Honor")
    }

    /// `labelSelector`, narrowed to the pod's own values of `matchLabelKeys` and to others than those of
    /// `mismatchLabelKeys`. One that cannot be read selects nothing, so that a required affinity lets the pod nowhere.
    private func selector(_ value: Value) -> LabelSelector? {
      guard value["labelSelector"].object != nil, var selector = try? LabelSelector(value["labelSelector"]) else {
        return nil
      }
      for (field, condition) in [
        ("matchLabelKeys", LabelSelector.Operator.isIn), ("mismatchLabelKeys", .notIn),
      ] {
        for key in (value[field].array ?? []).compactMap(\.string) {
          guard let own = labels[key] else { continue }
          selector.requirements.append(LabelSelector.Requirement(key: key, condition: condition, values: [own]))
        }
      }
      return selector
    }
  }
}

extension PodRules.Spread {
  /// Pods on their way out hold no place in a spread.
  var query: PodQuery { PodQuery(terms: [term.pods], leavesOutTerminating: true) }
}

/// Pods that match all of some terms.
struct PodQuery: Sendable, Hashable {
  var terms: [PodTerm]
  var leavesOutTerminating = false

  var asksForNamespaces: Bool { terms.contains { $0.namespaceSelector != nil } }

  func matches(_ pod: PodDemand, _ namespaceLabels: [String: [String: String]]) -> Bool {
    if leavesOutTerminating, pod.isBeingDeleted { return false }
    return terms.allSatisfy { $0.matches(pod, namespaceLabels) }
  }
}
