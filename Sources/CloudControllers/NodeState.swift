import API
import Base
import ObjectModel
import Wire

/// What controllers keep of a Node.
package struct NodeState: Informed, Hashable {
  package var name: String
  package var uid: String
  package var revision: UInt64
  package var taints: [Taint]
  package var isUnschedulable: Bool
  /// The value of the label `skerry.io/group`; empty without one.
  package var group: String
  package var isBeingDeleted: Bool
  /// Types and statuses of its conditions: all that is read at each heartbeat.
  package var statuses: [Status]
  /// `status.conditions`, encoded: most of it changes with every heartbeat and is read when a node falls silent.
  private var encoded: Bytes
  /// Of the body that it was read from; nil if that is not known.
  private var mark: Int?

  package struct Status: Sendable, Hashable {
    package var type: String
    /// `True`, `False` or `Unknown`.
    package var status: String
  }

  package init(stored: APIObject) throws(SkerryError) {
    try self.init(stored, stored.mark())
  }

  private init(_ stored: APIObject, _ mark: Int) throws(SkerryError) {
    self.init(try stored.decoded(status: []), revision: stored.revision)
    self.mark = mark
    try takeConditions(stored)
  }

  /// Of a heartbeat only the conditions are read.
  package static func read(
    _ stored: APIObject, after old: NodeState?, beside neighbour: NodeState?
  ) throws(SkerryError) -> NodeState {
    let mark = try stored.mark()
    guard let old, old.mark == mark else { return try NodeState(stored, mark) }
    var new = old
    new.revision = stored.revision
    try new.takeConditions(stored)
    return new
  }

  package init(_ object: Object, revision: UInt64) {
    name = object.name
    uid = object.uid
    self.revision = revision
    group = object.labels[Self.groupLabel] ?? ""
    taints = (object.spec["taints"].array ?? []).map(Taint.init)
    isUnschedulable = object.spec["unschedulable"].bool ?? false
    isBeingDeleted = object.isBeingDeleted
    mark = nil
    encoded = CBOR.encode(.array(object.status["conditions"].array ?? []))
    statuses = Conditions.all(object.status).map { Status(type: $0.type, status: $0.status) }
  }

  private mutating func takeConditions(_ stored: APIObject) throws(SkerryError) {
    encoded = try CBOR.member("conditions", of: stored.status ?? []) ?? []
    var found: [Status] = []
    found.reserveCapacity(statuses.count)
    var reader = CBORReader(encoded)
    if reader.next == .array {
      for _ in 0..<(try reader.array()) { found.append(try Self.status(&reader)) }
      try reader.finish()
    }
    if found != statuses { statuses = found }
  }

  private static func status(_ reader: inout CBORReader) throws(SkerryError) -> Status {
    var found = Status(type: "", status: "")
    guard reader.next == .map else {
      try reader.skip()
      return found
    }
    for _ in 0..<(try reader.map()) {
      switch (try reader.text(), reader.next) {
      case ("type", .text): found.type = try reader.text()
      case ("status", .text): found.status = try reader.text()
      default: try reader.skip()
      }
    }
    return found
  }

  /// Its conditions, whole. What does not decode was refused when it was written, so there is none of it.
  package var conditions: [Condition] {
    guard let value = try? CBOR.decode(encoded) else { return [] }
    return (value.array ?? []).map(Condition.init)
  }

  /// True if no decision about the node can differ: only times, reasons and messages of conditions do.
  package func decidesTheSame(as other: NodeState) -> Bool {
    uid == other.uid && mark != nil && mark == other.mark && statuses == other.statuses
  }

  package static let resource = "nodes"
  /// Puts a node into a group, for which grace, eviction and budgets can be set.
  package static let groupLabel = "skerry.io/group"
  package var reference: ObjectReference { ObjectReference(resource: Self.resource, name: name) }
  /// `True`, `False` or `Unknown`; nil: there is no such condition.
  package func status(_ type: String) -> String? { statuses.first { $0.type == type }?.status }
  package var isReady: Bool { status("Ready") == "True" }
}

extension Taint {
  package static let notReady = "node.kubernetes.io/not-ready"
  package static let unreachable = "node.kubernetes.io/unreachable"
  package static let unschedulable = "node.kubernetes.io/unschedulable"
  package static let networkUnavailable = "node.kubernetes.io/network-unavailable"
  package static let memoryPressure = "node.kubernetes.io/memory-pressure"
  package static let diskPressure = "node.kubernetes.io/disk-pressure"
  package static let pidPressure = "node.kubernetes.io/pid-pressure"

  /// A taint is the same by key and effect, whatever its value and time.
  package func isSame(as other: Taint) -> Bool { key == other.key && effect == other.effect }
}
