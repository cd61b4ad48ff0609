import Base

/// A `ReplicaSet` (apps/v1) as controllers read it.
package struct ReplicaSet: Sendable, Hashable {
  package var object: Object
  package var selector: LabelSelector?

  /// A selector that cannot be read selects nothing.
  package init(_ object: Object) {
    self.object = object
    selector = object.spec["selector"].isNull ? nil : try? LabelSelector(object.spec["selector"])
  }

  package static let resource = "replicasets.apps"
  package static let apiVersion = "apps/v1"
  package static let kind = "ReplicaSet"

  package var name: String { object.name }
  package var namespace: String { object.namespace }
  package var uid: String { object.uid }
  package var labels: [String: String] { object.labels }
  package var annotations: [String: String] { object.annotations }
  package var generation: Int64 { object.generation }
  package var isBeingDeleted: Bool { object.isBeingDeleted }
  package var creation: WallTime? { Timestamp.parse(object.creationTimestamp) }

  /// spec.replicas; 1 where it is not said.
  package var replicas: Int64 { object.spec["replicas"].int ?? 1 }
  package var minReadySeconds: Int64 { object.spec["minReadySeconds"].int ?? 0 }
  package var template: Value { object.spec["template"] }

  package var statusReplicas: Int64 { object.status["replicas"].int ?? 0 }
  package var readyReplicas: Int64 { object.status["readyReplicas"].int ?? 0 }
  package var availableReplicas: Int64 { object.status["availableReplicas"].int ?? 0 }
  package var observedGeneration: Int64 { object.status["observedGeneration"].int ?? 0 }
}
