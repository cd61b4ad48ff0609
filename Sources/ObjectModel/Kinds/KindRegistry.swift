import Base

/// The kinds that a server serves, found by each of their names.
package struct KindRegistry: Sendable {
  /// In the order they were declared.
  package let kinds: [Kind]
  private let byResource: [String: Int]
  private let byKind: [String: Int]
  private let byName: [String: Int]

  package init(_ kinds: [Kind]) {
    var (byResource, byKind, byName): ([String: Int], [String: Int], [String: Int]) = ([:], [:], [:])
    for (index, kind) in kinds.enumerated() {
      byResource[kind.resource] = index
      byKind["\(kind.apiVersion)/\(kind.kind)"] = index
      for name in [kind.plural, kind.singular] + kind.shortNames where byName[name] == nil { byName[name] = index }
    }
    self.kinds = kinds
    self.byResource = byResource
    self.byKind = byKind
    self.byName = byName
  }

  package static let standard = KindRegistry([
    .namespace, .node, .pod, .configMap, .secret, .event, .replicaSet, .deployment, .lease, .device, .deviceModel,
  ])

  /// By `pods`, `deployments.apps`.
  package subscript(resource resource: String) -> Kind? { byResource[resource].map { kinds[$0] } }

  /// By a manifest's `apiVersion` and `kind`.
  package func kind(apiVersion: String, kind: String) -> Kind? { byKind["\(apiVersion)/\(kind)"].map { kinds[$0] } }

  /// By what a person types: plural, singular or short name in any case, alone or with group or version and group
  /// (`deploy`, `Deployment.apps`, `deployments.v1.apps`).
  package func find(_ name: String) -> Kind? {
    let parts = name.lowercased().split(separator: ".", maxSplits: 1).map(String.init)
    guard let first = parts.first, let index = byName[first] else { return nil }
    if parts.count == 1 { return kinds[index] }
    return kinds.first { kind in
      ([kind.plural, kind.singular] + kind.shortNames).contains(first)
        && (kind.group == parts[1] || "\(kind.version).\(kind.group)" == parts[1])
    }
  }

  /// The kinds of a category such as `all`.
  package func category(_ name: String) -> [Kind] { kinds.filter { $0.categories.contains(name) } }
}
