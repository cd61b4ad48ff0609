import API
import APIServer
import Base
import EventLoop
import ObjectLog
import ObjectModel
import Testing

private let admin = Caller(user: "admin", groups: [Caller.adminGroup], node: nil, origin: .network)

private func reference(_ resource: String, _ name: String) -> ObjectReference {
  ObjectReference(resource: resource, namespace: resource == "nodes" ? "" : "default", name: name)
}

extension ServerHarness {
  @discardableResult
  func make(_ resource: String, _ object: Value) async throws -> Object {
    try await server.create(
      resource: resource, namespace: resource == "nodes" ? "" : "default", object: object, caller: admin
    ).decoded()
  }
  func read(_ resource: String, _ name: String) async throws -> Object {
    try await server.get(reference(resource, name), caller: admin).decoded()
  }
  func call(
    _ resource: String, _ name: String, _ subresource: String, _ caller: Caller = admin
  ) async throws(APIError) -> Value {
    try await server.connect(
      reference(resource, name), subresource: subresource, options: [:], stream: nil, caller: caller)
  }
  /// Why a call is refused; nil: it is not.
  func reason(
    _ resource: String, _ name: String, _ subresource: String, _ caller: Caller = admin
  ) async -> APIError.Reason? {
    do throws(APIError) {
      _ = try await call(resource, name, subresource, caller)
      return nil
    } catch {
      return error.reason
    }
  }
  func pod(_ name: String, node: String = "") async throws -> Object {
    var spec: Value = ["containers": [["name": "c", "image": "i:1"]]]
    if !node.isEmpty { spec["nodeName"] = .string(node) }
    return try await make("pods", ["metadata": ["name": .string(name)], "spec": spec])
  }
}

