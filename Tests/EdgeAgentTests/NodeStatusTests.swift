import API
import APIServer
import Base
import EdgeAgent
import EventLoop
import ObjectLog
import ObjectModel
import Sync
import Testing
import Wire

@Suite struct NodeStatusTests {
  @Test(.timeLimit(.minutes(1))) func aConditionOfAnEarlierProcessIsTakenBack() async throws {
    try await onLoop {
      let world = try await EdgeWorld()
      defer { world.close() }
      _ = try await world.cloud.create(
        resource: "nodes", namespace: "", object: ["metadata": ["name": "n1"]], caller: EdgeWorld.admin)
      @LoopActor func skew(_ status: String) async throws {
        _ = try await world.cloud.patch(
          ObjectReference(resource: "nodes", name: "n1"), type: .merge,
          patch: ["status": ["conditions": [["type": "ClockSkew", "status": .string(status)]]]], subresource: "status",
          caller: EdgeWorld.admin)
        await world.settle()
      }
      @LoopActor func told() throws -> [String] {
        try world.outbox.waiting(.status).flatMap { payload -> [String] in
          guard case .status(_, _, let fields) = payload else { return [] }
          return (fields["conditions"].array ?? []).filter { $0["type"] == "ClockSkew" }.compactMap {
            $0["status"].string
          }
        }
      }
      let facts = NodeFacts.read(
        name: "n1", address: "127.0.0.1", dataDirectory: "/tmp", maxPods: 1, runtime: "r", version: "v")
      @LoopActor func reporter() -> NodeStatusReporter {
        let made = NodeStatusReporter(
          facts: facts, replica: world.replica, reporter: world.reporter, scheduler: world.loop)
        made.start()
        return made
      }
      try await skew("False")
      let first = reporter()
      first.set(condition: "ClockSkew", isTrue: false, reason: "r", message: "m")
      try await world.outbox.durable()
      #expect(try told() == [])
      first.stop()
      try await skew("True")
      let second = reporter()
      second.set(condition: "ClockSkew", isTrue: false, reason: "r", message: "m")
      try await world.outbox.durable()
      #expect(try told() == ["False"])
      second.stop()
    }
  }
}
