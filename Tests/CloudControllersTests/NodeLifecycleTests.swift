import API
import Base
import CloudControllers
import ObjectModel
import Testing
import Wire

private func node(
  _ conditions: [Value], taints: [Taint] = [], unschedulable: Bool = false, group: String = ""
) -> NodeState {
  NodeState(
    Object([
      "metadata": ["name": "n1", "uid": "u1", "labels": ["skerry.io/group": .string(group)]],
      "spec": ["taints": .array(taints.map(\.object)), "unschedulable": .bool(unschedulable)],
      "status": ["conditions": .array(conditions)],
    ]), revision: 7)
}

private func condition(_ type: String, _ status: String) -> Value {
  ["type": .string(type), "status": .string(status), "reason": "Test"]
}

private let start = Instant(nanoseconds: 1_000_000_000_000)

private func decide(
  _ node: NodeState, heard: Int64? = nil, interval: Duration? = nil, seen: Int64 = 0, at seconds: Int64,
  mayEvict: Bool = true, settings: NodeLifecycleDecision.Settings = .init()
) -> NodeLifecycleDecision {
  NodeLifecycleDecision(
    .init(
      node: node, lastHeard: heard.map { start + .seconds($0) }, interval: interval,
      firstSeen: start + .seconds(seen), now: start + .seconds(seconds), wall: now, mayEvict: mayEvict),
    settings: settings)
}

@Suite struct NodeLifecycleTests {
  private func stored(_ revision: UInt64, ready: String, message: String, spec: Value = [:]) -> APIObject {
    let condition: Value = ["type": "Ready", "status": .string(ready), "message": .string(message)]
    return APIObject(
      reference: ObjectReference(resource: "nodes", name: "n1"), revision: revision,
      body: CBOR.encode(["metadata": ["name": "n1", "uid": "u1"], "spec": spec]),
      status: CBOR.encode(["conditions": [condition, "odd"], "phase": "x"]))
  }

  @Test func aHeartbeatDecidesNothingAnew() throws {
    let first = try NodeState.read(stored(1, ready: "True", message: "a"), after: nil, beside: nil)
    #expect(first.isReady)
    let beat = try NodeState.read(stored(2, ready: "True", message: "b"), after: first, beside: nil)
    #expect(beat.decidesTheSame(as: first))
    #expect(beat.revision == 2)
    #expect(beat.conditions.first?.message == "b")
    let silent = try NodeState.read(stored(3, ready: "Unknown", message: "b"), after: beat, beside: nil)
    #expect(!silent.decidesTheSame(as: beat))
    #expect(silent.status("Ready") == "Unknown")
    let cordoned = try NodeState.read(
      stored(4, ready: "Unknown", message: "b", spec: ["unschedulable": true]), after: silent, beside: nil)
    #expect(!cordoned.decidesTheSame(as: silent))
    #expect(cordoned.isUnschedulable)
  }

  @Test func aNodeHasItsWholeGraceFromWhenItWasFirstSeen() {
    let node = node([condition("Ready", "True")])
    #expect(decide(node, seen: 0, at: 44).conditions == nil)
    #expect(decide(node, seen: 0, at: 44).again == .seconds(1))
    #expect(decide(node, seen: 0, at: 45).conditions != nil)
    // Heard before this process saw it: the later of the two counts.
    #expect(decide(node, heard: -100, seen: 0, at: 44).conditions == nil)
    #expect(decide(node, heard: 100, seen: 0, at: 144).conditions == nil)
    #expect(decide(node, heard: 100, seen: 0, at: 145).conditions != nil)
  }

