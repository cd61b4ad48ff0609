import API
import APIServer
import Base
import EventLoop
import ObjectLog
import ObjectModel
import Testing
import Wire

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

  /// Only what the node speaks of is decoded, and the result is as if all of it were.
  @Test func aStatusIsMergedMemberByMember() async throws {
    try await onLoop {
      let harness = try await ServerHarness()
      let (reference, uid) = (reference("pods", "p"), try await harness.pod("p", node: "n1").uid)
      let admin = Caller(user: "a", groups: [Caller.adminGroup], node: nil, origin: .network)
      var expected = try await harness.read("pods", "p").status
      let steps: [Value] = [
        [
          "phase": "Running", "podIP": "10.0.0.1",
          "conditions": [["type": "Ready", "status": "True", "reason": .null]],
        ],
        ["other": ["b": ["c": 1, "d": .null]], "zz": [1, ["x": .null]], "a": "first", "phase": .null],
        ["conditions": [["type": "Ready", "message": "m"], ["type": "Initialized"]], "hostIP": "1.2.3.4"], [:],
        ["podIP": .null, "phase": "Failed", "other": ["b": .null]],
      ]
      for (number, fields) in steps.enumerated() {
        let results = try await harness.server.applyLane(
          [.status(reference, uid: uid, fields: fields)], cursor: ("c", [UInt8(number)]), caller: Self.node)
        #expect(results.map { $0?.reason } == [nil])
        expected = StatusIntent.merge(fields, into: expected).withoutNulls()
        let stored = try #require(try harness.log.read("pods/default/p", at: nil))
        #expect(stored.status == CBOR.encode(expected))
        #expect(try harness.log.privateValue("c") == [UInt8(number)])
        for phase in ["Running", "Failed", ""] {
          let found = try await harness.server.list(
            ListOptions(resource: "pods", fieldSelector: "status.phase=\(phase)"), caller: admin)
          #expect(found.items.count == (phase == expected["phase"].string ?? "" ? 1 : 0))
        }
      }
      // What is refused for good moves the cursor and nothing else.
      let before = try harness.log.read("pods/default/p", at: nil)
      let results = try await harness.server.applyLane(
        [.status(reference, uid: uid, fields: ["conditions": [["type": 5]]])], cursor: ("c", [99]), caller: Self.node)
      #expect(results[0]?.message.contains("status.conditions[2].type") == true)
      #expect(try harness.log.read("pods/default/p", at: nil) == before)
      #expect(try harness.log.privateValue("c") == [99])
    }
  }

  @Test func statusesOfOneObjectThatFollowEachOtherAreOneChange() async throws {
    try await onLoop {
      let harness = try await ServerHarness()
      let (reference, uid) = (reference("pods", "p"), try await harness.pod("p", node: "n1").uid)
      func status(_ fields: Value) -> LaneIntent { .status(reference, uid: uid, fields: fields) }
      let before = harness.log.tail.position
      var results = try await harness.server.applyLane(
        [
          status(["phase": "Running", "podIP": "10.0.0.1", "conditions": [["type": "Ready", "status": "False"]]]),
          status(["podIP": .null, "hostIP": "10.0.0.2"]),
          status(["conditions": [["type": "Ready", "status": "True"], ["type": "Initialized"]], "hostIP": .null]),
        ], cursor: ("c", [1]), caller: Self.node)
      #expect(results.map { $0?.reason } == [nil, nil, nil])
      #expect(harness.log.tail.position == before + 1)
      var told = try await harness.read("pods", "p").status
      #expect(told["phase"] == "Running" && told["podIP"].isNull && told["hostIP"].isNull)
      #expect(Conditions.all(told).map(\.type) == ["Ready", "Initialized"])
      #expect(told["conditions"].array?[0]["status"] == "True")
      // One of them is refused: the others take effect all the same.
      results = try await harness.server.applyLane(
        [status(["podIP": "10.0.0.3"]), status(["phase": 5]), status(["hostIP": "10.0.0.4"])], cursor: ("c", [2]),
        caller: Self.node)
      #expect(results.map { $0?.reason } == [nil, .badRequest, nil])
      told = try await harness.read("pods", "p").status
      #expect(told["podIP"] == "10.0.0.3" && told["hostIP"] == "10.0.0.4" && told["phase"] == "Running")
      #expect(try harness.log.privateValue("c") == [2])
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
