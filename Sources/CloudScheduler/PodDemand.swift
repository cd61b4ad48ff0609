import API
import Base
import ObjectModel

/// Amounts of what a node gives and a pod takes.
package struct Resources: Sendable, Hashable {
  /// Thousandths of a core.
  package var cpu: Int64 = 0
  /// Bytes.
  package var memory: Int64 = 0
  /// Others by name (`ephemeral-storage`, `example.com/gpu`) in whole units; empty for most pods.
  package var extended: [String: Int64] = [:]

  package init(cpu: Int64 = 0, memory: Int64 = 0, extended: [String: Int64] = [:]) {
    self.cpu = cpu
    self.memory = memory
    self.extended = extended
  }

  package static func += (a: inout Resources, b: Resources) {
    a.cpu += b.cpu
    a.memory += b.memory
    for (name, amount) in b.extended { a.extended[name, default: 0] += amount }
  }
  package static func -= (a: inout Resources, b: Resources) {
    a.cpu -= b.cpu
    a.memory -= b.memory
    for (name, amount) in b.extended { a.extended[name, default: 0] -= amount }
  }
}

/// What a pod asks of a node, read once from its object: all that the scheduler keeps of a pod.
///
/// A class, since the cache, the queue and what is counted on nodes hold the same ones, of tens of thousands of pods.
package final class PodDemand: Informed, Equatable {
  /// A pod that asks for nothing still weighs this much in scores (Kubernetes' 100 m and 200 MB), so that such pods
  /// spread, too.
  package static let leastCPU: Int64 = 100
  package static let leastMemory: Int64 = 200 << 20

  package let key: ObjectKey
  package let uid: String
  package let labels: [String: String]
  /// Empty while it is not bound.
  package let nodeName: String
  package let isTerminal: Bool
  package let isBeingDeleted: Bool
  /// Names a scheduler; ours is `default-scheduler`.
  package let schedulerName: String
  package let hasGates: Bool
  package let priority: Int64
  package let creation: String
  package let requests: Resources
  /// The requests with `least…` in place of zero.
  package var weighed: (cpu: Int64, memory: Int64) {
    (requests.cpu == 0 ? Self.leastCPU : requests.cpu, requests.memory == 0 ? Self.leastMemory : requests.memory)
  }
  package let nodeSelector: [String: String]
  /// nil: no required affinity. Otherwise one of the terms must match.
  package let requiredTerms: [NodeSelectorTerm]?
  package let preferredTerms: [Preferred]
  /// What it asks of other pods; nil for most.
  package let rules: PodRules?
  package let tolerations: [Toleration]
  package let hostPorts: [PodSpec.HostPort]
  package let images: [String]
  /// The uid of its controller: pods of one owner are spread.
  package let owner: String
  /// The PodScheduled condition as it is: its message, and nil if there is none.
  package let unscheduledMessage: String?
  /// Its other conditions, kept while it is not bound, since a patch writes the whole list.
  package let otherConditions: [Value]

  package struct Preferred: Sendable, Hashable {
    package var weight: Int64
    package var term: NodeSelectorTerm
  }

  package convenience init(stored: APIObject) throws(SkerryError) {
    self.init(try stored.decoded(), key: ObjectKey(stored.reference))
  }

  package static func read(
    _ stored: APIObject, after old: PodDemand?, beside neighbour: PodDemand?
  ) throws(SkerryError) -> PodDemand {
    PodDemand(try stored.decoded(), key: ObjectKey(stored.reference), beside: neighbour)
  }

  /// What is equal to that of `neighbour` is held in common with it.
  package init(_ object: Object, key: ObjectKey, beside neighbour: PodDemand? = nil) {
    let pod = Pod(object)
    let spec = pod.spec
    self.key = key
    uid = object.uid
    labels = Self.held(object.labels, or: neighbour?.labels)
    nodeName = spec.nodeName
    isTerminal = pod.isTerminal
    isBeingDeleted = object.isBeingDeleted
    schedulerName = Self.held(spec.schedulerName, or: neighbour?.schedulerName)
    hasGates = !(object.spec["schedulingGates"].array ?? []).isEmpty
    priority = spec.priority
    creation = Self.held(object.creationTimestamp, or: neighbour?.creation)
    requests = Self.requests(spec)
    nodeSelector = Self.held(spec.nodeSelector, or: neighbour?.nodeSelector)
    let affinity = spec.affinity["nodeAffinity"]
    let required = affinity["requiredDuringSchedulingIgnoredDuringExecution"]
    requiredTerms = required.isNull ? nil : (required["nodeSelectorTerms"].array ?? []).map(NodeSelectorTerm.init)
    preferredTerms = (affinity["preferredDuringSchedulingIgnoredDuringExecution"].array ?? []).map {
      Preferred(weight: $0["weight"].int ?? 0, term: NodeSelectorTerm($0["preference"]))
    }
    rules = PodRules(object.spec, labels: object.labels, namespace: key.namespace)
    tolerations = Self.held(spec.tolerations, or: neighbour?.tolerations)
    hostPorts = spec.hostPorts
    images = Self.held(spec.containers.map { ImageName.normalised($0.image) }, or: neighbour?.images)
    owner = Self.held(object.controllerReference?.uid ?? "", or: neighbour?.owner)
    let conditions = nodeName.isEmpty ? object.status["conditions"].array ?? [] : []
    otherConditions = conditions.filter { $0["type"].string != "PodScheduled" }
    unscheduledMessage = pod.condition("PodScheduled").flatMap { $0.isFalse ? $0.message : nil }
  }

  private static func requests(_ spec: PodSpec) -> Resources {
    var total = Resources(cpu: spec.request("cpu").milli, memory: spec.request("memory").units)
    var names: Set<String> = []
    for container in spec.containers + spec.initContainers {
      for key in container.value["resources"]["requests"].object?.keys ?? [] { names.insert(key) }
      for key in container.value["resources"]["limits"].object?.keys ?? [] { names.insert(key) }
    }
    for name in names where name != "cpu" && name != "memory" {
      let amount = spec.request(name).units
      if amount > 0 { total.extended[name] = amount }
    }
    return total
  }

  package static func == (a: PodDemand, b: PodDemand) -> Bool {
    a === b
      || a.asksTheSame(as: b) && a.unscheduledMessage == b.unscheduledMessage && a.otherConditions == b.otherConditions
  }

  /// True if a node that was refused for one is refused for the other; what was written about it does not count.
  func asksTheSame(as other: PodDemand) -> Bool {
    key == other.key && uid == other.uid && labels == other.labels && nodeName == other.nodeName
      && isTerminal == other.isTerminal && isBeingDeleted == other.isBeingDeleted
      && schedulerName == other.schedulerName && hasGates == other.hasGates && priority == other.priority
      && creation == other.creation && requests == other.requests && asksTheSameOfNodes(other) && rules == other.rules
      && tolerations == other.tolerations && hostPorts == other.hostPorts && images == other.images
      && owner == other.owner
  }

  private func asksTheSameOfNodes(_ other: PodDemand) -> Bool {
    nodeSelector == other.nodeSelector && requiredTerms == other.requiredTerms
      && preferredTerms == other.preferredTerms
  }

  /// This scheduler has to find a node for it.
  package var wantsNode: Bool {
    nodeName.isEmpty && !isTerminal && !isBeingDeleted && !hasGates && schedulerName == "default-scheduler"
  }
}

enum ImageName {
  /// With the tag `latest` where there is neither tag nor digest, as nodes report images.
  static func normalised(_ image: String) -> String {
    let last = image.split(separator: "/").last ?? ""
    return last.contains(":") || image.contains("@") ? image : image + ":latest"
  }
}
