import API
import Base
import Conformance
import ObjectModel

extension APIConformance {
  static let writing: [APIConformance] =
    [
      APIConformance("create fills in what the server gives, and get answers it") { harness in
        let admin = try await Admin(harness)
        let made = try await admin.create("deployments.apps", Sample.deployment("web"))
        try equal(made.generation, 1)
        try equal(made.kind, "Deployment")
        try equal(made.spec["replicas"], 1)
        try check(made.uid.utf8.count == 36 && made.resourceVersion > 0, "uid or revision is missing: \(made.value)")
        try check(Timestamp.parse(made.creationTimestamp) != nil, "creationTimestamp is no time")
        try equal(try await admin.get("deployments.apps", "web"), made)
        try await refused(.alreadyExists) { () async throws(APIError) in
          try await admin.create("deployments.apps", Sample.deployment("web"))
        }
        try await refused(.notFound) { () async throws(APIError) in try await admin.get("pods", "web") }
      },
      APIConformance("create refuses what is wrong, in Kubernetes' words") { harness in
        let admin = try await Admin(harness)
        var bad = Sample.deployment("web")
        bad["spec"].remove("selector")
        let error = try await refused(.invalid) { () async throws(APIError) in
          try await admin.create("deployments.apps", bad)
        }
        try equal(error.message, "Deployment.apps \"web\" is invalid: spec.selector: Required value")
        try equal(error.details["causes"][0]["field"], "spec.selector")
        bad["spec"]["replicas"] = "three"
        try await refused(.badRequest) { () async throws(APIError) in try await admin.create("deployments.apps", bad) }
        try await refused(.notFound) { () async throws(APIError) in try await admin.create("widgets", [:]) }
        let missing = try await refused(.notFound) { () async throws(APIError) in
          try await admin.create("pods", Sample.pod("p"), namespace: "nowhere")
        }
        try equal(missing.message, "namespaces \"nowhere\" not found")
        try await refused(.badRequest) { () async throws(APIError) in
          try await admin.create(
            "pods", ["metadata": ["name": "p", "namespace": "other"], "spec": Sample.pod("p")["spec"]])
        }
      },
      APIConformance("generateName draws names that differ") { harness in
        let admin = try await Admin(harness)
        var names: Set<String> = []
        for _ in 0..<5 {
          let made = try await admin.create("configmaps", ["metadata": ["generateName": "c-"]])
          try check(made.name.hasPrefix("c-") && made.name.utf8.count == 7, "a generated name is \(made.name)")
          names.insert(made.name)
        }
        try equal(names.count, 5)
      },
      APIConformance("update is guarded by the revision, keeps unknown fields and makes nothing of nothing") {
        harness in
        let admin = try await Admin(harness)
        var object = try await admin.create("configmaps", Sample.configMap("c"))
        let first = object
        try equal(try await admin.update("configmaps", object).resourceVersion, first.resourceVersion)
        object.value["data"]["k"] = "2"
        object.value["later"] = ["x": [1, 2.5, "y"]]
        object.metadata["uid"] = .string(first.uid)
        let second = try await admin.update("configmaps", object)
        try check(second.resourceVersion > first.resourceVersion, "the revision did not rise")
        try equal(second.value["later"], ["x": [1, 2.5, "y"]])
        try equal(second.creationTimestamp, first.creationTimestamp)
        let stale = try await refused(.conflict) { () async throws(APIError) in
          try await admin.update("configmaps", object)
        }
        try check(stale.message.contains("the object has been modified"), stale.message)
        object.metadata.remove("resourceVersion")
        object.value["data"]["k"] = "3"
        try equal(try await admin.update("configmaps", object).value["data"]["k"], "3")
        object.metadata["uid"] = "another"
        try await refused(.conflict) { () async throws(APIError) in try await admin.update("configmaps", object) }
      },
      APIConformance("spec and status are written apart, and generations count the spec") { harness in
        let admin = try await Admin(harness)
        var object = try await admin.create("deployments.apps", Sample.deployment("web"))
        object.spec["replicas"] = 3
        object.status = ["replicas": 7]
        object = try await admin.update("deployments.apps", object)
        try equal(object.generation, 2)
        try equal(object.status["replicas"], .null)
        object.spec["replicas"] = 9
        object.status = ["replicas": 3, "observedGeneration": 2]
        object = try await admin.update("deployments.apps", object, subresource: "status")
        try equal(object.spec["replicas"], 3)
        try equal(object.status["replicas"], 3)
        try equal(object.generation, 2)
        object = try await admin.patch("deployments.apps", "web", ["metadata": ["labels": ["a": "b"]]])
        try equal(object.generation, 2)
        try equal(object.status["replicas"], 3)
        try await refused(.invalid) { () async throws(APIError) in
          try await admin.patch("deployments.apps", "web", ["spec": ["selector": ["matchLabels": ["app": "x"]]]])
        }
      },
      APIConformance("patches: merge and JSON patch, tests and revisions") { harness in
        let admin = try await Admin(harness)
        let object = try await admin.create("configmaps", Sample.configMap("c"))
        var patched = try await admin.patch("configmaps", "c", ["data": ["k": .null, "n": "1"]])
        try equal(patched.value["data"], ["n": "1"])
        patched = try await admin.patch(
          "configmaps", "c",
          [["op": "test", "path": "/data/n", "value": "1"], ["op": "add", "path": "/data/m", "value": "2"]], type: .json
        )
        try equal(patched.value["data"], ["m": "2", "n": "1"])
        try await refused(.invalid) { () async throws(APIError) in
          try await admin.patch("configmaps", "c", [["op": "test", "path": "/data/n", "value": "0"]], type: .json)
        }
        try await refused(.badRequest) { () async throws(APIError) in
          try await admin.patch("configmaps", "c", [["op": "fly"]], type: .json)
        }
        try await refused(.conflict) { () async throws(APIError) in
          try await admin.patch(
            "configmaps", "c",
            ["metadata": ["resourceVersion": .string(String(object.resourceVersion))], "data": ["x": "y"]])
        }
      },
      APIConformance("a batch answers each item for itself") { harness in
        let admin = try await Admin(harness)
        let results = try await admin.api.batch(
          [
            .create(resource: "configmaps", namespace: "default", object: Sample.configMap("a")),
            .create(resource: "configmaps", namespace: "default", object: Sample.configMap("A")),
            .delete(admin.reference("configmaps", "none"), DeleteOptions()),
            .create(resource: "configmaps", namespace: "default", object: Sample.configMap("b")),
          ], caller: Admin.caller)
        let reasons = results.map { result -> String in
          if case .failure(let error) = result { error.reason.rawValue } else { "taken" }
        }
        try equal(reasons, ["taken", "Invalid", "NotFound", "taken"])
      },
    ] + deleting

