import API
import Base
import CloudScheduler
import ObjectModel
import Testing

private let zoneKey = "topology.kubernetes.io/zone"
private let hostKey = "kubernetes.io/hostname"

private func place(_ name: String, zone: String? = nil, labels: [String: String] = [:], taints: [Value] = [])
  -> NodeRecord
{
  var all = labels
  all[hostKey] = name
  if let zone { all[zoneKey] = zone }
  return node(name, labels: all, taints: taints)
}

private func term(
  _ app: String, _ key: String, namespaces: [String] = [], namespaceSelector: Value = .null
) -> Value {
  var value: Value = ["labelSelector": ["matchLabels": ["app": .string(app)]], "topologyKey": .string(key)]
  if !namespaces.isEmpty { value["namespaces"] = .array(namespaces.map { .string($0) }) }
  if !namespaceSelector.isNull { value["namespaceSelector"] = namespaceSelector }
  return value
}

private func near(_ terms: Value...) -> (String, Value) {
  ("affinity", ["podAffinity": ["requiredDuringSchedulingIgnoredDuringExecution": .array(terms)]])
}
private func apart(_ terms: Value...) -> (String, Value) {
  ("affinity", ["podAntiAffinity": ["requiredDuringSchedulingIgnoredDuringExecution": .array(terms)]])
}
private func spread(
  _ app: String, _ key: String, skew: Int64 = 1, hard: Bool = true, more: [(String, Value)] = []
) -> (String, Value) {
  var constraint: Value = [
    "labelSelector": ["matchLabels": ["app": .string(app)]], "topologyKey": .string(key), "maxSkew": .int(skew),
    "whenUnsatisfiable": hard ? "DoNotSchedule" : "ScheduleAnyway",
  ]
  for (key, value) in more { constraint[key] = value }
  return ("topologySpreadConstraints", [constraint])
}

