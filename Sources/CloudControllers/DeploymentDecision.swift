import API
import Base
import ObjectModel

/// What a deployment's controller does now, decided from what its caches show. Pure.
///
/// One reconciliation takes one step (creates the new replica set, or scales some); what follows comes when the
/// caches show the effect. The rules are Kubernetes'.
/// Source: https://kubernetes.io/docs/concepts/workloads/controllers/deployment/
package struct DeploymentDecision {
  package struct Inputs {
    package var deployment: Deployment
    /// Replica sets of its namespace that it owns, or that nobody owns.
    package var sets: [ReplicaSet]
    /// Pods of each replica set, by its uid, that have not ended; those on their way out count.
    package var livePods: [String: Int]
    package var now: WallTime

    package init(deployment: Deployment, sets: [ReplicaSet], livePods: [String: Int] = [:], now: WallTime) {
      self.deployment = deployment
      self.sets = sets
      self.livePods = livePods
      self.now = now
    }
  }

  /// A change of one replica set.
  package struct Change {
    package var set: ReplicaSet
    /// A merge patch; null where only an event is meant.
    package var patch: Value
    /// From and to, if the number of replicas changes.
    package var scaled: (from: Int64, to: Int64)?
  }

  package var adopt: [ReplicaSet] = []
  package var release: [ReplicaSet] = []
  /// The new replica set, to be created.
  package var create: Value?
  package var changes: [Change] = []
  package var delete: [ReplicaSet] = []
  /// The revision to write on the deployment; nil if it stands there.
  package var revision: String?
  /// The patch of the status; nil if it says that already.
  package var statusPatch: Value?
  package var again: Duration?

  let deployment: Deployment
  let now: WallTime
  private let livePods: [String: Int]
  /// The replica set of the current template.
  var new: ReplicaSet?
  /// All others, oldest first.
  var old: [ReplicaSet] = []
  var status: Value

  package init(_ inputs: Inputs) {
    deployment = inputs.deployment
    now = inputs.now
    livePods = inputs.livePods
    status = inputs.deployment.object.status
    let claim = Claim(
      inputs.sets, owner: deployment.uid, ownerLives: !deployment.isBeingDeleted, selector: deployment.selector)
    adopt = claim.adopted
    release = claim.released
    sort(claim.owned + claim.adopted)
    decide()
    finishStatus()
  }

  private mutating func sort(_ sets: [ReplicaSet]) {
    let ordered = sets.sorted(by: Self.isOlder)
    let template = TemplateHash.stripped(deployment.template)
    // Several with this template can only be there after an accident; the oldest is the one that counts.
    new = ordered.first { TemplateHash.stripped($0.template) == template }
    old = ordered.filter { $0.uid != new?.uid }
  }

  static func isOlder(_ a: ReplicaSet, _ b: ReplicaSet) -> Bool {
    if let x = a.creation, let y = b.creation, x != y { return x < y }
    return a.name < b.name
  }

  private mutating func decide() {
    if deployment.isBeingDeleted { return }
    notePause()
    if deployment.isPaused {
      syncRevision(creating: false)
      scaleProportionally()
      cleanUp()
    } else if isScalingEvent {
      syncRevision(creating: false)
      scaleProportionally()
    } else if deployment.strategy == .recreate {
      recreate()
    } else {
      rollOut()
    }
  }

  /// Somebody changed `replicas`: the sets were last scaled for another number.
  private var isScalingEvent: Bool {
    all.contains { $0.replicas > 0 && $0.desiredReplicas != nil && $0.desiredReplicas != deployment.replicas }
  }

  var all: [ReplicaSet] { old + (new.map { [$0] } ?? []) }

  // MARK: Strategies

  /// All old pods go before the first new one comes.
  private mutating func recreate() {
    syncRevision(creating: false)
    let active = old.filter { $0.replicas > 0 }
    for set in active { scale(set, to: 0) }
    guard active.isEmpty, !old.contains(where: { livePods[$0.uid] ?? 0 > 0 }) else { return }
    if let new {
      if new.replicas != deployment.replicas { scale(new, to: deployment.replicas) }
    } else {
      syncRevision(creating: true)
    }
    cleanUpWhenComplete()
  }

  private mutating func rollOut() {
    syncRevision(creating: true)
    if create != nil || growNew() || shrinkOld() { return }
    cleanUpWhenComplete()
  }

  /// Brings the new set towards its size within what surge allows; true if it was scaled.
  private mutating func growNew() -> Bool {
    guard let new, new.replicas != deployment.replicas else { return false }
    let target = new.replicas > deployment.replicas ? deployment.replicas : newReplicas(current: new.replicas)
    guard target != new.replicas else { return false }
    scale(new, to: target)
    return true
  }

  /// The size of the new set now: what it has, and what surge leaves room for.
  func newReplicas(current: Int64) -> Int64 {
    guard deployment.strategy == .rollingUpdate else { return deployment.replicas }
    let most = deployment.replicas + deployment.maxSurge
    let total = old.reduce(0) { $0 + $1.replicas } + current
    guard total < most else { return current }
    return current + min(most - total, deployment.replicas - current)
  }

  /// Takes old pods away as far as enough stay available; the ones that do not work first. True if any was scaled.
  private mutating func shrinkOld() -> Bool {
    let total = all.reduce(0) { $0 + $1.replicas }
    guard old.contains(where: { $0.replicas > 0 }) else { return false }
    let least = deployment.replicas - deployment.maxUnavailable
    let newUnavailable = new.map { $0.replicas - $0.dependable } ?? 0
    let budget = total - least - newUnavailable
    guard budget > 0 else { return false }
    var targets = old.map(\.replicas)
    var cleaned: Int64 = 0
    for index in old.indices where targets[index] > 0 {
      let unhealthy = min(budget - cleaned, targets[index] - old[index].dependable)
      guard unhealthy > 0 else { continue }
      targets[index] -= unhealthy
      cleaned += unhealthy
    }
    var spare = all.reduce(0) { $0 + $1.dependable } - least
    for index in old.indices where spare > 0 && targets[index] > 0 {
      let taken = min(spare, targets[index])
      targets[index] -= taken
      spare -= taken
      cleaned += taken
    }
    for (set, target) in zip(old, targets) where set.replicas != target { scale(set, to: target) }
    return cleaned > 0
  }

  // MARK: History

  private mutating func cleanUpWhenComplete() {
    computeCounts()
    if isComplete { cleanUp() }
  }

  /// Deletes the oldest revisions beyond the limit, of those that are empty.
  private mutating func cleanUp() {
    let kept = old.filter { !$0.isBeingDeleted }
    let surplus = kept.count - Int(clamping: max(0, deployment.revisionHistoryLimit))
    guard surplus > 0 else { return }
    let byRevision = kept.sorted { ($0.revisionNumber, $0.name) < ($1.revisionNumber, $1.name) }
    delete = byRevision.prefix(surplus).filter {
      $0.replicas == 0 && $0.statusReplicas == 0 && $0.observedGeneration >= $0.generation
    }
  }
}

