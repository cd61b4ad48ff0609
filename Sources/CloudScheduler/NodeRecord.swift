import API
import Base
import ObjectModel

/// A node as the scheduler sees it: what it offers. What is taken stands in `Cluster`.
///
/// A class, since decisions look at thousands of them and must not copy what they look at.
package final class NodeRecord: Informed {
  package let name: String
  package let uid: String
  package let labels: [String: String]
  package let zone: String
  package let isUnschedulable: Bool
  /// NoSchedule and NoExecute.
  package let hardTaints: [Taint]
  /// PreferNoSchedule.
  package let softTaints: [Taint]
  package let allocatable: Resources
  package let maxPods: Int64
  /// Bytes of the images that it holds, by name.
  package let images: [String: Int64]
  /// Of what it was read from; nil if that is not known.
  private let mark: Int?
  /// The members of a node's status that are looked at.
  private static let members = ["allocatable", "capacity", "images"]

  package convenience init(stored: APIObject) throws(SkerryError) {
    try self.init(stored, stored.mark(status: Self.members))
  }

  private convenience init(_ stored: APIObject, _ mark: Int) throws(SkerryError) {
    self.init(try stored.decoded(status: Self.members), mark: mark)
  }

  /// The same record if nothing changed that is looked at: most changes of a node are heartbeats.
  package static func read(
    _ stored: APIObject, after old: NodeRecord?, beside neighbour: NodeRecord?
  ) throws(SkerryError) -> NodeRecord {
    let mark = try stored.mark(status: members)
    if let old, old.mark == mark { return old }
    return try NodeRecord(stored, mark)
  }

  package init(_ object: Object, mark: Int? = nil) {
    self.mark = mark
    let node = Node(object)
    name = object.name
    uid = object.uid
    labels = object.labels
    isUnschedulable = node.isUnschedulable
    hardTaints = node.taints.filter { $0.effect == "NoSchedule" || $0.effect == "NoExecute" }
    softTaints = node.taints.filter { $0.effect == "PreferNoSchedule" }
    zone = object.labels["topology.kubernetes.io/zone"] ?? ""
    var offered = Resources(cpu: node.allocatable("cpu")?.milli ?? 0, memory: node.allocatable("memory")?.units ?? 0)
    maxPods = node.allocatable("pods")?.units ?? 0
    for name in Set(object.status["allocatable"].object?.keys ?? []).union(object.status["capacity"].object?.keys ?? [])
    where name != "cpu" && name != "memory" && name != "pods" {
      offered.extended[name] = node.allocatable(name)?.units
    }
    allocatable = offered
    var held: [String: Int64] = [:]
    for image in node.images {
      for name in image.names { held[name] = image.bytes }
    }
    images = held
  }

  /// True if no pod that was refused by one could go to the other; images let nobody in.
  package func offersTheSame(as other: NodeRecord) -> Bool {
    uid == other.uid && labels == other.labels && isUnschedulable == other.isUnschedulable
      && hardTaints == other.hardTaints && allocatable == other.allocatable && maxPods == other.maxPods
  }

  /// A tolerable stand-in for `spec.unschedulable`.
  static let unschedulableTaint = Taint(key: "node.kubernetes.io/unschedulable", effect: "NoSchedule")
}
