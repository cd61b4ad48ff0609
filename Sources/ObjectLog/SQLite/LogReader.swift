import Base
import Store

/// The loop's reading connection: short reads, each at a position that is published.
///
/// Rows never change and only those at or below the compacted position vanish; so a read at a position above it sees
/// the same whatever the writer does meanwhile. A version newer than the position leads back to the one before it.
final class LogReader {
  private let database: Database
  private let sealing: (any Sealing)?
  private let limits: LogLimits
  private let selectCurrent: Statement
  private let selectRow: Statement
  private let chain: VersionChain
  private let selectList: Statement
  private let selectEntries: Statement
  private let selectPrivate: Statement
  private let selectPrivates: Statement
  private var pinned = false
  /// Published places that the index may not have yet: an index row leads to the newer one of the two.
  private var unindexed: [String: Place] = [:]

  init(_ database: Database, sealing: (any Sealing)?, limits: LogLimits) throws(SkerryError) {
    self.database = database
    self.sealing = sealing
    self.limits = limits
    let columns = HistoryRow.columns
    selectCurrent = try database.prepare("SELECT place, deleted FROM current WHERE key = ?1")
    selectRow = try database.prepare("SELECT \(columns) FROM history h WHERE place = ?1")
    chain = try VersionChain(database)
    selectList = try database.prepare(
      """
      SELECT c.key, c.place, c.deleted, \(columns)
      FROM current c LEFT JOIN history h ON h.place = c.place AND c.deleted = 0 AND c.place <= ?4
      WHERE c.key >= ?1 AND c.key > ?2 AND c.key < ?3 ORDER BY c.key
      """)
    selectEntries = try database.prepare(
      "SELECT \(columns) FROM history h WHERE place > ?1 AND place <= ?2 ORDER BY place LIMIT ?3")
    selectPrivate = try database.prepare("SELECT value, checksum FROM privates WHERE key = ?1")
    selectPrivates = try database.prepare(
      "SELECT key, value, checksum FROM privates WHERE key >= ?1 AND key < ?2 ORDER BY key")
  }

  // MARK: Index

  /// Takes in what was published; `indexIsUp` if the index has it, and all before.
  func note(_ entries: [Entry], indexIsUp: Bool) {
    if indexIsUp {
      unindexed.removeAll(keepingCapacity: true)
    } else {
      for entry in entries where IndexLag.mayLeave(entry) {
        unindexed[entry.key] = Place(entry.position, entry.index)
      }
    }
  }

  /// Knows what an older reader of the same history knew; a place that the index has by now does no harm.
  func goOn(from older: LogReader?) { unindexed = older?.unindexed ?? [:] }

  /// The newest place of a key of which the index says `place`.
  private func newest(_ key: String, _ place: Place) -> Place {
    guard !unindexed.isEmpty, key.isASCII, let newer = unindexed[key] else { return place }
    return max(place, newer)
  }

  // MARK: Snapshot

  /// Keeps what is seen now until `unpin`, while a follower's whole content is exchanged.
  func pin() throws(SkerryError) {
    guard !pinned else { return }
    try database.execute("BEGIN")
    pinned = true
    _ = try database.int("SELECT count(*) FROM state")  // the snapshot begins with the first read
  }

  func unpin() {
    guard pinned else { return }
    pinned = false
    try? database.execute("COMMIT")  // of a reading transaction: there is nothing that it could lose
  }

  private func snapshot<R>(_ body: () throws(SkerryError) -> R) throws(SkerryError) -> R {
    pinned ? try body() : try database.read(body)
  }

  // MARK: Objects

  func read(_ key: String, at position: UInt64) throws(SkerryError) -> StoredObject? {
    try snapshot { () throws(SkerryError) in
      selectCurrent.bind(1, key)
      guard try selectCurrent.step() else { return nil }
      let place = newest(key, Place(raw: selectCurrent.uint(0)))
      selectCurrent.reset()
      return try version(key, from: place, at: position)
    }
  }

  /// The newest version at or before a position, going back from `place`; nil if there was none.
  private func version(_ key: String, from place: Place, at position: UInt64) throws(SkerryError) -> StoredObject? {
    guard let place = try chain.version(from: place, at: position) else { return nil }
    selectRow.bind(1, place.raw)
    // A tombstone that was swept: the key was absent then.
    guard try selectRow.step() else { return nil }
    defer { selectRow.reset() }
    let row = try HistoryRow.decode(selectRow, at: 0, path: database.path).get()
    return row.type == .deleted ? nil : try row.opened(sealing).get()
  }