/// A pod of an app, perhaps in another namespace.
private func app(
  _ name: String, _ app: String, namespace: String = "default", isLeaving: Bool = false, _ spec: (String, Value)...
) -> PodDemand {
  var value: Value = [
    "kind": "Pod",
    "metadata": [
      "name": .string(name), "namespace": .string(namespace), "uid": .string("uid-" + name),
      "labels": ["app": .string(app)],
    ],
    "spec": ["containers": [["name": "c", "image": "web:1"]]],
  ]
  for (key, member) in spec { value["spec"][key] = member }
  if isLeaving { value["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z" }
  return PodDemand(Object(value), key: ObjectKey(namespace: namespace, name: name))
}

@Suite struct PodRulesTests {
  private static func refused(_ text: String, _ count: Int) -> Scheduling.Outcome {
    .unschedulable("0/\(count) nodes are available: \(count) node(s) \(text).")
  }

  @Test func requiredAffinityFollowsItsPodAndTheFirstOfAKindStartsAnywhere() {
    var cluster = cluster([place("a", zone: "z1"), place("b", zone: "z1"), place("c", zone: "z2")])
    let web = app("web", "web", near(term("db", zoneKey)))
    #expect(decide(web, cluster) == Self.refused("didn't match pod affinity rules", 3))
    cluster.place(app("db", "db"), on: "c")
    #expect(decide(web, cluster) == .node("c"))
    // Two terms must be met by one and the same pod's topology.
    let both = app("both", "web", near(term("db", zoneKey), term("db", hostKey)))
    #expect(decide(both, cluster) == .node("c"))
    // Its own kind is what it asks for: somebody has to be the first.
    let first = app("first", "group", near(term("group", zoneKey)))
    guard case .node(let name) = decide(first, cluster) else {
      Issue.record("the first of a group went nowhere")
      return
    }
    cluster.place(first, on: name)
    let second = app("second", "group", near(term("group", zoneKey)))
    guard case .node(let next) = decide(second, cluster) else {
      Issue.record("the second of a group went nowhere")
      return
    }
    #expect(cluster.node(next)?.zone == cluster.node(name)?.zone)
  }

  @Test func nodesWithoutTheLabelAreNoPlaceForAffinityAndAnyForAntiAffinity() {
    var cluster = cluster([place("a"), place("b", zone: "z1")])
    cluster.place(app("db", "db"), on: "a")
    #expect(
      decide(app("web", "web", near(term("db", zoneKey))), cluster)
        == Self.refused("didn't match pod affinity rules", 2))
    cluster.place(app("db2", "db"), on: "b")
    #expect(decide(app("web", "web", near(term("db", zoneKey))), cluster) == .node("b"))
    #expect(decide(app("web", "web", apart(term("db", zoneKey))), cluster) == .node("a"))
  }

  @Test func antiAffinityHoldsBothWays() {
    var cluster = cluster([place("a"), place("b")])
    let alone = app("alone", "noisy", apart(term("web", hostKey)))
    cluster.place(alone, on: "a")
    // It asks nothing itself, and is kept away.
    #expect(decide(app("web", "web"), cluster) == .node("b"))
    cluster.place(app("web", "web"), on: "b")
    #expect(
      decide(app("other", "noisy", apart(term("web", hostKey))), cluster) == .node("a"))
    cluster.place(app("alone2", "noisy", apart(term("web", hostKey))), on: "b")
    #expect(decide(app("web2", "web"), cluster) == Self.refused("didn't satisfy existing pods anti-affinity rules", 2))
    cluster.removePod("uid-alone")
    #expect(decide(app("web2", "web"), cluster) == .node("a"))
    let text = "didn't match pod anti-affinity rules"
    cluster.place(app("web3", "web"), on: "a")
    #expect(decide(app("alone3", "noisy", apart(term("web", hostKey))), cluster) == Self.refused(text, 2))
  }

  @Test func namespacesAreOwnNamedOrSelected() {
    var cluster = cluster([place("a"), place("b")])
    cluster.setNamespace("prod", labels: ["team": "x"])
    cluster.setNamespace("test", labels: ["team": "y"])
    cluster.place(app("db", "db", namespace: "prod"), on: "b")
    let none = Self.refused("didn't match pod affinity rules", 2)
    #expect(decide(app("w", "web", near(term("db", hostKey))), cluster) == none)
    #expect(decide(app("w", "web", near(term("db", hostKey, namespaces: ["prod"]))), cluster) == .node("b"))
    let team = app("w", "web", near(term("db", hostKey, namespaceSelector: ["matchLabels": ["team": "x"]])))
    cluster.prepare(for: team)
    #expect(decide(team, cluster) == .node("b"))
    #expect(decide(app("w", "web", near(term("db", hostKey, namespaceSelector: [:]))), cluster) == .node("b"))
    cluster.setNamespace("prod", labels: ["team": "y"])
    #expect(decide(team, cluster) == none)
  }

  @Test func aHardSpreadKeepsTheSkewOverTheZonesThatCount() {
    var cluster = cluster([place("a", zone: "z1"), place("b", zone: "z2"), place("c")])
    let demand = { (name: String) in app(name, "web", spread("web", zoneKey)) }
    cluster.place(app("p1", "web"), on: "a")
    #expect(decide(demand("p2"), cluster) == .node("b"))
    cluster.place(demand("p2"), on: "b")
    cluster.place(demand("p3"), on: "b")
    #expect(decide(demand("p4"), cluster) == .node("a"))
    // A pod that is leaving holds no place.
    cluster.place(app("p1", "web", isLeaving: true), on: "a")
    cluster.removePod("uid-p3")
    #expect(decide(demand("p4"), cluster) == .node("a"))
    // Only zone z2 is left open by its selector, so z1 counts no more.
    let bound = app("p5", "web", spread("web", zoneKey), ("nodeSelector", [hostKey: "b"]))
    #expect(decide(bound, cluster) == .node("b"))
    let ignoring = app(
      "p6", "web", spread("web", zoneKey, more: [("nodeAffinityPolicy", "Ignore")]), ("nodeSelector", [hostKey: "b"]))
    #expect(
      decide(ignoring, cluster)
        == .unschedulable(
          "0/3 nodes are available: 1 node(s) didn't match pod topology spread constraints, "
            + "2 node(s) didn't match Pod's node affinity/selector."))
    let label = "node(s) didn't match pod topology spread constraints (missing required label)"
    #expect(
      decide(app("p7", "web", spread("web", "rack")), cluster)
        == .unschedulable("0/3 nodes are available: 3 \(label)."))
  }

  @Test func fewerDomainsThanAskedForCountAsEmptyOnes() {
    var cluster = cluster([place("a", zone: "z1"), place("b", zone: "z2")])
    cluster.place(app("p1", "web"), on: "a")
    cluster.place(app("p2", "web"), on: "b")
    if case .unschedulable(let why) = decide(app("p3", "web", spread("web", zoneKey)), cluster) {
      Issue.record("an even spread takes one more: \(why)")
    }
    let demand = app("p3", "web", spread("web", zoneKey, more: [("minDomains", 3)]))
    #expect(decide(demand, cluster) == Self.refused("didn't match pod topology spread constraints", 2))
  }

  @Test func taintedNodesCountUnlessTheyAreToBeLeftOut() {
    let taint: Value = ["key": "k", "value": "v", "effect": "NoSchedule"]
    var cluster = cluster([place("a", zone: "z1"), place("b", zone: "z2", taints: [taint])])
    cluster.place(app("p1", "web"), on: "a")
    let ignoring = decide(app("p2", "web", spread("web", zoneKey)), cluster)
    #expect(
      ignoring
        == .unschedulable(
          "0/2 nodes are available: 1 node(s) didn't match pod topology spread constraints, "
            + "1 node(s) had untolerated taint {k: v}."))
    let honoring = app("p2", "web", spread("web", zoneKey, more: [("nodeTaintsPolicy", "Honor")]))
    #expect(decide(honoring, cluster) == .node("a"))
  }

  @Test func matchLabelKeysNarrowASpreadToOneRevision() {
    var cluster = cluster([place("a", zone: "z1"), place("b", zone: "z2")])
    func revision(_ name: String, _ hash: String) -> PodDemand {
      let (key, value) = spread("web", zoneKey, more: [("matchLabelKeys", ["hash"])])
      let object = Object([
        "metadata": ["name": .string(name), "uid": .string(name), "labels": ["app": "web", "hash": .string(hash)]],
        "spec": ["containers": [["name": "c"]], "topologySpreadConstraints": value],
      ])
      #expect(key == "topologySpreadConstraints")
      return PodDemand(object, key: ObjectKey(namespace: "default", name: name))
    }
    for index in 0..<3 { cluster.place(revision("old\(index)", "1"), on: "a") }
    cluster.place(revision("new0", "2"), on: "b")
    #expect(decide(revision("new1", "2"), cluster) == .node("a"))
  }

  @Test func wishesDrawAndRepel() {
    func wishing(_ field: String) -> PodDemand {
      let wish: Value = ["weight": 50, "podAffinityTerm": term("db", hostKey)]
      return app("w", "web", ("affinity", [field: ["preferredDuringSchedulingIgnoredDuringExecution": [wish]]]))
    }
    var cluster = cluster([place("a"), place("b"), place("c")])
    cluster.place(app("db", "db"), on: "b")
    for seed in 1...5 {
      #expect(decide(wishing("podAffinity"), cluster, seed: UInt64(seed)) == .node("b"))
      #expect(decide(wishing("podAntiAffinity"), cluster, seed: UInt64(seed)) != .node("b"))
    }
    // Those that are there have wishes, too.
    cluster.place(wishing("podAffinity"), on: "c")
    cluster.removePod("uid-db")
    #expect(decide(app("db2", "db"), cluster) == .node("c"))
  }

  @Test func aSoftSpreadIsHeededAndNeverRefuses() {
    var cluster = cluster([place("a", zone: "z1"), place("b", zone: "z2"), place("c")])
    for index in 0..<4 { cluster.place(app("p\(index)", "web"), on: "a") }
    let demand = app("new", "web", spread("web", zoneKey, hard: false))
    for seed in 1...5 { #expect(decide(demand, cluster, seed: UInt64(seed)) == .node("b")) }
    cluster.removeNode("b")
    cluster.removeNode("c")
    #expect(decide(demand, cluster) == .node("a"))
  }
}