  @Test func graceFollowsTheNodesPingsAndItsGroup() {
    let plain = node([condition("Ready", "True")])
    // A metered node says something each minute: three of its pings have to be missed.
    #expect(decide(plain, heard: 0, interval: .seconds(60), at: 179).conditions == nil)
    #expect(decide(plain, heard: 0, interval: .seconds(60), at: 180).conditions != nil)
    #expect(decide(plain, heard: 0, interval: .seconds(1), at: 44).conditions == nil)
    var settings = NodeLifecycleDecision.Settings()
    var remote = NodeLifecycleDecision.Settings.Group()
    remote.grace = .seconds(600)
    settings.groups["remote"] = remote
    let member = node([condition("Ready", "True")], group: "remote")
    #expect(decide(member, at: 599, settings: settings).conditions == nil)
    #expect(decide(member, at: 600, settings: settings).conditions != nil)
    #expect(decide(plain, at: 45, settings: settings).conditions != nil)
  }

  @Test func aGroupsEvictionStandsInForDefaultTolerationsAlone() {
    func toleration(_ seconds: Int64?) -> Toleration {
      var value: Value = ["key": .string(Taint.unreachable), "operator": "Exists", "effect": "NoExecute"]
      if let seconds { value["tolerationSeconds"] = .int(seconds) }
      return Toleration(value)
    }
    let taints = [Taint(key: Taint.unreachable, effect: "NoExecute")]
    func decide(_ seconds: Int64?, _ override: NodeLifecycleDecision.Settings.Eviction) -> EvictionDecision {
      EvictionDecision(tolerations: [toleration(seconds)], taints: taints, override: override)
    }
    #expect(decide(300, .standard) == .leaves(after: .seconds(300)))
    #expect(decide(300, .after(.seconds(20))) == .leaves(after: .seconds(20)))
    #expect(decide(300, .never) == .stays)
    // What a pod asked for itself stays.
    #expect(decide(30, .never) == .leaves(after: .seconds(30)))
    #expect(decide(nil, .after(.seconds(20))) == .stays)
  }

  @Test func silenceMakesEverythingItSaidUnknown() throws {
    let decision = decide(node([condition("Ready", "True"), condition("DiskPressure", "True")]), at: 50)
    let conditions = try #require(decision.conditions).map(Condition.init)
    #expect(conditions.map(\.type) == ["Ready", "DiskPressure"])
    #expect(conditions.allSatisfy { $0.status == "Unknown" && $0.reason == "NodeStatusUnknown" })
    #expect(decision.event?.reason == "NodeNotReady")
    // The taints follow when the cache shows the conditions.
    #expect(decision.taints == nil)
  }

  @Test func aNodeThatNeverSpokeIsSaidToBeSo() throws {
    let decision = decide(node([]), at: 50)
    let ready = Condition(try #require(decision.conditions)[0])
    #expect(ready.reason == "NodeStatusNeverUpdated")
  }

  @Test func silenceIsSaidOnce() {
    let silent = node([condition("Ready", "Unknown")])
    #expect(decide(silent, at: 50).conditions == nil)
    #expect(decide(silent, at: 50).event == nil)
  }

  struct Case: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let node: NodeState
    var mayEvict = true
    let taints: [String]?
    var holdsBack = false
  }
  static let notReady = [
    Taint(key: Taint.notReady, effect: "NoSchedule"), Taint(key: Taint.notReady, effect: "NoExecute"),
  ]
  static let cases: [Case] = [
    Case(testDescription: "ready", node: node([condition("Ready", "True")]), taints: nil),
    Case(
      testDescription: "not started", node: node([]), taints: ["node.kubernetes.io/not-ready:NoSchedule"]),
    Case(
      testDescription: "not ready", node: node([condition("Ready", "False")]),
      taints: ["node.kubernetes.io/not-ready:NoSchedule", "node.kubernetes.io/not-ready:NoExecute"]),
    Case(
      testDescription: "unknown", node: node([condition("Ready", "Unknown")]),
      taints: ["node.kubernetes.io/unreachable:NoSchedule", "node.kubernetes.io/unreachable:NoExecute"]),
    Case(
      testDescription: "no eviction allowed", node: node([condition("Ready", "Unknown")]), mayEvict: false,
      taints: ["node.kubernetes.io/unreachable:NoSchedule"], holdsBack: true),
    Case(
      testDescription: "a taint that stands stays without allowance",
      node: node([condition("Ready", "False")], taints: notReady), mayEvict: false, taints: nil),
    Case(testDescription: "back", node: node([condition("Ready", "True")], taints: notReady), taints: []),
    Case(
      testDescription: "the taints of others stay",
      node: node([condition("Ready", "True")], taints: notReady + [Taint(key: "mine", effect: "NoExecute")]),
      taints: ["mine:NoExecute"]),
    Case(
      testDescription: "pressure and cordon",
      node: node([condition("Ready", "True"), condition("DiskPressure", "True")], unschedulable: true),
      taints: ["node.kubernetes.io/disk-pressure:NoSchedule", "node.kubernetes.io/unschedulable:NoSchedule"]),
  ]

