import API
import Base
import ObjectModel

/// What controllers keep of a Pod: a few fields instead of the whole object, since there are many pods.
package struct PodState: Informed, Hashable {
  package enum Phase: String, Sendable {
    case pending = "Pending"
    case running = "Running"
    case succeeded = "Succeeded"
    case failed = "Failed"
    case unknown = "Unknown"
  }

  package var key: ObjectKey
  package var uid: String
  package var revision: UInt64
  package var labels: [String: String]
  package var owners: [OwnerReference]
  package var phase: Phase
  package var isReady: Bool
  /// When the Ready condition last changed, by the node's clock.
  package var readyChanged: WallTime?
  package var nodeName: String
  package var isBeingDeleted: Bool
  package var creation: WallTime?
  /// Restarts of all its containers.
  package var restarts: Int64
  /// `controller.kubernetes.io/pod-deletion-cost`: lower goes first.
  package var deletionCost: Int64
  package var tolerations: [Toleration]

  package init(key: ObjectKey, uid: String) {
    self.key = key
    self.uid = uid
    revision = 0
    labels = [:]
    owners = []
    phase = .pending
    isReady = false
    nodeName = ""
    isBeingDeleted = false
    restarts = 0
    deletionCost = 0
    tolerations = []
  }

  package init(stored: APIObject) throws(SkerryError) {
    let object = try stored.decoded()
    self.init(object, key: ObjectKey(stored.reference), revision: stored.revision)
  }

  package static func read(
    _ stored: APIObject, after old: PodState?, beside neighbour: PodState?
  ) throws(SkerryError) -> PodState {
    var pod = try PodState(stored: stored)
    pod.labels = held(pod.labels, or: neighbour?.labels)
    pod.owners = held(pod.owners, or: neighbour?.owners)
    pod.tolerations = held(pod.tolerations, or: neighbour?.tolerations)
    return pod
  }

  package init(_ object: Object, key: ObjectKey, revision: UInt64) {
    self.init(key: key, uid: object.uid)
    self.revision = revision
    labels = object.labels
    owners = object.ownerReferences
    phase = Phase(rawValue: object.status["phase"].string ?? "Pending") ?? .unknown
    if let ready = Conditions.get(object.status, "Ready") {
      isReady = ready.isTrue
      readyChanged = ready.lastTransitionTime.flatMap(Timestamp.parse)
    }
    nodeName = object.spec["nodeName"].string ?? ""
    isBeingDeleted = object.isBeingDeleted
    creation = Timestamp.parse(object.creationTimestamp)
    for status in object.status["containerStatuses"].array ?? [] { restarts += status["restartCount"].int ?? 0 }
    deletionCost = object.annotations["controller.kubernetes.io/pod-deletion-cost"].flatMap(Int64.init) ?? 0
    tolerations = (object.spec["tolerations"].array ?? []).map(Toleration.init)
  }

  package static let resource = "pods"
  package var reference: ObjectReference { key.reference(in: Self.resource) }
  package var controller: OwnerReference? { owners.first(where: \.isController) }
  package var isTerminal: Bool { phase == .succeeded || phase == .failed }
  /// Counts as a replica: neither ended nor on its way out.
  package var isActive: Bool { !isTerminal && !isBeingDeleted }
}
