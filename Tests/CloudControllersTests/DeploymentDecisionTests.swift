import API
import Base
import CloudControllers
import ObjectModel
import Testing

@Suite struct RolloutTests {
  struct Bounds: Sendable {
    var replicas: Int64
    var surge: Value
    var unavailable: Value
  }
  static let bounds: [Bounds] = [
    Bounds(replicas: 10, surge: "25%", unavailable: "25%"), Bounds(replicas: 3, surge: 1, unavailable: 0),
    Bounds(replicas: 3, surge: 0, unavailable: 1), Bounds(replicas: 1, surge: "25%", unavailable: "25%"),
    Bounds(replicas: 7, surge: "100%", unavailable: 0), Bounds(replicas: 5, surge: 0, unavailable: 0),
    Bounds(replicas: 4, surge: 2, unavailable: "50%"), Bounds(replicas: 0, surge: 1, unavailable: 0),
  ]

  /// Over many random histories, with templates changed in mid-rollout: never more pods asked for than surge allows,
  /// never fewer available than promised, and the rollout ends.
  @Test(arguments: bounds, [1, 2, 3, 4] as [UInt64])
  func surgeAndAvailabilityHold(_ bounds: Bounds, seed: UInt64) {
    let simulation = RolloutSimulation(
      seed: seed, replicas: bounds.replicas, surge: bounds.surge, unavailable: bounds.unavailable)
    #expect(simulation.settle())
    let (surge, missing) = (simulation.deployment.maxSurge, simulation.deployment.maxUnavailable)
    func holds(_ simulation: RolloutSimulation) -> Bool {
      simulation.specified <= bounds.replicas + surge && simulation.available >= bounds.replicas - missing
    }
    for round in 2...4 {
      simulation.setImage("v\(round)")
      for _ in 0..<simulation.random.below(60) {
        simulation.step()
        #expect(holds(simulation))
      }
    }
    #expect(simulation.settle(check: holds))
    #expect(simulation.set(of: "v4")?.replicas == bounds.replicas)
    #expect(simulation.specified == bounds.replicas)
  }

  @Test(arguments: [1, 2, 3] as [UInt64]) func scalingInMidRolloutStaysInBoundsAndEnds(seed: UInt64) {
    let simulation = RolloutSimulation(seed: seed, replicas: 6, surge: 3, unavailable: 2)
    #expect(simulation.settle())
    for round in 2...4 {
      simulation.setImage("v\(round)")
      for _ in 0..<simulation.random.below(80) { simulation.step() }
      let target = Int64(simulation.random.below(12))
      let most = max(simulation.deployment.replicas, target)
      simulation.change { $0.spec["replicas"] = .int(target) }
      #expect(simulation.settle(check: { $0.specified <= most + 3 }))
      #expect(simulation.specified == target)
    }
  }

  @Test(arguments: [1, 2, 3] as [UInt64]) func recreateNeverRunsTwoVersions(seed: UInt64) {
    let simulation = RolloutSimulation(
      seed: seed, replicas: 4, surge: .null, unavailable: .null, strategy: "Recreate")
    #expect(simulation.settle())
    simulation.setImage("v2")
    let settled = simulation.settle(check: { simulation in
      let images = Set(simulation.pods.compactMap { pod in simulation.sets.first { $0.uid == pod.owner }?.uid })
      return images.count <= 1
    })
    #expect(settled)
    #expect(simulation.set(of: "v2")?.replicas == 4)
  }

  @Test func aBrokenTemplateStopsWithinItsBoundsAndUndoHeals() throws {
    let simulation = RolloutSimulation(seed: 9, replicas: 8, surge: 2, unavailable: 2)
    #expect(simulation.settle())
    simulation.broken = ["v2"]
    simulation.setImage("v2")
    for _ in 0..<3000 {
      simulation.step()
      #expect(simulation.available >= 6)
    }
    // The deadline counts from the last progress and was long ago.
    let progressing = try #require(Conditions.get(simulation.deployment.object.status, "Progressing"))
    #expect(progressing.isFalse)
    #expect(progressing.reason == "ProgressDeadlineExceeded")
    #expect(progressing.message.hasPrefix("ReplicaSet \"web-"))
    #expect(simulation.set(of: "v2")?.replicas == 4)

    simulation.setImage("v1")
    #expect(simulation.settle(check: { $0.available >= 6 }))
    let first = try #require(simulation.set(of: "v1"))
    #expect(first.annotations[DeploymentDecision.Annotation.revision] == "3")
    #expect(first.annotations[DeploymentDecision.Annotation.history] == "1")
    #expect(simulation.deployment.annotations[DeploymentDecision.Annotation.revision] == "3")
    #expect(simulation.set(of: "v2")?.replicas == 0)
  }

