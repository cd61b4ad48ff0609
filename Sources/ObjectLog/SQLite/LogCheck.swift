import Base
import Store

/// The full check of a log's file: structure, every checksum, and that index and history agree.
package enum LogCheck {
  /// What was found in a sound log.
  package struct Report: Sendable {
    package var cursor: Cursor
    package var compacted: UInt64
    package var objects: Int
    /// Versions in the history, the newest of each object included.
    package var versions: Int
    package var privates: Int
    /// Values that are kept sealed. They are opened too if a key ring was given.
    package var sealed: Int
  }

  /// Reads everything once. The daemon may be running. Throws `corrupt` at the first thing that is wrong, or
  /// `unsupportedVersion` for a newer file.
  package static func run(path: String, vfs: String? = nil, sealing: (any Sealing)? = nil) throws(SkerryError) -> Report
  {
    try run(Database.reader(path: path, vfs: vfs), sealing: sealing)
  }

  static func run(_ database: Database, sealing: (any Sealing)?) throws(SkerryError) -> Report {
    let path = database.path
    return try database.read { () throws(SkerryError) in
      try StoreFile.verify(database, LogSchema.schema)
      try database.checkStructure(full: true)
      guard let state = try LogState.load(database) else {
        throw SkerryError(.corrupt, "\(path) has no state row: restore a backup")
      }
      var report = Report(
        cursor: state.cursor, compacted: state.compacted, objects: 0, versions: 0, privates: 0, sealed: 0)
      try checkHistory(database, state, sealing, &report)
      try checkIndex(database, &report)
      try checkPrivates(database, &report)
      return report
    }
  }

  private static func checkHistory(
    _ database: Database, _ state: LogState, _ sealing: (any Sealing)?, _ report: inout Report
  ) throws(SkerryError) {
    let statement = try database.prepare("SELECT \(HistoryRow.columns) FROM history h ORDER BY place")
    defer { statement.reset() }
    while try statement.step() {
      let row = try HistoryRow.decode(statement, at: 0, path: database.path).get()
      guard row.place.position <= state.cursor.position else {
        throw SkerryError(
          .corrupt,
          "\(database.path): \(row.key) stands at position \(row.place.position), after the newest, "
            + "\(state.cursor.position): restore a backup")
      }
      report.versions += 1
      guard row.encoding == .sealed else { continue }
      report.sealed += 1
      if sealing != nil { _ = try row.opened(sealing).get() }
    }
  }

  private static func checkIndex(_ database: Database, _ report: inout Report) throws(SkerryError) {
    let statement = try database.prepare(
      """
      SELECT c.key, c.deleted, h.key IS NULL OR h.key <> c.key OR (h.type = 3) <> c.deleted
      FROM current c LEFT JOIN history h ON h.place = c.place
      """)
    defer { statement.reset() }
    while try statement.step() {
      if statement.int(2) != 0 { throw mismatch(database, statement.string(0)) }
      if statement.int(1) == 0 { report.objects += 1 }
    }
    if let key = try LogState.unindexed(database) { throw mismatch(database, key) }
  }

  private static func mismatch(_ database: Database, _ key: String) -> SkerryError {
    SkerryError(
      .corrupt, "\(database.path): the index of \(key) does not match its history: restore a backup")
  }

  private static func checkPrivates(_ database: Database, _ report: inout Report) throws(SkerryError) {
    let statement = try database.prepare("SELECT key, value, checksum FROM privates")
    defer { statement.reset() }
    while try statement.step() {
      let key = statement.string(0)
      guard LogTables.checksum(key, statement.bytes(1)) == statement.uint(2) else {
        throw SkerryError(.corrupt, "\(database.path): the private value \(key) is damaged: restore a backup")
      }
      report.privates += 1
    }
  }
}
