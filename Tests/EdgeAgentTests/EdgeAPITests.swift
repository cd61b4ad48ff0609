import API
import APIClient
import APIConformance
import APIServer
import Base
import EdgeAgent
import EventLoop
import ObjectLog
import ObjectModel
import Sync
import Testing
import Transport
import Wire

@Suite struct EdgeConformanceTests {
  @Test(.timeLimit(.minutes(1)), arguments: APIConformance.readOnly)
  func serves(_ conformance: APIConformance) async throws {
    try await onLoop {
      let harness = try await EdgeHarness()
      defer { harness.close() }
      try await conformance.run(harness)
    }
  }

  @Test(.timeLimit(.minutes(1)), arguments: APIConformance.readOnly)
  func servesBeyondItsBuffers(_ conformance: APIConformance) async throws {
    try await onLoop {
      var limits = APIServerLimits()
      limits.tailEntries = 2
      limits.scannedEntries = 3
      let harness = try await EdgeHarness(limits: limits)
      defer { harness.close() }
      try await conformance.run(harness)
    }
  }
}

@Suite struct EdgeOverlayTests {
  @LoopActor private func withWorld(_ body: @LoopActor (EdgeWorld) async throws -> Void) async throws {
    let world = try await EdgeWorld()
    defer { world.close() }
    try await body(world)
  }

  private func phase(_ object: APIObject?) throws -> String? { try object?.decoded().status["phase"].string }

  /// Pulls until that many events came; bookmarks are left out.
  @LoopActor private func take(_ count: Int, from cursor: any WatchCursor) async throws -> [WatchEvent] {
    var found: [WatchEvent] = []
    for _ in 0..<100_000 where found.count < count {
      found += try cursor.next(limit: count).filter { $0.kind != .bookmark }
      await Task.yield()
    }
    return found
  }

  @Test(.timeLimit(.minutes(1)))
  func aStatusThatHasNotReachedTheCloudIsSeenInGetListAndWatch() async throws {
    try await onLoop {
      try await withWorld { world in
        let pod = try await world.pod("p")
        let client = try await world.client()
        let reference = ObjectReference(resource: "pods", namespace: "default", name: "p")
        let list = try await client.list(ListOptions(resource: "pods"), caller: EdgeWorld.root)
        let watch = try await client.watch(
          WatchOptions(resource: "pods", after: list.revision), caller: EdgeWorld.root)
        world.reporter.podStatus(key: reference.key, uid: pod.uid, status: ["phase": "Running", "podIP": "10.0.0.9"])
        let event = try #require(try await take(1, from: watch).first)
        #expect(event.kind == .modified && event.position > list.revision)
        #expect(try phase(event.object) == "Running")
        #expect(try phase(try await client.get(reference, caller: EdgeWorld.root)) == "Running")
        // Selectors see it too.
        let running = try await client.list(
          ListOptions(resource: "pods", fieldSelector: "status.phase=Running"), caller: EdgeWorld.root)
        #expect(running.items.count == 1)
        // The cloud knows nothing of it, and a change there does not undo it.
        #expect(try await world.cloud.get(reference, caller: EdgeWorld.admin).decoded().status["podIP"].isNull)
        _ = try await world.cloud.patch(
          reference, type: .merge, patch: ["metadata": ["labels": ["a": "b"]]], subresource: "",
          caller: EdgeWorld.admin)
        let labelled = try #require(try await take(1, from: watch).first?.object)
        #expect(try labelled.decoded().labels == ["a": "b"] && phase(labelled) == "Running")
        // A watch resumes in the middle of what only the node said.
        let again = try await client.watch(
          WatchOptions(resource: "pods", after: event.position), caller: EdgeWorld.root)
        #expect(try await take(1, from: again).first?.object?.decoded().labels == ["a": "b"])
        watch.cancel()
        again.cancel()
      }
    }
  }

