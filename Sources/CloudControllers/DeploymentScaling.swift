import Base
import ObjectModel

/// Scaling in the middle of a rollout: every set grows or shrinks by its share, so that what is broken does not get
/// all the new pods.
/// Source: https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#proportional-scaling
extension DeploymentDecision {
  mutating func scaleProportionally() {
    if let only = activeOrLatest {
      if only.replicas != deployment.replicas || only.desiredReplicas != deployment.replicas {
        scale(only, to: deployment.replicas)
      }
      return
    }
    if isSaturated {
      for set in old where set.replicas > 0 { scale(set, to: 0) }
      return
    }
    guard deployment.strategy == .rollingUpdate else { return }
    let active = all.filter { $0.replicas > 0 }
    let allowed = deployment.replicas > 0 ? deployment.replicas + deployment.maxSurge : 0
    let missing = allowed - active.reduce(0) { $0 + $1.replicas }
    let ordered = active.sorted { a, b in
      if a.replicas != b.replicas { return a.replicas > b.replicas }
      return missing > 0 ? Self.isOlder(b, a) : Self.isOlder(a, b)
    }
    var added: Int64 = 0
    var targets = ordered.map { set in
      let share = missing == 0 ? 0 : proportion(set, missing: missing, added: added)
      added += share
      return set.replicas + share
    }
    // What rounding left over goes to the largest.
    if missing != 0, let first = targets.first { targets[0] = max(0, first + missing - added) }
    for (set, target) in zip(ordered, targets)
    where target != set.replicas || set.desiredReplicas != deployment.replicas { scale(set, to: target) }
  }

  /// The one set that has pods, or the newest if none has.
  private var activeOrLatest: ReplicaSet? {
    let active = all.filter { $0.replicas > 0 }
    switch active.count {
    case 0: return new ?? old.last
    case 1: return active[0]
    default: return nil
    }
  }

  /// The new set has all its pods, and they serve: the old ones are not needed.
  private var isSaturated: Bool {
    guard let new else { return false }
    return new.desiredReplicas == deployment.replicas && new.replicas == deployment.replicas
      && new.availableReplicas == deployment.replicas
  }

  private func proportion(_ set: ReplicaSet, missing: Int64, added: Int64) -> Int64 {
    guard set.replicas != 0, missing != added else { return 0 }
    let share = fraction(set)
    let left = missing - added
    return missing > 0 ? min(share, left) : max(share, left)
  }

  private func fraction(_ set: ReplicaSet) -> Int64 {
    if deployment.replicas == 0 { return -set.replicas }
    let before = set.mostReplicas.flatMap { $0 == 0 ? nil : $0 } ?? deployment.object.status["replicas"].int ?? 0
    guard before != 0 else { return 0 }
    let most = deployment.replicas + deployment.maxSurge
    let size = (Double(set.replicas) * Double(most) / Double(before)).rounded()
    return Int64(size) - set.replicas
  }
}