  private static let deleting: [APIConformance] = [
    APIConformance("deletion: preconditions, finalizers, and what stays until they are gone") { harness in
      let admin = try await Admin(harness)
      var object = try await admin.create("configmaps", Sample.configMap("c"))
      try await refused(.conflict) { () async throws(APIError) in
        try await admin.delete("configmaps", "c", DeleteOptions(uid: "other"))
      }
      try await refused(.conflict) { () async throws(APIError) in
        try await admin.delete("configmaps", "c", DeleteOptions(revision: object.resourceVersion - 1))
      }
      _ = try await admin.patch("configmaps", "c", ["metadata": ["finalizers": ["example.com/hold"]]])
      object = try await admin.delete("configmaps", "c", DeleteOptions(propagation: .foreground))
      try check(object.isBeingDeleted, "deletionTimestamp is not set")
      try equal(object.finalizers, ["example.com/hold", "foregroundDeletion"])
      try await refused(.invalid) { () async throws(APIError) in
        try await admin.patch("configmaps", "c", ["metadata": ["finalizers": ["example.com/hold", "example.com/new"]]])
      }
      _ = try await admin.patch("configmaps", "c", ["metadata": ["finalizers": ["example.com/hold"]]])
      _ = try await admin.get("configmaps", "c")
      _ = try await admin.patch("configmaps", "c", ["metadata": ["finalizers": []]])
      try await refused(.notFound) { () async throws(APIError) in try await admin.get("configmaps", "c") }
    },
    APIConformance("a pod on a node gets its grace, and goes when that is told to be over") { harness in
      let admin = try await Admin(harness)
      _ = try await admin.create("pods", Sample.pod("free"))
      try await admin.delete("pods", "free")
      try await refused(.notFound) { () async throws(APIError) in try await admin.get("pods", "free") }
      _ = try await admin.create("pods", Sample.pod("bound", node: "n1"))
      var pod = try await admin.delete("pods", "bound")
      try equal(pod.metadata["deletionGracePeriodSeconds"], 30)
      try check(pod.isBeingDeleted, "the pod is not being deleted")
      pod = try await admin.delete("pods", "bound", DeleteOptions(gracePeriod: 5))
      try equal(pod.metadata["deletionGracePeriodSeconds"], 5)
      let same = try await admin.delete("pods", "bound", DeleteOptions(gracePeriod: 60))
      try equal(same.resourceVersion, pod.resourceVersion)
      try await admin.delete("pods", "bound", DeleteOptions(gracePeriod: 0))
      try await refused(.notFound) { () async throws(APIError) in try await admin.get("pods", "bound") }
    },
    APIConformance("a pod is bound once, by one write that names the node and says so") { harness in
      let admin = try await Admin(harness)
      let pod = try await admin.create("pods", Sample.pod("p"))
      func bind(_ target: Value, uid: String, _ name: String = "p") async throws(APIError) -> Object {
        try await admin.update(
          "pods", Object(["metadata": ["name": .string(name), "uid": .string(uid)], "target": target]),
          subresource: "binding")
      }
      let list = try await admin.list(ListOptions(resource: "pods", namespace: "default"))
      let reader = Reader(
        try await admin.watch(WatchOptions(resource: "pods", namespace: "default", after: list.revision)))
      try await refused(.invalid) { () async throws(APIError) in try await bind([:], uid: pod.uid) }
      try await refused(.invalid) { () async throws(APIError) in
        try await bind(["kind": "Rack", "name": "n1"], uid: pod.uid)
      }
      try await refused(.conflict) { () async throws(APIError) in try await bind(["name": "n1"], uid: "another") }
      try await refused(.notFound) { () async throws(APIError) in
        try await bind(["name": "n1"], uid: pod.uid, "none")
      }
      let bound = try await bind(["kind": "Node", "name": "n1"], uid: pod.uid)
      try equal(bound.spec["nodeName"], "n1")
      let condition = Conditions.get(bound.status, "PodScheduled")
      try equal(condition?.isTrue, true, "PodScheduled")
      try equal(bound.status["phase"], pod.status["phase"], "the rest of the status")
      let error = try await refused(.conflict) { () async throws(APIError) in
        try await bind(["kind": "Node", "name": "n2"], uid: pod.uid)
      }
      try check(error.message.contains("pod default/p is already assigned to node \"n1\""), error.message)
      let seen = try await reader.take(1)
      try equal(seen[0].position, bound.resourceVersion, "the revision of the only write")
      try equal(try seen[0].object?.decoded().status, bound.status)
      reader.cursor.cancel()
      // Nobody but who schedules may: neither who edits nor the node itself.
      for (group, node) in [(Caller.editGroup, nil), (Caller.nodesGroup, "n1")] {
        let caller = Caller(user: "x", groups: [group], node: node, origin: .network)
        let api = try await harness.api(caller)
        try await refused(.forbidden) { () async throws(APIError) in
          try await api.update(
            admin.reference("pods", "p"), object: ["target": ["name": "n1"]], subresource: "binding", caller: caller)
        }
      }
    },
    APIConformance("a namespace is terminated first, takes nothing new, and goes when it is finalized") { harness in
      let admin = try await Admin(harness)
      let made = try await admin.create("namespaces", ["metadata": ["name": "team"]], namespace: "")
      try equal(made.status["phase"], "Active")
      try equal(made.spec["finalizers"], ["kubernetes"])
      _ = try await admin.create("configmaps", Sample.configMap("c"), namespace: "team")
      var object = try await admin.delete("namespaces", "team")
      try equal(object.status["phase"], "Terminating")
      let error = try await refused(.forbidden) { () async throws(APIError) in
        try await admin.create("configmaps", Sample.configMap("d"), namespace: "team")
      }
      try equal(error.details["causes"][0]["reason"], "NamespaceTerminating")
      object.spec["finalizers"] = []
      try await refused(.conflict) { () async throws(APIError) in
        try await admin.update("namespaces", object, subresource: "finalize")
      }
      try await admin.delete("configmaps", "c", namespace: "team")
      _ = try await admin.update("namespaces", object, subresource: "finalize")
      try await refused(.notFound) { () async throws(APIError) in try await admin.get("namespaces", "team") }
      try await refused(.forbidden) { () async throws(APIError) in try await admin.delete("namespaces", "default") }
    },
  ]
}
