import API
import Base
import ObjectModel

/// What becomes of a node, from its conditions and from when it was last heard. Pure.
/// Source: https://kubernetes.io/docs/concepts/architecture/nodes/#node-controller
package struct NodeLifecycleDecision {
  package struct Settings: Sendable, Hashable {
    /// Silence after which a node counts as unreachable; never less than three of its pings.
    package var grace = Duration.seconds(45)
    /// The same and more for the nodes of a group, by the value of their label `skerry.io/group`.
    package var groups: [String: Group] = [:]
    package init() {}

    /// What is different for the nodes of a group.
    package struct Group: Sendable, Hashable {
      package var grace: Duration?
      /// How long pods stay on a node that is not heard or not ready, if they did not ask for something themselves.
      package var eviction = Eviction.standard
      package init() {}
    }

    package enum Eviction: Sendable, Hashable {
      /// As the pod's tolerations say: five minutes by default.
      case standard
      case after(Duration)
      case never
    }

    package func grace(_ node: NodeState) -> Duration { groups[node.group]?.grace ?? grace }
    package func eviction(_ node: NodeState) -> Eviction { groups[node.group]?.eviction ?? .standard }
  }

  package struct Inputs {
    package var node: NodeState
    /// Monotonic; nil: not heard since this process started.
    package var lastHeard: Instant?
    /// How often it says something at least; nil: not known.
    package var interval: Duration?
    /// When this process first saw the node; a node has its whole grace from then on.
    package var firstSeen: Instant
    package var now: Instant
    package var wall: WallTime
    /// Whether one more node may get a NoExecute taint (`DisruptionBudget`).
    package var mayEvict: Bool

    package init(
      node: NodeState, lastHeard: Instant?, interval: Duration? = nil, firstSeen: Instant, now: Instant,
      wall: WallTime, mayEvict: Bool = false
    ) {
      self.interval = interval
      self.node = node
      self.lastHeard = lastHeard
      self.firstSeen = firstSeen
      self.now = now
      self.wall = wall
      self.mayEvict = mayEvict
    }
  }

  /// The conditions to write, whole, as the node's silence makes them unknown; nil: none to change.
  package var conditions: [Value]?
  /// The taints to write; nil: none to change.
  package var taints: [Taint]?
  /// A NoExecute taint is due and was held back, since it may not be set now.
  package var holdsBack = false
  /// The node went silent or came back, as an event's reason and message.
  package var event: (reason: String, message: String)?
  /// When silence would be too long.
  package var again: Duration?

  /// The taints that this controller sets and takes away; others are somebody else's.
  private static let owned: Set<String> = [
    Taint.notReady, Taint.unreachable, Taint.unschedulable, Taint.networkUnavailable, Taint.memoryPressure,
    Taint.diskPressure, Taint.pidPressure,
  ]
  /// A true condition makes a NoSchedule taint.
  private static let pressures: [(condition: String, taint: String)] = [
    ("MemoryPressure", Taint.memoryPressure), ("DiskPressure", Taint.diskPressure), ("PIDPressure", Taint.pidPressure),
    ("NetworkUnavailable", Taint.networkUnavailable),
  ]

  package init(_ inputs: Inputs, settings: Settings = Settings()) {
    let heard = max(inputs.lastHeard ?? inputs.firstSeen, inputs.firstSeen)
    let grace = max(settings.grace(inputs.node), (inputs.interval ?? .zero) * 3)
    let left = grace - (inputs.now - heard)
    let ready = inputs.node.status("Ready")
    if left > .zero {
      again = left
    } else if ready != "Unknown" {
      let told = ready != nil
      let silent = Condition(
        "Ready", nil, reason: told ? "NodeStatusUnknown" : "NodeStatusNeverUpdated",
        message: told ? "The node has not been heard within its grace period." : "The node never posted its status.")
      conditions = Self.unknown(inputs.node, silent, now: inputs.wall)
      event = ("NodeNotReady", "Node \(inputs.node.name) status is now: NodeNotReady")
    }
    // What silence changes is written first; the taints follow when the cache shows it.
    guard conditions == nil else { return }
    let wanted = wantedTaints(inputs, ready)
    if !Self.same(wanted, inputs.node.taints) { taints = wanted }
  }

  /// Nothing that a silent node said of itself is known any more.
  private static func unknown(_ node: NodeState, _ ready: Condition, now: WallTime) -> [Value] {
    let conditions = node.conditions
    var status: Value = ["conditions": .array(conditions.map(\.value))]
    Conditions.set(&status, ready, now: now)
    for condition in conditions where condition.type != "Ready" && condition.status != "Unknown" {
      Conditions.set(
        &status,
        Condition(
          condition.type, nil, reason: "NodeStatusUnknown",
          message: "The node has not been heard within its grace period."), now: now)
    }
    return status["conditions"].array ?? []
  }

  private mutating func wantedTaints(_ inputs: Inputs, _ ready: String?) -> [Taint] {
    let node = inputs.node
    var wanted: [(key: String, effect: String)] = []
    var evicting: String?
    // A node without the condition has not started yet.
    switch ready {
    case "True": break
    case "Unknown": evicting = Taint.unreachable
    default: evicting = Taint.notReady
    }
    if let evicting {
      wanted.append((evicting, "NoSchedule"))
      let stands = node.taints.contains { $0.key == evicting && $0.effect == "NoExecute" }
      if stands || ready != nil && inputs.mayEvict {
        wanted.append((evicting, "NoExecute"))
      } else {
        holdsBack = ready != nil
      }
    }
    for (type, taint) in Self.pressures where node.status(type) == "True" {
      wanted.append((taint, "NoSchedule"))
    }
    if node.isUnschedulable { wanted.append((Taint.unschedulable, "NoSchedule")) }
    var taints = node.taints.filter { !Self.owned.contains($0.key) }
    for (key, effect) in wanted {
      let standing = node.taints.first { $0.key == key && $0.effect == effect }
      let time = effect == "NoExecute" ? Timestamp.format(inputs.wall) : nil
      taints.append(standing ?? Taint(key: key, effect: effect, timeAdded: time))
    }
    return taints
  }

  private static func same(_ a: [Taint], _ b: [Taint]) -> Bool {
    a.count == b.count && a.allSatisfy { taint in b.contains { $0.isSame(as: taint) } }
  }
}

