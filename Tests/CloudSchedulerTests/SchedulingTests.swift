import API
import Base
import CloudScheduler
import ObjectModel
import Testing
import Wire

func node(
  _ name: String, cpu: String = "4", memory: String = "8Gi", pods: Int64 = 110, labels: [String: String] = [:],
  taints: [Value] = [], unschedulable: Bool = false, images: [Value] = []
) -> NodeRecord {
  NodeRecord(
    Object([
      "kind": "Node", "metadata": ["name": .string(name), "uid": .string("uid-" + name), "labels": Value(labels)],
      "spec": ["taints": .array(taints), "unschedulable": .bool(unschedulable)],
      "status": [
        "allocatable": ["cpu": .string(cpu), "memory": .string(memory), "pods": .int(pods)],
        "images": .array(images),
      ],
    ]))
}

func pod(
  _ name: String, cpu: String? = nil, memory: String? = nil, owner: String? = nil, spec: [(String, Value)] = [],
  node: String? = nil, metadata: [(String, Value)] = [], status: Value = [:]
) -> PodDemand {
  var requests: Value = [:]
  if let cpu { requests["cpu"] = .string(cpu) }
  if let memory { requests["memory"] = .string(memory) }
  var value: Value = [
    "kind": "Pod", "metadata": ["name": .string(name), "namespace": "default", "uid": .string("uid-" + name)],
    "spec": [
      "containers": [["name": "c", "image": "web:1", "resources": ["requests": requests]]]
    ],
  ]
  if let owner {
    let reference = OwnerReference(apiVersion: "apps/v1", kind: "ReplicaSet", name: owner, uid: owner)
    value["metadata"]["ownerReferences"] = [reference.value]
  }
  for (key, member) in spec { value["spec"][key] = member }
  if let node { value["spec"]["nodeName"] = .string(node) }
  for (key, member) in metadata { value["metadata"][key] = member }
  value["status"] = status
  return PodDemand(Object(value), key: ObjectKey(namespace: "default", name: name))
}

func cluster(_ nodes: [NodeRecord]) -> Cluster {
  var cluster = Cluster()
  for node in nodes { cluster.set(node) }
  return cluster
}

func decide(_ demand: PodDemand, _ cluster: Cluster, seed: UInt64 = 1) -> Scheduling.Outcome {
  var scheduling = Scheduling()
  return scheduling.decide(demand, cluster, random: SeededRandom(seed: seed))
}

@Suite struct ItemTests {
  @Test func aNodeIsReadAnewOnlyWhenWhatItOffersChanges() throws {
    func stored(_ revision: UInt64, cpu: String, heard: String, labels: Value = [:]) -> APIObject {
      APIObject(
        reference: ObjectReference(resource: "nodes", name: "n1"), revision: revision,
        body: CBOR.encode(["metadata": ["name": "n1", "uid": "u1", "labels": labels]]),
        status: CBOR.encode(["allocatable": ["cpu": .string(cpu)], "conditions": [["message": .string(heard)]]]))
    }
    let first = try NodeRecord.read(stored(1, cpu: "4", heard: "a"), after: nil, beside: nil)
    #expect(try NodeRecord.read(stored(2, cpu: "4", heard: "b"), after: first, beside: nil) === first)
    let grown = try NodeRecord.read(stored(3, cpu: "8", heard: "b"), after: first, beside: nil)
    #expect(grown.allocatable.cpu == 8_000)
    let labelled = try NodeRecord.read(stored(4, cpu: "8", heard: "b", labels: ["a": "b"]), after: grown, beside: nil)
    #expect(labelled.labels == ["a": "b"])
  }

  @Test func podsAreEqualByWhatTheyAsk() {
    #expect(pod("a", cpu: "1") == pod("a", cpu: "1"))
    #expect(pod("a", cpu: "1") != pod("a", cpu: "2"))
    #expect(pod("a") != pod("a", node: "n1"))
    #expect(pod("a", owner: "x") != pod("a", owner: "y"))
    #expect(pod("a") != pod("a", spec: [("nodeSelector", ["disk": "ssd"])]))
  }
}