  @Test(arguments: cases) func taints(_ test: Case) {
    let decision = decide(test.node, heard: 9, at: 10, mayEvict: test.mayEvict)
    #expect(decision.taints?.map { "\($0.key):\($0.effect)" } == test.taints)
    #expect(decision.holdsBack == test.holdsBack)
  }

  @Test func aFleetThatFallsSilentTogetherIsNotEvicted() {
    #expect(DisruptionBudget.mode(ready: 1, silent: 1) == .normal)
    #expect(DisruptionBudget.mode(ready: 0, silent: 1) == .full)
    #expect(DisruptionBudget.mode(ready: 4, silent: 6) == .partial)
    #expect(DisruptionBudget.mode(ready: 40, silent: 6) == .normal)

    var budget = DisruptionBudget(now: start)
    func take(_ ready: Int, _ silent: Int, _ seconds: Int64) -> Bool {
      budget.take(ready: ready, silent: silent, now: start + .seconds(seconds))
    }
    #expect(take(9, 1, 0))
    #expect(!take(8, 2, 5))
    #expect(take(8, 2, 11))
    #expect(!take(0, 10, 1000))
    // A small fleet that is mostly silent is left alone, a large one is evicted at a tenth of the speed.
    #expect(!take(4, 6, 2000))
    budget = DisruptionBudget(now: start)
    #expect(take(40, 60, 0))
    #expect(!take(40, 60, 50))
    #expect(take(40, 60, 101))
  }
}

@Suite struct EvictionTests {
  static let unreachable = Taint(key: Taint.unreachable, effect: "NoExecute")

  @Test func tolerationsDecideHowLongAPodStays() {
    let forever = Toleration(["key": .string(Taint.unreachable), "operator": "Exists", "effect": "NoExecute"])
    func bounded(_ seconds: Int64) -> Toleration {
      Toleration([
        "key": .string(Taint.unreachable), "operator": "Exists", "effect": "NoExecute",
        "tolerationSeconds": .int(seconds),
      ])
    }
    let taints = [Self.unreachable]
    #expect(EvictionDecision(tolerations: [], taints: taints) == .leaves(after: .zero))
    #expect(EvictionDecision(tolerations: [forever], taints: taints) == .stays)
    #expect(EvictionDecision(tolerations: [bounded(300)], taints: taints) == .leaves(after: .seconds(300)))
    #expect(EvictionDecision(tolerations: [bounded(300), bounded(20)], taints: taints) == .leaves(after: .seconds(20)))
    #expect(EvictionDecision(tolerations: [bounded(-5)], taints: taints) == .leaves(after: .zero))
    let other = Taint(key: "maintenance", effect: "NoExecute")
    #expect(EvictionDecision(tolerations: [forever], taints: taints + [other]) == .leaves(after: .zero))
    let soft = Taint(key: "maintenance", effect: "NoSchedule")
    #expect(EvictionDecision(tolerations: [], taints: [soft]) == .stays)
  }
}
