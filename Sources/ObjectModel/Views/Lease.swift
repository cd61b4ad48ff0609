import Base

/// A view of a Lease (coordination.k8s.io/v1).
package struct Lease: Sendable, Hashable {
  package var object: Object
  package init(_ object: Object) { self.object = object }

  package static let resource = "leases.coordination.k8s.io"
  /// The namespace of the nodes' leases.
  package static let nodeNamespace = "kube-node-lease"

  package var holder: String { object.spec["holderIdentity"].string ?? "" }
  package var duration: Int64 { object.spec["leaseDurationSeconds"].int ?? 0 }
  package var renewTime: WallTime? { object.spec["renewTime"].string.flatMap(Timestamp.parse) }
}
