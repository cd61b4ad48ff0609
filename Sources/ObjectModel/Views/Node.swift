import Base

/// A view of a Node (v1).
package struct Node: Sendable, Hashable {
  package var object: Object
  package init(_ object: Object) { self.object = object }

  package static let resource = "nodes"

  package var name: String { object.name }
  package var labels: [String: String] { object.labels }
  package var isUnschedulable: Bool { object.spec["unschedulable"].bool ?? false }
  package var taints: [Taint] {
    get { (object.spec["taints"].array ?? []).map(Taint.init) }
    set {
      if newValue.isEmpty {
        object.spec.remove("taints")
      } else {
        object.spec["taints"] = .array(newValue.map(\.object))
      }
    }
  }
  package var podCIDR: String { object.spec["podCIDR"].string ?? "" }
  package var conditions: [Condition] { Conditions.all(object.status) }
  package func condition(_ type: String) -> Condition? { Conditions.get(object.status, type) }
  package var isReady: Bool { condition("Ready")?.isTrue ?? false }
  package func capacity(_ resource: String) -> Quantity? { Quantity(object.status["capacity"][resource]) }
  /// What pods may take; the capacity where the node does not tell it apart.
  package func allocatable(_ resource: String) -> Quantity? {
    Quantity(object.status["allocatable"][resource]) ?? capacity(resource)
  }
  /// The first address of a type (`InternalIP`, `ExternalIP`, `Hostname`).
  package func address(_ type: String) -> String? {
    (object.status["addresses"].array ?? []).first { $0["type"].string == type }?["address"].string
  }
  /// Names and size of each image that the node holds.
  package var images: [(names: [String], bytes: Int64)] {
    (object.status["images"].array ?? []).map { image in
      ((image["names"].array ?? []).compactMap(\.string), image["sizeBytes"].int ?? 0)
    }
  }
  package var info: Value { object.status["nodeInfo"] }
  /// From labels `node-role.kubernetes.io/ROLE` and `kubernetes.io/role`, sorted.
  package var roles: [String] {
    let prefix = "node-role.kubernetes.io/"
    var roles: Set<String> = []
    for (key, value) in labels {
      if key.hasPrefix(prefix), key.utf8.count > prefix.utf8.count { roles.insert(String(key.dropFirst(prefix.count))) }
      if key == "kubernetes.io/role", !value.isEmpty { roles.insert(value) }
    }
    return roles.sorted()
  }
}
