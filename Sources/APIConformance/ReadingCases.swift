import API
import Base
import Conformance
import ObjectModel

extension APIConformance {
  static let reading: [APIConformance] = [
    APIConformance("a paged list stands at one revision") { harness in
      let admin = try await Admin(harness)
      for index in 0..<7 { _ = try await admin.create("configmaps", Sample.configMap("c\(index)")) }
      var page = try await admin.list(ListOptions(resource: "configmaps", namespace: "default", limit: 3))
      let revision = page.revision
      var names = page.items.map(\.reference.name)
      _ = try await admin.create("configmaps", Sample.configMap("c55"))
      try await admin.delete("configmaps", "c6")
      while !page.continuation.isEmpty {
        page = try await admin.list(
          ListOptions(resource: "configmaps", namespace: "default", limit: 3, continuation: page.continuation))
        names += page.items.map(\.reference.name)
        try equal(page.revision, revision)
      }
      try equal(names, (0..<7).map { "c\($0)" })
      let old = try await admin.list(
        ListOptions(resource: "configmaps", namespace: "default", revision: revision))
      try equal(old.items.count, 7)
      try await refused(.timeout) { () async throws(APIError) in
        try await admin.list(ListOptions(resource: "configmaps", namespace: "default", revision: 1 << 40))
      }
      try await refused(.badRequest) { () async throws(APIError) in
        try await admin.list(ListOptions(resource: "configmaps", namespace: "default", continuation: "zz"))
      }
    },
    APIConformance("a page whose revision was compacted is told to be too old") { harness in
      let admin = try await Admin(harness)
      for index in 0..<4 { _ = try await admin.create("configmaps", Sample.configMap("c\(index)")) }
      let page = try await admin.list(ListOptions(resource: "configmaps", namespace: "default", limit: 2))
      _ = try await admin.create("configmaps", Sample.configMap("c9"))
      try harness.compact(through: page.revision)
      try await refused(.expired) { () async throws(APIError) in
        try await admin.list(
          ListOptions(resource: "configmaps", namespace: "default", continuation: page.continuation))
      }
    },
    APIConformance("selectors choose by labels and fields") { harness in
      let admin = try await Admin(harness)
      _ = try await admin.create("configmaps", Sample.configMap("a", labels: ["app": "x", "tier": "1"]))
      _ = try await admin.create("configmaps", Sample.configMap("b", labels: ["app": "y"]))
      _ = try await admin.create("pods", Sample.pod("p1", node: "n1"))
      _ = try await admin.create("pods", Sample.pod("p2"))
      func names(_ resource: String, _ labels: String, _ fields: String) async throws -> [String] {
        let found = try await admin.list(
          ListOptions(resource: resource, namespace: "default", labelSelector: labels, fieldSelector: fields))
        return found.items.map(\.reference.name)
      }
      try equal(try await names("configmaps", "app in (x,y),!tier", ""), ["b"])
      try equal(try await names("configmaps", "app=x", "metadata.name!=a"), [])
      try equal(try await names("configmaps", "", "metadata.name=a"), ["a"])
      try equal(try await names("pods", "", "spec.nodeName=n1"), ["p1"])
      try equal(try await names("pods", "", "spec.nodeName=,status.phase=Pending"), ["p2"])
      try await refused(.badRequest) { () async throws(APIError) in
        try await admin.list(ListOptions(resource: "pods", fieldSelector: "spec.colour=red"))
      }
      try await refused(.badRequest) { () async throws(APIError) in
        try await admin.list(ListOptions(resource: "pods", labelSelector: "a in"))
      }
    },
    APIConformance("a list without a namespace reaches over all of them") { harness in
      let admin = try await Admin(harness)
      _ = try await admin.create("namespaces", ["metadata": ["name": "one"]], namespace: "")
      _ = try await admin.create("pods", Sample.pod("p"), namespace: "one")
      _ = try await admin.create("pods", Sample.pod("p"))
      let all = try await admin.list(ListOptions(resource: "pods"))
      try equal(all.items.map(\.reference.key), ["pods/default/p", "pods/one/p"])
    },
  ]
}
