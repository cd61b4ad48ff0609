import Base
import Logging
import ObjectLog
import Wire

/// What a cloud with another history does not know and this node has: it goes on for a grace time, so that a cloud that
/// was restored from an old backup does not end what a fleet runs.
///
/// What is kept, and for how long yet, is stored before the snapshot that lacks it is applied, and again every minute;
/// time counts while edgecore runs. When the grace is over the slice is taken again whole, and what the cloud still does
/// not know goes.
@LoopActor package final class UnknownGrace {
  package nonisolated static let usual = Duration.seconds(3_600)
  /// How often the time that is left is stored.
  package nonisolated static let storeInterval = Duration.seconds(60)
  private static let recordKey = "grace/unknown"

  private let replica: any ObjectLog
  private let grace: Duration
  private let scheduler: any Scheduler
  private let logger: Logger
  private let gauge: Gauge
  /// Log keys of what is kept.
  package private(set) var kept: Set<String> = []
  private var deadline: Instant?
  private var timer: TimerID?
  private var observation: ObservationID?

  /// What is kept changed.
  package var onChange: (() -> Void)?
  /// The grace is over, and the slice has to be taken again.
  package var onOver: (() -> Void)?

  package init(
    replica: any ObjectLog, grace: Duration = UnknownGrace.usual, scheduler: any Scheduler, metrics: Metrics,
    logger: Logger
  ) {
    self.replica = replica
    self.grace = grace
    self.scheduler = scheduler
    self.logger = logger
    gauge = metrics.gauge(
      "skerry_edge_kept_objects", "Objects that go on though the cloud, with another history, does not know them.")
    load()
  }

  /// Whether what is kept has to go with the next snapshot.
  package var isOver: Bool { deadline.map { !kept.isEmpty && scheduler.now >= $0 } ?? false }

  private func load() {
    guard let bytes = (try? replica.privateValue(Self.recordKey)) ?? nil, let value = try? CBOR.decode(bytes) else {
      return
    }
    kept = Set(
      (value["keys"].array ?? []).compactMap(\.string).filter { ((try? replica.read($0, at: nil)) ?? nil) != nil })
    guard !kept.isEmpty else { return }
    deadline = scheduler.now + .seconds(max(0, value["left"].int ?? 0))
    watch()
  }

  /// What is to stay beside a snapshot: what is here, is not in it, and has time left. Stored when this returns.
  /// `isOther` tells that the snapshot is of another history than the replica.
  package func keep(beside named: Set<String>, isOther: Bool) async throws(SkerryError) -> [(
    key: String, object: StoredObject
  )] {
    if isOver {
      logger.warning(EdgeLog.unknownOver, "the grace is over: \(kept.count) objects that the cloud does not know go")
      clear()
      return []
    }
    var staying: [(key: String, object: StoredObject)] = []
    var after: String?
    while true {
      let page = try replica.list(prefix: "", at: nil, after: after, limit: 500)
      for (key, object) in page.objects where !named.contains(key) && (isOther || kept.contains(key)) {
        staying.append((key, object))
      }
      guard page.more, let last = page.objects.last else { break }
      after = last.key
    }
    guard grace > .zero else { return [] }
    let before = kept
    kept = Set(staying.map(\.key))
    guard !kept.isEmpty else {
      if !before.isEmpty { clear() }
      return []
    }
    if isOther { deadline = scheduler.now + grace }
    if let error = await store() { throw error }
    if isOther {
      logger.warning(
        EdgeLog.unknownKept,
        "the cloud has another history and does not know \(kept.count) objects of this node; they go on for \(grace)")
    }
    watch()
    onChange?()
    return staying
  }

  private func clear() {
    kept = []
    deadline = nil
    if let timer { scheduler.cancel(timer) }
    timer = nil
    if let observation { replica.cancelObservation(observation) }
    observation = nil
    let change = Change(
      key: "grace//", guarding: .any, operation: .privatesOnly, privates: [(Self.recordKey, nil)])
    replica.append([change]) { _ in }
    gauge.set(0)
    onChange?()
  }

  private func store() async -> SkerryError? {
    guard let deadline else { return nil }
    gauge.set(Int64(kept.count))
    let record: Value = [
      "left": .int(Int64(max(.zero, deadline - scheduler.now).seconds)),
      "keys": .array(kept.sorted().map { .string($0) }),
    ]
    let change = Change(
      key: "grace//", guarding: .any, operation: .privatesOnly, privates: [(Self.recordKey, CBOR.encode(record))])
    let results = await withCheckedContinuation { continuation in
      replica.append([change]) { continuation.resume(returning: $0) }
    }
    if case .failed(let error)? = results.first { return error }
    return nil
  }

  /// Follows what the cloud learns, and the time.
  private func watch() {
    gauge.set(Int64(kept.count))
    if observation == nil { observation = replica.observe { [weak self] entries in self?.published(entries) } }
    if let timer { scheduler.cancel(timer) }
    guard let deadline else { return }
    let left = max(.zero, deadline - scheduler.now)
    timer = scheduler.schedule(after: min(left, Self.storeInterval)) { [weak self] in
      guard let self else { return }
      if self.isOver {
        self.timer = nil
        self.onOver?()
      } else {
        spawn { _ = await self.store() }
        self.watch()
      }
    }
  }

  /// The cloud told of something that was kept: it is not unknown any more.
  private func published(_ entries: [Entry]) {
    let before = kept.count
    for entry in entries { kept.remove(entry.key) }
    guard kept.count < before else { return }
    if kept.isEmpty { clear() } else { onChange?() }
  }

  /// The Node's condition while something is kept; nil otherwise.
  package var condition: (message: String, count: Int)? {
    guard !kept.isEmpty else { return nil }
    let names = kept.sorted().prefix(5).joined(separator: ", ")
    let more = kept.count > 5 ? " and \(kept.count - 5) more" : ""
    return (
      "the cloud has another history and does not know \(names)\(more); they go on for a grace of \(grace)", kept.count
    )
  }
}
