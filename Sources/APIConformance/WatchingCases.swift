import API
import Base
import Conformance
import ObjectModel

extension APIConformance {
  static let watching: [APIConformance] = [
    APIConformance("a watch gives the state, a bookmark, then changes; a resumed one neither gap nor repeat") {
      harness in
      let admin = try await Admin(harness)
      _ = try await admin.create("configmaps", Sample.configMap("a"))
      _ = try await admin.create("configmaps", Sample.configMap("b"))
      let reader = Reader(try await admin.watch(WatchOptions(resource: "configmaps", namespace: "default", after: nil)))
      let start = try await reader.takeBookmark()
      try equal(Reader.text(start.events), ["added a", "added b"])
      _ = try await admin.patch("configmaps", "a", ["data": ["k": "2"]])
      try await admin.delete("configmaps", "b")
      let changed = try await reader.take(2)
      try equal(Reader.text(changed), ["modified a", "deleted b"])
      try check(changed[0].position > start.position && changed[1].position > changed[0].position, "order")
      reader.cursor.cancel()
      _ = try await admin.create("configmaps", Sample.configMap("c"))
      let again = Reader(
        try await admin.watch(
          WatchOptions(resource: "configmaps", namespace: "default", after: changed[0].position)))
      try equal(Reader.text(try await again.take(2)), ["deleted b", "added c"])
      again.cursor.cancel()
    },
    APIConformance("an object that enters or leaves a selector is added or deleted") { harness in
      let admin = try await Admin(harness)
      let reader = Reader(
        try await admin.watch(
          WatchOptions(resource: "configmaps", namespace: "default", labelSelector: "app=x", after: nil)))
      _ = try await reader.takeBookmark()
      _ = try await admin.create("configmaps", Sample.configMap("a"))
      _ = try await admin.patch("configmaps", "a", ["metadata": ["labels": ["app": "x"]]])
      _ = try await admin.patch("configmaps", "a", ["data": ["k": "2"]])
      let left = try await admin.patch("configmaps", "a", ["metadata": ["labels": ["app": "y"]]])
      try await admin.delete("configmaps", "a")
      _ = try await admin.create("configmaps", Sample.configMap("b", labels: ["app": "x"]))
      let events = try await reader.take(4)
      try equal(Reader.text(events), ["added a", "modified a", "deleted a", "added b"])
      let last = try events[2].object?.decoded()
      try equal(last?.labels, ["app": "x"], "the labels that a leaving object is shown with")
      try equal(events[2].object?.revision, left.resourceVersion)
      reader.cursor.cancel()
    },
    APIConformance("a slow watch loses nothing, however far it falls behind") { harness in
      let admin = try await Admin(harness)
      _ = try await admin.create("configmaps", Sample.configMap("c", "0"))
      let list = try await admin.list(ListOptions(resource: "configmaps", namespace: "default"))
      let reader = Reader(
        try await admin.watch(WatchOptions(resource: "configmaps", namespace: "default", after: list.revision)))
      let count = 300
      for index in 1...count {
        _ = try await admin.patch("configmaps", "c", ["data": ["k": .string(String(index))]])
      }
      var seen: [String] = []
      while seen.count < count {
        for event in try await reader.take(min(7, count - seen.count)) {
          seen.append(try event.object?.decoded().value["data"]["k"].string ?? "")
        }
      }
      try equal(seen, (1...count).map(String.init))
      reader.cursor.cancel()
    },
    APIConformance("a watch from before history is told where to start again") { harness in
      let admin = try await Admin(harness)
      let made = try await admin.create("configmaps", Sample.configMap("a"))
      for index in 0..<5 { _ = try await admin.create("configmaps", Sample.configMap("x\(index)")) }
      try harness.compact(through: made.resourceVersion + 1)
      let reader: Reader
      do throws(APIError) {
        reader = Reader(
          try await admin.watch(
            WatchOptions(resource: "configmaps", namespace: "default", after: made.resourceVersion)))
      } catch {
        try equal(error.reason, .expired)
        try check(error.message.contains("too old resource version"), error.message)
        return
      }
      // Over a connection the refusal may come with the first read.
      do {
        _ = try await reader.take(1)
      } catch let error as APIError {
        return try equal(error.reason, .expired)
      }
      throw ConformanceFailure(description: "a watch from before history was served")
    },
    APIConformance("a watch of one name or namespace hears of nothing else") { harness in
      let admin = try await Admin(harness)
      _ = try await admin.create("namespaces", ["metadata": ["name": "one"]], namespace: "")
      let reader = Reader(
        try await admin.watch(
          WatchOptions(resource: "pods", namespace: "one", fieldSelector: "metadata.name=p", after: nil)))
      _ = try await reader.takeBookmark()
      _ = try await admin.create("pods", Sample.pod("p"))
      _ = try await admin.create("pods", Sample.pod("q"), namespace: "one")
      _ = try await admin.create("pods", Sample.pod("p"), namespace: "one")
      let events = try await reader.take(1)
      try equal(events[0].object?.reference.key, "pods/one/p")
      reader.cursor.cancel()
    },
  ]
}
