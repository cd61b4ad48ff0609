import Base
import EventLoop
import Store
import Synchronization

/// What one step of the writer leads to, handed to the loop in order.
struct StepOutcome: Sendable {
  var answers: [JobAnswer] = []
  var entries: [Entry] = []
  /// The cursor after the step; entries up to it are durable.
  var cursor: Cursor?
  /// Set when a follower began another history: nothing before it can be followed.
  var restartedAt: UInt64?
  var retained: UInt64?
  /// The index has the newest place of every key (`IndexLag`).
  var indexIsUp = false
  /// How long the transaction took.
  var commitTime: Duration?
  /// Set once the writer has stopped after a failure; its connections are closed.
  var stopped: SkerryError?
  var events: [WriterEvent] = []
}

/// Answers to commands.
enum WriterEvent: Sendable {
  case reopened(Result<LogState, SkerryError>)
  case backedUp(UInt64, SkerryError?)
  case closed(SkerryError?)
}

/// The writer: everything that waits goes into one transaction, then answers go back.
///
/// `step` is synchronous and does one transaction or one slice of idle work. A driver runs it: a thread, or a
/// simulator. The loop talks to it through the inbox; it talks to the loop through the outbox.
///
/// Confinement (the reason for `@unchecked Sendable`): `tables`, `backup` and `turn` are touched by `step` alone,
/// which the driver never runs twice at once, and by `init`; all else is immutable or behind a mutex.
final class LogWriter: @unchecked Sendable {
  private struct Inbox: Sendable {
    var jobs: [Job] = []
    /// History to let go of, with the log and epoch that the position belongs to.
    var compact: Cursor?
    var backups: [(id: UInt64, path: String)] = []
    var reopen = false
    var close = false
    /// A step is queued with the driver or runs just now.
    var scheduled = false
  }

  /// Under a steady stream of changes every so many steps are idle work, so that compaction keeps up.
  static let idleWorkEvery = 4

  private let inbox = Mutex(Inbox())
  private let outbox = Mutex<[StepOutcome]>([])
  private let driver: any SerialDriver
  private let limits: LogLimits
  private let clock: @Sendable () -> Instant
  private let open: @Sendable () throws(SkerryError) -> LogTables
  /// Wakes the loop to take outcomes; set before the first job.
  private let notify: @Sendable () -> Void

  private var tables: LogTables?
  private var stopped: SkerryError?
  private var backup: (id: UInt64, copy: Backup)?
  private var waitingBackups: [(id: UInt64, path: String)] = []
  private var walFrames = 0
  private var turn = 0
  private var closing = false

  init(
    tables: LogTables, driver: any SerialDriver, limits: LogLimits, clock: @escaping @Sendable () -> Instant,
    open: @escaping @Sendable () throws(SkerryError) -> LogTables, notify: @escaping @Sendable () -> Void
  ) {
    self.tables = tables
    self.driver = driver
    self.limits = limits
    self.clock = clock
    self.open = open
    self.notify = notify
  }

  // MARK: From the loop

  func submit(_ job: Job) { wake { $0.jobs.append(job) } }
  func compact(through cursor: Cursor) { wake { $0.compact = cursor } }
  func backUp(_ id: UInt64, to path: String) { wake { $0.backups.append((id, path)) } }
  func reopen() { wake { $0.reopen = true } }
  func close() { wake { $0.close = true } }

  private func wake(_ change: (inout Inbox) -> Void) {
    let first = inbox.withLock { inbox in
      change(&inbox)
      defer { inbox.scheduled = true }
      return !inbox.scheduled
    }
    if first { driver.run { self.step() } }
  }

  func takeOutcomes() -> [StepOutcome] {
    outbox.withLock { outbox in
      defer { outbox = [] }
      return outbox
    }
  }

  // MARK: On the writer's thread

  /// Does one piece of work and asks the driver for another turn while there is more.
  func step() {
    let commands = inbox.withLock { inbox in
      defer {
        inbox.backups = []
        inbox.reopen = false
        inbox.close = false
      }
      return inbox
    }
    closing = closing || commands.close
    waitingBackups += commands.backups
    if commands.reopen { reopenNow() }
    turn += 1
    if tables == nil {
      refuseAll()
    } else {
      do throws(SkerryError) {
        try work(commands.compact)
      } catch {
        stop(error, answering: [])
      }
    }
    rest()
  }

  private func work(_ compact: Cursor?) throws(SkerryError) {
    guard let tables else { return }
    let compactThrough = Self.target(compact, tables.state)
    let idleTurn = turn % Self.idleWorkEvery == 0
    if walFrames > limits.maxWALFrames { try checkpoint(tables) }
    let jobs = idleTurn && hasIdleWork(tables, compactThrough) ? [] : takeJobs()
    if !jobs.isEmpty { return commit(jobs, tables) }
    if tables.state.compacted < compactThrough {
      return try tables.write { () throws(SkerryError) in
        tables.state.compacted = compactThrough
      }
    }
    if tables.hasSweepingToDo {
      try tables.sweep(rows: limits.compactionSlice)
      walFrames += limits.compactionSlice / 4
      deliver(StepOutcome(retained: tables.state.retained, indexIsUp: tables.indexIsUp))
    } else if backup != nil || !waitingBackups.isEmpty {
      backUpSlice(tables)
    } else if walFrames > limits.checkpointFrames {
      try checkpoint(tables)
    } else if closing {
      closeNow(tables)
    }
  }

  private func hasIdleWork(_ tables: LogTables, _ compactThrough: UInt64) -> Bool {
    tables.state.compacted < compactThrough || tables.hasSweepingToDo || backup != nil || !waitingBackups.isEmpty
  }