@Suite(.timeLimit(.minutes(1))) struct ServerTests {
  /// Whether an update sends the metadata back in full or names the object alone, what is the server's stays as it was
  /// and what is the writer's own is as the update says.
  @Test func anUpdateReplacesAllButWhatIsTheServers() async throws {
    try await onLoop {
      let harness = try await ServerHarness()
      func update(_ metadata: Value, _ text: String, _ more: Value = [:]) async throws(APIError) -> Object {
        var object: Value = ["metadata": metadata, "data": ["k": .string(text)]]
        object["metadata"]["name"] = "c"
        object["metadata"]["namespace"] = "default"
        for (key, value) in more.object ?? Value.Fields() { object[key] = value }
        _ = try await harness.server.update(
          reference("configmaps", "c"), object: object, subresource: "", caller: admin)
        do { return try await harness.read("configmaps", "c") } catch { throw APIError(.internalError, "\(error)") }
      }
      func withoutRevision(_ object: Object) -> Value {
        var metadata = object.metadata
        metadata.remove("resourceVersion")
        return metadata
      }
      let labels: Value = ["labels": ["a": "b"], "annotations": ["note": "1"]]
      let made = try await harness.make("configmaps", ["metadata": ["name": "c"], "data": ["k": "0"]])
      let bare = try await update([:], "1", ["status": ["is": "none"]])
      #expect(withoutRevision(bare) == withoutRevision(made) && bare.value["data"]["k"] == "1" && bare.status.isNull)
      let labelled = try await update(labels, "2")
      #expect(labelled.labels == ["a": "b"] && labelled.uid == made.uid)
      let again = try await update(
        ["labels": ["a": "b"], "annotations": ["note": "1"], "deletionTimestamp": "2026-01-01T00:00:00Z"], "3")
      #expect(withoutRevision(again) == withoutRevision(labelled) && again.value["data"]["k"] == "3")
      #expect(try await update(again.metadata, "4").value["data"]["k"] == "4")
      let list = try await harness.server.list(
        ListOptions(resource: "configmaps", labelSelector: "a=b"), caller: admin)
      #expect(list.items.map(\.reference.name) == ["c"])
      #expect(try await update(["labels": ["a": "c"]], "5").annotations.isEmpty)
      #expect(withoutRevision(try await update([:], "6")) == withoutRevision(made))
      let fixed = try await update([:], "7", ["immutable": true])
      await #expect(throws: APIError.self) { try await update([:], "8", ["immutable": true]) }
      await #expect(throws: APIError.self) { try await update(["uid": "another"], "7", ["immutable": true]) }
      #expect(try await harness.read("configmaps", "c") == fixed)
    }
  }

  /// A node's pods are found without a look at all of them, whatever happens to them, and as a scan finds them.
  @Test func listingANodesPodsLooksAtThemAlone() async throws {
    try await onLoop {
      var limits = APIServerLimits()
      // A scan stops after so many; what is found by its node is whole.
      limits.scannedObjects = 10
      let harness = try await ServerHarness(limits: limits)
      let random = SeededRandom(seed: 7)
      func list(_ fields: String, limit: Int = 0) async throws -> (names: [String], pages: Int) {
        var (options, names, pages) = (
          ListOptions(resource: "pods", fieldSelector: fields, limit: limit), [String](), 0
        )
        repeat {
          let page = try await harness.server.list(options, caller: admin)
          names += page.items.map(\.reference.name)
          options.continuation = page.continuation
          pages += 1
        } while !options.continuation.isEmpty
        return (names, pages)
      }
      var nodes: [String: String] = [:]
      for index in 0..<120 {
        let (name, node) = ("p\(1000 + index)", index % 3 == 0 ? "" : "n\(index % 5)")
        _ = try await harness.pod(name, node: node)
        nodes[name] = node
      }
      func expected(_ node: String) -> [String] { nodes.filter { $0.value == node }.keys.sorted() }
      // The first questions are answered by scans, while others write; the index comes to stand meanwhile.
      var pages = 2
      while pages > 1 {
        let found = try await list("spec.nodeName=n1")
        #expect(found.names == expected("n1"))
        pages = found.pages
        await Task.yield()
      }
      for step in 0..<200 {
        let name = "p\(1000 + random.below(140))"
        switch nodes[name] {
        case nil:
          let node = random.below(2) == 0 ? "" : "n\(random.below(5))"
          _ = try await harness.pod(name, node: node)
          nodes[name] = node
        case "":
          let node = "n\(random.below(5))"
          _ = try await harness.server.update(
            reference("pods", name), object: ["target": ["name": .string(node)]], subresource: "binding", caller: admin)
          nodes[name] = node
        default:
          _ = try await harness.server.delete(
            reference("pods", name), options: DeleteOptions(gracePeriod: 0), caller: admin)
          nodes[name] = nil
        }
        if step % 10 == 0 {
          let node = "n\(random.below(5))"
          let found = try await list("spec.nodeName=\(node)")
          #expect(found.names == expected(node) && found.pages == 1)
        }
      }
      #expect(try await list("spec.nodeName=n1,status.phase=Running").names == [])
      let paged = try await list("spec.nodeName=n2", limit: 3)
      #expect(paged.names == expected("n2") && paged.pages > 1)
      #expect(try await list("spec.nodeName=").names == expected(""))
    }
  }

  @Test func secretsAreSealedAndNullsAreGone() async throws {
    try await onLoop {
      let harness = try await ServerHarness()
      try await harness.make("secrets", ["metadata": ["name": "s"], "stringData": ["a": "b"], "x": ["y": .null]])
      try await harness.make("configmaps", ["metadata": ["name": "open"], "data": ["a": "b"]])
      try await harness.make(
        "configmaps",
        ["metadata": ["name": "closed", "annotations": ["skerry.io/sensitive-keys": "a"]], "data": ["a": "b"]])
      #expect(try harness.log.read("secrets/default/s", at: nil)?.sealed == true)
      #expect(try harness.log.read("configmaps/default/closed", at: nil)?.sealed == true)
      #expect(try harness.log.read("configmaps/default/open", at: nil)?.sealed == false)
      let secret = try await harness.read("secrets", "s")
      #expect(secret.value["data"] == ["a": "Yg=="] && secret.value["stringData"].isNull)
      #expect(secret.value["x"] == [:])
    }
  }

  @Test func refusesWhatIsTooLargeOrTooDeep() async throws {
    try await onLoop {
      let harness = try await ServerHarness()
      let large = Value.string(String(repeating: "x", count: 2 << 20))
      await #expect { try await harness.make("events", ["metadata": ["name": "e"], "note": large]) } throws: { error in
        (error as? APIError)?.reason == .requestEntityTooLarge
      }
      var deep: Value = [:]
      for _ in 0..<100 { deep = ["d": deep] }
      await #expect { try await harness.make("configmaps", ["metadata": ["name": "c"], "deep": deep]) } throws: {
        error in
        (error as? APIError)?.reason == .badRequest
      }
    }
  }

  @Test func concurrentPatchesWithoutARevisionAllArrive() async throws {
    try await onLoop {
      var limits = APIServerLimits()
      limits.conflictRetries = 30
      let harness = try await ServerHarness(limits: limits)
      try await harness.make("configmaps", ["metadata": ["name": "c"]])
      let writers = (0..<20).map { index in
        spawn {
          try? await harness.server.patch(
            reference("configmaps", "c"), type: .merge, patch: ["data": ["k\(index)": "v"]], subresource: "",
            caller: admin
          ).revision
        }
      }
      var revisions: Set<UInt64> = []
      for writer in writers { if let revision = await writer.value { revisions.insert(revision) } }
      #expect(revisions.count == 20)
      #expect(try await harness.read("configmaps", "c").value["data"].object?.count == 20)
    }
  }

  @Test func refusalsAreCounted() async throws {
    try await onLoop {
      let harness = try await ServerHarness()
      let view = Caller(user: "v", groups: [Caller.viewGroup], node: nil, origin: .network)
      await #expect(throws: APIError.self) { try await harness.server.get(reference("secrets", "x"), caller: view) }
      let wanted = "skerry_apiserver_forbidden_total{verb=\"get\",resource=\"secrets\"} 1"
      #expect(harness.metrics.text().contains(wanted))
    }
  }

  @Test func callersAreWhatTheyAreNotWhatTheyAlsoClaim() async throws {
    try await onLoop {
      let harness = try await ServerHarness()
      for caller in [
        Caller(user: "system:node:n1", groups: [Caller.nodesGroup, Caller.adminGroup], node: "n1", origin: .network),
        Caller(user: "system:node:n1", groups: [Caller.adminGroup], node: "n1", origin: .network),
        Caller(user: "x", groups: [Caller.nodesGroup, Caller.adminGroup], node: nil, origin: .network),
        Caller(user: "system:controller:gc", groups: [Caller.controllersGroup], node: nil, origin: .network),
        Caller(user: "x", groups: [], node: nil, origin: .inProcess),
      ] {
        await #expect(throws: APIError.self, "\(caller.groups)") {
          try await harness.server.list(ListOptions(resource: "configmaps"), caller: caller)
        }
      }
    }
  }

  @Test func bookmarksComeByThemselves() async throws {
    try await onLoop {
      var limits = APIServerLimits()
      limits.bookmarkInterval = .milliseconds(5)
      let harness = try await ServerHarness(limits: limits)
      harness.server.start()
      let cursor = try await harness.server.watch(
        WatchOptions(resource: "pods", after: harness.log.tail.position), caller: admin)
      #expect(try cursor.next(limit: 10).isEmpty)
      try await harness.make("configmaps", ["metadata": ["name": "c"]])
      let tail = harness.log.tail.position
      await withCheckedContinuation { (done: CheckedContinuation<Void, Never>) in
        cursor.onAvailable = {
          cursor.onAvailable = nil
          done.resume()
        }
      }
      let events = try cursor.next(limit: 10)
      #expect(events.map(\.kind) == [.bookmark] && events.last?.position == tail)
      cursor.cancel()
      harness.server.stop()
    }
  }

  @Test func eventsEnd() async throws {
    try await onLoop {
      var limits = APIServerLimits()
      limits.maxEvents = 2
      limits.eventSweepInterval = .milliseconds(5)
      let harness = try await ServerHarness(limits: limits)
      for index in 0..<4 {
        try await harness.make(
          "events", ["metadata": ["name": .string("e\(index)")], "involvedObject": ["namespace": "default"]])
      }
      let cursor = try await harness.server.watch(
        WatchOptions(resource: "events", after: harness.log.tail.position), caller: admin)
      harness.server.start()
      var deleted = 0
      while deleted < 2 {
        await withCheckedContinuation { (done: CheckedContinuation<Void, Never>) in
          cursor.onAvailable = {
            cursor.onAvailable = nil
            done.resume()
          }
          if let more = try? cursor.next(limit: 10), !more.isEmpty {
            deleted += more.filter { $0.kind == .deleted }.count
            cursor.onAvailable?()
          }
        }
      }
      harness.server.stop()
      #expect(try await harness.server.list(ListOptions(resource: "events"), caller: admin).items.count == 2)
    }
  }

  @Test func callsReachHandlersAndNodes() async throws {
    @LoopActor final class Hub: NodeConnector {
      var calls: [String] = []
      func connect(
        node: String, _ reference: ObjectReference, subresource: String, options: Value, stream: (any DuplexStream)?,
        caller: Caller
      ) async throws(APIError) -> Value {
        calls.append("\(node) \(reference.key) \(subresource)")
        return ["exitCode": 0]
      }
      func lastHeard(_ node: String) -> Instant? { nil }
    }
    try await onLoop {
      let harness = try await ServerHarness()
      _ = try await harness.pod("free")
      _ = try await harness.pod("bound", node: "n1")
      #expect(await harness.reason("pods", "bound", "log") == .serviceUnavailable)
      let hub = Hub()
      harness.server.connector = hub
      #expect(try await harness.call("pods", "bound", "exec") == ["exitCode": 0])
      #expect(hub.calls == ["n1 pods/default/bound exec"])
      #expect(await harness.reason("pods", "free", "log") == .badRequest)
      #expect(await harness.reason("pods", "none", "log") == .notFound)
      #expect(await harness.reason("pods", "bound", "fly") == .notFound)
      #expect(await harness.reason("tokens", "", "create") == .notFound)
      harness.server.register(subresource: "create", of: "tokens") { _, _, _, _ in ["token": "t"] }
      #expect(try await harness.call("tokens", "", "create") == ["token": "t"])
      let view = Caller(user: "v", groups: [Caller.viewGroup], node: nil, origin: .network)
      let edit = Caller(user: "e", groups: [Caller.editGroup], node: nil, origin: .network)
      #expect(await harness.reason("pods", "bound", "log", view) == nil)
      #expect(await harness.reason("pods", "bound", "exec", view) == .forbidden)
      #expect(await harness.reason("pods", "bound", "exec", edit) == nil)
      #expect(await harness.reason("tokens", "", "create", edit) == .forbidden)
      #expect(await harness.reason("pods", "bound", "exec", .node("n1", origin: .network)) == .forbidden)
    }
  }

  @Test func aReplicaIsReadAndItsWritesAreRouted() async throws {
    @LoopActor final class Router: WriteRouter {
      let target: APIServer
      init(_ target: APIServer) { self.target = target }
      func route(_ item: BatchItem, caller: Caller) async throws(APIError) -> APIObject {
        try await target.batch([item], caller: caller)[0].get()
      }
    }
    try await onLoop {
      let cloud = try await ServerHarness()
      let pod = try await cloud.pod("p", node: "n1")
      let stored = try #require(try cloud.log.read("pods/default/p", at: nil))
      let replica = MemoryObjectLog(role: .follower, random: SeededRandom(seed: 2))
      let edge = APIServer(
        log: replica, authorizer: HouseAuthorizer(), scheduler: Loop.startShared(), random: SystemRandom(),
        mode: .replica)
      let cursor = try await edge.watch(WatchOptions(resource: "pods", after: nil), caller: admin)
      _ = try cursor.next(limit: 10)
      let place = Cursor(log: cloud.log.tail.log, epoch: 1, position: 500)
      let failure = await withCheckedContinuation { done in
        replica.replace(position: place, objects: [("pods/default/p", stored)]) { done.resume(returning: $0) }
      }
      #expect(failure == nil)
      // Another history began: the watch says so, and a new one shows the state.
      #expect(throws: APIError.self) { try cursor.next(limit: 10) }
      let again = try await edge.watch(WatchOptions(resource: "pods", after: nil), caller: admin)
      let events = try again.next(limit: 10)
      #expect(events.map(\.kind) == [.added, .bookmark] && events.last?.position == 500)
      #expect(events.first?.object?.revision == pod.resourceVersion)
      let delete = DeleteOptions(gracePeriod: 0)
      await #expect { try await edge.delete(reference("pods", "p"), options: delete, caller: admin) } throws: { error in
        (error as? APIError)?.reason == .methodNotAllowed
      }
      let router = Router(cloud.server)
      edge.writeRouter = router
      _ = try await edge.delete(reference("pods", "p"), options: delete, caller: admin)
      #expect(try cloud.log.read("pods/default/p", at: nil) == nil)
    }
  }
}
