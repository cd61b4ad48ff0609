import Base
import EventLoop
import Logging
import Store
import Sync

/// The edge's file with the status, events and replies lanes: what the node has to say and the cloud has not yet
/// applied. It survives SIGKILL and power cuts, and is bounded.
///
/// A writer thread commits in groups; reads happen on the loop. Entries become visible, and may be sent, once they
/// are durable. The incarnation is drawn whenever the file is made or opened, and entries keep the one they were
/// written under, so that no number is ever reused, whatever was restored.
@LoopActor package final class Outbox {
  /// How much a lane keeps, over all incarnations; beyond it the oldest go, and a `dropped` entry stands for them.
  package struct Limits: Sendable {
    package var entries: UInt64 = 100_000
    /// Bytes of payloads.
    package var bytes: UInt64 = 64 << 20
    package init() {}
  }
  /// Entries that wait for the writer; beyond it the newest is refused and counted.
  package static let maxPending = 50_000

  /// Between a write that failed and the next try.
  package static let retry = Duration.seconds(1)

  private static let schema = Schema(
    name: "outbox", applicationID: 0x534b_4f42,
    migrations: [
      """
      CREATE TABLE incarnations (age INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE);
      CREATE TABLE entries (
        lane TEXT NOT NULL, age INTEGER NOT NULL, number INTEGER NOT NULL, subject TEXT NOT NULL, payload BLOB NOT NULL,
        PRIMARY KEY (lane, age, number)) WITHOUT ROWID;
      CREATE INDEX subjects ON entries (lane, subject) WHERE subject <> '';
      """
    ])

  private struct Pending: Sendable {
    var lane: Lane
    var number: UInt64
    var subject: String
    var payload: Bytes
  }

  /// What the cloud has applied.
  private struct Forgotten: Sendable {
    var lane: Lane
    var age: Int64
    var through: UInt64
  }

  /// The writer's connection. Confined to `driver` after `init` (the reason for `@unchecked Sendable`).
  private final class Writer: @unchecked Sendable {
    let file: StoreFile
    let insert: Statement
    let supersede: Statement
    let forget: Statement
    /// An upper bound of what each lane holds; made exact when it reaches a limit.
    var sizes: [Lane: OutboxBounds.Size] = [:]
    init(_ file: StoreFile) throws(SkerryError) {
      self.file = file
      insert = try file.database.prepare(
        "INSERT INTO entries (lane, age, number, subject, payload) VALUES (?, ?, ?, ?, ?)")
      supersede = try file.database.prepare("DELETE FROM entries WHERE lane = ? AND subject = ? AND subject <> ''")
      forget = try file.database.prepare("DELETE FROM entries WHERE lane = ? AND age = ? AND number <= ?")
    }
  }

  private let driver: any SerialDriver
  private let writer: Writer
  private let reader: Database
  private let select: Statement
  private let count: Statement
  private let scheduler: (any Scheduler)?
  private let logger: Logger
  private let limits: Limits
  private var ages: [Incarnation: Int64] = [:]
  /// Newest number of each lane under each incarnation, as far as it is durable.
  private var newest: [Lane: [Incarnation: UInt64]] = [:]
  private var next: [Lane: UInt64] = [:]
  /// Through which numbers the cloud has applied lanes, as it told this process.
  private var applied: [Lane: [Incarnation: UInt64]] = [:]
  private var pending: [Pending] = []
  private var writing = false
  private var waiters: [(turns: Int, CheckedContinuation<Result<Void, SkerryError>, Never>)] = []
  private var forgetting: [Forgotten] = []

  /// The incarnation that new entries are written under.
  package let current: Incarnation
  /// New entries of a lane are durable.
  package var onGrew: ((Lane) -> Void)?
  /// The cloud has applied everything of a lane through a number of the incarnation.
  package var onApplied: ((Lane, Incarnation, UInt64) -> Void)?
  package let refused = Counter()

  /// `vfs` names a registered SQLite VFS, nil is the system's files; `driver` runs the writer, nil starts a thread for
  /// it. After a write that failed the next append tries again, or with a `scheduler` the next second. Throws what
  /// `StoreFile` throws.
  package init(
    path: String, vfs: String? = nil, limits: Limits = Limits(), random: any RandomSource, logger: Logger,
    driver: (any SerialDriver)? = nil, scheduler: (any Scheduler)? = nil
  ) throws(SkerryError) {
    self.scheduler = scheduler
    self.logger = logger
    self.limits = limits
    var options = Database.Options.ownThread
    options.vfs = vfs
    let file = try StoreFile(path: path, schema: Self.schema, options: options)
    guard let incarnation = Incarnation(random.bytes(16)) else { preconditionFailure("16 bytes were asked for") }
    current = incarnation
    let add = try file.database.prepare("INSERT INTO incarnations (id) VALUES (?)")
    // Incarnations that hold nothing any more are over.
    try file.database.execute("DELETE FROM incarnations WHERE age NOT IN (SELECT DISTINCT age FROM entries)")
    add.bind(1, incarnation.bytes)
    try add.run()
    let list = try file.database.prepare("SELECT age, id FROM incarnations")
    while try list.step() {
      if let id = Incarnation(list.bytes(1)) { ages[id] = list.int(0) }
    }
    let counts = try file.database.prepare(
      "SELECT e.lane, i.id, max(e.number) FROM entries e JOIN incarnations i USING (age) GROUP BY e.lane, e.age")
    while try counts.step() {
      if let lane = Lane(rawValue: counts.string(0)), let id = Incarnation(counts.bytes(1)) {
        newest[lane, default: [:]][id] = counts.uint(2)
      }
    }
    writer = try Writer(file)
    reader = try file.reader()
    select = try reader.prepare(
      "SELECT number, payload FROM entries WHERE lane = ? AND age = ? AND number > ? AND number <= ? ORDER BY number")
    count = try reader.prepare("SELECT count(*) FROM entries")
    self.driver = driver ?? BlockingThread(name: "outbox")
  }

  /// Stores an entry. With a `subject`, older entries of the same subject that still wait are superseded.
  /// Answers the entry's number under `current`; nil if it was refused.
  @discardableResult
  package func append(_ lane: Lane, subject: String = "", _ payload: LanePayload) -> UInt64? {
    guard pending.count < Self.maxPending else {
      refused.add()
      return nil
    }
    let number = next[lane, default: 0] + 1
    next[lane] = number
    pending.append(Pending(lane: lane, number: number, subject: subject, payload: payload.encode()))
    write()
    return number
  }

  /// Incarnations that still hold entries of a lane, oldest first, with their newest number.
  package func incarnations(_ lane: Lane) -> [(id: Incarnation, last: UInt64)] {
    (newest[lane] ?? [:]).sorted { (ages[$0.key] ?? 0) < (ages[$1.key] ?? 0) }.map { ($0.key, $0.value) }
  }

  package func read(_ lane: Lane, _ incarnation: Incarnation, after: UInt64, through: UInt64) throws(SkerryError)
    -> [LaneEntry]
  {
    guard let age = ages[incarnation] else { return [] }
    defer { select.reset() }
    select.bind(1, lane.rawValue)
    select.bind(2, age)
    select.bind(3, after)
    select.bind(4, through)
    var entries: [LaneEntry] = []
    while try select.step() { entries.append(LaneEntry(number: select.uint(0), payload: select.bytes(1))) }
    return entries
  }

  /// Where the cloud's cursor stands as a stream begins. Where that is before what the cloud had told this process, it
  /// came out of a backup: what took effect in between is nowhere any more, and an entry says so. A status is told again
  /// anyway.
  package func cloudStands(_ lane: Lane, _ incarnation: Incarnation, at number: UInt64) {
    guard let known = applied[lane]?[incarnation], known > number else { return }
    applied[lane]?[incarnation] = number
    guard !lane.latestWins else { return }
    append(lane, .dropped(from: number + 1, to: known, count: known - number))
  }

  /// The cloud has applied everything through `number`.
  package func forget(_ lane: Lane, _ incarnation: Incarnation, through number: UInt64) {
    guard let age = ages[incarnation] else { return }
    applied[lane, default: [:]][incarnation] = max(applied[lane]?[incarnation] ?? 0, number)
    onApplied?(lane, incarnation, number)
    forgetting.append(Forgotten(lane: lane, age: age, through: number))
    if incarnation != current, number >= newest[lane]?[incarnation] ?? 0 { newest[lane]?[incarnation] = nil }
    write()
  }

  /// What waits in a lane, oldest first.
  package func waiting(_ lane: Lane) throws(SkerryError) -> [LanePayload] {
    let all = try reader.prepare("SELECT payload FROM entries WHERE lane = ? ORDER BY age, number")
    all.bind(1, lane.rawValue)
    var found: [LanePayload] = []
    while try all.step() { found.append(try LanePayload.decode(all.bytes(0))) }
    return found
  }

  /// Returns once all that was appended so far is durable; throws when it could not be written, and waits in memory.
  package func durable() async throws(SkerryError) {
    guard writing || !pending.isEmpty else { return }
    // What is being written now may have been begun before; the write after it has everything.
    let turns = writing && !pending.isEmpty ? 2 : 1
    let result = await withCheckedContinuation { waiters.append((turns, $0)) }
    try result.get()
  }

  private func wake(_ error: SkerryError?) {
    let waiting = waiters
    waiters = []
    for (turns, continuation) in waiting {
      if let error {
        continuation.resume(returning: .failure(error))
      } else if turns > 1 {
        waiters.append((turns - 1, continuation))
      } else {
        continuation.resume(returning: .success(()))
      }
    }
  }

  /// Whether a lane holds durable entries that the cloud has not applied, as far as this process knows.
  package func holds(_ lane: Lane) -> Bool {
    (newest[lane] ?? [:]).contains { $0.value > applied[lane]?[$0.key] ?? 0 }
  }

  /// Entries that the cloud has not applied, over all lanes; for metrics.
  package func waiting() -> UInt64 {
    defer { count.reset() }
    guard (try? count.step()) == true else { return 0 }
    return count.uint(0)
  }

  /// Ends after what is queued, and closes the file in order.
  package func close() {
    driver.stop()
    do throws(SkerryError) { try writer.file.close() } catch {
      // The file is whole all the same; the next start checks it, as after a kill.
    }
  }

  // MARK: Writing

  private func write() {
    guard !writing, !pending.isEmpty || !forgetting.isEmpty else { return }
    writing = true
    let batch = pending
    let gone = forgetting
    pending = []
    forgetting = []
    let age = ages[current] ?? 0
    let (writer, limits) = (writer, limits)
    let taken = driver.offer { [self] in
      let error = Self.commit(writer, batch, gone, age: age, limits)
      spawn { self.wrote(batch, gone, error) }
    }
    // After `close`: the cloud was told of none of them.
    if !taken { refused.add(UInt64(batch.count)) }
  }

  private nonisolated static func commit(
    _ writer: Writer, _ batch: [Pending], _ gone: [Forgotten], age: Int64, _ limits: Limits
  ) -> SkerryError? {
    do throws(SkerryError) {
      try writer.file.database.write { () throws(SkerryError) in
        for entry in gone {
          writer.forget.bind(1, entry.lane.rawValue)
          writer.forget.bind(2, entry.age)
          writer.forget.bind(3, entry.through)
          try writer.forget.run()
        }
        for entry in batch {
          if !entry.subject.isEmpty {
            writer.supersede.bind(1, entry.lane.rawValue)
            writer.supersede.bind(2, entry.subject)
            try writer.supersede.run()
          }
          writer.insert.bind(1, entry.lane.rawValue)
          writer.insert.bind(2, age)
          writer.insert.bind(3, entry.number)
          writer.insert.bind(4, entry.subject)
          writer.insert.bind(5, entry.payload)
          try writer.insert.run()
        }
        try bound(writer, batch, limits)
      }
      return nil
    } catch {
      return error
    }
  }

  /// Keeps each lane below its limits.
  private nonisolated static func bound(_ writer: Writer, _ batch: [Pending], _ limits: Limits) throws(SkerryError) {
    for lane in Set(batch.map(\.lane)) {
      let mine = batch.filter { $0.lane == lane }
      try OutboxBounds.keep(
        writer.file.database, lane, &writer.sizes,
        added: (UInt64(mine.count), mine.reduce(0) { $0 + UInt64($1.payload.count) }), limits)
    }
  }

  private func wrote(_ batch: [Pending], _ gone: [Forgotten], _ error: SkerryError?) {
    writing = false
    defer { wake(error) }
    if let error {
      // Nothing was told to the cloud yet: the entries go into the next try, in their order.
      logger.error(EdgeLog.outboxWrite, "the outbox cannot be written, its entries wait in memory: \(error)")
      pending = batch + pending
      forgetting = gone + forgetting
      // A disk that has room again need not be found by chance.
      scheduler?.schedule(after: Self.retry) { [weak self] in self?.write() }
      return
    }
    var grown: Set<Lane> = []
    for entry in batch {
      newest[entry.lane, default: [:]][current] = entry.number
      grown.insert(entry.lane)
    }
    for lane in Lane.allCases where grown.contains(lane) { onGrew?(lane) }
    write()
  }
}