@Suite struct FilterTests {
  struct Case: Sendable, CustomTestStringConvertible {
    let name: String
    let node: NodeRecord
    let demand: PodDemand
    let refusals: [String]
    var testDescription: String { name }
  }

  static let noSchedule: Value = ["key": "k", "value": "v", "effect": "NoSchedule"]
  static func affinity(_ operation: String, _ values: [Value]) -> (String, Value) {
    (
      "affinity",
      [
        "nodeAffinity": [
          "requiredDuringSchedulingIgnoredDuringExecution": [
            "nodeSelectorTerms": [
              ["matchExpressions": [["key": "size", "operator": .string(operation), "values": .array(values)]]]
            ]
          ]
        ]
      ]
    )
  }
  static let unmatched = "node(s) didn't match Pod's node affinity/selector"

  static let cases: [Case] = [
    Case(name: "fits", node: node("a"), demand: pod("p", cpu: "4", memory: "8Gi"), refusals: []),
    Case(name: "cpu", node: node("a"), demand: pod("p", cpu: "4001m"), refusals: ["Insufficient cpu"]),
    Case(
      name: "cpu and memory", node: node("a"), demand: pod("p", cpu: "5", memory: "9Gi"),
      refusals: ["Insufficient cpu", "Insufficient memory"]),
    Case(name: "pods", node: node("a", pods: 0), demand: pod("p"), refusals: ["Too many pods"]),
    Case(
      name: "extended", node: node("a"),
      demand: pod(
        "p", spec: [("containers", [["name": "c", "resources": ["limits": ["example.com/gpu": "1"]]]])]),
      refusals: ["Insufficient example.com/gpu"]),
    Case(
      name: "taint", node: node("a", taints: [noSchedule]), demand: pod("p"),
      refusals: ["node(s) had untolerated taint {k: v}"]),
    Case(
      name: "tolerated by value", node: node("a", taints: [noSchedule]),
      demand: pod("p", spec: [("tolerations", [["key": "k", "value": "v", "effect": "NoSchedule"]])]), refusals: []),
    Case(
      name: "toleration of another value", node: node("a", taints: [noSchedule]),
      demand: pod("p", spec: [("tolerations", [["key": "k", "value": "w"]])]),
      refusals: ["node(s) had untolerated taint {k: v}"]),
    Case(
      name: "toleration of everything", node: node("a", taints: [noSchedule], unschedulable: true),
      demand: pod("p", spec: [("tolerations", [["operator": "Exists"]])]), refusals: []),
    Case(
      name: "a soft taint is no filter",
      node: node("a", taints: [["key": "k", "effect": "PreferNoSchedule"]]), demand: pod("p"), refusals: []),
    Case(
      name: "unschedulable", node: node("a", unschedulable: true), demand: pod("p"),
      refusals: ["node(s) were unschedulable"]),
    Case(
      name: "selector", node: node("a", labels: ["disk": "hdd"]),
      demand: pod("p", spec: [("nodeSelector", ["disk": "ssd"])]), refusals: [unmatched]),
    Case(
      name: "selector matches", node: node("a", labels: ["disk": "ssd"]),
      demand: pod("p", spec: [("nodeSelector", ["disk": "ssd"])]), refusals: []),
    Case(
      name: "In", node: node("a", labels: ["size": "8"]), demand: pod("p", spec: [affinity("In", ["4", "8"])]),
      refusals: []),
    Case(
      name: "NotIn", node: node("a", labels: ["size": "8"]), demand: pod("p", spec: [affinity("NotIn", ["8"])]),
      refusals: [unmatched]),
    Case(
      name: "NotIn of an absent label", node: node("a"), demand: pod("p", spec: [affinity("NotIn", ["8"])]),
      refusals: []),
    Case(name: "Exists", node: node("a"), demand: pod("p", spec: [affinity("Exists", [])]), refusals: [unmatched]),
    Case(
      name: "Gt", node: node("a", labels: ["size": "8"]), demand: pod("p", spec: [affinity("Gt", ["7"])]),
      refusals: []),
    Case(
      name: "Lt", node: node("a", labels: ["size": "8"]), demand: pod("p", spec: [affinity("Lt", ["8"])]),
      refusals: [unmatched]),
    Case(
      name: "an unknown operator matches nothing", node: node("a", labels: ["size": "8"]),
      demand: pod("p", spec: [affinity("Like", ["8"])]), refusals: [unmatched]),
  ]

