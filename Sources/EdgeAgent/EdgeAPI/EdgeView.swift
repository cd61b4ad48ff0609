import API
import Base
import Logging
import ObjectLog
import ObjectModel
import Sync
import Wire

/// What the node's own API shows: the replica, overlaid with what the node has said and the cloud may not know yet, and
/// the node's newest events. It is a log of its own, so that list, get and watch agree and a watch resumes by position.
///
/// Positions are this process's: they begin anew at each start, above all that were given before, so that a watch of
/// an earlier process is told to list again. Revisions of objects stay the cloud's.
@LoopActor package final class EdgeView: NodeWordListener {
  /// The node's own events that are shown.
  package nonisolated static let maxEvents = 500
  /// Changes, and bytes of replaced states, that watches can resume over.
  package nonisolated static let maxHistory = 4_096
  package nonisolated static let maxHistoryBytes = 4 << 20
  /// Objects that change at one position.
  private static let maxChanges = 1_000
  private static let startsKey = "view/starts"

  /// What the edge's API server reads.
  package let log: MemoryObjectLog
  private let replica: any ObjectLog
  private let registry: KindRegistry
  private let random: any RandomSource
  private let logger: Logger
  private var words = NodeWords()
  private var events: [String: StoredObject] = [:]
  private var eventOrder: [String] = []
  private var shown: [String: StoredObject] = [:]
  private var cursor: Cursor
  private var history: [(position: UInt64, bytes: Int)] = []
  private var historyBytes = 0
  private var observation: ObservationID?
  private var started = false

  package init(
    replica: any ObjectLog, registry: KindRegistry = .standard, random: any RandomSource, logger: Logger
  ) {
    self.replica = replica
    self.registry = registry
    self.random = random
    self.logger = logger
    log = MemoryObjectLog(role: .follower, random: random)
    cursor = Cursor(log: LogID(random: random), epoch: 1, position: 0)
  }

  /// Takes up the replica and what waits in the lanes, and follows both. Call before the node says anything.
  package func start(waiting: [LanePayload]) async {
    for payload in waiting { recall(payload) }
    cursor.position = await firstPosition()
    var after: String?
    do throws(SkerryError) {
      while true {
        let page = try replica.list(prefix: "", at: nil, after: after, limit: 500)
        for (key, object) in page.objects { shown[key] = overlaid(key, object) }
        guard page.more, let last = page.objects.last else { break }
        after = last.key
      }
    } catch {
      logger.error(EdgeLog.replicaRead, "the edge API cannot show all of the replica: \(error)")
    }
    for (key, object) in events { shown[key] = object }
    let objects = shown.sorted { $0.key < $1.key }.map { (key: $0.key, object: $0.value) }
    started = true
    observation = replica.observe { [weak self] entries in self?.refresh(entries.map(\.key)) }
    await withCheckedContinuation { continuation in
      log.replace(position: cursor, objects: objects) { _ in continuation.resume() }
    }
  }

  package func stop() {
    if let observation { replica.cancelObservation(observation) }
    observation = nil
  }

  /// 2^36 positions for each start, and somewhere among them, so that a store that was wiped repeats none either.
  private func firstPosition() async -> UInt64 {
    var starts: UInt64 = 1
    if let stored = (try? replica.privateValue(Self.startsKey)) ?? nil, stored.count == 8 {
      starts = stored.bigEndian(at: 0) &+ 1
    }
    var value: Bytes = []
    value.append(bigEndian: starts)
    let change = Change(key: "view//", guarding: .any, operation: .privatesOnly, privates: [(Self.startsKey, value)])
    // A disk that takes nothing now must not keep the node from serving.
    _ = await withCheckedContinuation { continuation in
      replica.append([change]) { continuation.resume(returning: $0) }
    }
    return (starts & 0x7ff_ffff) << 36 | random.next() >> 30 | 1
  }

  private func recall(_ payload: LanePayload) {
    switch payload {
    case .status(let key, let uid, let fields): words.recall(key, uid: uid, fields: fields)
    case .gone(let key, let uid): words.finish(key, uid: uid)
    case .event(let namespace, let object): _ = remember(namespace, object)
    case .dropped: break
    }
  }

  // MARK: What the node says

  package func said(key: String, uid: String, status: Value) {
    words.say(key, uid: uid, status: status)
    refresh([key])
  }

  package func saidGone(key: String, uid: String) {
    words.finish(key, uid: uid)
    refresh([key])
  }

  package func saidEvent(namespace: String, object: Value) { refresh(remember(namespace, object)) }

  /// A client of the edge API wrote fields of a status: answers all that clients wrote and the cloud does not show yet.
  func wrote(key: String, uid: String, fields: Value) -> Value {
    let all = words.write(key, uid: uid, fields: fields)
    refresh([key])
    return all
  }

  /// The object as it is shown now.
  func object(_ key: String) -> StoredObject? { shown[key] }

  /// Answers the keys of the events that changed.
  private func remember(_ namespace: String, _ object: Value) -> [String] {
    let name = object["metadata"]["name"].string ?? ""
    let key = ObjectReference(resource: Event.resource, namespace: namespace, name: name).key
    guard let kind = registry[resource: Event.resource], !name.isEmpty else { return [] }
    let before = events[key]
    let revision = (before?.revision ?? 0) + 1
    events[key] = StoredObject(
      body: CBOR.encode(object), status: nil, meta: ObjectMeta(Object(object), kind: kind).encoded,
      bodyRevision: revision, statusRevision: 0, createRevision: before?.createRevision ?? revision)
    if before == nil { eventOrder.append(key) }
    guard eventOrder.count > Self.maxEvents else { return [key] }
    let oldest = eventOrder.removeFirst()
    events[oldest] = nil
    return [key, oldest]
  }

  // MARK: What is shown

  private func overlaid(_ key: String, _ stored: StoredObject) -> StoredObject? {
    guard let kind = registry[resource: String(key.prefix { $0 != "/" })] else { return stored }
    do throws(SkerryError) { return try words.overlay(stored, key: key, kind: kind) } catch {
      logger.error(EdgeLog.replicaRead, "\(key) is shown as the cloud sent it: \(error)")
      return stored
    }
  }

  private func current(_ key: String) throws(SkerryError) -> StoredObject? {
    if let event = events[key] { return event }
    guard let stored = try replica.read(key, at: nil) else {
      words.forget(key)
      return nil
    }
    return overlaid(key, stored)
  }

  /// Shows what became of these keys, as one position; a delete is never merged with a re-creation.
  private func refresh(_ keys: [String]) {
    guard started else { return }
    for start in stride(from: 0, to: keys.count, by: Self.maxChanges) {
      var (removed, put): ([Given], [Given]) = ([], [])
      for key in Set(keys[start..<min(start + Self.maxChanges, keys.count)]).sorted() {
        do throws(SkerryError) {
          compare(key, try current(key), &removed, &put)
        } catch {
          logger.error(EdgeLog.replicaRead, "\(key) is shown as it was: \(error)")
        }
      }
      publish(removed)
      publish(put)
    }
  }

  private struct Given {
    var key: String
    var object: StoredObject
    var isDeleted: Bool
  }

  private func compare(_ key: String, _ now: StoredObject?, _ removed: inout [Given], _ put: inout [Given]) {
    let before = shown[key]
    guard now != before else { return }
    if let before, now == nil || now?.createRevision != before.createRevision {
      removed.append(Given(key: key, object: before, isDeleted: true))
    }
    if let now { put.append(Given(key: key, object: now, isDeleted: false)) }
    shown[key] = now
  }

  private func publish(_ changes: [Given]) {
    guard !changes.isEmpty else { return }
    cursor.position += 1
    var (entries, bytes): ([Entry], Int) = ([], 0)
    for (index, change) in changes.enumerated() {
      let object = change.object
      bytes += 256 + object.body.count + (object.status?.count ?? 0) + object.meta.count
      entries.append(
        Entry(
          position: cursor.position, index: UInt32(index), key: change.key, revision: object.revision,
          previousRevision: 0, type: change.isDeleted ? .deleted : .modified, object: object, previousMeta: nil))
    }
    history.append((cursor.position, bytes))
    historyBytes += bytes
    log.apply(position: cursor, entries: entries, privates: []) { [weak self] error in
      if let error { self?.logger.error(EdgeLog.replicaRead, "the edge API lags behind the replica: \(error)") }
      self?.trim()
    }
  }

  /// Lets the older half of the history go when it is too long.
  private func trim() {
    guard history.count > Self.maxHistory || historyBytes > Self.maxHistoryBytes else { return }
    // What the log has not taken yet cannot be let go.
    let gone = history.prefix(history.count / 2 + 1).prefix { $0.position < log.tail.position }
    historyBytes -= gone.reduce(0) { $0 + $1.bytes }
    history.removeFirst(gone.count)
    if let last = gone.last { log.compact(through: last.position) }
  }
}