// MARK: Changes of replica sets

extension DeploymentDecision {
  mutating func scale(_ set: ReplicaSet, to replicas: Int64) {
    let (desired, most) = (deployment.replicas, deployment.replicas + deployment.maxSurge)
    change(set) { patch in
      patch["metadata"]["annotations"][Annotation.desired] = .string(String(desired))
      patch["metadata"]["annotations"][Annotation.most] = .string(String(most))
      if replicas != set.replicas { patch["spec"]["replicas"] = .int(replicas) }
    }
    guard replicas != set.replicas, let index = changes.firstIndex(where: { $0.set.uid == set.uid }) else { return }
    changes[index].scaled = (set.replicas, replicas)
  }

  mutating func change(_ set: ReplicaSet, _ body: (inout Value) -> Void) {
    if let index = changes.firstIndex(where: { $0.set.uid == set.uid }) {
      body(&changes[index].patch)
    } else {
      var patch: Value = ["metadata": ["uid": .string(set.uid)]]
      body(&patch)
      changes.append(Change(set: set, patch: patch, scaled: nil))
    }
  }
}

extension ReplicaSet {
  /// Available pods that it will still have once it is scaled: a status may be older than the spec.
  var dependable: Int64 { min(availableReplicas, replicas) }
  /// What the deployment asked for when this set was last scaled.
  var desiredReplicas: Int64? { annotations[DeploymentDecision.Annotation.desired].flatMap(Int64.init) }
  /// That and the surge then.
  var mostReplicas: Int64? { annotations[DeploymentDecision.Annotation.most].flatMap(Int64.init) }
  var revisionNumber: Int64 { annotations[DeploymentDecision.Annotation.revision].flatMap(Int64.init) ?? 0 }
}