  @Test func historyKeepsItsLimit() {
    let simulation = RolloutSimulation(seed: 4, replicas: 2, surge: 1, unavailable: 0)
    for round in 1...6 {
      simulation.setImage("v\(round)")
      #expect(simulation.settle())
    }
    for _ in 0..<200 { simulation.step() }
    #expect(Set(simulation.sets.map { simulation.image($0) }) == ["v4", "v5", "v6"])
  }

  @Test func pausedItScalesButRollsNothingOut() {
    let simulation = RolloutSimulation(seed: 4, replicas: 4, surge: 1, unavailable: 0)
    #expect(simulation.settle())
    simulation.change { $0.spec["paused"] = true }
    simulation.setImage("v2")
    simulation.change { $0.spec["replicas"] = 6 }
    for _ in 0..<500 { simulation.step() }
    #expect(simulation.set(of: "v2") == nil)
    #expect(simulation.set(of: "v1")?.replicas == 6)
    let paused = Conditions.get(simulation.deployment.object.status, "Progressing")
    #expect(paused?.reason == "DeploymentPaused")
    #expect(paused?.status == "Unknown")
    simulation.change { $0.spec["paused"] = false }
    #expect(simulation.settle())
    #expect(simulation.set(of: "v2")?.replicas == 6)
  }
}

@Suite struct DeploymentDecisionTests {
  func deployment(_ replicas: Int64, surge: Value = 3, unavailable: Value = 2) -> Deployment {
    RolloutSimulation(seed: 1, replicas: replicas, surge: surge, unavailable: unavailable).deployment
  }