/// Against a second reading of Kubernetes' rules, word for word and slow.
@Suite struct PodRulesOracleTests {
  private struct World {
    var nodes: [String: NodeRecord] = [:]
    var pods: [String: (demand: PodDemand, spec: [(String, Value)], node: String)] = [:]

    func matches(_ term: Value, _ pod: PodDemand, own: String = "default") -> Bool {
      term["labelSelector"]["matchLabels"].stringMap.allSatisfy { pod.labels[$0.key] == $0.value }
        && pod.key.namespace == own
    }
    func value(_ term: Value, _ node: String) -> String? { nodes[node]?.labels[term["topologyKey"].string ?? ""] }
    func terms(_ spec: [(String, Value)], _ field: String) -> [Value] {
      spec.first { $0.0 == "affinity" }?.1[field]["requiredDuringSchedulingIgnoredDuringExecution"].array ?? []
    }
    var there: [(demand: PodDemand, spec: [(String, Value)], node: String)] {
      pods.values.filter { nodes[$0.node] != nil }
    }

    func admits(_ demand: PodDemand, _ spec: [(String, Value)], _ node: String) -> Bool {
      let near = terms(spec, "podAffinity")
      let partners = there.filter { other in near.allSatisfy { matches($0, other.demand) } }
      let anywhere = near.contains { term in partners.contains { value(term, $0.node) != nil } }
      for term in near {
        guard let mine = value(term, node) else { return false }
        if partners.contains(where: { value(term, $0.node) == mine }) { continue }
        if anywhere || !near.allSatisfy({ matches($0, demand) }) { return false }
      }
      for term in terms(spec, "podAntiAffinity") {
        guard let mine = value(term, node) else { continue }
        if there.contains(where: { matches(term, $0.demand) && value(term, $0.node) == mine }) { return false }
      }
      for other in there {
        for term in terms(other.spec, "podAntiAffinity") where matches(term, demand) {
          if let mine = value(term, node), mine == value(term, other.node) { return false }
        }
      }
      for constraint in spec.first(where: { $0.0 == "topologySpreadConstraints" })?.1.array ?? [] {
        guard let mine = value(constraint, node) else { return false }
        var counts: [String: Int64] = [:]
        for name in nodes.keys { if let domain = value(constraint, name) { counts[domain, default: 0] += 0 } }
        for other in there where matches(constraint, other.demand) {
          if let domain = value(constraint, other.node) { counts[domain, default: 0] += 1 }
        }
        let own: Int64 = matches(constraint, demand) ? 1 : 0
        if (counts[mine] ?? 0) + own - (counts.values.min() ?? 0) > constraint["maxSkew"].int ?? 1 { return false }
      }
      return true
    }
  }

