import Base
import Store

/// Where an entry stands in the history table: position and index in one integer, so that one B-tree holds a
/// leader's history and a replica's alike.
struct Place: Hashable, Comparable {
  static let indexBits: UInt64 = 18
  let raw: UInt64
  init(raw: UInt64) { self.raw = raw }
  init(_ position: UInt64, _ index: UInt32) { raw = position << Self.indexBits | UInt64(index) }
  /// The last place of a position.
  static func end(of position: UInt64) -> Place { Place(raw: position << indexBits | (1 << indexBits - 1)) }
  var position: UInt64 { raw >> Self.indexBits }
  var index: UInt32 { UInt32(raw & (1 << Self.indexBits - 1)) }
  static func < (a: Place, b: Place) -> Bool { a.raw < b.raw }
}

/// The tables of a log's file. Migrations are only ever appended.
enum LogSchema {
  static let schema = Schema(
    name: "object log", applicationID: 0x534B_4C47 /* "SKLG" */, migrations: [first, second, third])

  /// history: every version that history reaches, with its value; `previous` leads to the version before, `skip`
  /// over several (see `VersionChain`), so that the past of one key needs no index of its own.
  /// current: the newest place of each key, also of a deleted one until its tombstone is swept; no second copy of the
  /// value. privates: never shown. state: one row.
  private static let first = """
    CREATE TABLE history (
      place INTEGER PRIMARY KEY, key TEXT NOT NULL, type INTEGER NOT NULL, revision INTEGER NOT NULL,
      previous INTEGER, skip INTEGER, skipLength INTEGER NOT NULL, previousRevision INTEGER NOT NULL,
      bodyRevision INTEGER NOT NULL, statusRevision INTEGER NOT NULL, createRevision INTEGER NOT NULL,
      encoding INTEGER NOT NULL, sameMeta INTEGER NOT NULL, checksum INTEGER NOT NULL, previousMeta BLOB,
      meta BLOB NOT NULL, body BLOB NOT NULL, status BLOB);
    CREATE TABLE current (
      key TEXT PRIMARY KEY, place INTEGER NOT NULL, deleted INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE privates (
      key TEXT PRIMARY KEY, value BLOB NOT NULL, checksum INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE state (
      one INTEGER PRIMARY KEY CHECK (one = 1), role INTEGER NOT NULL, log BLOB NOT NULL, epoch INTEGER NOT NULL,
      position INTEGER NOT NULL, compacted INTEGER NOT NULL, swept INTEGER NOT NULL, retained INTEGER NOT NULL,
      relaxed INTEGER NOT NULL);
    """

  /// The state row may be behind the history (`LogState.follows`): a program of version 1 would take its position for the
  /// newest and write over what is there.
  private static let second = ""

  /// The index may be behind the history in the same way (`IndexLag`): a program of version 2 would read old values.
  private static let third = ""

  /// The end of the range of keys that start with `prefix`: its last byte counted up. Nil: to the end of all.
  static func upperBound(_ prefix: String) -> Bytes? {
    var bytes = Bytes(prefix.utf8)
    while let last = bytes.last {
      if last < 0xff {
        bytes[bytes.count - 1] = last + 1
        return bytes
      }
      bytes.removeLast()
    }
    return nil
  }
}

/// What the one row of the state table says, and what the history behind its position adds to that.
///
/// Most commits only add to the history. They leave the row as it is, so that they write a page less, and who loads it
/// goes on from there; every other change of the state is stored in its own transaction. The index may be behind by the
/// same entries (`IndexLag`).
struct LogState: Equatable {
  var role: LogRole
  var cursor: Cursor
  var compacted: UInt64
  /// Rows at or before this place were swept: what they replaced is gone.
  var swept: UInt64
  /// Bytes that compaction would free if everything was compacted.
  var retained: UInt64
  /// Commits may be lost in a power cut (`Database.Synchronous.normal`).
  var relaxed: Bool

  /// Positions that the row may be behind: what a start reads.
  static let maxLag: UInt64 = 1024

  /// Whether `load` finds this state where the row says `stored` and the newest entry is at position `written`.
  func follows(_ stored: LogState, written: UInt64?) -> Bool {
    guard cursor.position == written, cursor.position > stored.cursor.position,
      cursor.position - stored.cursor.position <= Self.maxLag
    else { return false }
    var following = stored
    following.cursor.position = cursor.position
    following.retained = retained
    return following == self
  }

  /// Nil if there is no row yet.
  static func load(_ database: Database) throws(SkerryError) -> LogState? {
    guard var state = try stored(database) else { return nil }
    try state.goOn(database)
    return state
  }

