import Base
import DeviceSDK
import Store
import Sync

/// The ordered log of readings in devicecore's own file, with the export's cursor and the audit of commands beside
/// it. Synchronous; confined to one thread at a time, like its database.
///
/// Entries are numbered from 1 within an incarnation, 16 random bytes that are drawn at each opening. So a file that
/// was restored from a copy never gives a number a second meaning.
package final class ReadingLog {
  /// This opening's incarnation.
  package let incarnation: Bytes
  package let limits: ReadingLimits
  let file: StoreFile
  let database: Database
  /// This incarnation's row.
  let current: Int64
  private(set) var last: UInt64 = 0
  private var series: [SeriesKey: Int64] = [:]
  private var names: [Int64: SeriesKey] = [:]
  /// The newest block, which later commits make longer; nil when the next one begins a new one.
  private var tail: (first: UInt64, size: Int, rows: [BlockRow])?

  private let putBlock: Statement
  private let insertLoss: Statement
  private let findDriver: Statement
  private let setDriver: Statement
  private let addBytes: Statement
  private let setLast: Statement
  private let insertSeries: Statement
  private let selectPage: Statement
  private let selectLoss: Statement
  /// Series that are remembered in memory; beyond it the cache starts over.
  private static let maxCachedSeries = 50_000

  struct SeriesKey: Hashable {
    var device: String
    var property: String
    var type: ValueType
  }

  /// Opens or makes the store. `incarnation` is 16 fresh random bytes; `now` is the wall clock in milliseconds.
  package init(
    path: String, incarnation: Bytes, now: Int64, limits: ReadingLimits = ReadingLimits(),
    options: Database.Options = Database.Options()
  ) throws(SkerryError) {
    precondition(incarnation.count == 16, "an incarnation has 16 bytes")
    file = try StoreFile(path: path, schema: Self.schema, options: options)
    database = file.database
    self.incarnation = incarnation
    self.limits = limits
    putBlock = try database.prepare("INSERT OR REPLACE INTO block VALUES (?1, ?2, ?3, ?4)")
    insertLoss = try database.prepare("INSERT INTO loss VALUES (?1, ?2, ?3, ?4)")
    findDriver = try database.prepare("SELECT run, sequence FROM driver WHERE name = ?1")
    setDriver = try database.prepare("INSERT OR REPLACE INTO driver VALUES (?1, ?2, ?3)")
    addBytes = try database.prepare("UPDATE total SET bytes = bytes + ?1")
    setLast = try database.prepare("UPDATE incarnation SET last = ?2 WHERE id = ?1")
    insertSeries = try database.prepare("INSERT INTO series (device, property, type) VALUES (?1, ?2, ?3)")
    selectPage = try database.prepare(
      """
      SELECT key, data FROM block WHERE key BETWEEN
        coalesce((SELECT max(key) FROM block WHERE key BETWEEN ?3 AND ?1), ?1) AND ?2 ORDER BY key
      """)
    selectLoss = try database.prepare(
      "SELECT low, high, count FROM loss WHERE incarnation = ?1 AND high > ?2 ORDER BY low LIMIT 1")
    current = try Self.begin(database, incarnation, now)
  }

  /// Notes this opening, forgets incarnations that hold nothing more, and settles commands that were running.
  private static func begin(_ database: Database, _ incarnation: Bytes, _ now: Int64) throws(SkerryError) -> Int64 {
    try database.write { () throws(SkerryError) in
      try database.execute(
        """
        DELETE FROM incarnation WHERE exported >= last
          AND NOT EXISTS (SELECT 1 FROM block WHERE key >= incarnation.id << 40 AND key < (incarnation.id + 1) << 40);
        DELETE FROM loss WHERE incarnation NOT IN (SELECT id FROM incarnation);
        UPDATE audit SET state = 'Unknown',
          message = 'devicecore stopped while this ran: read the property to see what holds'
          WHERE state = 'Running';
        """)
      let insert = try database.prepare("INSERT INTO incarnation (uid, opened) VALUES (?1, ?2)")
      insert.bind(1, incarnation)
      insert.bind(2, now)
      try insert.run()
      return try database.int("SELECT max(id) FROM incarnation")
    }
  }

  /// Ends in order, so that the next opening need not check the pages.
  package func close() throws(SkerryError) { try file.close() }

  // MARK: Appending

  /// What one driver hands over at once. The driver's run and sequence make a repeated batch harmless.
  package struct Batch: Sendable {
    package var driver: String
    package var run: Bytes
    /// Counts a run's batches from 1; 0 for readings that no driver numbers (devicecore's own).
    package var sequence: UInt64
    /// Readings that the driver had to drop before these, because it could not hand them over.
    package var lost: UInt64
    package var readings: [DeviceSDK.Reading]
    package init(
      driver: String = "", run: Bytes = [], sequence: UInt64 = 0, lost: UInt64 = 0, readings: [DeviceSDK.Reading]
    ) {
      self.driver = driver
      self.run = run
      self.sequence = sequence
      self.lost = lost
      self.readings = readings
    }
  }

  /// Appends batches in one transaction; durable when it returns. A batch that was applied before is skipped.
  /// Answers the last number.
  @discardableResult
  package func append(_ batches: [Batch]) throws(SkerryError) -> UInt64 {
    let start = last
    do {
      try database.write { () throws(SkerryError) in
        var bytes: Int64 = 0
        var rows: [BlockRow] = []
        for batch in batches where try isNew(batch) {
          if batch.lost > 0 {
            bytes += try store(&rows)
            try append(lost: batch.lost)
          }
          for reading in batch.readings { rows.append(try row(reading)) }
        }
        bytes += try store(&rows)
        guard last > start else { return }
        addBytes.bind(1, bytes)
        try addBytes.run()
        setLast.bind(1, current)
        setLast.bind(2, last)
        try setLast.run()
      }
      return last
    } catch {
      last = start
      series = [:]
      names = [:]
      tail = nil
      throw error
    }
  }

  private func isNew(_ batch: Batch) throws(SkerryError) -> Bool {
    guard batch.sequence > 0 else { return true }
    findDriver.bind(1, batch.driver)
    if try findDriver.step() {
      let (run, sequence) = (findDriver.bytes(0), findDriver.uint(1))
      findDriver.reset()
      if run == batch.run, sequence >= batch.sequence { return false }
    }
    setDriver.bind(1, batch.driver)
    setDriver.bind(2, batch.run)
    setDriver.bind(3, batch.sequence)
    try setDriver.run()
    return true
  }

  private func append(lost: UInt64) throws(SkerryError) {
    last += 1
    tail = nil
    insertLoss.bind(1, current)
    insertLoss.bind(2, last)
    insertLoss.bind(3, last)
    insertLoss.bind(4, lost)
    try insertLoss.run()
  }

  private func row(_ reading: DeviceSDK.Reading) throws(SkerryError) -> BlockRow {
    let series = try self.series(SeriesKey(device: reading.device, property: reading.property, type: reading.type))
    var fault = ""
    if case .bad(let reason) = reading.quality { fault = reason.isEmpty ? "unknown" : reason }
    return BlockRow(series: UInt64(series), time: reading.time, value: reading.value, fault: fault)
  }

  /// Gives the rows their numbers and stores them, in the newest block as far as it has room. Answers by how many bytes
  /// the store grew.
  private func store(_ rows: inout [BlockRow]) throws(SkerryError) -> Int64 {
    var grown: Int64 = 0
    var left = rows[...]
    rows = []
    while !left.isEmpty {
      var block = tail ?? (last + 1, 0, [])
      let piece = left.prefix(limits.rowsPerBlock - block.rows.count)
      left = left.dropFirst(piece.count)
      block.rows += piece
      last += UInt64(piece.count)
      let data = ReadingBlock.encode(block.rows)
      putBlock.bind(1, BlockKey.make(current, block.first))
      putBlock.bind(2, Int64(block.rows.count))
      putBlock.bind(3, block.rows.map(\.time).max() ?? 0)
      putBlock.bind(4, data)
      try putBlock.run()
      grown += Int64(data.count - block.size) + (block.size == 0 ? ReadingLimits.bytesPerBlock : 0)
      block.size = data.count
      tail = block.rows.count < limits.rowsPerBlock ? block : nil
    }
    return grown
  }

  /// Blocks through a number are deleted: later readings begin a new one.
  func forgetTail(through number: UInt64, of incarnation: Int64) {
    if incarnation == current, let first = tail?.first, first <= number { tail = nil }
  }

  private func series(_ key: SeriesKey) throws(SkerryError) -> Int64 {
    if let id = series[key] { return id }
    let find = try database.prepare("SELECT id FROM series WHERE device = ?1 AND property = ?2 AND type = ?3")
    for statement in [find, insertSeries] {
      statement.bind(1, key.device)
      statement.bind(2, key.property)
      statement.bind(3, key.type.rawValue)
    }
    defer { insertSeries.reset() }
    var id: Int64
    if try find.step() {
      id = find.int(0)
      find.reset()
    } else {
      try insertSeries.run()
      id = try database.int("SELECT last_insert_rowid()")
    }
    if series.count >= Self.maxCachedSeries { series = [:] }
    series[key] = id
    return id
  }

  private func name(_ id: Int64) throws(SkerryError) -> SeriesKey {
    if let key = names[id] { return key }
    let find = try database.prepare("SELECT device, property, type FROM series WHERE id = ?1")
    find.bind(1, id)
    defer { find.reset() }
    guard try find.step(), let type = ValueType(rawValue: find.string(2)) else {
      throw SkerryError(.corrupt, "\(file.path): series \(id) has no name: stop devicecore and restore a backup")
    }
    let key = SeriesKey(device: find.string(0), property: find.string(1), type: type)
    if names.count >= Self.maxCachedSeries { names = [:] }
    names[id] = key
    return key
  }

  // MARK: Reading

  /// The incarnations that hold entries or are this opening's, oldest first.
  package func incarnations() throws(SkerryError) -> [IncarnationSummary] {
    let select = try database.prepare("SELECT uid, exported, last FROM incarnation ORDER BY id")
    var found: [IncarnationSummary] = []
    while try select.step() {
      found.append(IncarnationSummary(uid: select.bytes(0), exported: select.uint(1), last: select.uint(2)))
    }
    return found
  }

  struct IncarnationRow {
    var id: Int64
    var uid: Bytes
    var exported: UInt64
    var deleted: UInt64
    var last: UInt64
  }

  /// The incarnations with an id of at least `id`, in order.
  func rows(from id: Int64 = 0) throws(SkerryError) -> [IncarnationRow] {
    let select = try database.prepare(
      "SELECT id, uid, exported, deleted, last FROM incarnation WHERE id >= ?1 ORDER BY id")
    select.bind(1, id)
    var rows: [IncarnationRow] = []
    while try select.step() {
      rows.append(
        IncarnationRow(
          id: select.int(0), uid: select.bytes(1), exported: select.uint(2), deleted: select.uint(3),
          last: select.uint(4)))
    }
    return rows
  }

  /// The next entries behind `after` of `incarnation`, going on with the next incarnation where that one ends; nil
  /// when there is nothing yet. Without an incarnation it starts behind what was acknowledged.
  ///
  /// Throws `notFound` for an incarnation that this store does not hold (any more): start without one.
  package func page(incarnation: Bytes?, after: UInt64, limit: Int) throws(SkerryError) -> ReadingPage? {
    let rows = try rows()
    var start = 0
    if let incarnation {
      guard let found = rows.firstIndex(where: { $0.uid == incarnation }) else {
        throw SkerryError(.notFound, "incarnation \(incarnation.hex) is not in this store: pull without one")
      }
      start = found
    }
    for (index, row) in rows[start...].enumerated() {
      let position = incarnation == nil ? row.exported : index == 0 ? after : 0
      if let page = try page(of: row, after: position, limit: limit) { return page }
    }
    return nil
  }

  private func page(of row: IncarnationRow, after: UInt64, limit: Int) throws(SkerryError) -> ReadingPage? {
    guard after < row.last else { return nil }
    var page = ReadingPage(incarnation: row.uid, after: after, through: after, readings: [], lost: nil)
    selectLoss.bind(1, row.id)
    selectLoss.bind(2, after)
    let loss =
      try selectLoss.step()
      ? Loss(from: selectLoss.uint(0), to: selectLoss.uint(1), count: selectLoss.uint(2)) : nil
    selectLoss.reset()
    let upTo = min(loss.map { $0.from - 1 } ?? row.last, row.last)
    try fill(&page, row, upTo: upTo, limit: min(max(limit, 1), ReadingLimits.maxPage))
    if !page.readings.isEmpty { return page }
    if let loss, loss.from <= after + 1 {
      let whole = loss.from == after + 1
      page.lost = Loss(from: after + 1, to: loss.to, count: whole ? loss.count : loss.to - after)
    } else {
      let end = max(after + 1, min(row.deleted, loss.map { $0.from - 1 } ?? row.last))
      page.lost = Loss(from: after + 1, to: end, count: end - after)
    }
    page.through = page.lost?.to ?? after
    return page
  }

  /// Adds the readings behind `page.through` that follow each other, up to a number and at most so many.
  private func fill(_ page: inout ReadingPage, _ row: IncarnationRow, upTo: UInt64, limit: Int) throws(SkerryError) {
    guard page.through < upTo else { return }
    selectPage.bind(1, BlockKey.make(row.id, page.through + 1))
    selectPage.bind(2, BlockKey.make(row.id, upTo))
    selectPage.bind(3, BlockKey.make(row.id, 0))
    defer { selectPage.reset() }
    while page.readings.count < limit, try selectPage.step() {
      let first = BlockKey.number(selectPage.int(0))
      // Deleted after they were acknowledged: the reader's position went back.
      guard first <= page.through + 1 else { return }
      let rows: [BlockRow]
      do { rows = try ReadingBlock.decode(selectPage.bytes(1)) } catch {
        throw SkerryError(
          .corrupt, "\(file.path): block \(first) cannot be read: stop devicecore and restore a backup", cause: error)
      }
      for row in rows.dropFirst(Int(min(page.through + 1 - first, UInt64(rows.count)))) {
        guard page.readings.count < limit, page.through < upTo else { return }
        page.through += 1
        page.readings.append(
          NumberedReading(number: page.through, series: row.series, reading: try reading(row)))
      }
    }
  }

  private func reading(_ row: BlockRow) throws(SkerryError) -> DeviceSDK.Reading {
    let key = try name(Int64(clamping: row.series))
    return DeviceSDK.Reading(
      device: key.device, property: key.property, type: key.type, value: row.value,
      quality: row.fault.isEmpty ? .good : .bad(row.fault), time: row.time)
  }
}
