import Base
import CSQLite
import Glibc

/// Bare SQLite as the object log's floor: write-ahead log, full sync, one table of (revision, key, value) with an index on
/// the key, a prepared statement, rows committed in groups.
package enum FloorStore {
  package struct Result: Sendable {
    package var rows: Int
    package var commits: Int
    package var nanoseconds: UInt64
  }

  /// Writes `rows` values of `bytes` each, `perCommit` a transaction, to a new file at `path`; `clock` counts in
  /// nanoseconds. Stops early after `limit` nanoseconds.
  package static func commit(
    path: String, rows: Int, bytes: Int, perCommit: Int, limit: UInt64, clock: () -> UInt64
  ) throws(SkerryError) -> Result {
    var handle: OpaquePointer?
    let flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX
    guard sqlite3_open_v2(path, &handle, flags, nil) == SQLITE_OK, let handle else {
      throw SkerryError(.system, "cannot open \(path)")
    }
    defer { sqlite3_close_v2(handle) }
    try run(
      handle,
      """
      PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0;
      CREATE TABLE log (revision INTEGER PRIMARY KEY, key TEXT NOT NULL, value BLOB NOT NULL);
      CREATE INDEX by_key ON log (key, revision);
      """)
    var raw: OpaquePointer?
    let sql = "INSERT INTO log (key, value) VALUES (?1, ?2)"
    guard sqlite3_prepare_v2(handle, sql, -1, &raw, nil) == SQLITE_OK, let statement = raw else {
      throw failure(handle)
    }
    defer { sqlite3_finalize(statement) }
    let value = Bytes(repeating: 0x61, count: bytes)
    let keys = (0..<1_000).map { "configmaps/bench/key-\($0)" }
    var result = Result(rows: 0, commits: 0, nanoseconds: 0)
    let start = clock()
    while result.rows < rows, result.nanoseconds < limit {
      try run(handle, "BEGIN IMMEDIATE")
      for _ in 0..<min(perCommit, rows - result.rows) {
        let key = keys[result.rows % keys.count]
        sqlite3_bind_text(statement, 1, key, Int32(key.utf8.count), skerry_sqlite_transient())
        let status = value.withUnsafeBytes { blob in
          sqlite3_bind_blob(statement, 2, blob.baseAddress, Int32(blob.count), nil)
          return sqlite3_step(statement)
        }
        guard status == SQLITE_DONE else { throw failure(handle) }
        sqlite3_reset(statement)
        result.rows += 1
      }
      try run(handle, "COMMIT")
      result.commits += 1
      result.nanoseconds = clock() - start
    }
    return result
  }

  private static func run(_ handle: OpaquePointer, _ sql: String) throws(SkerryError) {
    guard sqlite3_exec(handle, sql, nil, nil, nil) == SQLITE_OK else { throw failure(handle) }
  }

  private static func failure(_ handle: OpaquePointer) -> SkerryError {
    SkerryError(.system, "SQLite: \(String(cString: sqlite3_errmsg(handle)))")
  }
}
