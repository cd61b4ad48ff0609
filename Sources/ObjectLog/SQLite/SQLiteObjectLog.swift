import Base
import EventLoop
import Store

/// The durable log: one SQLite file, one writer that commits what waits in groups, reads on the loop.
///
/// A change is answered after its transaction is on disk and its entries are in the tail. After a failed commit the
/// writer stops: writes are answered `unavailable`, reads go on, and `reopen` starts it again.
@LoopActor package final class SQLiteObjectLog: ObjectLog {
  /// How a log's file is opened.
  package struct Configuration: Sendable {
    package var path: String
    package var role: LogRole
    /// A registered SQLite VFS by name; nil for the system's files.
    package var vfs: String?
    /// The key ring; without one a change that asks for `seal` fails.
    package var sealing: (any Sealing)?
    /// With `.normal` a power cut may take the last commits; a leader then begins another epoch at its next start.
    package var durability: Database.Synchronous
    package var limits: LogLimits
    /// Where the log's counters are shown.
    package var metrics: Metrics
    package init(
      path: String, role: LogRole = .leader, vfs: String? = nil, sealing: (any Sealing)? = nil,
      durability: Database.Synchronous = .full, limits: LogLimits = LogLimits(), metrics: Metrics = Metrics()
    ) {
      self.path = path
      self.role = role
      self.vfs = vfs
      self.sealing = sealing
      self.durability = durability
      self.limits = limits
      self.metrics = metrics
    }
  }

  package internal(set) var tail: Cursor
  package internal(set) var compacted: UInt64
  /// Why the writer has stopped; nil while it works.
  package internal(set) var failure: SkerryError?
  /// Called once each time the writer stops: whoever owns the log decides when to `reopen`.
  package var onFailure: (@LoopActor (SkerryError) -> Void)?
  /// Bytes of history that compaction has not freed yet.
  package internal(set) var retainedBytes: UInt64

  let configuration: Configuration
  let scheduler: any Scheduler
  let writer: LogWriter
  let driver: any SerialDriver
  let metrics: LogMetrics
  var reader: LogReader?
  var ring: TailRing
  var observers = Observers()
  var retention: Retention
  var waiting: [Waiting] = []
  var queue = JobQueue()
  /// `pump` comes at the end of this turn of the loop.
  var pumpIsDue = false
  var loneWriter = LoneWriter()
  /// Published and answered, but observers have not heard of it yet.
  var untold: [Entry] = []
  let telling = Telling()
  var overlay = PrivateOverlay()
  var commands: [UInt64: @LoopActor (SkerryError?) -> Void] = [:]
  var reopenWaiters: [UInt64] = []
  var nextCommand: UInt64 = 1
  var timer: TimerID?

  var limits: LogLimits { configuration.limits }

  /// Opens or makes the log. Blocks for the time that recovery takes: long only after an unclean stop of a large log.
  ///
  /// `driver` runs the writer; nil starts a thread for it. Throws what `StoreFile` throws, and `invalidArgument` if
  /// the file was made for the other role.
  package static func open(
    _ configuration: Configuration, scheduler: any Scheduler, random: any RandomSource,
    driver: (any SerialDriver)? = nil
  ) throws(SkerryError) -> SQLiteObjectLog {
    let tables = try LogOpening(configuration: configuration, random: random).open()
    let reader = try LogReader(tables.file.reader(), sealing: configuration.sealing, limits: configuration.limits)
    return SQLiteObjectLog(
      configuration, tables, reader, scheduler, random, driver ?? BlockingThread(name: "log-writer"))
  }

  private init(
    _ configuration: Configuration, _ tables: LogTables, _ reader: LogReader, _ scheduler: any Scheduler,
    _ random: any RandomSource, _ driver: any SerialDriver
  ) {
    let (limits, state) = (configuration.limits, tables.state)
    self.configuration = configuration
    self.scheduler = scheduler
    self.driver = driver
    metrics = LogMetrics(configuration.metrics)
    self.reader = reader
    tail = state.cursor
    compacted = state.compacted
    retainedBytes = state.retained
    ring = TailRing(floor: state.cursor.position, maxEntries: limits.tailEntries, maxBytes: limits.tailBytes)
    retention = Retention(limits, now: scheduler.now, position: state.cursor.position)
    let opening = LogOpening(configuration: configuration, random: random)
    let doorbell = Doorbell()
    writer = LogWriter(
      tables: tables, driver: driver, limits: limits, clock: { scheduler.now },
      open: { () throws(SkerryError) in try opening.open() },
      notify: { doorbell.ring() })
    doorbell.log.set(self)
    telling.log = self
    scheduleMaintenance()
  }

  deinit { writer.close() }

  /// Ends the writer in order: what waits is done, the WAL is emptied, the file is marked as closed.
  package func close() async throws(SkerryError) {
    if let timer { scheduler.cancel(timer) }
    timer = nil
    guard reader != nil else { return }
    let error = await withCheckedContinuation { (continuation: CheckedContinuation<SkerryError?, Never>) in
      onClosed.append { continuation.resume(returning: $0) }
      pump()
      closing = true
      if queue.isIdle { writer.close() }
    }
    if let error { throw error }
  }
  var onClosed: [@LoopActor (SkerryError?) -> Void] = []
  var closing = false
}

/// Brings the writer's thread to the loop: one hop for all outcomes that wait.
private final class Doorbell: Sendable {
  let log = WeakLog()
  func ring() {
    spawn { [log] in log.value?.deliver() }
  }
}

@LoopActor private final class WeakLog {
  weak var value: SQLiteObjectLog?
  nonisolated init() {}
  func set(_ log: SQLiteObjectLog) { value = log }
}

/// Opens the file and brings its state up: at the start, and again after a failure.
struct LogOpening: Sendable {
  let configuration: SQLiteObjectLog.Configuration
  let random: any RandomSource

  func open() throws(SkerryError) -> LogTables {
    let options = Database.Options(vfs: configuration.vfs, synchronous: configuration.durability)
    let file = try StoreFile(path: configuration.path, schema: LogSchema.schema, options: options)
    let tables = try LogTables(
      file: file, state: load(file), sealing: configuration.sealing, limits: configuration.limits)
    try tables.write { () throws(SkerryError) in
      // What was acknowledged without a sync may be missing.
      if tables.state.relaxed, file.wasUnclean, tables.state.role == .leader {
        try tables.state.beginEpoch(random: random)
      }
      tables.state.relaxed = configuration.durability != .full
    }
    return tables
  }

  private func load(_ file: StoreFile) throws(SkerryError) -> LogState {
    if let state = try LogState.bringUp(file.database) {
      guard state.role == configuration.role else {
        throw SkerryError(
          .invalidArgument,
          "\(file.path) belongs to a \(state.role), but was opened as a \(configuration.role): check the data directory"
        )
      }
      return state
    }
    // The process may have died between the tables and their first row.
    guard try file.database.int("SELECT count(*) FROM history") == 0 else {
      throw SkerryError(.corrupt, "\(file.path) has no state row: restore a backup")
    }
    let leads = configuration.role == .leader
    let state = LogState(
      role: configuration.role,
      cursor: Cursor(log: LogID(random: random), epoch: leads ? 1 : 0, position: leads ? 1 : 0), compacted: 0, swept: 0,
      retained: 0, relaxed: configuration.durability != .full)
    try state.store(try file.database.prepare(LogState.upsert))
    return state
  }
}
