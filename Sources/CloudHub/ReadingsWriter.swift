import Base
import EventLoop
import Store
import Sync
import Synchronization
import Wire

/// What one batch of a node brings into the store, with the cursor that goes with it.
struct ReadingsJob: Sendable {
  enum Work: Sendable {
    case store(blocks: [ReadingBatch], gaps: [ReadingsStore.Gap], incarnation: Incarnation, through: UInt64)
    /// The node holds readings of these incarnations and no others.
    case keepOnly(Set<Bytes>)
  }
  var node: String
  var work: Work
  /// Called on the writer's thread once the job is durable, or with the reason why it is not.
  var done: @Sendable (SkerryError?) -> Void
}

/// The writer of the readings: whatever waits when it begins goes into one transaction, so that one sync of the disk
/// serves the batches of many nodes.
///
/// Confinement (the reason for `@unchecked Sendable`): jobs come by the inbox, which is behind a mutex; all else is
/// touched by `step` alone, which the driver never runs twice at once, by `init`, and by `close` after the driver ended.
final class ReadingsWriter: @unchecked Sendable {
  /// Readings that one transaction takes, so that its first batch does not wait long for its last.
  static let maxReadings = 200_000
  /// Blocks that one transaction may trim beside twice those that it adds.
  static let trimSlice = 100
  /// Rows of the time before blocks that one transaction may trim, if twice what it adds is not more.
  static let trimRows: Int64 = 10_000

  private struct Inbox: Sendable {
    var jobs: [ReadingsJob] = []
    /// A step is queued with the driver or runs just now.
    var scheduled = false
  }

  private let inbox = Mutex(Inbox())
  private let driver: any SerialDriver
  private let file: StoreFile
  private let names: SeriesNames
  private let maxKept: Int64
  private let insert: Statement
  private let index: Statement
  private let move: Statement
  private let total: Statement
  private let gap: Statement
  private let extend: Statement
  /// Readings in the store, and the number of the newest there ever was.
  private var count: Int64 = 0
  private var last: Int64 = 0
  /// Whether there are readings of the time before blocks.
  private var hasRows = true

  init(_ file: StoreFile, maxKept: Int64, driver: any SerialDriver) throws(SkerryError) {
    self.file = file
    self.driver = driver
    self.maxKept = maxKept
    let database = file.database
    names = try SeriesNames(database)
    insert = try database.prepare("INSERT INTO blocks (first, count, series, data) VALUES (?, ?, ?, ?)")
    index = try database.prepare("INSERT INTO blocks_by_device (device, first) VALUES (?, ?)")
    move = try database.prepare(
      "INSERT OR REPLACE INTO cursors (node, incarnation, number, closed) VALUES (?, ?, ?, NULL)")
    total = try database.prepare("UPDATE total SET count = ?, last = ?")
    gap = try database.prepare(
      "INSERT INTO gaps (place, node, incarnation, first, last, count) VALUES (?, ?, ?, ?, ?, ?)")
    // What goes on where the newest gap ended, with no reading in between, is the same gap.
    extend = try database.prepare(
      """
      UPDATE gaps SET last = ?1, count = count + ?2 WHERE id = (SELECT max(id) FROM gaps)
      AND place = ?3 AND node = ?4 AND incarnation = ?5 AND last + 1 = ?6
      """)
    try load()
  }

  // MARK: From the loop

  /// Takes a job; its `done` is called in any case.
  func submit(_ job: ReadingsJob) {
    let first = inbox.withLock { inbox in
      inbox.jobs.append(job)
      defer { inbox.scheduled = true }
      return !inbox.scheduled
    }
    if first { ask() }
  }

  private func ask() {
    guard !driver.offer({ self.step() }) else { return }
    let jobs = inbox.withLock { inbox in
      defer { inbox = Inbox() }
      return inbox.jobs
    }
    for job in jobs { job.done(SkerryError(.closed, "the store of readings is closed")) }
  }

  /// Ends the driver and closes the file.
  func close() {
    driver.stop()
    do throws(SkerryError) { try file.close() } catch {
      // The file is whole all the same; the next start checks it, as after a kill.
    }
  }

  // MARK: On the writer's thread

  private func step() {
    let jobs = takeJobs()
    var failure: SkerryError?
    do throws(SkerryError) {
      try file.database.write { () throws(SkerryError) in
        let before = (count, last)
        var blocks = 0
        for job in jobs { blocks += try perform(job) }
        try trim(blocks: blocks, rows: count - before.0)
        guard (count, last) != before else { return }
        total.bind(1, count)
        total.bind(2, last)
        try total.run()
      }
    } catch {
      failure = error
      // The transaction took new names back, and their ids may go to other names.
      names.forget()
      try? load()
    }
    for job in jobs { job.done(failure) }
    let more = inbox.withLock { inbox in
      inbox.scheduled = !inbox.jobs.isEmpty
      return inbox.scheduled
    }
    if more { ask() }
  }

  /// Jobs for one transaction.
  private func takeJobs() -> [ReadingsJob] {
    inbox.withLock { inbox in
      var (taken, readings) = (0, 0)
      for job in inbox.jobs {
        if case .store(let blocks, _, _, _) = job.work { for block in blocks { readings += block.count } }
        if taken > 0, readings > Self.maxReadings { break }
        taken += 1
      }
      defer { inbox.jobs.removeFirst(taken) }
      return Array(inbox.jobs.prefix(taken))
    }
  }