  @Test(arguments: cases) func filter(_ test: Case) {
    let cluster = cluster([test.node])
    #expect(cluster.refusals(test.demand, node: "a").map(\.text) == test.refusals)
    let fits = decide(test.demand, cluster) == .node("a")
    #expect(fits == test.refusals.isEmpty)
  }

  @Test func hostPortsCollideByProtocolAndAddress() {
    func withPort(_ name: String, _ port: Value) -> PodDemand {
      pod(name, spec: [("containers", [["name": "c", "ports": [port]]])])
    }
    var cluster = cluster([node("a")])
    cluster.place(withPort("first", ["containerPort": 80, "hostPort": 8080, "hostIP": "10.0.0.1"]), on: "a")
    let ports = "node(s) didn't have free ports for the requested pod ports"
    let cases: [(Value, [String])] = [
      (["containerPort": 80, "hostPort": 8080], [ports]),
      (["containerPort": 80, "hostPort": 8080, "hostIP": "10.0.0.1"], [ports]),
      (["containerPort": 80, "hostPort": 8080, "hostIP": "10.0.0.2"], []),
      (["containerPort": 80, "hostPort": 8080, "protocol": "UDP"], []),
      (["containerPort": 80, "hostPort": 8081], []),
    ]
    for (port, expected) in cases {
      #expect(cluster.refusals(withPort("second", port), node: "a").map(\.text) == expected)
    }
    cluster.removePod("uid-first")
    #expect(cluster.refusals(withPort("second", cases[0].0), node: "a").isEmpty)
  }

  @Test func theReasonsReadAsKubeSchedulersDo() {
    let cluster = cluster([
      node("a", cpu: "1"), node("b", taints: [Self.noSchedule]), node("c", cpu: "1", memory: "1Gi"),
    ])
    let outcome = decide(pod("p", cpu: "2", memory: "2Gi"), cluster)
    #expect(
      outcome
        == .unschedulable(
          "0/3 nodes are available: 1 Insufficient memory, 1 node(s) had untolerated taint {k: v}, 2 Insufficient cpu.")
    )
    #expect(decide(pod("p"), Cluster()) == .unschedulable("no nodes available to schedule pods"))
  }
}

@Suite struct ScoreTests {
  @Test func podsOfOneOwnerAreSpreadOverHosts() {
    var cluster = cluster([node("a"), node("b"), node("c")])
    var scheduling = Scheduling()
    let random = SeededRandom(seed: 3)
    var counts: [String: Int] = [:]
    for index in 0..<9 {
      let demand = pod("p\(index)", owner: "rs")
      guard case .node(let name) = scheduling.decide(demand, cluster, random: random) else {
        Issue.record("nothing fits")
        return
      }
      cluster.place(demand, on: name)
      counts[name, default: 0] += 1
    }
    #expect(counts == ["a": 3, "b": 3, "c": 3])
  }

  @Test func aReplacementGoesWherePodsAreLeaving() {
    var cluster = cluster([node("a"), node("b")])
    for index in 0..<3 { cluster.place(pod("old\(index)", owner: "rs"), on: "a") }
    cluster.place(pod("kept", owner: "rs"), on: "b")
    #expect(decide(pod("new", owner: "rs"), cluster) == .node("b"))
    for index in 0..<3 {
      let leaving = pod("old\(index)", owner: "rs", metadata: [("deletionTimestamp", "2026-01-01T00:00:00Z")])
      cluster.place(leaving, on: "a")
    }
    #expect(decide(pod("new", owner: "rs"), cluster) == .node("a"))
    for index in 0..<3 { cluster.removePod("uid-old\(index)") }
    #expect(decide(pod("new", owner: "rs"), cluster) == .node("a"))
  }

  @Test func zonesAreSpreadBeforeHostsFill() {
    let zones = ["a": "z1", "b": "z1", "c": "z2"]
    var cluster = cluster(
      zones.keys.sorted().map { node($0, labels: ["topology.kubernetes.io/zone": zones[$0] ?? ""]) })
    cluster.place(pod("p1", owner: "rs"), on: "a")
    #expect(decide(pod("p2", owner: "rs"), cluster) == .node("c"))
  }

