import API
import Base
import CloudControllers
import ObjectModel
import Testing

private func isRolledOut(_ deployment: Object, _ replicas: Int64) -> Bool {
  let status = deployment.status
  return status["observedGeneration"].int == deployment.generation && status["updatedReplicas"].int ?? 0 == replicas
    && status["availableReplicas"].int ?? 0 == replicas && status["replicas"].int ?? 0 == replicas
}

private func isActive(_ pod: Object) -> Bool { !pod.isBeingDeleted && !Pod(pod).isTerminal }

@Suite struct CloudTests {
  @Test func aDeploymentBecomesPodsOnTwoNodes() async throws {
    try await Cloud.run { cloud in
      try await cloud.create("deployments.apps", "default", manifest("web", replicas: 4))
      try await cloud.wait("rolled out", "deployments.apps") { $0.contains { isRolledOut($0, 4) } }
      let pods = cloud.objects("pods")
      #expect(pods.count == 4)
      #expect(
        Dictionary(grouping: pods, by: { $0.spec["nodeName"].string ?? "" }).mapValues(\.count) == ["n1": 2, "n2": 2])
      let set = try #require(cloud.objects("replicasets.apps").first)
      #expect(pods.allSatisfy { $0.controllerReference?.uid == set.uid })
      #expect(pods.allSatisfy { $0.name.hasPrefix(set.name + "-") })
      #expect(pods.allSatisfy { $0.labels["pod-template-hash"] == set.labels["pod-template-hash"] })
      let deployment = try #require(cloud.objects("deployments.apps").first)
      #expect(deployment.annotations["deployment.kubernetes.io/revision"] == "1")
      try await cloud.wait("progress is told", "deployments.apps") { all in
        all.contains { Conditions.get($0.status, "Progressing")?.reason == "NewReplicaSetAvailable" }
      }
      try await cloud.wait("events", "events") { events in
        Set(events.map { $0.value["reason"].string }).isSuperset(of: [
          "Scheduled", "SuccessfulCreate", "ScalingReplicaSet",
        ])
      }
    }
  }

  @Test func scalesUpAndDownAndReplacesWhatIsDeleted() async throws {
    try await Cloud.run { cloud in
      try await cloud.create("deployments.apps", "default", manifest("web", replicas: 3))
      try await cloud.wait("three", "pods") { $0.count { Pod($0).isReady } == 3 }
      try await cloud.patch("deployments.apps", "default", "web", ["spec": ["replicas": 5]])
      let five = try await cloud.wait("five", "pods") { $0.count { Pod($0).isReady } == 5 }
      try await cloud.delete("pods", "default", five[0].name)
      try await cloud.wait("replaced", "pods") { pods in
        pods.count == 5 && pods.allSatisfy { Pod($0).isReady } && !pods.contains { $0.uid == five[0].uid }
      }
      try await cloud.patch("deployments.apps", "default", "web", ["spec": ["replicas": 2]])
      try await cloud.wait("two", "pods") { $0.count == 2 }
      try await cloud.wait("status", "deployments.apps") { $0.contains { isRolledOut($0, 2) } }
    }
  }

  /// Creating never overshoots: a replica set that acted on a cache behind its own writes would make pods twice.
  @Test func neverMorePodsThanAskedFor() async throws {
    try await Cloud.run(nodes: 0) { cloud in
      var most = 0
      try await cloud.create("deployments.apps", "default", manifest("web", replicas: 40))
      try await cloud.wait("forty", "pods") { pods in
        most = max(most, pods.count)
        return pods.count >= 40
      }
      // The status comes after the last creation that could have overshot.
      try await cloud.wait("counted", "replicasets.apps") { $0.contains { $0.status["replicas"].int == 40 } }
      most = max(most, cloud.objects("pods").count)
      #expect(most == 40)
    }
  }

  @Test func rollsOutWithinItsBoundsAndUndoes() async throws {
    try await Cloud.run { cloud in
      try await cloud.create("deployments.apps", "default", manifest("web", replicas: 4, surge: 1, missing: 1))
      try await cloud.wait("first", "deployments.apps") { $0.contains { isRolledOut($0, 4) } }
      var violated = false
      func watch(_ pods: [Object]) {
        if pods.count(where: isActive) > 5 || pods.count(where: { isActive($0) && Pod($0).isReady }) < 3 {
          violated = true
        }
      }
      func image(_ image: String) -> Value {
        ["spec": ["template": ["spec": ["containers": [["name": "c", "image": .string(image)]]]]]]
      }
      for (step, wanted) in ["web:2", "web:1"].enumerated() {
        try await cloud.patch("deployments.apps", "default", "web", image(wanted))
        try await cloud.wait("all \(wanted)", "pods") { pods in
          watch(pods)
          return pods.count == 4
            && pods.allSatisfy { $0.spec["containers"][0]["image"].string == wanted && Pod($0).isReady }
        }
        try await cloud.wait("rolled out", "deployments.apps") { $0.contains { isRolledOut($0, 4) } }
        try await cloud.wait("revision", "deployments.apps") { all in
          all.contains { $0.annotations["deployment.kubernetes.io/revision"] == "\(step + 2)" }
        }
      }
      #expect(!violated)
      // Going back reused the first set instead of making a third.
      #expect(cloud.objects("replicasets.apps").count == 2)
    }
  }

  @Test func aReplicaSetAdoptsWhatMatchesItsSelector() async throws {
    try await Cloud.run { cloud in
      let template: Value = [
        "metadata": ["labels": ["app": "web"]], "spec": ["containers": [["name": "c", "image": "web:1"]]],
      ]
      var pod = template
      pod["metadata"]["name"] = "stray"
      let stray = try await cloud.create("pods", "default", pod)
      try await cloud.create(
        "replicasets.apps", "default",
        [
          "metadata": ["name": "web"],
          "spec": ["replicas": 2, "selector": ["matchLabels": ["app": "web"]], "template": template],
        ])
      let pods = try await cloud.wait("two owned", "pods") { pods in
        pods.count == 2 && pods.allSatisfy { $0.controllerReference?.name == "web" }
      }
      #expect(pods.contains { $0.uid == stray.uid })
      try await cloud.patch("pods", "default", "stray", ["metadata": ["labels": ["app": "debug"]]])
      try await cloud.wait("released and replaced", "pods") { pods in
        pods.count == 3 && pods.contains { $0.uid == stray.uid && $0.controllerReference == nil }
      }
    }
  }

  @Test(arguments: [Propagation.background, .foreground]) func deletingADeploymentTakesEverything(
    _ propagation: Propagation
  ) async throws {
    try await Cloud.run { cloud in
      try await cloud.create("deployments.apps", "default", manifest("web", replicas: 3))
      try await cloud.wait("three", "pods") { $0.count { Pod($0).isReady } == 3 }
      try await cloud.delete("deployments.apps", "default", "web", propagation)
      try await cloud.wait("no deployment", "deployments.apps") { $0.isEmpty }
      if propagation == .foreground {
        // In the foreground the owner goes last.
        #expect(cloud.objects("replicasets.apps").isEmpty)
      }
      try await cloud.wait("no pods", "pods") { $0.isEmpty }
      try await cloud.wait("no sets", "replicasets.apps") { $0.isEmpty }
    }
  }

  @Test func orphansStay() async throws {
    try await Cloud.run { cloud in
      try await cloud.create("deployments.apps", "default", manifest("web", replicas: 2))
      try await cloud.wait("two", "pods") { $0.count { Pod($0).isReady } == 2 }
      try await cloud.delete("deployments.apps", "default", "web", .orphan)
      try await cloud.wait("no deployment", "deployments.apps") { $0.isEmpty }
      let sets = try await cloud.wait("free", "replicasets.apps") { $0.allSatisfy { $0.ownerReferences.isEmpty } }
      #expect(sets.count == 1)
      #expect(cloud.objects("pods").count == 2)
    }
  }

  @Test func aNamespaceTakesItsContent() async throws {
    try await Cloud.run { cloud in
      try await cloud.create("namespaces", "", ["metadata": ["name": "team"]])
      try await cloud.create("deployments.apps", "team", manifest("web", replicas: 2))
      try await cloud.create("configmaps", "team", ["metadata": ["name": "c"], "data": ["a": "b"]])
      try await cloud.create("configmaps", "default", ["metadata": ["name": "kept"]])
      try await cloud.wait("two", "pods") { $0.count { Pod($0).isReady } == 2 }
      try await cloud.delete("namespaces", "", "team")
      try await cloud.wait("no namespace", "namespaces") { !$0.contains { $0.name == "team" } }
      #expect(cloud.objects("pods").isEmpty)
      #expect(cloud.objects("configmaps").map(\.name) == ["kept"])
    }
  }

  @Test func aSilentNodeIsTaintedEvictedAndComesBack() async throws {
    var settings = ControllerManager.Settings()
    settings.nodes.grace = .milliseconds(300)
    try await Cloud.run(settings: settings) { cloud in
      var deployment = manifest("web", replicas: 2)
      let bears: Value = [
        "key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1,
      ]
      deployment["spec"]["template"]["spec"]["tolerations"] = [bears]
      try await cloud.create("deployments.apps", "default", deployment)
      try await cloud.wait("one each", "pods") { pods in
        pods.count { Pod($0).isReady } == 2 && Set(pods.map { Pod($0).nodeName }).count == 2
      }
      cloud.liveness.talking.remove("n2")
      try await cloud.wait("tainted", "nodes") { nodes in
        nodes.contains { node in
          node.name == "n2" && Conditions.get(node.status, "Ready")?.status == "Unknown"
            && Set(Node(node).taints.map { "\($0.key):\($0.effect)" }) == [
              "node.kubernetes.io/unreachable:NoSchedule", "node.kubernetes.io/unreachable:NoExecute",
            ]
        }
      }
      // The evicted pod waits for its node to stop it; another one runs meanwhile.
      try await cloud.wait("moved", "pods") { pods in
        pods.contains { Pod($0).nodeName == "n2" && $0.isBeingDeleted }
          && pods.count { Pod($0).nodeName == "n1" && Pod($0).isReady } == 2
      }
      cloud.liveness.talking.insert("n2")
      try await cloud.patch(
        "nodes", "", "n2", ["status": ["conditions": [["type": "Ready", "status": "True"]]]], subresource: "status")
      try await cloud.wait("free again", "nodes") { $0.allSatisfy { Node($0).taints.isEmpty } }
    }
  }

  @Test func podsOfADeletedNodeAreReplaced() async throws {
    var settings = ControllerManager.Settings()
    settings.podGarbage.quarantine = .milliseconds(100)
    settings.podGarbage.interval = .milliseconds(100)
    try await Cloud.run(settings: settings) { cloud in
      try await cloud.create("deployments.apps", "default", manifest("web", replicas: 2))
      try await cloud.wait("one each", "pods") { Set($0.map { Pod($0).nodeName }) == ["n1", "n2"] }
      cloud.liveness.talking.remove("n2")
      try await cloud.delete("nodes", "", "n2")
      try await cloud.wait("all on n1", "pods") { pods in
        pods.count == 2 && pods.allSatisfy { Pod($0).nodeName == "n1" && Pod($0).isReady }
      }
    }
  }

  /// Decisions are made faster than bindings come back: what was given away is not given away again.
  @Test func aNodeIsNeverOvercommitted() async throws {
    try await Cloud.run { cloud in
      var deployment = manifest("web", replicas: 12)
      deployment["spec"]["template"]["spec"]["containers"] = [
        ["name": "c", "image": "web:1", "resources": ["requests": ["cpu": "1"]]]
      ]
      try await cloud.create("deployments.apps", "default", deployment)
      let pods = try await cloud.wait("all decided", "pods") { pods in
        pods.count { Pod($0).isReady } == 8
          && pods.count { Conditions.get($0.status, "PodScheduled")?.isFalse == true } == 4
      }
      let placed = Dictionary(grouping: pods.filter { Pod($0).isReady }, by: { Pod($0).nodeName })
      #expect(placed.mapValues(\.count) == ["n1": 4, "n2": 4])
    }
  }

  /// What a pod asks of others is refused in words, and let in by the pod that it asks for, wherever that goes.
  @Test func aPodFollowsTheOneItAsksFor() async throws {
    try await Cloud.run { cloud in
      for (name, zone) in [("n1", "z1"), ("n2", "z2")] {
        try await cloud.patch("nodes", "", name, ["metadata": ["labels": ["zone": .string(zone)]]])
      }
      func pod(_ name: String, _ spec: [(String, Value)]) -> Value {
        var all: Value = ["containers": [["name": "c", "image": "i:1"]]]
        for (key, value) in spec { all[key] = value }
        return ["metadata": ["name": .string(name), "labels": ["app": .string(name)]], "spec": all]
      }
      let near: Value = [
        "podAffinity": [
          "requiredDuringSchedulingIgnoredDuringExecution": [
            ["topologyKey": "zone", "labelSelector": ["matchLabels": ["app": "db"]]]
          ]
        ]
      ]
      try await cloud.create("pods", "default", pod("web", [("affinity", near)]))
      try await cloud.wait("the refusal", "pods") { pods in
        pods.contains {
          Conditions.get($0.status, "PodScheduled")?.message.contains("didn't match pod affinity rules") == true
        }
      }
      try await cloud.create("pods", "default", pod("db", [("nodeSelector", ["zone": "z2"])]))
      let pods = try await cloud.wait("both are placed", "pods") { pods in
        pods.allSatisfy { !($0.spec["nodeName"].string ?? "").isEmpty }
      }
      #expect(pods.map { $0.spec["nodeName"] } == ["n2", "n2"])
      #expect(pods.allSatisfy { Conditions.get($0.status, "PodScheduled")?.isTrue == true })
    }
  }

  @Test func whatFitsNowhereSaysSoAndRunsWhenThereIsRoom() async throws {
    try await Cloud.run(nodes: 1) { cloud in
      var deployment = manifest("big", replicas: 1)
      deployment["spec"]["template"]["spec"]["containers"] = [
        ["name": "c", "image": "web:1", "resources": ["requests": ["cpu": "6"]]]
      ]
      try await cloud.create("deployments.apps", "default", deployment)
      let message = "0/1 nodes are available: 1 Insufficient cpu."
      try await cloud.wait("refused", "pods") { pods in
        pods.contains { pod in
          let condition = Conditions.get(pod.status, "PodScheduled")
          return condition?.isFalse == true && condition?.reason == "Unschedulable" && condition?.message == message
        }
      }
      try await cloud.wait("event", "events") { events in
        events.contains { $0.value["reason"].string == "FailedScheduling" && $0.value["message"].string == message }
      }
      try await cloud.addNode("large", cpu: "8")
      try await cloud.wait("bound", "pods") { pods in
        pods.contains {
          Pod($0).nodeName == "large" && Conditions.get($0.status, "PodScheduled")?.isFalse != true
        }
      }
    }
  }
}
