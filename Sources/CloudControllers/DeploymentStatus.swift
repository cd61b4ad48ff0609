import Base
import ObjectModel

/// What a deployment says of itself: counts, and the conditions Available, Progressing and ReplicaFailure.
extension DeploymentDecision {
  private var before: Value { deployment.object.status }
  private func count(_ status: Value, _ field: String) -> Int64 { status[field].int ?? 0 }

  /// Sums up the replica sets. A count of zero is left out, as Kubernetes does.
  mutating func computeCounts() {
    let sets = all
    let available = sets.reduce(0) { $0 + $1.availableReplicas }
    let total = sets.reduce(0) { $0 + $1.replicas }
    for (field, count) in [
      ("replicas", sets.reduce(0) { $0 + $1.statusReplicas }), ("updatedReplicas", new?.statusReplicas ?? 0),
      ("readyReplicas", sets.reduce(0) { $0 + $1.readyReplicas }), ("availableReplicas", available),
      ("unavailableReplicas", max(0, total - available)), ("observedGeneration", deployment.generation),
    ] {
      if count != 0 { status[field] = .int(count) } else { status.remove(field) }
    }
  }

  /// The rollout is over: every pod is new and available, and no old one is left.
  var isComplete: Bool {
    count(status, "updatedReplicas") == deployment.replicas && count(status, "replicas") == deployment.replicas
      && count(status, "availableReplicas") == deployment.replicas
  }

  mutating func finishStatus() {
    computeCounts()
    setAvailable()
    setReplicaFailure()
    if !deployment.isBeingDeleted { updateProgress() }
    guard status != before else { return }
    statusPatch = ["status": MergePatch.difference(from: before, to: status)]
  }

  private mutating func setAvailable() {
    let enough = count(status, "availableReplicas") >= deployment.replicas - deployment.maxUnavailable
    set(
      Condition(
        "Available", enough, reason: enough ? "MinimumReplicasAvailable" : "MinimumReplicasUnavailable",
        message: "Deployment \(enough ? "has" : "does not have") minimum availability."))
  }

  /// What a replica set could not do is the deployment's trouble, too.
  private mutating func setReplicaFailure() {
    let sets = (new.map { [$0] } ?? []) + old
    for replicaSet in sets {
      guard let failure = Conditions.get(replicaSet.object.status, "ReplicaFailure") else { continue }
      return set(Condition("ReplicaFailure", failure.isTrue, reason: failure.reason, message: failure.message))
    }
    Conditions.remove(&status, "ReplicaFailure")
  }

  // MARK: Progress

  private var progress: Condition? { Conditions.get(status, "Progressing") }

  private mutating func updateProgress() {
    guard let deadline = deployment.progressDeadline else { return Conditions.remove(&status, "Progressing") }
    let wasComplete =
      count(status, "replicas") == count(status, "updatedReplicas") && progress?.reason == "NewReplicaSetAvailable"
    if !deployment.isPaused, !wasComplete || !isComplete { updateUnfinished(deadline) }
    planNextLook(deadline)
  }

  private mutating func updateUnfinished(_ deadline: Int64) {
    let subject = new.map { "ReplicaSet \"\($0.name)\"" } ?? "Deployment \"\(deployment.name)\""
    if isComplete {
      setProgress(true, "NewReplicaSetAvailable", "\(subject) has successfully progressed.")
    } else if hasProgressed {
      // Set even where nothing else differs: its lastUpdateTime is what the deadline counts from.
      write(Condition("Progressing", true, reason: "ReplicaSetUpdated", message: "\(subject) is progressing."))
    } else if isTimedOut(deadline) {
      setProgress(false, "ProgressDeadlineExceeded", "\(subject) has timed out progressing.")
    }
  }

  /// More new pods, fewer old ones, more ready or more available ones than the status said.
  private var hasProgressed: Bool {
    func old(_ status: Value) -> Int64 { count(status, "replicas") - count(status, "updatedReplicas") }
    return count(status, "updatedReplicas") > count(before, "updatedReplicas") || old(status) < old(before)
      || count(status, "readyReplicas") > count(before, "readyReplicas")
      || count(status, "availableReplicas") > count(before, "availableReplicas")
  }

  private func isTimedOut(_ deadline: Int64) -> Bool {
    guard let progress, progress.reason != "NewReplicaSetAvailable" else { return false }
    if progress.reason == "ProgressDeadlineExceeded" { return true }
    guard let since = progressedAt else { return false }
    return since + .seconds(deadline) < now
  }

  private var progressedAt: WallTime? { progress?.others["lastUpdateTime"]?.string.flatMap(Timestamp.parse) }

  /// A rollout that hangs makes no event: somebody has to look at its deadline.
  private mutating func planNextLook(_ deadline: Int64) {
    guard !deployment.isPaused, let progress, let since = progressedAt,
      progress.reason != "NewReplicaSetAvailable", progress.reason != "ProgressDeadlineExceeded"
    else { return }
    again = max(.zero, since + .seconds(deadline) - now) + .seconds(1)
  }

  mutating func notePause() {
    guard deployment.progressDeadline != nil else { return }
    if progress?.reason == "ProgressDeadlineExceeded" { return }
    let isNoted = progress?.reason == "DeploymentPaused"
    if deployment.isPaused, !isNoted {
      setProgress(nil, "DeploymentPaused", "Deployment is paused")
    } else if !deployment.isPaused, isNoted {
      setProgress(nil, "DeploymentResumed", "Deployment is resumed")
    }
  }

  mutating func setProgress(_ value: Bool?, _ reason: String, _ message: String) {
    guard deployment.progressDeadline != nil else { return }
    set(Condition("Progressing", value, reason: reason, message: message))
  }

  /// Writes a condition unless one with this status and reason stands there: a message alone is no change.
  private mutating func set(_ condition: Condition) {
    if let current = Conditions.get(status, condition.type), current.status == condition.status,
      current.reason == condition.reason
    {
      return
    }
    write(condition)
  }

  private mutating func write(_ condition: Condition) {
    var condition = condition
    condition.others["lastUpdateTime"] = .string(Timestamp.format(now))
    Conditions.set(&status, condition, now: now)
  }
}
