import API
import Base
import CloudControllers
import ObjectModel
import Testing

let now = WallTime(seconds: 1_800_000_000)

func replicaSet(_ replicas: Int64, minReady: Int64 = 0, deleting: Bool = false) -> ReplicaSet {
  var value: Value = [
    "apiVersion": "apps/v1", "kind": "ReplicaSet",
    "metadata": ["name": "web", "namespace": "default", "uid": "rs", "generation": 2],
    "spec": [
      "replicas": .int(replicas), "minReadySeconds": .int(minReady),
      "selector": ["matchLabels": ["app": "web"]],
      "template": ["metadata": ["labels": ["app": "web", "tier": "front"]], "spec": ["containers": []]],
    ],
  ]
  if deleting { value["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z" }
  return ReplicaSet(Object(value))
}

func podState(
  _ name: String, owner: String? = "rs", app: String = "web", node: String = "n1", phase: PodState.Phase = .running,
  ready: Bool = true, age: Int64 = 100, readyAge: Int64 = 50, _ change: (inout PodState) -> Void = { _ in }
) -> PodState {
  var pod = PodState(key: ObjectKey(namespace: "default", name: name), uid: name)
  pod.labels = ["app": app]
  if let owner { pod.owners = [OwnerReference(apiVersion: "apps/v1", kind: "ReplicaSet", name: "web", uid: owner)] }
  pod.nodeName = node
  pod.phase = phase
  pod.isReady = ready
  pod.creation = now + .seconds(-age)
  pod.readyChanged = now + .seconds(-readyAge)
  change(&pod)
  return pod
}

func decide(
  _ set: ReplicaSet, _ pods: [PodState], related: [String: Int] = [:], readyFor: [String: Duration] = [:]
) -> ReplicaSetDecision {
  ReplicaSetDecision(.init(replicaSet: set, pods: pods, relatedOnNode: related, readyFor: readyFor, now: now))
}

@Suite struct ReplicaSetDecisionTests {
  @Test func createsWhatIsMissing() {
    let decision = decide(replicaSet(3), [podState("a")])
    #expect(decision.create == 2)
    #expect(decision.delete.isEmpty)
  }

  @Test func endedAndLeavingPodsDoNotCount() {
    let pods = [
      podState("a"), podState("b", phase: .failed), podState("c", phase: .succeeded),
      podState("d") { $0.isBeingDeleted = true },
    ]
    #expect(decide(replicaSet(3), pods).create == 2)
  }

  @Test func adoptsOrphansThatMatchAndReleasesWhatNoLongerDoes() {
    let decision = decide(
      replicaSet(2),
      [
        podState("orphan", owner: nil), podState("stranger", owner: nil, app: "db"),
        podState("theirs", owner: "other"), podState("changed", app: "debug"),
      ])
    #expect(decision.adopt.map(\.uid) == ["orphan"])
    #expect(decision.release.map(\.uid) == ["changed"])
    #expect(decision.create == 1)
  }

  @Test func aSetThatIsBeingDeletedOnlyCounts() {
    let decision = decide(
      replicaSet(5, deleting: true), [podState("a"), podState("o", owner: nil), podState("changed", app: "debug")])
    #expect(decision.create == 0)
    #expect(decision.adopt.isEmpty)
    #expect(decision.release.isEmpty)
    #expect(decision.counts.replicas == 2)
  }

  @Test func aBurstIsBounded() {
    #expect(decide(replicaSet(10_000), []).create == ReplicaSetDecision.maxBurst)
    let many = (0..<600).map { podState("p\($0)") }
    #expect(decide(replicaSet(0), many).delete.count == ReplicaSetDecision.maxBurst)
  }

  @Test func availabilityWaitsForMinReadySeconds() {
    let pods = [podState("a"), podState("b"), podState("c", ready: false)]
    let readyFor: [String: Duration] = ["a": .seconds(10), "b": .seconds(4)]
    let decision = decide(replicaSet(3, minReady: 10), pods, readyFor: readyFor)
    #expect(decision.counts.ready == 2)
    #expect(decision.counts.available == 1)
    #expect(decision.again == .seconds(6))
    #expect(decide(replicaSet(3), pods).counts.available == 2)
  }

  struct Pair: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let first: PodState
    let second: PodState
  }
  static let order: [Pair] = [
    Pair(testDescription: "unassigned first", first: podState("z", node: ""), second: podState("a", phase: .pending)),
    Pair(testDescription: "pending before running", first: podState("z", phase: .pending), second: podState("a")),
    Pair(
      testDescription: "pending before unknown", first: podState("z", phase: .pending),
      second: podState("a", phase: .unknown)),
    Pair(testDescription: "unready before ready", first: podState("z", ready: false), second: podState("a")),
    Pair(testDescription: "lower cost first", first: podState("z") { $0.deletionCost = -1 }, second: podState("a")),
    Pair(testDescription: "crowded node first", first: podState("z", node: "crowded"), second: podState("a")),
    Pair(
      testDescription: "ready for a shorter time first", first: podState("z", readyAge: 2),
      second: podState("a", readyAge: 90)),
    Pair(testDescription: "more restarts first", first: podState("z") { $0.restarts = 3 }, second: podState("a")),
    Pair(testDescription: "younger first", first: podState("z", age: 10), second: podState("a", age: 10_000)),
    Pair(testDescription: "then by uid", first: podState("a"), second: podState("z")),
  ]

  @Test(arguments: order) func deletionOrder(_ pair: Pair) {
    let related = ["crowded": 5, "n1": 1]
    for pods in [[pair.first, pair.second], [pair.second, pair.first]] {
      let decision = decide(replicaSet(1), pods, related: related)
      #expect(decision.delete.map(\.uid) == [pair.first.uid])
    }
  }

  @Test func statusIsWrittenOnlyWhenItDiffers() throws {
    var set = replicaSet(2)
    let counts = decide(set, [podState("a"), podState("b", ready: false) { $0.labels["tier"] = "front" }]).counts
    let patch = try #require(ReplicaSetDecision.status(set, counts, failure: nil, now: now))
    #expect(
      patch == [
        "status": [
          "replicas": 2, "fullyLabeledReplicas": 1, "readyReplicas": 1, "availableReplicas": 1, "observedGeneration": 2,
        ]
      ])
    set.object.status = patch["status"]
    #expect(ReplicaSetDecision.status(set, counts, failure: nil, now: now) == nil)
    let none = try #require(ReplicaSetDecision.status(set, .init(), failure: nil, now: now))
    #expect(none["status"].object?["readyReplicas"] == .some(.null))
  }

  @Test func aFailureBecomesAConditionAndLeavesAgain() throws {
    var set = replicaSet(2)
    let failed = try #require(
      ReplicaSetDecision.status(set, .init(), failure: ("FailedCreate", "quota"), now: now))
    let condition = try #require(Conditions.get(failed["status"], "ReplicaFailure"))
    #expect(condition.isTrue)
    #expect(condition.reason == "FailedCreate")
    set.object.status = failed["status"]
    let healed = try #require(ReplicaSetDecision.status(set, .init(), failure: nil, now: now))
    #expect(healed["status"].object?["conditions"] == .some(.null))
  }

  @Test func thePodIsTheTemplateWithAnOwner() {
    let pod = Object(ReplicaSetDecision.pod(of: replicaSet(1)))
    #expect(pod.metadata["generateName"] == "web-")
    #expect(pod.labels == ["app": "web", "tier": "front"])
    #expect(pod.controllerReference?.uid == "rs")
    #expect(pod.controllerReference?.blockOwnerDeletion == true)
  }
}
