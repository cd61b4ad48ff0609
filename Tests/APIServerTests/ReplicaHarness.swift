import API
import APIServer
import Base
import ObjectLog
import ObjectModel
import Testing

private let admin = Caller(user: "admin", groups: [Caller.adminGroup], node: nil, origin: .network)

/// Time stands still until a test moves it.
@LoopActor final class StillScheduler: Scheduler {
  nonisolated let now = Instant(nanoseconds: 1_000_000_000)
  nonisolated let wall = WallTime(nanoseconds: 1_000_000_000)
  private var timers: [(id: TimerID, action: @LoopActor () -> Void)] = []
  private var last: UInt64 = 0

  func schedule(after delay: Duration, _ action: @escaping @LoopActor () -> Void) -> TimerID {
    last += 1
    timers.append((TimerID(raw: last), action))
    return TimerID(raw: last)
  }
  func cancel(_ timer: TimerID) { timers.removeAll { $0.id == timer } }

  /// Runs all that is due at any time.
  func fire() {
    let due = timers
    timers = []
    for timer in due { timer.action() }
  }
}

@LoopActor final class Anybody: Authorizer {
  func authorize(_ request: AccessRequest, caller: Caller) throws(APIError) {}
}

/// A server over a replica's log, whose positions may hold several entries.
@LoopActor final class ReplicaHarness {
  struct Thing: Equatable {
    var node = ""
    var app = ""
  }
  struct Wish: Hashable {
    var fields = ""
    var labels = ""
    var namespace = ""
  }

  let log = MemoryObjectLog(role: .follower, random: SeededRandom(seed: 1))
  let scheduler = StillScheduler()
  let metrics = Metrics()
  let server: APIServer

  init(limits: APIServerLimits = APIServerLimits()) async throws {
    var start = log.tail
    start.position = 10
    start.epoch = 1
    await Self.replace(log, start)
    server = APIServer(
      log: log, authorizer: Anybody(), scheduler: scheduler, random: SeededRandom(seed: 2), mode: .replica,
      limits: limits, metrics: metrics)
    server.start()
  }

  static func replace(
    _ log: MemoryObjectLog, _ cursor: Cursor, _ objects: [(key: String, object: StoredObject)] = []
  ) async {
    let error = await withCheckedContinuation { continuation in
      log.replace(position: cursor, objects: objects) { continuation.resume(returning: $0) }
    }
    #expect(error == nil)
  }

  static func stored(_ thing: Thing, revision: UInt64) -> StoredObject {
    var meta = ObjectMeta()
    if !thing.node.isEmpty { meta.fields["spec.nodeName"] = thing.node }
    if !thing.app.isEmpty { meta.labels["app"] = thing.app }
    return StoredObject(
      body: [0xa0], status: nil, meta: meta.encoded, bodyRevision: revision, statusRevision: 0,
      createRevision: revision)
  }

  /// One position, some behind the newest. nil deletes. `answered` runs when the log has it and no observer heard of it.
  func publish(
    _ changes: [(key: String, thing: Thing?)], skipping: UInt64 = 0,
    answered: @escaping @LoopActor () -> Void = {}
  ) async {
    var cursor = log.tail
    cursor.position += 1 + skipping
    let entries = changes.map { key, thing in
      Entry(
        position: cursor.position, index: 0, key: key, revision: cursor.position, previousRevision: 0,
        type: thing == nil ? .deleted : .modified,
        object: Self.stored(thing ?? Thing(), revision: cursor.position), previousMeta: nil)
    }
    let error = await withCheckedContinuation { continuation in
      log.apply(position: cursor, entries: entries, privates: []) {
        answered()
        continuation.resume(returning: $0)
      }
    }
    #expect(error == nil)
    // The log answers before it tells its observers, in the same turn.
    await Task.yield()
  }

  func watch(_ wish: Wish, resource: String = "pods", after: UInt64? = nil) async throws -> any WatchCursor {
    try await server.watch(
      WatchOptions(
        resource: resource, namespace: wish.namespace, labelSelector: wish.labels, fieldSelector: wish.fields,
        after: after ?? log.tail.position), caller: admin)
  }

  /// Watches that were asked so far.
  var asked: Int {
    let line = metrics.text().split(separator: "\n").last { $0.hasPrefix("skerry_apiserver_watches_asked_total ") }
    return line.flatMap { Int($0.split(separator: " ").last ?? "") } ?? -1
  }
}

func text(_ events: [WatchEvent]) -> [String] {
  events.map { "\($0.kind) \($0.object?.reference.name ?? "at \($0.position)")" }
}