  func list(prefix: String, at position: UInt64, after: String?, limit: Int) throws(SkerryError) -> Page {
    try snapshot { () throws(SkerryError) in
      var page = Page(objects: [], position: position, more: false)
      var size = 0
      bindRange(selectList, prefix: prefix, upper: 3)
      selectList.bind(2, after ?? "")
      selectList.bind(4, Place.end(of: position).raw)
      defer { selectList.reset() }
      while try selectList.step() {
        guard let item = try listed(at: position) else { continue }
        if page.objects.count >= max(limit, 1) || size >= limits.pageBytes {
          page.more = true
          break
        }
        size += item.object.size
        page.objects.append(item)
      }
      return page
    }
  }

  private func listed(at position: UInt64) throws(SkerryError) -> (key: String, object: StoredObject)? {
    let indexed = Place(raw: selectList.uint(1))
    if indexed.position <= position, selectList.int(2) != 0 { return nil }
    let key = selectList.string(0)
    let place = newest(key, indexed)
    if place == indexed, place.position <= position {
      if selectList.isNull(3) { throw HistoryRow.missing(key, database.path) }
      let row = try HistoryRow.decode(selectList, at: 3, path: database.path).get()
      return (key, try row.opened(sealing).get())
    }
    return try version(key, from: place, at: position).map { (key, $0) }
  }

  private func bindRange(_ statement: Statement, prefix: String, upper: Int32) {
    statement.bind(1, prefix)
    // Any blob sorts after all text: no upper bound.
    if let bound = LogSchema.upperBound(prefix) {
      statement.bind(upper, text: bound)
    } else {
      statement.bind(upper, [] as Bytes?)
    }
  }

  // MARK: Entries

  /// Entries after a position up to `newest`, from disk; as `ObjectLog.entries` with bounds on what is looked at.
  func entries(
    after position: UInt64, prefix: String, limit: Int, newest: UInt64
  ) throws(SkerryError) -> (entries: [Entry], through: UInt64) {
    try snapshot { () throws(SkerryError) in
      var (found, through, scanned, size): ([Entry], UInt64, Int, Int) = ([], position, 0, 0)
      let wanted = Bytes(prefix.utf8)
      selectEntries.bind(1, Place.end(of: position).raw)
      selectEntries.bind(2, Place.end(of: newest).raw)
      selectEntries.bind(3, Int64(-1))
      defer { selectEntries.reset() }
      while try selectEntries.step() {
        let place = Place(raw: selectEntries.uint(0))
        // Stop only between positions: `through` promises that a position was seen whole.
        let full = found.count >= limit || size >= limits.pageBytes || scanned >= limits.scannedEntries
        if place.position != through, full { return (found, through) }
        through = place.position
        scanned += 1
        guard selectEntries.withBytes(1, { $0.starts(with: wanted) }) else { continue }
        let row = try HistoryRow.decode(selectEntries, at: 0, path: database.path).get()
        let object = try row.opened(sealing).get()
        size += object.size
        found.append(row.entry(object))
      }
      return (found, newest)
    }
  }

  // MARK: Privates

  func privateValue(_ key: String) throws(SkerryError) -> Bytes? {
    selectPrivate.bind(1, key)
    guard try selectPrivate.step() else { return nil }
    defer { selectPrivate.reset() }
    return try checked(key, selectPrivate.bytes(0), selectPrivate.uint(1))
  }

  func privateValues(prefix: String) throws(SkerryError) -> [(key: String, value: Bytes)] {
    bindRange(selectPrivates, prefix: prefix, upper: 2)
    defer { selectPrivates.reset() }
    var found: [(key: String, value: Bytes)] = []
    while try selectPrivates.step() {
      let key = selectPrivates.string(0)
      found.append((key, try checked(key, selectPrivates.bytes(1), selectPrivates.uint(2))))
    }
    return found
  }

  private func checked(_ key: String, _ value: Bytes, _ sum: UInt64) throws(SkerryError) -> Bytes {
    guard LogTables.checksum(key, value) == sum else {
      throw SkerryError(
        .corrupt,
        "\(database.path): the private value \(key) is damaged (its checksum does not match): restore a backup")
    }
    return value
  }
}