  /// The same, and row and index are up with the history afterwards.
  static func bringUp(_ database: Database) throws(SkerryError) -> LogState? {
    try database.write { () throws(SkerryError) in
      guard let before = try stored(database) else { return nil }
      var state = before
      try state.goOn(database)
      guard state != before else { return state }
      let index = try database.prepare(
        """
        INSERT INTO current (key, place, deleted) SELECT key, place, type = 3 FROM history WHERE place > ?1 ORDER BY place
        ON CONFLICT (key) DO UPDATE SET place = excluded.place, deleted = excluded.deleted
        """)
      index.bind(1, Place.end(of: before.cursor.position).raw)
      try index.run()
      try state.store(try database.prepare(upsert))
      return state
    }
  }

  /// Versions that the index should lead to and does not: newer than what it says of their key, and not after the position
  /// up to which it is kept.
  static func unindexed(_ database: Database) throws(SkerryError) -> String? {
    guard let state = try stored(database) else { return nil }
    let statement = try database.prepare(
      """
      SELECT h.key FROM history h LEFT JOIN current c ON c.key = h.key
      WHERE h.place <= ?1 AND (c.place IS NULL OR h.place > c.place) LIMIT 1
      """)
    statement.bind(1, Place.end(of: state.cursor.position).raw)
    guard try statement.step() else { return nil }
    defer { statement.reset() }
    return statement.string(0)
  }

  /// Adds what was written after the row: as `LogTables.write` counted it.
  private mutating func goOn(_ database: Database) throws(SkerryError) {
    let statement = try database.prepare(
      """
      SELECT h.place, h.type, \(HistoryRow.size(of: "h")), p.type, \(HistoryRow.size(of: "p"))
      FROM history h LEFT JOIN history p ON p.place = h.previous WHERE h.place > ?1 ORDER BY h.place
      """)
    statement.bind(1, Place.end(of: cursor.position).raw)
    let deleted = UInt64(EntryType.deleted.rawValue)
    while try statement.step() {
      cursor.position = Place(raw: statement.uint(0)).position
      if statement.uint(1) == deleted { retained += statement.uint(2) }
      if !statement.isNull(3), statement.uint(3) != deleted { retained += statement.uint(4) }
    }
  }

  private static func stored(_ database: Database) throws(SkerryError) -> LogState? {
    let statement = try database.prepare(
      "SELECT role, log, epoch, position, compacted, swept, retained, relaxed FROM state")
    defer { statement.reset() }
    guard try statement.step() else { return nil }
    guard let role = UInt8(exactly: statement.int(0)).flatMap(LogRole.init(rawValue:)),
      let log = LogID(statement.bytes(1)), statement.uint(3) <= LogLimits.maxPosition
    else {
      throw SkerryError(.corrupt, "\(database.path): the log's state row is damaged: restore a backup")
    }
    return LogState(
      role: role, cursor: Cursor(log: log, epoch: statement.uint(2), position: statement.uint(3)),
      compacted: statement.uint(4), swept: statement.uint(5), retained: statement.uint(6),
      relaxed: statement.int(7) != 0)
  }

  func store(_ statement: Statement) throws(SkerryError) {
    statement.bind(1, UInt64(role.rawValue))
    statement.bind(2, cursor.log.bytes)
    statement.bind(3, cursor.epoch)
    statement.bind(4, cursor.position)
    statement.bind(5, compacted)
    statement.bind(6, swept)
    statement.bind(7, retained)
    statement.bind(8, relaxed ? 1 as UInt64 : 0)
    try statement.run()
  }

  static let upsert = """
    INSERT OR REPLACE INTO state (one, role, log, epoch, position, compacted, swept, retained, relaxed)
    VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
    """

  /// Begins another history of the same log: what was acknowledged may be missing, so no number of the old one may
  /// be used again. The epoch also gets random bits, so that two restores of one backup differ.
  mutating func beginEpoch(random: any RandomSource) throws(SkerryError) {
    let (position, overflow) = cursor.position.addingReportingOverflow(Self.epochJump + random.below(Self.epochJump))
    guard !overflow, position <= LogLimits.maxPosition else {
      throw SkerryError(.limitExceeded, "the log has no positions left: start a new one")
    }
    cursor.epoch += 1 + random.below(1 << 20)
    cursor.position = position
    compacted = position - 1
  }

  /// A new epoch's positions begin at least this far on, more than any history writes between two backups.
  static let epochJump: UInt64 = 1_000_000_000
}
