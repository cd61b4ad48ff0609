import Base
import Store

/// The writing side of a log's tables: prepared statements, and what one change does to the rows.
///
/// Every call stands in a transaction of its owner. Methods throw what stops the log (the store failed) and answer
/// as a `Result` what fails one change alone (a damaged row, a key that cannot be opened).
final class LogTables {
  /// What stands under a key now.
  struct Current {
    var place: Place
    var skip: VersionChain.Skip
    /// The skip of the version that `skip` leads to, where it is known.
    var beyond: VersionChain.Skip?
    var deleted: Bool
    /// Opened.
    var object: StoredObject
    var size: UInt64
  }

  let file: StoreFile
  let sealing: (any Sealing)?
  var state: LogState
  private var stored: LogState
  /// The newest position that this transaction has written an entry at.
  private var written: UInt64?
  /// What `current` answers without a look at the file.
  private var newest: NewestRows
  private var lag = IndexLag()
  /// Index rows written since somebody asked.
  private var indexRows = 0
  private let chain: VersionChain
  private let selectCurrent: Statement
  private let insertHistory: Statement
  private let upsertCurrent: Statement
  private let updateCurrent: Statement
  private let upsertPrivate: Statement
  private let deletePrivate: Statement
  private let updateState: Statement

  var database: Database { file.database }

  init(
    file: StoreFile, state: LogState, sealing: (any Sealing)?, limits: LogLimits
  ) throws(SkerryError) {
    let database = file.database
    newest = NewestRows(maxEntries: limits.tailEntries, maxBytes: limits.tailBytes / 2)
    self.file = file
    self.state = state
    self.sealing = sealing
    stored = state
    chain = try VersionChain(database)
    selectCurrent = try database.prepare(
      """
      SELECT c.place, c.deleted, \(HistoryRow.columns) FROM current c LEFT JOIN history h ON h.place = c.place
      WHERE c.key = ?1
      """)
    insertHistory = try database.prepare(HistoryRow.insert)
    upsertCurrent = try database.prepare(
      """
      INSERT INTO current (key, place, deleted) VALUES (?1, ?2, ?3)
      ON CONFLICT (key) DO UPDATE SET place = excluded.place, deleted = excluded.deleted
      """)
    updateCurrent = try database.prepare("UPDATE current SET place = ?2 WHERE key = ?1")
    upsertPrivate = try database.prepare("INSERT OR REPLACE INTO privates (key, value, checksum) VALUES (?1, ?2, ?3)")
    deletePrivate = try database.prepare("DELETE FROM privates WHERE key = ?1")
    updateState = try database.prepare(LogState.upsert)
  }

  // MARK: Transactions

  /// Runs `body` in one transaction together with the state that it leaves; nothing changed if it throws.
  func write<R>(_ body: () throws(SkerryError) -> R) throws(SkerryError) -> R {
    let (before, storedBefore) = (state, stored)
    written = nil
    do {
      let result = try database.write { () throws(SkerryError) in
        let result = try body()
        if state != stored, !state.follows(stored, written: written) || lag.count > LogState.maxLag {
          try bringIndexUp()
          try state.store(updateState)
          stored = state
        }
        return result
      }
      lag.commit()
      return result
    } catch {
      (state, stored) = (before, storedBefore)
      lag.rollBack(to: 0)
      newest.forgetAll()
      throw error
    }
  }

  /// Whether the index has the newest place of every key.
  var indexIsUp: Bool { lag.isEmpty }

  /// Writes what the index lacks.
  private func bringIndexUp() throws(SkerryError) {
    for (key, place) in lag.takeAll() { try index(key, place) }
  }

  private func index(_ key: String, _ place: Place) throws(SkerryError) {
    updateCurrent.bind(1, key)
    updateCurrent.bind(2, place.raw)
    try updateCurrent.run()
    indexRows += 1
  }

  /// How many index rows were written since the last call: each may be a page of its own.
  func takeIndexRows() -> Int {
    defer { indexRows = 0 }
    return indexRows
  }

  /// Runs `body` so that a failure which it answers undoes what it wrote, and nothing else.
  func attempt<R>(_ body: () throws(SkerryError) -> Result<R, SkerryError>) throws(SkerryError) -> Result<
    R, SkerryError
  > {
    let (before, writtenBefore, mark) = (state, written, lag.mark)
    try database.execute("SAVEPOINT job")
    let result = try body()
    if case .failure = result {
      try database.execute("ROLLBACK TO job")
      (state, written) = (before, writtenBefore)
      lag.rollBack(to: mark)
      newest.forgetAll()
    }
    try database.execute("RELEASE job")
    return result
  }

