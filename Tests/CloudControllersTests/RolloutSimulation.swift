import API
import Base
import CloudControllers
import ObjectModel
import Testing

/// A deployment, its replica sets and pods, driven by the pure decisions alone, one random step at a time.
final class RolloutSimulation {
  struct SimulatedPod {
    var state: PodState
    var owner: String
  }

  let random: SeededRandom
  var time = now
  var deployment: Deployment
  var sets: [ReplicaSet] = []
  var pods: [SimulatedPod] = []
  var names = 0
  /// Templates whose pods never become ready.
  var broken: Set<String> = []

  init(
    seed: UInt64, replicas: Int64, surge: Value, unavailable: Value, strategy: String = "RollingUpdate",
    minReady: Int64 = 0
  ) {
    random = SeededRandom(seed: seed)
    deployment = Deployment(
      Object([
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": ["name": "web", "namespace": "default", "uid": "deployment", "generation": 1],
        "spec": [
          "replicas": .int(replicas), "selector": ["matchLabels": ["app": "web"]],
          "strategy": [
            "type": .string(strategy), "rollingUpdate": ["maxSurge": surge, "maxUnavailable": unavailable],
          ],
          "progressDeadlineSeconds": 600, "revisionHistoryLimit": 2, "minReadySeconds": .int(minReady),
          "template": ["metadata": ["labels": ["app": "web"]], "spec": ["containers": [["image": "v1"]]]],
        ],
      ]))
  }

  func change(_ body: (inout Object) -> Void) {
    body(&deployment.object)
    deployment.object.metadata["generation"] = .int(deployment.generation + 1)
  }
  func setImage(_ image: String) {
    change { $0.spec["template"]["spec"]["containers"] = [["image": .string(image)]] }
  }
  func image(_ set: ReplicaSet) -> String { set.template["spec"]["containers"][0]["image"].string ?? "" }

  var specified: Int64 { sets.reduce(0) { $0 + $1.replicas } }
  var available: Int64 { Int64(pods.count { $0.state.isReady && $0.state.isActive }) }
  func set(of image: String) -> ReplicaSet? { sets.first { self.image($0) == image } }

  func step() {
    time = time + .seconds(1)
    switch random.below(8) {
    case 0, 1: stepDeployment()
    case 2, 3, 4: if !sets.isEmpty { stepReplicaSet(Int(random.below(UInt64(sets.count)))) }
    default: stepPod()
    }
  }

  func stepDeployment() {
    var live: [String: Int] = [:]
    for pod in pods where !pod.state.isTerminal { live[pod.owner, default: 0] += 1 }
    let decision = DeploymentDecision(.init(deployment: deployment, sets: sets, livePods: live, now: time))
    if let create = decision.create { add(create) }
    for change in decision.changes { patch(change.set.uid, change.patch) }
    for set in decision.delete { sets.removeAll { $0.uid == set.uid } }
    if let revision = decision.revision {
      deployment.object.metadata["annotations"][DeploymentDecision.Annotation.revision] = .string(revision)
    }
    if let patch = decision.statusPatch {
      deployment.object.value = MergePatch.apply(patch, to: deployment.object.value)
    }
  }

  private func add(_ value: Value) {
    var object = Object(value)
    names += 1
    object.metadata["uid"] = .string("rs\(names)")
    object.metadata["generation"] = 1
    object.metadata["creationTimestamp"] = .string(Timestamp.format(time))
    sets.append(ReplicaSet(object))
  }

  private func patch(_ uid: String, _ patch: Value) {
    guard let index = sets.firstIndex(where: { $0.uid == uid }) else { return }
    var object = sets[index].object
    let spec = object.spec
    object.value = MergePatch.apply(patch, to: object.value)
    if object.spec != spec { object.metadata["generation"] = .int(object.generation + 1) }
    sets[index] = ReplicaSet(object)
  }

  func stepReplicaSet(_ index: Int) {
    let set = sets[index]
    let mine = pods.filter { $0.owner == set.uid }.map(\.state)
    var inputs = ReplicaSetDecision.Inputs(replicaSet: set, pods: mine, now: time)
    for pod in mine { inputs.readyFor[pod.uid] = pod.readyChanged.map { time - $0 } }
    let decision = ReplicaSetDecision(inputs)
    for _ in 0..<decision.create {
      names += 1
      var state = podState("p\(names)", owner: set.uid, phase: .pending, ready: false)
      state.labels = set.template["metadata"]["labels"].stringMap
      state.creation = time
      pods.append(SimulatedPod(state: state, owner: set.uid))
    }
    for pod in decision.delete {
      if let at = pods.firstIndex(where: { $0.state.uid == pod.uid }) { pods[at].state.isBeingDeleted = true }
    }
    if let status = ReplicaSetDecision.status(set, decision.counts, failure: nil, now: time) {
      patch(set.uid, status)
    }
  }

  /// A pod starts, becomes ready, or is gone at last.
  private func stepPod() {
    guard !pods.isEmpty else { return }
    let index = Int(random.below(UInt64(pods.count)))
    if pods[index].state.isBeingDeleted {
      pods.remove(at: index)
    } else if let set = sets.first(where: { $0.uid == pods[index].owner }), !broken.contains(image(set)) {
      pods[index].state.phase = .running
      if !pods[index].state.isReady { pods[index].state.readyChanged = time }
      pods[index].state.isReady = true
    }
  }

  /// Steps until the rollout is complete; false if it does not get there.
  func settle(steps: Int = 20_000, check: (RolloutSimulation) -> Bool = { _ in true }) -> Bool {
    for _ in 0..<steps {
      step()
      guard check(self) else { return false }
      if isSettled { return true }
    }
    return false
  }

  var isSettled: Bool {
    let status = deployment.object.status
    return status["observedGeneration"].int == deployment.generation
      && (status["updatedReplicas"].int ?? 0) == deployment.replicas
      && (status["replicas"].int ?? 0) == deployment.replicas
      && (status["availableReplicas"].int ?? 0) == deployment.replicas
      && Conditions.get(status, "Progressing")?.reason == "NewReplicaSetAvailable"
  }
}
