import Base
import CSQLite
import Glibc

/// One connection to an SQLite file, set up the way every store of this project needs it.
///
/// Confined to one thread at a time (opened without SQLite's mutexes): whoever owns it may hand it over, but two
/// threads never use it at once. So it is not Sendable. It closes when it and its statements are gone.
package final class Database {
  package enum Access: Sendable {
    case readOnly
    case readWrite
    /// Makes the file, readable by its owner alone, if there is none.
    case create
  }

  /// What a commit promises.
  package enum Synchronous: String, Sendable {
    /// A commit that was answered survives a power cut. Its pages reach the WAL in one write with that sync, so no
    /// pragma may take the syncs away afterwards.
    case full = "FULL"
    /// A commit may be lost in a power cut, in order and whole; never in a crash of the process.
    case normal = "NORMAL"
  }

  package struct Options: Sendable {
    package var access: Access
    /// The name of a registered VFS (a simulator's disk), or nil for the system's.
    package var vfs: String?
    package var synchronous: Synchronous
    /// Write-ahead logging; off only for files that are made once and then read (backups).
    package var writeAheadLog: Bool
    /// A commit that brings the WAL beyond so many pages copies it into the database; 0 leaves that to the owner, who
    /// has to do it then.
    package var checkpointFrames: Int
    package init(
      access: Access = .create, vfs: String? = nil, synchronous: Synchronous = .full, writeAheadLog: Bool = true,
      checkpointFrames: Int = 0
    ) {
      self.access = access
      self.vfs = vfs
      self.synchronous = synchronous
      self.writeAheadLog = writeAheadLog
      self.checkpointFrames = checkpointFrames
    }

    /// For a store whose writer has a thread of its own and nothing else to do: 4 MiB of WAL.
    package static let ownThread = Options(checkpointFrames: 1000)
  }

  /// The WAL file is cut back to this size when it starts over: bounds what a burst leaves behind.
  package static let maxIdleWALBytes = 64 << 20

  package let path: String
  package let options: Options
  let handle: OpaquePointer
  /// Prepared at first use: every transaction runs them.
  private var begin: OpaquePointer?
  private var beginImmediate: OpaquePointer?
  private var commit: OpaquePointer?
  private var gathersWAL = false

  /// Opens the file and sets the connection up, but touches nothing in the file.
  package init(path: String, options: Options = Options()) throws(SkerryError) {
    if options.access == .create, options.vfs == nil, path != ":memory:" { try Self.createPrivate(path) }
    var opened: OpaquePointer?
    var flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE
    switch options.access {
    case .readOnly: flags |= SQLITE_OPEN_READONLY
    case .readWrite: flags |= SQLITE_OPEN_READWRITE
    case .create: flags |= SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE
    }
    let code = sqlite3_open_v2(path, &opened, flags, options.vfs)
    guard let handle = opened else { throw SkerryError(.system, "no memory to open \(path)") }
    guard code == SQLITE_OK else {
      let error = StoreFailure(code: code, handle: handle, path: path, doing: "open").error
      sqlite3_close_v2(handle)
      throw error
    }
    self.handle = handle
    self.path = path
    self.options = options
    sqlite3_busy_timeout(handle, 0)
    _ = skerry_sqlite_config_flag(handle, SQLITE_DBCONFIG_DEFENSIVE, 1)
    _ = skerry_sqlite_config_flag(handle, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
    // The owner makes checkpoints; a close after a failure must not write.
    _ = skerry_sqlite_config_flag(handle, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    // None of these reads or writes the file. Freed content is overwritten, so that what was deleted is gone;
    // damaged pages are noticed when they are read; temporary results stay in memory and leave no file.
    try execute(
      """
      PRAGMA secure_delete = ON; PRAGMA cell_size_check = ON; PRAGMA foreign_keys = ON;
      PRAGMA temp_store = MEMORY; PRAGMA mmap_size = 0;
      """)
  }

  deinit {
    for statement in [begin, beginImmediate, commit] { sqlite3_finalize(statement) }
    sqlite3_close_v2(handle)
  }

  /// A connection that can only read, to a file that somebody may write meanwhile.
  package static func reader(path: String, vfs: String? = nil) throws(SkerryError) -> Database {
    // A read-only handle could not recover a WAL that a dead process left; `query_only` forbids the writes.
    let reader = try Database(path: path, options: Options(access: .readWrite, vfs: vfs))
    try reader.execute("PRAGMA query_only = ON")
    return reader
  }

  /// SQLite makes its WAL and shared-memory files with the permissions of the database.
  private static func createPrivate(_ path: String) throws(SkerryError) {
    let descriptor = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    if descriptor >= 0 {
      close(descriptor)
    } else if errno != EEXIST {
      let (code, reason) = (errno, String(cString: strerror(errno)))
      let remedy =
        code == ENOENT ? "make its directory first" : "check the directory's owner, permissions and free space"
      throw SkerryError(.system, "cannot create \(path): \(reason); \(remedy)")
    }
  }

  /// Turns on write-ahead logging and the durability of the options. Writes to the file's header.
  package func configureDurability() throws(SkerryError) {
    if options.writeAheadLog {
      let mode = try textPragma("journal_mode = WAL")
      guard mode == "wal" || path == ":memory:" else {
        throw SkerryError(
          .system, "\(path): SQLite cannot use write-ahead logging here (it answered '\(mode)'); use a local disk")
      }
    }
    try execute(
      """
      PRAGMA synchronous = \(options.synchronous.rawValue); PRAGMA wal_autocheckpoint = \(options.checkpointFrames);
      PRAGMA journal_size_limit = \(Self.maxIdleWALBytes);
      """)
    guard options.writeAheadLog, options.synchronous == .full, !gathersWAL else { return }
    gathersWAL = true
    // SQLite opens the WAL when it first reads.
    _ = try intPragma("schema_version")
    GatheredWAL.begin(on: handle)
  }

  // MARK: Statements

  /// Runs SQL that has no parameters and whose rows, if any, do not matter.
  package func execute(_ sql: String) throws(SkerryError) {
    let code = sqlite3_exec(handle, sql, nil, nil, nil)
    if code != SQLITE_OK { throw failure(code, doing: sql) }
  }

  /// Prepares a statement to be kept for the life of the connection.
  package func prepare(_ sql: String) throws(SkerryError) -> Statement {
    var raw: OpaquePointer?
    let code = sqlite3_prepare_v3(handle, sql, -1, UInt32(SQLITE_PREPARE_PERSISTENT), &raw, nil)
    guard code == SQLITE_OK, let raw else { throw failure(code, doing: sql) }
    return Statement(raw, database: self)
  }

  /// The first column of the first row as an integer; 0 if there is none.
  package func int(_ sql: String) throws(SkerryError) -> Int64 {
    let statement = try prepare(sql)
    guard try statement.step() else { return 0 }
    let value = statement.int(0)
    try statement.run()
    return value
  }

  package func intPragma(_ pragma: String) throws(SkerryError) -> Int64 { try int("PRAGMA \(pragma)") }

  /// The answer of a pragma that may also write: what it began is committed, or the failure thrown, before this
  /// returns. SQLite does that behind the last row, and a mere reset would keep its failure to itself.
  package func textPragma(_ pragma: String) throws(SkerryError) -> String {
    let statement = try prepare("PRAGMA \(pragma)")
    guard try statement.step() else { return "" }
    let value = statement.string(0)
    try statement.run()
    return value
  }

  /// Rows changed by the last INSERT, UPDATE or DELETE.
  package var changes: Int { Int(sqlite3_changes64(handle)) }

  // MARK: Transactions

  /// True between `begin` and the commit or rollback. SQLite rolls back by itself after some errors.
  package var inTransaction: Bool { sqlite3_get_autocommit(handle) == 0 }

  /// Runs `body` in one write transaction; rolled back if it throws or if the commit fails.
  package func write<R>(_ body: () throws(SkerryError) -> R) throws(SkerryError) -> R {
    try run("BEGIN IMMEDIATE", &beginImmediate)
    return try finish(body)
  }

  /// Runs `body` on one snapshot. Keep it short: a long one holds the WAL.
  package func read<R>(_ body: () throws(SkerryError) -> R) throws(SkerryError) -> R {
    try run("BEGIN", &begin)
    return try finish(body)
  }

  private func run(_ sql: String, _ statement: inout OpaquePointer?) throws(SkerryError) {
    if statement == nil {
      let code = sqlite3_prepare_v3(handle, sql, -1, UInt32(SQLITE_PREPARE_PERSISTENT), &statement, nil)
      guard code == SQLITE_OK else { throw failure(code, doing: sql) }
    }
    let code = sqlite3_step(statement)
    guard code == SQLITE_DONE else {
      let error = failure(code, doing: sql)
      sqlite3_reset(statement)
      throw error
    }
    sqlite3_reset(statement)
  }

  private func finish<R>(_ body: () throws(SkerryError) -> R) throws(SkerryError) -> R {
    do {
      let result = try body()
      try run("COMMIT", &commit)
      return result
    } catch {
      if inTransaction { sqlite3_exec(handle, "ROLLBACK", nil, nil, nil) }
      throw error
    }
  }

  // MARK: Checkpoints and checks

  package enum CheckpointMode: Sendable {
    /// Copies what it can without waiting for anybody.
    case passive
    /// Copies everything and empties the WAL; for a clean close.
    case truncate
  }

  /// Copies the WAL into the database file. Answers the frames (pages) in the WAL and how many of them were copied.
  @discardableResult
  package func checkpoint(_ mode: CheckpointMode) throws(SkerryError) -> (frames: Int, copied: Int) {
    var (frames, copied): (Int32, Int32) = (0, 0)
    let raw = mode == .passive ? SQLITE_CHECKPOINT_PASSIVE : SQLITE_CHECKPOINT_TRUNCATE
    let code = sqlite3_wal_checkpoint_v2(handle, nil, raw, &frames, &copied)
    // Busy only says that a reader is in the way; the next checkpoint goes on.
    if code != SQLITE_OK, code & 0xff != SQLITE_BUSY { throw failure(code, doing: "checkpoint") }
    return (Int(max(frames, 0)), Int(max(copied, 0)))
  }

  /// The structure of every page without comparing indexes to tables (`quick_check`), or all (`integrity_check`).
  package func checkStructure(full: Bool) throws(SkerryError) {
    let statement = try prepare(full ? "PRAGMA integrity_check(20)" : "PRAGMA quick_check(20)")
    defer { statement.reset() }
    var findings: [String] = []
    while try statement.step() { findings.append(statement.string(0)) }
    if findings != ["ok"] {
      throw SkerryError(
        .corrupt,
        "\(path) is damaged (\(findings.prefix(3).joined(separator: "; "))): stop the daemon and restore a backup")
    }
  }

  func failure(_ code: Int32, doing sql: String, file: StaticString = #fileID, line: UInt = #line) -> SkerryError {
    StoreFailure(code: code, handle: handle, path: path, doing: sql).error
  }
}
