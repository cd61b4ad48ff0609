import Base
import ObjectModel

/// A term of a node affinity: all its requirements hold. A term without requirements matches no node.
/// Source: https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/#node-affinity
package struct NodeSelectorTerm: Sendable, Hashable {
  package enum Operator: String, Sendable {
    case isIn = "In"
    case notIn = "NotIn"
    case exists = "Exists"
    case doesNotExist = "DoesNotExist"
    case greater = "Gt"
    case less = "Lt"
  }
  package struct Requirement: Sendable, Hashable {
    package var key: String
    package var condition: Operator
    package var values: [String]

    func matches(_ value: String?) -> Bool {
      switch condition {
      case .isIn: return value.map(values.contains) ?? false
      case .notIn: return value.map { !values.contains($0) } ?? true
      case .exists: return value != nil
      case .doesNotExist: return value == nil
      case .greater, .less:
        guard let number = value.flatMap(Int64.init), let bound = values.first.flatMap(Int64.init) else { return false }
        return condition == .greater ? number > bound : number < bound
      }
    }
  }

  package var labels: [Requirement]
  /// On `metadata.name`, the one field that Kubernetes takes here.
  package var fields: [Requirement]
  private var isUnderstood = true

  package init(_ term: Value) {
    let labels = Self.requirements(term["matchExpressions"])
    let fields = Self.requirements(term["matchFields"])
    self.labels = labels ?? []
    self.fields = fields ?? []
    // An operator or field that nobody here knows must not let the pod go anywhere.
    isUnderstood = labels != nil && fields != nil && self.fields.allSatisfy { $0.key == "metadata.name" }
  }

  private static func requirements(_ list: Value) -> [Requirement]? {
    var out: [Requirement] = []
    for item in list.array ?? [] {
      guard let condition = Operator(rawValue: item["operator"].string ?? "") else { return nil }
      let values = (item["values"].array ?? []).compactMap(\.string)
      out.append(Requirement(key: item["key"].string ?? "", condition: condition, values: values))
    }
    return out
  }

  package func matches(name: String, labels nodeLabels: [String: String]) -> Bool {
    guard isUnderstood, !labels.isEmpty || !fields.isEmpty else { return false }
    return labels.allSatisfy { $0.matches(nodeLabels[$0.key]) } && fields.allSatisfy { $0.matches(name) }
  }
}