  @Test(.timeLimit(.minutes(1)))
  func aPodThatTheNodeIsDoneWithIsGoneHereBeforeItIsInTheCloud() async throws {
    try await onLoop {
      try await withWorld { world in
        let pod = try await world.pod("p")
        let client = try await world.client()
        let reference = ObjectReference(resource: "pods", namespace: "default", name: "p")
        // Not being deleted: the node may not let it go.
        world.reporter.podGone(key: reference.key, uid: pod.uid)
        #expect(try await client.get(reference, caller: EdgeWorld.root).decoded().uid == pod.uid)
        _ = try await world.cloud.delete(reference, options: DeleteOptions(), caller: EdgeWorld.admin)
        await world.settle()
        await #expect(throws: APIError.self) { _ = try await client.get(reference, caller: EdgeWorld.root) }
        #expect(try await client.list(ListOptions(resource: "pods"), caller: EdgeWorld.root).items.isEmpty)
        #expect(try await world.cloud.get(reference, caller: EdgeWorld.admin).decoded().isBeingDeleted)
      }
    }
  }

  @Test(.timeLimit(.minutes(1)))
  func aStatusThatIsWrittenHereWaitsInTheLaneAndIsShown() async throws {
    try await onLoop {
      try await withWorld { world in
        let pod = try await world.pod("p")
        let other = try await world.pod("q", node: "n2")
        let client = try await world.client()
        let reference = ObjectReference(resource: "pods", namespace: "default", name: "p")
        let gate: Value = ["status": ["conditions": [["type": "example.com/gate", "status": "True"]]]]
        let answer = try await client.patch(
          reference, type: .merge, patch: gate, subresource: "status", caller: EdgeWorld.root)
        #expect(try answer.decoded().status["conditions"][0]["type"] == "example.com/gate")
        // What the node says itself stands beside it.
        world.reporter.podStatus(
          key: reference.key, uid: pod.uid,
          status: ["phase": "Running", "conditions": [["type": "Ready", "status": "True"]]])
        let shown = try await client.get(reference, caller: EdgeWorld.root).decoded()
        let types = (shown.status["conditions"].array ?? []).compactMap { $0["type"].string }
        #expect(Set(types) == ["Ready", "example.com/gate"] && shown.status["phase"] == "Running")
        try await world.outbox.durable()
        #expect(try world.outbox.waiting(.status).count == 2)
        // Elsewhere placed, no status, or not allowed: a clear error, and nothing in the lane.
        await #expect(throws: APIError.self) {
          _ = try await client.patch(
            ObjectReference(resource: "pods", namespace: "default", name: other.name), type: .merge, patch: gate,
            subresource: "status", caller: EdgeWorld.root)
        }
        await #expect(throws: APIError.self) {
          _ = try await client.patch(
            reference, type: .merge, patch: ["metadata": ["labels": ["x": "y"]]], subresource: "",
            caller: EdgeWorld.root)
        }
        await #expect(throws: APIError.self) {
          _ = try await client.delete(reference, options: DeleteOptions(), caller: EdgeWorld.root)
        }
        #expect(try world.outbox.waiting(.status).count == 2)
      }
    }
  }

  @Test(.timeLimit(.minutes(1))) func whatWaitedAtARestartIsShownAndAnOldWatchListsAgain() async throws {
    try await onLoop {
      try await withWorld { world in
        let pod = try await world.pod("p")
        let key = "pods/default/p"
        world.reporter.podStatus(key: key, uid: pod.uid, status: ["phase": "Running"])
        world.reporter.event(
          regarding: pod, apiVersion: "v1", kind: "Pod", type: "Normal", reason: "Started", message: "m")
        try await world.outbox.durable()
        await world.settle()
        let before = world.view.log.tail.position
        // Another process over the same files.
        let again = EdgeView(replica: world.replica, random: SystemRandom(), logger: world.logger)
        await again.start(waiting: try world.outbox.waiting(.status) + world.outbox.waiting(.events))
        let shown = try #require(try again.log.read(key, at: nil)?.status)
        #expect(try CBOR.decode(shown)["phase"] == "Running")
        #expect(try again.log.list(prefix: "events/", at: nil, after: nil, limit: 9).objects.count == 1)
        #expect(again.log.tail.position > before && again.log.compacted >= before)
      }
    }
  }

  @Test(.timeLimit(.minutes(1))) func historyIsBounded() async throws {
    try await onLoop {
      try await withWorld { world in
        let pod = try await world.pod("p")
        for number in 0..<(EdgeView.maxHistory * 2) {
          world.reporter.podStatus(key: "pods/default/p", uid: pod.uid, status: ["podIP": .string("\(number)")])
        }
        await world.settle()
        let log = world.view.log
        #expect(log.tail.position - log.compacted <= UInt64(EdgeView.maxHistory) + 1)
      }
    }
  }
}