  private func load() throws(SkerryError) {
    count = try file.database.int("SELECT count FROM total")
    last = try file.database.int("SELECT last FROM total")
  }

  /// Answers how many blocks it stored.
  private func perform(_ job: ReadingsJob) throws(SkerryError) -> Int {
    switch job.work {
    case .keepOnly(let kept):
      try close(job.node, except: kept)
      return 0
    case .store(let blocks, let gaps, let incarnation, let through):
      for block in blocks { try store(block) }
      for gap in gaps { try store(gap, incarnation) }
      move.bind(1, job.node)
      move.bind(2, incarnation.bytes)
      move.bind(3, through)
      try move.run()
      return blocks.count
    }
  }

  private func store(_ block: ReadingBatch) throws(SkerryError) {
    let first = last + 1
    var devices: [Int64] = []
    var series: [Int64] = []
    for name in block.names {
      let known = try names.ids(name)
      series.append(known.series)
      if !devices.contains(known.device) { devices.append(known.device) }
    }
    insert.bind(1, first)
    insert.bind(2, Int64(block.count))
    try insert.run(blob: block.block, at: 4, blob: StoredSeries.encode(series), at: 3)
    for device in devices {
      index.bind(1, device)
      index.bind(2, first)
      try index.run()
    }
    last += Int64(block.count)
    count += Int64(block.count)
  }

  private func store(_ lost: ReadingsStore.Gap, _ incarnation: Incarnation) throws(SkerryError) {
    extend.bind(1, lost.to)
    extend.bind(2, lost.count)
    extend.bind(3, last)
    extend.bind(4, lost.node)
    extend.bind(5, incarnation.bytes)
    extend.bind(6, lost.from)
    try extend.run()
    guard file.database.changes == 0 else { return }
    gap.bind(1, last)
    gap.bind(2, lost.node)
    gap.bind(3, incarnation.bytes)
    gap.bind(4, lost.from)
    gap.bind(5, lost.to)
    gap.bind(6, lost.count)
    try gap.run()
    try file.database.execute(
      "DELETE FROM gaps WHERE id <= (SELECT max(id) FROM gaps) - \(ReadingsStore.maxGaps)")
  }

  private func close(_ node: String, except kept: Set<Bytes>) throws(SkerryError) {
    let database = file.database
    let list = try database.prepare("SELECT incarnation FROM cursors WHERE node = ? AND closed IS NULL")
    list.bind(1, node)
    var over: [Bytes] = []
    while try list.step() {
      let incarnation = list.bytes(0)
      if !kept.contains(incarnation) { over.append(incarnation) }
    }
    guard !over.isEmpty else { return }
    let close = try database.prepare(
      """
      UPDATE cursors SET closed = (SELECT coalesce(max(closed), 0) + 1 FROM cursors WHERE node = ?1)
      WHERE node = ?1 AND incarnation = ?2
      """)
    for incarnation in over {
      close.bind(1, node)
      close.bind(2, incarnation)
      try close.run()
    }
    let forget = try database.prepare(
      """
      DELETE FROM cursors WHERE node = ?1 AND incarnation IN (SELECT incarnation FROM cursors
      WHERE node = ?1 AND closed IS NOT NULL ORDER BY closed DESC LIMIT -1 OFFSET \(LaneSink.maxClosedCursors))
      """)
    forget.bind(1, node)
    try forget.run()
  }

  // MARK: Bounds

  /// Lets the oldest go, whole blocks. Numbers are no count of what is there: they go on further up after a restore.
  /// A transaction removes about twice what it adds, so that it catches up and holds nobody up for long.
  private func trim(blocks: Int, rows: Int64) throws(SkerryError) {
    guard count > maxKept else { return }
    let database = file.database
    if hasRows {
      try database.execute(
        "DELETE FROM readings WHERE number IN "
          + "(SELECT number FROM readings ORDER BY number LIMIT \(min(count - maxKept, max(2 * rows, Self.trimRows))))")
      count -= Int64(database.changes)
      hasRows = try database.int("SELECT EXISTS (SELECT 1 FROM readings)") != 0
      if hasRows { return }
    }
    let oldest = try database.prepare(
      "SELECT first, count, series FROM blocks ORDER BY first LIMIT \(2 * blocks + Self.trimSlice)")
    var over: [(first: Int64, series: Bytes)] = []
    while count > maxKept, try oldest.step() {
      over.append((oldest.int(0), oldest.bytes(2)))
      count -= oldest.int(1)
    }
    oldest.reset()
    let remove = try database.prepare("DELETE FROM blocks WHERE first = ?")
    let unlist = try database.prepare("DELETE FROM blocks_by_device WHERE device = ? AND first = ?")
    for (first, series) in over {
      for device in try names.devices(of: try StoredSeries.decode(series)) {
        unlist.bind(1, device)
        unlist.bind(2, first)
        try unlist.run()
      }
      remove.bind(1, first)
      try remove.run()
    }
  }
}