/// How fast NoExecute taints may be set, by how much of the fleet is silent. When most nodes fall silent together,
/// the fault is rather in the middle than in all of them, and evicting would only lose what still runs.
package struct DisruptionBudget: Sendable {
  package enum Mode: Sendable, Hashable {
    case normal
    /// Most, but not all.
    case partial
    /// No node is ready.
    case full
  }

  /// Kubernetes' numbers: 0.1 nodes a second, a tenth of that when 55 % are silent, none in a small fleet.
  package static let normalRate = 0.1
  package static let partialRate = 0.01
  package static let partialShare = 0.55
  package static let smallFleet = 50
  /// Nodes that may be tainted at once before the rate counts.
  package static let burst = 1.0

  private var tokens = DisruptionBudget.burst
  private var at: Instant

  package init(now: Instant) { at = now }

  package static func mode(ready: Int, silent: Int) -> Mode {
    let total = ready + silent
    if silent > 0, ready == 0 { return .full }
    if silent > 2, Double(silent) >= partialShare * Double(total) { return .partial }
    return .normal
  }

  static func rate(_ mode: Mode, nodes: Int) -> Double {
    switch mode {
    case .normal: normalRate
    case .partial: nodes <= smallFleet ? 0 : partialRate
    case .full: 0
    }
  }

  /// Takes the right to taint one more node, if there is one.
  package mutating func take(ready: Int, silent: Int, now: Instant) -> Bool {
    let rate = Self.rate(Self.mode(ready: ready, silent: silent), nodes: ready + silent)
    tokens = min(Self.burst, tokens + (now - at).seconds * rate)
    at = now
    guard rate > 0, tokens >= 1 else { return false }
    tokens -= 1
    return true
  }
}
