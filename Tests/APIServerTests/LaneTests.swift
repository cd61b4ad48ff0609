import API
import APIServer
import Base
import EventLoop
import ObjectLog
import ObjectModel
import Testing

@Suite(.timeLimit(.minutes(1))) struct LaneTests {
  private static let node = Caller.node("n1", origin: .lane)

  private func reference(_ resource: String, _ name: String) -> ObjectReference {
    ObjectReference(resource: resource, namespace: "default", name: name)
  }

  @Test func aBatchIsAppliedInOrderAndItsCursorStored() async throws {
    try await onLoop {
      let harness = try await ServerHarness()
      let (mine, other) = (try await harness.pod("mine", node: "n1"), try await harness.pod("other", node: "n2"))
      let pod = reference("pods", "mine")
      let results = try await harness.server.applyLane(
        [
          .status(pod, uid: mine.uid, fields: ["phase": "Running", "podIP": "10.0.0.1"]),
          .status(
            pod, uid: mine.uid,
            fields: ["podIP": .null, "conditions": [["type": "Ready", "status": "True"]]]),
          .status(pod, uid: "gone", fields: ["phase": "Failed"]),
          .status(reference("pods", "other"), uid: other.uid, fields: ["phase": "Failed"]),
          .podGone(pod, uid: mine.uid),
          .status(pod, uid: mine.uid, fields: ["conditions": [["type": "Initialized", "status": "True"]]]),
        ], cursor: ("lane/n1/status", [7]), caller: Self.node)
      #expect(results.map { $0?.reason } == [nil, nil, nil, .forbidden, .conflict, nil])
      let pods = try await harness.read("pods", "mine")
      #expect(
        pods.status["phase"] == "Running" && pods.status["podIP"].isNull && pods.status["qosClass"] == "BestEffort")
      #expect(Conditions.all(pods.status).map(\.type) == ["Ready", "Initialized"])
      #expect(try await harness.read("pods", "other").status["phase"] == "Pending")
      #expect(try harness.log.privateValue("lane/n1/status") == [7])
    }
  }

  @Test func aStoppedPodGoesWhenItsNodeSaysSo() async throws {
    try await onLoop {
      let harness = try await ServerHarness()
      let pod = try await harness.pod("p", node: "n1")
      _ = try await harness.server.delete(
        reference("pods", "p"), options: DeleteOptions(),
        caller: Caller(user: "a", groups: [Caller.adminGroup], node: nil, origin: .network))
      for _ in 0..<2 {
        let results = try await harness.server.applyLane(
          [.podGone(reference("pods", "p"), uid: pod.uid)], cursor: ("c", [1]), caller: Self.node)
        #expect(results.map { $0?.reason } == [nil])
      }
      #expect(try harness.log.read("pods/default/p", at: nil) == nil)
    }
  }

  @Test func anEventRecordedTwiceIsRecordedOnce() async throws {
    try await onLoop {
      let harness = try await ServerHarness()
      let (mine, other) = (try await harness.pod("mine", node: "n1"), try await harness.pod("other", node: "n2"))
      func event(_ subject: Object, host: String) -> LaneIntent {
        let event = Event(
          about: subject, level: .normal, reason: "Started", message: "m", component: "edgecore", host: host,
          now: WallTime(seconds: 1_800_000_000))
        return .event(namespace: "default", object: event.object.value)
      }
      let intents = [event(mine, host: "n1"), event(mine, host: "n2"), event(other, host: "n1")]
      for _ in 0..<2 {
        let results = try await harness.server.applyLane(intents, cursor: ("c", [1]), caller: Self.node)
        #expect(results.map { $0?.reason } == [nil, .forbidden, .forbidden])
      }
      let admin = Caller(user: "a", groups: [Caller.adminGroup], node: nil, origin: .network)
      let found = try await harness.server.list(
        ListOptions(resource: "events", fieldSelector: "involvedObject.name=mine"), caller: admin)
      #expect(found.items.count == 1)
      let stored = try #require(found.items.first)
      #expect(try stored.decoded().value["count"] == 1)
    }
  }

  @Test func listsWithKeysMerge() {
    let status: Value = [
      "twins": [
        ["propertyName": "t", "reported": ["value": "1"]], ["propertyName": "u", "reported": ["value": "2"]],
      ],
      "state": "online",
    ]
    let merged = StatusIntent.merge(
      ["twins": [["propertyName": "u", "reported": ["value": "3"]], ["propertyName": "v"]], "state": .null],
      into: status)
    #expect(
      merged == [
        "twins": [
          ["propertyName": "t", "reported": ["value": "1"]], ["propertyName": "u", "reported": ["value": "3"]],
          ["propertyName": "v"],
        ]
      ])
  }
}