  private static func randomSpec(_ random: SeededRandom) -> [(String, Value)] {
    let apps = ["web", "db", "cache"]
    let app = apps[Int(random.below(3))]
    let key = random.below(2) == 0 ? zoneKey : hostKey
    switch random.below(6) {
    case 0: return [near(term(app, key))]
    case 1: return [apart(term(app, key))]
    case 2: return [spread(app, key, skew: Int64(1 + random.below(2)))]
    case 3: return [near(term(app, key), term(app, zoneKey))]
    default: return []
    }
  }

  @Test(arguments: [1, 2, 3, 4, 5, 6] as [UInt64]) func everyDecisionKeepsTheRules(seed: UInt64) {
    let random = SeededRandom(seed: seed)
    var (cluster, scheduling, world) = (Cluster(), Scheduling(), World())
    var (placed, refused) = (0, 0)
    for index in 0..<1_200 {
      switch random.below(10) {
      case 0:
        let name = "n\(random.below(7))"
        let record = place(name, zone: random.below(4) == 0 ? nil : "z\(random.below(3))")
        world.nodes[name] = record
        cluster.set(record)
      case 1 where random.below(4) == 0:
        let name = "n\(random.below(7))"
        world.nodes[name] = nil
        cluster.removeNode(name)
      case 2...4:
        guard let uid = world.pods.keys.sorted().first(where: { _ in random.below(4) == 0 }) else { continue }
        world.pods[uid] = nil
        cluster.removePod(uid)
      default:
        let spec = Self.randomSpec(random)
        var demand = app("p\(index)", ["web", "db", "cache"][Int(random.below(3))])
        var body: Value = [:]
        for (key, value) in spec { body[key] = value }
        demand = PodDemand(
          Object([
            "metadata": [
              "name": .string(demand.key.name), "namespace": "default", "uid": .string(demand.uid),
              "labels": Value(demand.labels),
            ],
            "spec": body,
          ]), key: demand.key)
        // Half of them are counted up from here on, half at their decision alone.
        if random.below(2) == 0 { cluster.prepare(for: demand) }
        switch scheduling.decide(demand, cluster, random: random) {
        case .node(let name):
          #expect(world.admits(demand, spec, name), "\(demand.key) on \(name)")
          world.pods[demand.uid] = (demand, spec, name)
          cluster.place(demand, on: name)
          placed += 1
        case .unschedulable(let why):
          let open = world.nodes.keys.filter { world.admits(demand, spec, $0) }
          #expect(open.isEmpty, "\(demand.key) was refused: \(why)")
          refused += 1
        }
      }
    }
    #expect(placed > 100 && refused > 20)
  }
}