  /// The position to compact through: of this history (a snapshot may have begun another since), and not the newest.
  private static func target(_ compact: Cursor?, _ state: LogState) -> UInt64 {
    guard let compact, compact.log == state.cursor.log, compact.epoch == state.cursor.epoch else { return 0 }
    return min(compact.position, max(state.cursor.position, 1) - 1)
  }

  private func checkpoint(_ tables: LogTables) throws(SkerryError) {
    let (frames, copied) = try tables.database.checkpoint(.passive)
    // What was copied is written over by the next commit.
    walFrames = frames - copied
  }

  /// Asks for another turn if there is more to do. What came while the step ran, a close too, was not told to the
  /// driver: it is looked for under the lock that lets the next one be told.
  private func rest() {
    let more = inbox.withLock { inbox in
      let idle = tables.map {
        hasIdleWork($0, Self.target(inbox.compact, $0.state)) || walFrames > limits.checkpointFrames || closing
      }
      inbox.scheduled =
        idle ?? false || !inbox.jobs.isEmpty || inbox.reopen || !inbox.backups.isEmpty || inbox.close
      return inbox.scheduled
    }
    if more { driver.run { self.step() } }
  }

  /// Jobs for one transaction.
  private func takeJobs() -> [Job] {
    inbox.withLock { inbox in
      var (count, changes, bytes) = (0, 0, 0)
      for job in inbox.jobs {
        changes += job.changes
        bytes += job.size
        if count > 0, changes > limits.commitChanges || bytes > limits.commitBytes { break }
        count += 1
      }
      let jobs = Array(inbox.jobs.prefix(count))
      inbox.jobs.removeFirst(count)
      return jobs
    }
  }

  private func commit(_ jobs: [Job], _ tables: LogTables) {
    var outcome = StepOutcome()
    let before = tables.state
    let start = clock()
    do throws(SkerryError) {
      try tables.write { () throws(SkerryError) in
        for job in jobs { outcome.answers.append(try tables.perform(job, limits, &outcome.entries)) }
      }
    } catch {
      return stop(error, answering: jobs)
    }
    let after = tables.state
    outcome.cursor = after.cursor
    outcome.commitTime = clock() - start
    outcome.retained = after.retained
    outcome.indexIsUp = tables.indexIsUp
    if case .replace = jobs[0], after != before, !after.cursor.continues(before.cursor) {
      outcome.restartedAt = after.cursor.position
    }
    walFrames += Self.frames(outcome.entries) + tables.takeIndexRows()
    deliver(outcome)
  }

  /// About the pages that a commit of these entries writes beside those of the index: rows of the history one behind the
  /// other, and two more for the way there. A checkpoint tells the real number.
  private static func frames(_ entries: [Entry]) -> Int {
    2 + entries.reduce(0) { $0 + $1.object.size + rowBytes } / 4096
  }
  /// What a row of the history takes beside its values.
  private static let rowBytes = 256

  private func deliver(_ outcome: StepOutcome) {
    let first = outbox.withLock { outbox in
      outbox.append(outcome)
      return outbox.count == 1
    }
    if first { notify() }
  }

  // MARK: Failure and reopening

  /// Nothing more is written through these connections: what a failed sync left in the kernel cannot be trusted.
  private func stop(_ error: SkerryError, answering jobs: [Job]) {
    let path = tables?.file.path ?? ""
    tables = nil
    if let backup {
      self.backup = nil
      deliver(StepOutcome(events: [.backedUp(backup.id, error)]))
    }
    let failure = SkerryError(
      .unavailable, "the log \(path) has stopped writing; what waited for an answer may or may not be stored",
      cause: error)
    stopped = failure
    deliver(StepOutcome(answers: jobs.map { Self.answer($0, failure) }, stopped: failure))
  }

  private static func answer(_ job: Job, _ error: SkerryError) -> JobAnswer {
    if case .group(let changes) = job { return .results(changes.map { _ in .failed(error) }) }
    return .followed(error)
  }

  private func refuseAll() {
    let jobs = inbox.withLock { inbox in
      defer { inbox.jobs = [] }
      return inbox.jobs
    }
    let error = stopped ?? SkerryError(.closed, "the log is closed")
    var outcome = StepOutcome(answers: jobs.map { Self.answer($0, error) })
    outcome.events = waitingBackups.map { .backedUp($0.id, error) }
    waitingBackups = []
    if closing {
      closing = false
      outcome.events.append(.closed(nil))
    }
    if !outcome.answers.isEmpty || !outcome.events.isEmpty { deliver(outcome) }
  }

  private func reopenNow() {
    if let tables { return deliver(StepOutcome(events: [.reopened(.success(tables.state))])) }
    do throws(SkerryError) {
      let opened = try open()
      walFrames = 0
      tables = opened
      stopped = nil
      deliver(StepOutcome(events: [.reopened(.success(opened.state))]))
    } catch {
      deliver(StepOutcome(events: [.reopened(.failure(error))]))
    }
  }

  private func closeNow(_ tables: LogTables) {
    var failure: SkerryError?
    do throws(SkerryError) { try tables.file.close() } catch { failure = error }
    self.tables = nil
    closing = false
    deliver(StepOutcome(events: [.closed(failure)]))
  }

  // MARK: Backup

  private func backUpSlice(_ tables: LogTables) {
    let id = backup?.id ?? waitingBackups.first?.id ?? 0
    do throws(SkerryError) {
      if backup == nil {
        let next = waitingBackups.removeFirst()
        backup = (next.id, try Backup(of: tables.database, to: next.path))
      }
      guard try backup?.copy.step() == true else { return }
      backup = nil
      deliver(StepOutcome(events: [.backedUp(id, nil)]))
    } catch {
      // The copy failed, not the log.
      backup = nil
      deliver(StepOutcome(events: [.backedUp(id, error)]))
    }
  }
}
