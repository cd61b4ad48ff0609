import API
import Base
import Conformance
import ObjectModel

extension APIConformance {
  private static func client(_ group: String) -> Caller {
    Caller(user: "somebody", groups: [group], node: nil, origin: .network)
  }

  static let access: [APIConformance] = [
    APIConformance("view reads all but Secrets, edit also writes, nobody else does anything") { harness in
      let admin = try await Admin(harness)
      _ = try await admin.create("secrets", ["metadata": ["name": "s"], "stringData": ["a": "b"]])
      _ = try await admin.create("configmaps", Sample.configMap("c"))
      let view = client(Caller.viewGroup)
      let viewer = try await harness.api(view)
      _ = try await viewer.get(admin.reference("configmaps", "c"), caller: view)
      let error = try await refused(.forbidden) { () async throws(APIError) in
        try await viewer.get(admin.reference("secrets", "s"), caller: view)
      }
      try equal(
        error.message,
        "secrets \"s\" is forbidden: User \"somebody\" cannot get resource \"secrets\" in API group \"\" in the "
          + "namespace \"default\"")
      try await refused(.forbidden) { () async throws(APIError) in
        try await viewer.list(ListOptions(resource: "secrets"), caller: view)
      }
      try await refused(.forbidden) { () async throws(APIError) in
        try await viewer.create(
          resource: "configmaps", namespace: "default", object: Sample.configMap("d"), caller: view)
      }
      let edit = client(Caller.editGroup)
      let editor = try await harness.api(edit)
      _ = try await editor.create(
        resource: "configmaps", namespace: "default", object: Sample.configMap("d"), caller: edit)
      try await refused(.forbidden) { () async throws(APIError) in
        try await editor.create(resource: "nodes", namespace: "", object: ["metadata": ["name": "n"]], caller: edit)
      }
      let nobody = client("guests")
      let stranger = try await harness.api(nobody)
      try await refused(.forbidden) { () async throws(APIError) in
        try await stranger.get(admin.reference("configmaps", "c"), caller: nobody)
      }
    },
    APIConformance("a node reads its slice and writes its own, and nothing of another node") { harness in
      let admin = try await Admin(harness)
      for name in ["s1", "s2"] { _ = try await admin.create("secrets", ["metadata": ["name": .string(name)]]) }
      _ = try await admin.create("pods", Sample.pod("p1", node: "n1", secret: "s1"))
      _ = try await admin.create("pods", Sample.pod("p2", node: "n2", secret: "s2"))
      let caller = Caller.node("n1", origin: .network)
      let node = try await harness.api(caller)
      _ = try await node.create(resource: "nodes", namespace: "", object: ["metadata": ["name": "n1"]], caller: caller)
      _ = try await node.get(admin.reference("pods", "p1"), caller: caller)
      _ = try await node.get(admin.reference("secrets", "s1"), caller: caller)
      let mine = try await node.list(
        ListOptions(resource: "pods", fieldSelector: "spec.nodeName=n1"), caller: caller)
      try equal(mine.items.map(\.reference.name), ["p1"])
      let status: Value = ["status": ["phase": "Running"]]
      _ = try await node.patch(
        admin.reference("pods", "p1"), type: .merge, patch: status, subresource: "status", caller: caller)
      try await refused(.forbidden) { () async throws(APIError) in
        try await node.get(admin.reference("pods", "p2"), caller: caller)
      }
      try await refused(.forbidden) { () async throws(APIError) in
        try await node.get(admin.reference("secrets", "s2"), caller: caller)
      }
      try await refused(.forbidden) { () async throws(APIError) in
        try await node.list(ListOptions(resource: "secrets"), caller: caller)
      }
      try await refused(.forbidden) { () async throws(APIError) in
        try await node.watch(WatchOptions(resource: "pods", after: 0), caller: caller)
      }
      try await refused(.forbidden) { () async throws(APIError) in
        try await node.patch(
          admin.reference("pods", "p2"), type: .merge, patch: status, subresource: "status", caller: caller)
      }
      try await refused(.forbidden) { () async throws(APIError) in
        try await node.patch(
          admin.reference("pods", "p1"), type: .merge, patch: ["metadata": ["labels": ["a": "b"]]], subresource: "",
          caller: caller)
      }
      try await refused(.forbidden) { () async throws(APIError) in
        try await node.create(
          resource: "nodes", namespace: "", object: ["metadata": ["name": "n3"]], caller: caller)
      }
      try await refused(.forbidden) { () async throws(APIError) in
        try await node.delete(admin.reference("pods", "p2"), options: DeleteOptions(gracePeriod: 0), caller: caller)
      }
      try equal(try await admin.get("pods", "p2").status["phase"], "Pending")
    },
  ]
}
