import API
import Base
import Logging
import ObjectLog
import Sync
import Wire

/// Status, events and replies: their effect is in the object log, and so is their cursor, as a private key.
@LoopActor package final class ObjectLaneEffect: LaneEffect {
  private let writer: any LaneWriter
  private let log: any ObjectLog
  private let logger: Logger
  private let refused: Counter
  private let letGo: Counter
  /// A node tells a status of the object with this log key, by this entry; called before it takes effect.
  package var onStatus: ((_ node: String, _ key: String, _ incarnation: Incarnation, _ number: UInt64) -> Void)?
  /// The statuses of a batch, each told to `onStatus`, took effect and so did the cursor, or it is not known which.
  package var onStatusesApplied: ((_ node: String, _ isStored: Bool) -> Void)?

  package init(writer: any LaneWriter, log: any ObjectLog, metrics: Metrics, logger: Logger) {
    self.writer = writer
    self.log = log
    self.logger = logger
    refused = metrics.counter("skerry_hub_intents_refused_total", "Lane entries that were refused for good.")
    letGo = metrics.counter(
      "skerry_hub_entries_let_go_total", "Entries that bounds of nodes let go before they reached the cloud.")
  }

  private func key(_ node: String, _ lane: Lane, _ incarnation: Incarnation) -> String {
    "lanes/\(node)/\(lane.rawValue)/\(incarnation)"
  }

  /// A stored cursor: the number, and behind it, once the incarnation ended, the log's position at that time.
  private static func decode(_ bytes: Bytes) -> (number: UInt64, closedAt: UInt64?) {
    guard bytes.count >= 8 else { return (0, nil) }
    return (bytes.bigEndian(at: 0), bytes.count >= 16 ? bytes.bigEndian(at: 8) : nil)
  }

  package func cursor(node: String, lane: Lane, incarnation: Incarnation) throws(SkerryError) -> UInt64 {
    try log.privateValue(key(node, lane, incarnation)).map { Self.decode($0).number } ?? 0
  }

  package func keepOnly(_ incarnations: [Incarnation], node: String, lane: Lane) {
    let kept = Set(incarnations.map { key(node, lane, $0) })
    guard let stored = try? log.privateValues(prefix: "lanes/\(node)/\(lane.rawValue)/") else { return }
    var changes: [(key: String, value: Bytes?)] = []
    var closed: [(key: String, at: UInt64)] = []
    let now = log.tail.position
    for (key, bytes) in stored where !kept.contains(key) {
      let cursor = Self.decode(bytes)
      closed.append((key, cursor.closedAt ?? now))
      guard cursor.closedAt == nil else { continue }
      var value: Bytes = []
      value.append(bigEndian: cursor.number)
      value.append(bigEndian: now)
      changes.append((key, value))
    }
    closed.sort { $0.at < $1.at }
    for (key, _) in closed.dropLast(LaneSink.maxClosedCursors) { changes.append((key, nil)) }
    guard !changes.isEmpty else { return }
    let change = Change(key: "lanes//", guarding: .any, operation: .privatesOnly, privates: changes)
    // A cursor that could not be closed is closed at the next session.
    log.append([change]) { _ in }
  }

  package func apply(_ batch: LaneBatch, node: String, lane: Lane) async throws(SkerryError) {
    var intents: [LaneIntent] = []
    for entry in batch.entries {
      do throws(SkerryError) {
        guard let intent = try intent(entry, batch.incarnation, node, lane) else { continue }
        intents.append(intent)
        guard case .status(let reference, _, _) = intent else { continue }
        onStatus?(node, reference.key, batch.incarnation, entry.number)
      } catch {
        refuse(node, lane, "entry \(entry.number): \(error)")
      }
    }
    var value: Bytes = []
    value.append(bigEndian: batch.through)
    do throws(APIError) {
      let results = try await writer.applyLane(
        intents, cursor: (key(node, lane, batch.incarnation), value), caller: .node(node, origin: .lane))
      for case .some(let error) in results { refuse(node, lane, error.message) }
      if lane == .status { onStatusesApplied?(node, true) }
    } catch {
      if lane == .status { onStatusesApplied?(node, false) }
      throw SkerryError(.unavailable, "lane \(lane.rawValue) of node \(node) could not be applied", cause: error)
    }
  }

  private func refuse(_ node: String, _ lane: Lane, _ message: String) {
    refused.add()
    logger.warning(HubLog.intentRefused, "lane \(lane.rawValue) of node \(node) was refused an entry: \(message)")
  }

  private func intent(_ entry: LaneEntry, _ incarnation: Incarnation, _ node: String, _ lane: Lane)
    throws(SkerryError) -> LaneIntent?
  {
    switch try LanePayload.decode(entry.payload) {
    case .status(let key, let uid, let fields): return .status(try Self.reference(key), uid: uid, fields: fields)
    case .gone(let key, let uid): return .podGone(try Self.reference(key), uid: uid)
    case .event(let namespace, let object): return .event(namespace: namespace, object: object)
    case .dropped(let from, let to, let count):
      letGo.add(count)
      let what = "\(count) entries (\(from) to \(to)) of lane \(lane.rawValue)"
      logger.warning(
        HubLog.entriesLetGo,
        "node \(node) let go of \(what): its bound was reached while it was away, or this cloud came out of a backup")
      return .event(
        namespace: "default",
        object: Self.event(node: node, name: "\(node).\(incarnation.description.prefix(8)).\(entry.number)", what))
    }
  }

  /// The gap as an event of the node, under a name that makes twice once.
  private static func event(node: String, name: String, _ what: String) -> Value {
    [
      "apiVersion": "v1", "kind": "Event", "metadata": ["name": .string(name), "namespace": "default"],
      "involvedObject": ["apiVersion": "v1", "kind": "Node", "name": .string(node)],
      "type": "Warning", "reason": "EntriesLetGo", "message": .string("the node let go of \(what)"),
      "source": ["component": "edgecore", "host": .string(node)], "reportingComponent": "edgecore",
      "reportingInstance": .string(node), "count": 1,
    ]
  }

  private static func reference(_ key: String) throws(SkerryError) -> ObjectReference {
    let parts = key.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
    guard parts.count == 3 else { throw SkerryError(.invalidArgument, "\"\(key)\" is not a key") }
    return ObjectReference(resource: parts[0], namespace: parts[1], name: parts[2])
  }
}
