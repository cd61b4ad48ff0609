import Base
import CSQLite

/// What is in a store's file and how older files become newer ones.
package struct Schema: Sendable {
  /// What the file is, for messages: "object log".
  package let name: String
  /// Marks the file's kind in its header (SQLite's `application_id`).
  package let applicationID: Int32
  /// SQL that leads from version `index` to `index + 1`; only ever appended to. The newest version is the count.
  package let migrations: [String]
  package init(name: String, applicationID: Int32, migrations: [String]) {
    self.name = name
    self.applicationID = applicationID
    self.migrations = migrations
  }
  package var version: Int { migrations.count }
}

/// A database file that one daemon owns: its lock, its schema, and the memory of how it was last closed.
///
/// Opening checks, in this order: nobody else has it, it is of the right kind, its version is known, and, after an
/// unclean stop, that its pages are sound; what a dead process left unsynced is made durable first. Confined to one thread at a time, like its connection.
package final class StoreFile {
  package let path: String
  /// The writing connection.
  package let database: Database
  /// True if the file existed and was not closed by `close`: the process died or power failed.
  package let wasUnclean: Bool
  /// True if this call made the file's content.
  package let isNew: Bool
  private let lock: FileLock?
  private let options: Database.Options

  /// Opens or makes the file, brings its schema forward, and marks it as open.
  package init(path: String, schema: Schema, options: Database.Options = Database.Options()) throws(SkerryError) {
    self.path = path
    self.options = options
    // On a simulator's disk or in memory there is no other process.
    lock = options.vfs == nil && path != ":memory:" ? try FileLock(of: path) : nil
    database = try Database(path: path, options: options)
    isNew = try Self.inspect(database, schema, lock)
    try database.configureDurability()
    if isNew {
      wasUnclean = false
      try Self.create(database, schema)
    } else {
      wasUnclean = try database.int("SELECT clean FROM store") == 0
      if wasUnclean {
        try database.checkStructure(full: false)
        try Self.settle(database)
      }
      try Self.migrate(database, schema)
    }
    try database.execute("UPDATE store SET clean = 0")
    lock?.note(Self.mark(schema))
  }

  /// A second connection to the same file that can only read.
  package func reader() throws(SkerryError) -> Database {
    try Database.reader(path: path, vfs: options.vfs)
  }

  /// Empties the WAL and marks the file as closed in order. Connections close when they are let go.
  package func close() throws(SkerryError) {
    try database.execute("UPDATE store SET clean = 1")
    try database.checkpoint(.truncate)
  }

  /// What a dead process or a failed sync left in the WAL may not be on disk yet, and somebody will be told of it: so
  /// it goes into the database and is synced before anything else. (Marking the file as open would not do: SQLite
  /// writes and syncs nothing for an update that changes nothing.)
  private static func settle(_ database: Database) throws(SkerryError) {
    guard database.options.writeAheadLog else { return }
    let (frames, copied) = try database.checkpoint(.truncate)
    guard copied >= frames else {
      throw SkerryError(.unavailable, "\(database.path): a reader holds the WAL; try again")
    }
  }

  // MARK: Kind and version

  /// Checks kind and version without a write; true if the file is empty and new.
  private static func inspect(_ database: Database, _ schema: Schema, _ lock: FileLock?) throws(SkerryError) -> Bool {
    let tables = try database.int("SELECT count(*) FROM sqlite_schema")
    if tables == 0 {
      guard lock == nil || lock?.noted != mark(schema) else {
        throw SkerryError(
          .corrupt,
          "\(database.path) is empty, but it held the \(schema.name): restore a backup, or delete "
            + "\(database.path).lock too to start anew without its content")
      }
      return true
    }
    try verify(database, schema)
    return false
  }

  /// That the file is of this kind and not newer than this program. Reads only.
  package static func verify(_ database: Database, _ schema: Schema) throws(SkerryError) {
    let kind = try database.intPragma("application_id")
    guard kind == Int64(schema.applicationID) else {
      throw SkerryError(
        .invalidArgument, "\(database.path) is a database of another kind, not the \(schema.name): check the path")
    }
    let version = try database.intPragma("user_version")
    guard version <= Int64(schema.version) else {
      throw SkerryError(
        .unsupportedVersion,
        "\(database.path) was written by a newer version (schema \(version), this program knows \(schema.version)): "
          + "start the newer program, or restore a backup that this one made")
    }
  }

  private static func create(_ database: Database, _ schema: Schema) throws(SkerryError) {
    try database.write { () throws(SkerryError) in
      try database.execute(
        """
        CREATE TABLE store (one INTEGER PRIMARY KEY CHECK (one = 1), clean INTEGER NOT NULL);
        INSERT INTO store VALUES (1, 0);
        PRAGMA application_id = \(schema.applicationID);
        """)
      for migration in schema.migrations { try database.execute(migration) }
      try database.execute("PRAGMA user_version = \(schema.version)")
    }
  }

  /// Each step in a transaction of its own, so that a stop in between goes on where it was.
  private static func migrate(_ database: Database, _ schema: Schema) throws(SkerryError) {
    var version = Int(try database.intPragma("user_version"))
    while version < schema.version {
      try database.write { () throws(SkerryError) in
        try database.execute(schema.migrations[version])
        try database.execute("PRAGMA user_version = \(version + 1)")
      }
      version += 1
    }
  }

  private static func mark(_ schema: Schema) -> String { "store-\(schema.applicationID)" }
}