  @Test func theEmptierNodeIsTaken() {
    var cluster = cluster([node("a"), node("b")])
    cluster.place(pod("big", cpu: "3", memory: "6Gi"), on: "a")
    #expect(decide(pod("p", cpu: "100m"), cluster) == .node("b"))
  }

  @Test func theNodeWithTheImageIsTaken() {
    let image: Value = ["names": ["web:1"], "sizeBytes": .int(900 << 20)]
    let cluster = cluster([node("a"), node("b", images: [image])])
    for seed in 1...5 { #expect(decide(pod("p"), cluster, seed: UInt64(seed)) == .node("b")) }
  }

  @Test func softTaintsAndPreferencesAreHeeded() {
    let soft: Value = ["key": "k", "effect": "PreferNoSchedule"]
    #expect(decide(pod("p"), cluster([node("a", taints: [soft]), node("b")])) == .node("b"))
    let preferred: Value = [
      "nodeAffinity": [
        "preferredDuringSchedulingIgnoredDuringExecution": [
          [
            "weight": 10,
            "preference": ["matchExpressions": [["key": "disk", "operator": "In", "values": ["ssd"]]]],
          ]
        ]
      ]
    ]
    let demand = pod("p", spec: [("affinity", preferred)])
    #expect(decide(demand, cluster([node("a"), node("b", labels: ["disk": "ssd"])])) == .node("b"))
  }

  @Test func equalNodesAreDrawnEvenlyAndByTheSeed() {
    let cluster = cluster((0..<4).map { node("n\($0)") })
    var counts: [String: Int] = [:]
    let random = SeededRandom(seed: 11)
    var scheduling = Scheduling()
    for _ in 0..<4000 {
      if case .node(let name) = scheduling.decide(pod("p"), cluster, random: random) { counts[name, default: 0] += 1 }
    }
    #expect(counts.count == 4)
    #expect(counts.values.allSatisfy { $0 > 850 && $0 < 1150 })
    #expect(decide(pod("p"), cluster, seed: 5) == decide(pod("p"), cluster, seed: 5))
  }

  @Test func aShareOfManyNodesIsEnough() {
    #expect(Scheduling.feasibleGoal(50) == 50)
    #expect(Scheduling.feasibleGoal(150) == 100)
    #expect(Scheduling.feasibleGoal(5000) == 500)
    #expect(Scheduling.feasibleGoal(100_000) == 5000)
  }
}

@Suite struct ClusterTests {
  /// After any history the counts equal those of a cluster that was built from the end state alone.
  @Test(arguments: [1, 2, 3, 4, 5] as [UInt64]) func countsNeverDrift(seed: UInt64) {
    let random = SeededRandom(seed: seed)
    var cluster = Cluster()
    var nodes: [String: NodeRecord] = [:]
    var pods: [String: (PodDemand, String)] = [:]
    for _ in 0..<2000 {
      let name = "n\(random.below(6))"
      let podName = "p\(random.below(40))"
      switch random.below(10) {
      case 0:
        let record = node(name, cpu: "\(1 + random.below(8))", images: [["names": ["web:1"], "sizeBytes": 5]])
        nodes[name] = record
        cluster.set(record)
      case 1:
        nodes[name] = nil
        cluster.removeNode(name)
      case 2...6:
        let port: Value = ["containerPort": 1, "hostPort": .int(Int64(1 + random.below(3)))]
        let demand = pod(
          podName, owner: "o\(random.below(3))",
          spec: [
            (
              "containers",
              [
                [
                  "name": "c", "ports": [port],
                  "resources": ["requests": ["cpu": .string("\(random.below(900))m"), "x.io/y": "1"]],
                ]
              ]
            )
          ])
        pods[demand.uid] = (demand, name)
        cluster.place(demand, on: name)
      default:
        pods["uid-" + podName] = nil
        cluster.removePod("uid-" + podName)
      }
    }
    var fresh = Cluster()
    for record in nodes.values { fresh.set(record) }
    for (demand, name) in pods.values { fresh.place(demand, on: name) }
    #expect(cluster.nodeCount == nodes.count)
    #expect(cluster.podCount == pods.count)
    for name in nodes.keys {
      #expect(
        cluster.free(name).map { [$0.cpu, $0.memory, $0.pods] }
          == fresh.free(name).map { [$0.cpu, $0.memory, $0.pods] })
      for port in 1...3 {
        let probe = pod("probe", spec: [("containers", [["name": "c", "ports": [["hostPort": .int(Int64(port))]]]])])
        #expect(cluster.refusals(probe, node: name) == fresh.refusals(probe, node: name))
      }
    }
  }

