import API
import Base
import ObjectModel

/// What a replica set's controller does now, decided from what its caches show. Pure.
package struct ReplicaSetDecision {
  /// Creates or deletions of one reconciliation; stops a large set from holding the controller for long.
  package static let maxBurst = 500

  package struct Inputs {
    package var replicaSet: ReplicaSet
    /// Pods of its namespace that it owns, or that nobody owns.
    package var pods: [PodState]
    /// Active pods on a node that belong to any replica set of the same owner: where many are, deletion starts.
    package var relatedOnNode: [String: Int]
    /// How long pods have been ready, by uid; read only where the set has minReadySeconds.
    package var readyFor: [String: Duration]
    package var now: WallTime

    package init(
      replicaSet: ReplicaSet, pods: [PodState], relatedOnNode: [String: Int] = [:],
      readyFor: [String: Duration] = [:], now: WallTime
    ) {
      self.replicaSet = replicaSet
      self.pods = pods
      self.relatedOnNode = relatedOnNode
      self.readyFor = readyFor
      self.now = now
    }
  }

  package var adopt: [PodState] = []
  package var release: [PodState] = []
  /// Pods to create.
  package var create = 0
  /// Pods to delete, in this order.
  package var delete: [PodState] = []
  /// When a ready pod becomes available with nothing else happening.
  package var again: Duration?
  /// The counts that go to status.
  package var counts = Counts()

  package struct Counts: Hashable {
    package var replicas: Int64 = 0
    package var fullyLabeled: Int64 = 0
    package var ready: Int64 = 0
    package var available: Int64 = 0
    package init() {}
  }

  package init(_ inputs: Inputs) {
    let set = inputs.replicaSet
    let claim = Claim(
      inputs.pods.filter(\.isActive), owner: set.uid, ownerLives: !set.isBeingDeleted, selector: set.selector)
    adopt = claim.adopted
    release = claim.released
    let active = claim.owned + claim.adopted
    count(active, inputs)
    guard !set.isBeingDeleted else { return }
    let difference = active.count - Int(clamping: set.replicas)
    if difference < 0 {
      create = min(-difference, Self.maxBurst)
    } else if difference > 0 {
      let order = PodDeletionOrder(relatedOnNode: inputs.relatedOnNode, now: inputs.now)
      delete = Array(active.sorted(by: order.precedes).prefix(min(difference, Self.maxBurst)))
    }
  }

  private mutating func count(_ active: [PodState], _ inputs: Inputs) {
    let set = inputs.replicaSet
    let wanted = set.template["metadata"]["labels"].stringMap
    let minimum = Duration.seconds(set.minReadySeconds)
    counts.replicas = Int64(active.count)
    for pod in active {
      if wanted.allSatisfy({ pod.labels[$0.key] == $0.value }) { counts.fullyLabeled += 1 }
      guard pod.isReady else { continue }
      counts.ready += 1
      let missing = set.minReadySeconds == 0 ? .zero : minimum - (inputs.readyFor[pod.uid] ?? .zero)
      if missing <= .zero {
        counts.available += 1
      } else {
        again = min(again ?? missing, missing)
      }
    }
  }

  /// The status to write, or nil if it says that already. `failure` is what went wrong while creating or deleting.
  package static func status(
    _ set: ReplicaSet, _ counts: Counts, failure: (reason: String, message: String)?, now: WallTime
  ) -> Value? {
    var status = set.object.status
    status["replicas"] = .int(counts.replicas)
    for (field, count) in [
      ("fullyLabeledReplicas", counts.fullyLabeled), ("readyReplicas", counts.ready),
      ("availableReplicas", counts.available),
    ] {
      // Kubernetes leaves a count of zero out.
      if count != 0 { status[field] = .int(count) } else { status.remove(field) }
    }
    status["observedGeneration"] = .int(set.generation)
    if let failure {
      Conditions.set(
        &status, Condition("ReplicaFailure", true, reason: failure.reason, message: failure.message), now: now)
    } else {
      Conditions.remove(&status, "ReplicaFailure")
      if status["conditions"].array?.isEmpty == true { status.remove("conditions") }
    }
    guard status != set.object.status else { return nil }
    return ["status": MergePatch.difference(from: set.object.status, to: status)]
  }

  /// The pod that the set's template describes.
  package static func pod(of set: ReplicaSet) -> Value {
    let template = set.template
    var metadata: Value = ["generateName": .string(set.name + "-"), "namespace": .string(set.namespace)]
    for field in ["labels", "annotations", "finalizers"] where !template["metadata"][field].isNull {
      metadata[field] = template["metadata"][field]
    }
    metadata["ownerReferences"] = [set.reference.value]
    return ["apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]]
  }
}

extension ReplicaSet {
  /// How the pods of this set name it as their controller.
  package var reference: OwnerReference {
    OwnerReference(apiVersion: Self.apiVersion, kind: Self.kind, name: name, uid: uid)
  }
}

/// Which pod goes first when a replica set shrinks: the one whose end costs least.
/// Source: https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/#scaling-a-replicaset
package struct PodDeletionOrder {
  package var relatedOnNode: [String: Int]
  package var now: WallTime

  package init(relatedOnNode: [String: Int], now: WallTime) {
    self.relatedOnNode = relatedOnNode
    self.now = now
  }

  /// True if `a` is deleted before `b`. Never true both ways; the uid decides last.
  package func precedes(_ a: PodState, _ b: PodState) -> Bool {
    if a.nodeName.isEmpty != b.nodeName.isEmpty { return a.nodeName.isEmpty }
    if phaseRank(a) != phaseRank(b) { return phaseRank(a) < phaseRank(b) }
    if a.isReady != b.isReady { return !a.isReady }
    if a.deletionCost != b.deletionCost { return a.deletionCost < b.deletionCost }
    let (aRelated, bRelated) = (relatedOnNode[a.nodeName] ?? 0, relatedOnNode[b.nodeName] ?? 0)
    if aRelated != bRelated { return aRelated > bRelated }
    if a.isReady, let difference = younger(a.readyChanged, b.readyChanged) { return difference }
    if a.restarts != b.restarts { return a.restarts > b.restarts }
    if let difference = younger(a.creation, b.creation) { return difference }
    return a.uid < b.uid
  }

  private func phaseRank(_ pod: PodState) -> Int {
    switch pod.phase {
    case .pending: 0
    case .unknown: 1
    default: 2
    }
  }

  /// Ages are compared by powers of two, so that pods made at about the same time go in no particular order.
  private func younger(_ a: WallTime?, _ b: WallTime?) -> Bool? {
    let (aAge, bAge) = (bucket(a), bucket(b))
    return aAge == bAge ? nil : aAge < bAge
  }

  /// No time counts as the youngest.
  private func bucket(_ time: WallTime?) -> Int {
    guard let time else { return -2 }
    let seconds = (now - time).nanosecondCount / 1_000_000_000
    guard seconds > 0 else { return -1 }
    return Int64.bitWidth - 1 - seconds.leadingZeroBitCount
  }
}
