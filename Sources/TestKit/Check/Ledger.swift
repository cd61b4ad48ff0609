import Base
import Sync

/// What went up from the nodes and what of it took effect: readings, events, and the batches that carried them.
@LoopActor package final class Ledger {
  /// One device's readings, as numbers that rise by one.
  private struct Series {
    /// Stored on the node and acknowledged to the device.
    var acknowledged: Set<Int64> = []
    /// May be missing: the store that held them is gone.
    var excused: Set<Int64> = []
  }
  private struct LaneKey: Hashable {
    let node: String
    let lane: Lane
    let incarnation: Incarnation
  }
  /// A batch as it shows on the wire.
  package struct Sent: Sendable, Hashable {
    package let lane: String
    package let incarnation: Incarnation
    package let after: UInt64
    package let through: UInt64
  }
  /// When the cloud began to apply the batches that took effect.
  private var begun: [Sent: UInt64] = [:]
  private var series: [String: Series] = [:]
  private var cursors: [LaneKey: UInt64] = [:]
  /// Names of the Event objects that were made of what a node said once.
  private var events: [String: Set<String>] = [:]
  private var told: [String: Set<String>] = [:]
  private let judge: Judge

  package init(judge: Judge) { self.judge = judge }

  package private(set) var readings: UInt64 = 0
  /// Readings of packed batches that took effect in the cloud.
  package private(set) var readingsApplied: UInt64 = 0

  // MARK: Readings

  package func stored(_ values: [Int64], node: String) {
    readings += UInt64(values.count)
    series[node, default: Series()].acknowledged.formUnion(values)
  }

  /// The node's device store is gone or was set back: what the cloud does not have yet may never come.
  package func excuseReadings(of node: String) {
    guard var known = series[node] else { return }
    known.excused.formUnion(known.acknowledged)
    series[node] = known
  }

  /// The cloud was set back: what nodes have let go by now is gone.
  package func excuseAllReadings() { for node in series.keys.sorted() { excuseReadings(of: node) } }

  /// The whole series of a node's device as the cloud has it.
  package func examine(_ values: [Int64], node: String) {
    var seen: Set<Int64> = []
    var last: Int64 = 0
    for value in values {
      judge.check(.effectExactlyOnce, seen.insert(value).inserted, "reading \(value) of \(node) is there twice")
      judge.check(.ordered, value >= last, "reading \(value) of \(node) came after \(last)")
      last = value
    }
    let known = series[node] ?? Series()
    for value in known.acknowledged.sorted() where !known.excused.contains(value) {
      judge.check(
        .effectExactlyOnce, seen.contains(value), "reading \(value) of \(node) was stored there and is not in the cloud"
      )
    }
  }

  /// Whether everything that is not excused has arrived.
  package func missing(_ values: [Int64], node: String) -> Int {
    let known = series[node] ?? Series()
    return known.acknowledged.subtracting(known.excused).subtracting(values).count
  }

  // MARK: Lanes

  /// Whether a batch that was sent at that moment was itself applied, not one like it that came before.
  package func tookEffect(_ sent: Sent, at moment: UInt64) -> Bool { (begun[sent] ?? 0) >= moment }

  /// A batch took effect, durably.
  package func applied(_ batch: LaneBatch, node: String, lane: Lane, begun moment: UInt64) {
    let sent = Sent(lane: lane.rawValue, incarnation: batch.incarnation, after: batch.after, through: batch.through)
    begun[sent] = moment
    let key = LaneKey(node: node, lane: lane, incarnation: batch.incarnation)
    let cursor = cursors[key] ?? 0
    readingsApplied += UInt64(batch.packed?.count ?? 0)
    judge.check(
      .effectExactlyOnce, batch.after >= cursor,
      "lane \(lane.rawValue) of \(node): entries after \(batch.after) took effect again, \(cursor) had been reached")
    var last = batch.after
    for entry in batch.entries {
      judge.check(
        .ordered, entry.number > last, "lane \(lane.rawValue) of \(node): entry \(entry.number) after \(last)")
      last = entry.number
    }
    cursors[key] = max(cursor, batch.through)
  }

  /// The cloud was set back: its cursors are older.
  package func forgetCursors() { cursors = [:] }

  // MARK: Events

  /// A node told an event that happens once; its text is unique.
  package func told(event: String, node: String) { told[node, default: []].insert(event) }

  package func excuseEvents(of node: String) { told[node] = nil }
  package func excuseAllEvents() {
    told = [:]
    events = [:]
  }

  /// An Event object was made.
  package func made(event: String, name: String) {
    events[event, default: []].insert(name)
    judge.check(
      .effectExactlyOnce, events[event]?.count == 1,
      "event \"\(event)\" was made twice: \(events[event]?.sorted() ?? [])")
  }

  package func knows(event: String) -> Bool { events[event] != nil }

  /// What a node told durably has become an object.
  package func examineEvents(of node: String) {
    let missing = missingEvents(of: node)
    judge.check(
      .effectExactlyOnce, missing.isEmpty, "events of \(node) were stored there and had no effect: \(missing)")
  }

  package func missingEvents(of node: String) -> [String] {
    (told[node] ?? []).filter { events[$0] == nil }.sorted()
  }
}
