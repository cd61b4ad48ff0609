import API
import Base
import ObjectModel

/// A node as the scheduler sees it: what it offers. What is taken stands in `Cluster`.
package struct NodeRecord: Informed, Hashable {
  package var name: String
  package var uid: String
  package var labels: [String: String]
  package var isUnschedulable: Bool
  /// NoSchedule and NoExecute.
  package var hardTaints: [Taint]
  /// PreferNoSchedule.
  package var softTaints: [Taint]
  package var allocatable: Resources
  package var maxPods: Int64
  /// Bytes of the images that it holds, by name.
  package var images: [String: Int64]

  package init(stored: APIObject) throws(SkerryError) { self.init(try stored.decoded()) }

  package init(_ object: Object) {
    let node = Node(object)
    name = object.name
    uid = object.uid
    labels = object.labels
    isUnschedulable = node.isUnschedulable
    hardTaints = node.taints.filter { $0.effect == "NoSchedule" || $0.effect == "NoExecute" }
    softTaints = node.taints.filter { $0.effect == "PreferNoSchedule" }
    allocatable = Resources(
      cpu: node.allocatable("cpu")?.milli ?? 0, memory: node.allocatable("memory")?.units ?? 0)
    maxPods = node.allocatable("pods")?.units ?? 0
    images = [:]
    for name in Set(object.status["allocatable"].object?.keys ?? []).union(object.status["capacity"].object?.keys ?? [])
    where name != "cpu" && name != "memory" && name != "pods" {
      allocatable.extended[name] = node.allocatable(name)?.units
    }
    for image in node.images {
      for name in image.names { images[name] = image.bytes }
    }
  }

  package var zone: String { labels["topology.kubernetes.io/zone"] ?? "" }

  /// A tolerable stand-in for `spec.unschedulable`.
  static let unschedulableTaint = Taint(key: "node.kubernetes.io/unschedulable", effect: "NoSchedule")
}