  func set(
    _ image: String, _ replicas: Int64, available: Int64? = nil, desired: Int64 = 10, most: Int64 = 13, age: Int64 = 10
  ) -> ReplicaSet {
    let owner = OwnerReference(apiVersion: "apps/v1", kind: "Deployment", name: "web", uid: "deployment")
    let labels: Value = ["app": "web", "pod-template-hash": .string(image)]
    return ReplicaSet(
      Object([
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": [
          "name": .string("web-\(image)"), "namespace": "default", "uid": .string(image), "labels": labels,
          "ownerReferences": [owner.value],
          "creationTimestamp": .string(Timestamp.format(now + .seconds(-age))),
          "annotations": [
            "deployment.kubernetes.io/desired-replicas": .string("\(desired)"),
            "deployment.kubernetes.io/max-replicas": .string("\(most)"), "deployment.kubernetes.io/revision": "1",
          ],
        ],
        "spec": [
          "replicas": .int(replicas), "selector": ["matchLabels": labels],
          "template": ["metadata": ["labels": labels], "spec": ["containers": [["image": .string(image)]]]],
        ],
        "status": ["replicas": .int(replicas), "availableReplicas": .int(available ?? replicas)],
      ]))
  }

  func scales(_ deployment: Deployment, _ sets: [ReplicaSet]) -> [String: Int64] {
    let decision = DeploymentDecision(.init(deployment: deployment, sets: sets, now: now))
    var scales: [String: Int64] = [:]
    for change in decision.changes { if let scaled = change.scaled { scales[change.set.uid] = scaled.to } }
    return scales
  }

  @Test func theFirstSetIsMadeFromTheTemplate() throws {
    let decision = DeploymentDecision(.init(deployment: deployment(10), sets: [], now: now))
    let create = Object(try #require(decision.create))
    let hash = TemplateHash.of(deployment(10).template, collisions: 0)
    #expect(create.name == "web-\(hash)")
    #expect(create.labels == ["app": "web", "pod-template-hash": hash])
    #expect(create.spec["selector"]["matchLabels"] == ["app": "web", "pod-template-hash": .string(hash)])
    #expect(create.spec["template"]["metadata"]["labels"]["pod-template-hash"].string == hash)
    #expect(create.spec["replicas"] == 10)
    #expect(create.annotations["deployment.kubernetes.io/revision"] == "1")
    #expect(create.annotations["deployment.kubernetes.io/desired-replicas"] == "10")
    #expect(create.annotations["deployment.kubernetes.io/max-replicas"] == "13")
    #expect(create.controllerReference?.uid == "deployment")
    #expect(decision.revision == "1")
    let status = try #require(decision.statusPatch)["status"]
    #expect(Conditions.get(status, "Progressing")?.reason == "NewReplicaSetCreated")
    #expect(Conditions.get(status, "Available")?.reason == "MinimumReplicasUnavailable")
  }

  @Test func percentagesRoundAsKubernetesDoes() {
    struct Case { var replicas: Int64, surge: Value, unavailable: Value, expected: (Int64, Int64) }
    for test in [
      Case(replicas: 10, surge: "25%", unavailable: "25%", expected: (3, 2)),
      Case(replicas: 1, surge: "25%", unavailable: "25%", expected: (1, 0)),
      Case(replicas: 3, surge: 0, unavailable: "10%", expected: (0, 1)),
      Case(replicas: 3, surge: 0, unavailable: 7, expected: (0, 3)),
      Case(replicas: 0, surge: 0, unavailable: 0, expected: (0, 0)),
      Case(replicas: 4, surge: .null, unavailable: .null, expected: (1, 1)),
    ] {
      let made = deployment(test.replicas, surge: test.surge, unavailable: test.unavailable)
      #expect(made.maxSurge == test.expected.0)
      #expect(made.maxUnavailable == test.expected.1)
    }
  }

  @Test func oneStepAtATime() {
    // Room to surge: the new set grows first.
    #expect(scales(deployment(10), [set("old", 10), set("v1", 0)]) == ["v1": 3])
    // No room, and the new pods do not serve yet: two old ones may go.
    #expect(scales(deployment(10), [set("old", 10), set("v1", 3, available: 0)]) == ["old": 8])
    // The new pods serve: as many old ones go as came, and those that may be missing.
    #expect(scales(deployment(10), [set("old", 10), set("v1", 3)]) == ["old": 5])
    // Nothing can be spared.
    #expect(scales(deployment(10), [set("old", 8), set("v1", 5, available: 0)]) == [:])
  }

  @Test func podsThatDoNotWorkGoFirst() {
    let sets = [set("older", 2, age: 30), set("old", 8, available: 4, age: 20), set("v1", 3, available: 3)]
    // 13 asked for, 8 must serve, 9 do: four broken ones and one of the oldest go.
    #expect(scales(deployment(10), sets) == ["old": 4, "older": 1])
  }

  @Test func aStaleStatusPromisesNothing() {
    // Scaled from 10 to 8, but the status still counts 10: only 8 can be relied on.
    #expect(scales(deployment(10), [set("old", 8, available: 10), set("v1", 3, available: 0)]) == ["v1": 5])
    #expect(scales(deployment(10), [set("old", 8, available: 10), set("v1", 5, available: 0)]) == [:])
  }

  @Test func shrinkingTheNewSetComesFirst() {
    #expect(scales(deployment(10), [set("old", 2), set("v1", 12, desired: 10)]) == ["v1": 10])
  }

  @Test func scalingIsShared() {
    // Kubernetes' documented example: 10 to 15 with 8 old and 5 new.
    let sets = [set("old", 8, age: 20), set("v1", 5, available: 0)]
    #expect(scales(deployment(15), sets) == ["old": 11, "v1": 7])
    #expect(scales(deployment(5), sets) == ["old": 5, "v1": 3])
    #expect(scales(deployment(0), sets) == ["old": 0, "v1": 0])
  }

  @Test func aLoneSetTakesTheWholeScale() {
    #expect(scales(deployment(15), [set("old", 0, age: 20), set("v1", 10)]) == ["v1": 15])
  }

  @Test func strangersAreLeftAloneAndOrphansAdopted() {
    var stranger = set("v1", 3)
    stranger.object.metadata["ownerReferences"] = [
      OwnerReference(apiVersion: "apps/v1", kind: "Deployment", name: "web", uid: "former").value
    ]
    var orphan = set("v1", 3)
    orphan.object.metadata["uid"] = "orphan"
    orphan.object.metadata["ownerReferences"] = .null
    let decision = DeploymentDecision(.init(deployment: deployment(3), sets: [stranger, orphan], now: now))
    #expect(decision.adopt.map(\.uid) == ["orphan"])
    #expect(decision.create == nil)
  }

  @Test func theHashIsStableAndReadsNoLabelOfItsOwn() {
    let template = deployment(1).template
    #expect(TemplateHash.of(template, collisions: 0) == TemplateHash.of(template, collisions: 0))
    #expect(TemplateHash.of(template, collisions: 1) != TemplateHash.of(template, collisions: 0))
    var other = template
    other["spec"]["containers"] = [["image": "v2"]]
    #expect(TemplateHash.of(other, collisions: 0) != TemplateHash.of(template, collisions: 0))
    #expect(
      TemplateHash.of(template, collisions: 0).utf8.allSatisfy { "bcdfghjklmnpqrstvwxz2456789".utf8.contains($0) })
    var labelled = template
    labelled["metadata"]["labels"][TemplateHash.label] = "x"
    #expect(TemplateHash.stripped(labelled) == template)
  }

  @Test func whatAReplicaSetCannotDoShows() throws {
    var failing = set("v1", 10, available: 0)
    failing.object.status["conditions"] = [
      ["type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "quota"]
    ]
    let decision = DeploymentDecision(.init(deployment: deployment(10), sets: [failing], now: now))
    let status = try #require(decision.statusPatch)["status"]
    #expect(Conditions.get(status, "ReplicaFailure")?.message == "quota")
  }
}