  // MARK: Rows

  func current(_ key: String) throws(SkerryError) -> Result<Current?, SkerryError> {
    if let known = newest[key] { return .success(known) }
    if let place = lag[key] {
      lag.remove(key)
      try index(key, place)
    }
    selectCurrent.bind(1, key)
    guard try selectCurrent.step() else { return .success(nil) }
    defer { selectCurrent.reset() }
    guard !selectCurrent.isNull(2) else { return .failure(HistoryRow.missing(key, file.path)) }
    let deleted = selectCurrent.int(1) != 0
    return HistoryRow.decode(selectCurrent, at: 2, path: file.path).flatMap { row in
      // Nobody asks for a tombstone's value: it need not be opened.
      let object = deleted ? .success(row.object) : row.opened(sealing)
      return object.map { Current(place: row.place, skip: row.skip, deleted: deleted, object: $0, size: row.size) }
    }
  }

  /// Writes an entry that replaces `current`.
  func write(_ entry: Entry, replacing current: Current?) throws(SkerryError) -> Result<Void, SkerryError> {
    let row: HistoryRow
    let skip = try current.map { current throws(SkerryError) in
      try chain.skip(over: current.place, current.skip, beyond: current.beyond)
    }
    switch HistoryRow.sealing(entry, previous: current?.place, skip: skip ?? .none, sealing) {
    case .success(let sealed): row = sealed
    case .failure(let error): return .failure(error)
    }
    try row.store(insertHistory)
    written = entry.position
    if let current, !current.deleted, IndexLag.mayLeave(entry) {
      lag.note(entry.key, row.place)
    } else {
      lag.remove(entry.key)
      upsertCurrent.bind(1, entry.key)
      upsertCurrent.bind(2, row.place.raw)
      upsertCurrent.bind(3, entry.type == .deleted ? 1 as UInt64 : 0)
      try upsertCurrent.run()
      indexRows += 1
    }
    if let current, !current.deleted { state.retained += current.size }
    if entry.type == .deleted { state.retained += row.size }
    newest.note(
      entry.key,
      Current(
        place: row.place, skip: row.skip, beyond: row.skip.to == current?.place ? current?.skip : nil,
        deleted: entry.type == .deleted, object: entry.object, size: row.size))
    return .success(())
  }

  /// A key's tombstone was swept.
  func forget(_ key: String) { newest.forget(key) }

  func write(_ privates: [(key: String, value: Bytes?)]) throws(SkerryError) {
    for item in privates {
      if let value = item.value {
        upsertPrivate.bind(1, item.key)
        upsertPrivate.bind(2, value as Bytes?)
        upsertPrivate.bind(3, Self.checksum(item.key, value))
        try upsertPrivate.run()
      } else {
        deletePrivate.bind(1, item.key)
        try deletePrivate.run()
      }
    }
  }

  static func checksum(_ key: String, _ value: Bytes) -> UInt64 {
    var sum = Checksum()
    sum.add(key)
    sum.add(value)
    return sum.value
  }

  /// Every object that stands now, in key order, opened: what a follower compares a snapshot with.
  func objects() throws(SkerryError) -> Result<[(key: String, object: StoredObject)], SkerryError> {
    try bringIndexUp()
    let statement = try database.prepare(
      """
      SELECT \(HistoryRow.columns) FROM current c JOIN history h ON h.place = c.place
      WHERE c.deleted = 0 ORDER BY c.key
      """)
    defer { statement.reset() }
    var found: [(key: String, object: StoredObject)] = []
    while try statement.step() {
      switch HistoryRow.decode(statement, at: 0, path: file.path).flatMap({ row in
        row.opened(sealing).map { (row.key, $0) }
      }) {
      case .success(let item): found.append(item)
      case .failure(let error): return .failure(error)
      }
    }
    return .success(found)
  }

  /// Forgets all objects and their history.
  func removeAll() throws(SkerryError) {
    _ = lag.takeAll()
    try database.execute("DELETE FROM history; DELETE FROM current")
    newest.forgetAll()
    state.retained = 0
  }
}
