import Base

/// A `Deployment` (apps/v1) as controllers read it.
/// Source: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/deployment-v1/
package struct Deployment: Sendable, Hashable {
  package enum Strategy: String, Sendable {
    case rollingUpdate = "RollingUpdate"
    case recreate = "Recreate"
  }

  package var object: Object
  package var selector: LabelSelector?

  /// A selector that cannot be read selects nothing.
  package init(_ object: Object) {
    self.object = object
    selector = object.spec["selector"].isNull ? nil : try? LabelSelector(object.spec["selector"])
  }

  package static let resource = "deployments.apps"
  package static let apiVersion = "apps/v1"
  package static let kind = "Deployment"

  package var name: String { object.name }
  package var namespace: String { object.namespace }
  package var uid: String { object.uid }
  package var annotations: [String: String] { object.annotations }
  package var generation: Int64 { object.generation }
  package var isBeingDeleted: Bool { object.isBeingDeleted }

  /// spec.replicas; 1 where it is not said.
  package var replicas: Int64 { object.spec["replicas"].int ?? 1 }
  package var template: Value { object.spec["template"] }
  package var minReadySeconds: Int64 { object.spec["minReadySeconds"].int ?? 0 }
  package var isPaused: Bool { object.spec["paused"].bool ?? false }
  package var revisionHistoryLimit: Int64 { object.spec["revisionHistoryLimit"].int ?? 10 }
  package var strategy: Strategy { Strategy(rawValue: object.spec["strategy"]["type"].string ?? "") ?? .rollingUpdate }
  /// nil: no deadline. Kubernetes takes the largest 32-bit number for "none", too.
  package var progressDeadline: Int64? {
    guard let seconds = object.spec["progressDeadlineSeconds"].int, seconds != Int64(Int32.max) else { return nil }
    return seconds
  }
  package var collisionCount: Int64 { object.status["collisionCount"].int ?? 0 }
  package var observedGeneration: Int64 { object.status["observedGeneration"].int ?? 0 }

  /// Pods beyond `replicas` that a rolling update may have, and how many may be missing. A percentage of surge is
  /// rounded up, one of unavailability down; both zero would never move, so one may then be missing.
  package var fenceposts: (surge: Int64, unavailable: Int64) {
    guard strategy == .rollingUpdate else { return (0, 0) }
    let rolling = object.spec["strategy"]["rollingUpdate"]
    func scaled(_ value: Value, roundUp: Bool) -> Int64 {
      (IntOrString(value) ?? .string("25%")).scaled(of: replicas, roundUp: roundUp) ?? 0
    }
    let surge = max(0, scaled(rolling["maxSurge"], roundUp: true))
    let unavailable = max(0, scaled(rolling["maxUnavailable"], roundUp: false))
    if surge == 0, unavailable == 0 { return (0, 1) }
    return (surge, unavailable)
  }
  package var maxSurge: Int64 { fenceposts.surge }
  /// Never more than there are.
  package var maxUnavailable: Int64 { min(fenceposts.unavailable, replicas) }
}
