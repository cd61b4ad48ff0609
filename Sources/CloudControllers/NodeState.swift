import API
import Base
import ObjectModel

/// What controllers keep of a Node.
package struct NodeState: Informed, Hashable {
  package var name: String
  package var uid: String
  package var revision: UInt64
  package var taints: [Taint]
  package var isUnschedulable: Bool
  /// The value of the label `skerry.io/group`; empty without one.
  package var group: String
  package var isBeingDeleted: Bool
  package var conditions: [Condition]

  package init(stored: APIObject) throws(SkerryError) {
    self.init(try stored.decoded(status: ["conditions"]), revision: stored.revision)
  }

  package init(_ object: Object, revision: UInt64) {
    name = object.name
    uid = object.uid
    self.revision = revision
    group = object.labels[Self.groupLabel] ?? ""
    taints = (object.spec["taints"].array ?? []).map(Taint.init)
    isUnschedulable = object.spec["unschedulable"].bool ?? false
    isBeingDeleted = object.isBeingDeleted
    conditions = Conditions.all(object.status)
  }

  package static let resource = "nodes"
  /// Puts a node into a group, for which grace, eviction and budgets can be set.
  package static let groupLabel = "skerry.io/group"
  package var reference: ObjectReference { ObjectReference(resource: Self.resource, name: name) }
  package func condition(_ type: String) -> Condition? { conditions.first { $0.type == type } }
  package var isReady: Bool { condition("Ready")?.isTrue ?? false }
}

extension Taint {
  package static let notReady = "node.kubernetes.io/not-ready"
  package static let unreachable = "node.kubernetes.io/unreachable"
  package static let unschedulable = "node.kubernetes.io/unschedulable"
  package static let networkUnavailable = "node.kubernetes.io/network-unavailable"
  package static let memoryPressure = "node.kubernetes.io/memory-pressure"
  package static let diskPressure = "node.kubernetes.io/disk-pressure"
  package static let pidPressure = "node.kubernetes.io/pid-pressure"

  /// A taint is the same by key and effect, whatever its value and time.
  package func isSame(as other: Taint) -> Bool { key == other.key && effect == other.effect }
}