  @Test func aPodOfAnUnknownNodeCountsWhenTheNodeComes() {
    var cluster = Cluster()
    cluster.place(pod("p", cpu: "1"), on: "late")
    cluster.set(node("late", cpu: "4"))
    #expect(cluster.free("late")?.cpu == 3000)
  }

  @Test func whatTheCacheShowsReplacesWhatWasAssumed() {
    var cluster = cluster([node("a"), node("b")])
    cluster.place(pod("p", cpu: "1"), on: "a")
    cluster.place(pod("p", cpu: "2"), on: "b")
    #expect(cluster.free("a")?.cpu == 4000)
    #expect(cluster.free("b")?.cpu == 2000)
  }
}

@Suite struct DecisionTests {
  private static let labels: [[String: String]] = [
    [:], ["disk": "ssd"], ["disk": "hdd"], ["disk": "ssd", "topology.kubernetes.io/zone": "z1"],
  ]
  private static let taints: [[Value]] = [[], [], [["key": "k", "effect": "NoSchedule"]]]

  private func randomNode(_ random: SeededRandom) -> NodeRecord {
    node(
      "n\(random.below(8))", cpu: "\(1 + random.below(3))", pods: Int64(random.below(6)),
      labels: Self.labels[Int(random.below(4))], taints: Self.taints[Int(random.below(3))],
      unschedulable: random.below(8) == 0)
  }

  private func randomPod(_ random: SeededRandom, _ index: Int) -> PodDemand {
    var spec: [(String, Value)] = []
    if random.below(2) == 0 { spec.append(("nodeSelector", ["disk": random.below(2) == 0 ? "ssd" : "hdd"])) }
    if random.below(4) == 0 { spec.append(("tolerations", [["operator": "Exists"]])) }
    let port: [Value] = random.below(3) == 0 ? [["hostPort": 80]] : []
    spec.append(
      (
        "containers",
        [
          [
            "name": "c", "image": "web:1", "ports": .array(port),
            "resources": ["requests": ["cpu": .string("\(random.below(900))m")]],
          ]
        ]
      ))
    return pod("p\(index)", owner: "o\(random.below(3))", spec: spec)
  }

  /// What is remembered between decisions, and the short cuts of the quick look, change no answer: over a random
  /// history a pod goes where the slow filters have nothing against it, and nowhere only if they refuse every node.
  @Test(arguments: [1, 2, 3, 4, 5, 6] as [UInt64]) func theQuickLookAgreesWithTheFilters(seed: UInt64) {
    let random = SeededRandom(seed: seed)
    var cluster = Cluster()
    var scheduling = Scheduling()
    var names: Set<String> = []
    for index in 0..<1500 {
      switch random.below(8) {
      case 0:
        let record = randomNode(random)
        names.insert(record.name)
        cluster.set(record)
      case 1:
        let name = "n\(random.below(8))"
        if random.below(3) == 0 {
          names.remove(name)
          cluster.removeNode(name)
        }
      case 2, 3: cluster.removePod("uid-p\(random.below(UInt64(index + 1)))")
      default:
        let demand = randomPod(random, index)
        switch scheduling.decide(demand, cluster, random: random) {
        case .node(let name):
          #expect(cluster.refusals(demand, node: name).isEmpty)
          cluster.place(demand, on: name)
        case .unschedulable:
          #expect(names.allSatisfy { !cluster.refusals(demand, node: $0).isEmpty })
        }
      }
    }
    #expect(cluster.podCount > 0)
  }
}
