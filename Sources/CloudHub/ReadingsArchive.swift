import Base
import Glibc
import Store
import Sync

/// Backups of the readings, beside those of the objects: taken also while the daemon runs, put back while it does not.
///
/// The copy holds the cursors of the nodes' lanes with the readings that they stand behind. So after a restore a node
/// sends again what its own store still has, and what it has let go by then arrives as a gap.
package enum ReadingsArchive {
  /// How far the numbers go up at a restore, so that none is given twice: a client that pages by number misses nothing.
  package static let jump: Int64 = 1_000_000_000
  /// What is in the file, and how older ones become newer ones.
  package static var schema: Schema { ReadingsStore.schema }

  /// Copies the readings at `path` to the new file `backup`; answers how many there are.
  package static func backup(from path: String, to backup: String) throws(SkerryError) -> Int64 {
    let source = try Database.reader(path: path)
    try source.read { () throws(SkerryError) in
      try StoreFile.verify(source, ReadingsStore.schema)
      let copy = try Backup(of: source, to: backup)
      while try !copy.step(pages: -1) {}
    }
    let made = try Database(path: backup, options: Database.Options(access: .readOnly, writeAheadLog: false))
    try made.checkStructure(full: true)
    return try count(made)
  }

  /// Reads everything once and checks its structure; answers how many readings there are.
  package static func check(path: String) throws(SkerryError) -> Int64 {
    let database = try Database.reader(path: path)
    try StoreFile.verify(database, ReadingsStore.schema)
    try database.checkStructure(full: true)
    return try count(database)
  }

  /// Puts a backup in place, checked in full first; the daemon must not run. What was there is kept as
  /// `PATH.replaced`. Answers how many readings there are now.
  package static func restore(from backup: String, to path: String) throws(SkerryError) -> Int64 {
    let lock = try FileLock(of: path)
    defer { withExtendedLifetime(lock) {} }
    let source = try Database(path: backup, options: Database.Options(access: .readOnly, writeAheadLog: false))
    try StoreFile.verify(source, ReadingsStore.schema)
    try source.checkStructure(full: true)
    _ = try self.count(source)
    let staged = try Backup.stage(source, for: path)
    let database = try Database(path: staged, options: Database.Options(access: .readWrite, writeAheadLog: false))
    let newest = max(replacedNumber(path), try number(database))
    try database.write { () throws(SkerryError) in
      try database.execute(
        "INSERT OR IGNORE INTO sqlite_sequence (name, seq) SELECT 'readings', 0 WHERE NOT EXISTS "
          + "(SELECT 1 FROM sqlite_sequence WHERE name = 'readings')")
      try database.execute("UPDATE sqlite_sequence SET seq = \(newest + jump) WHERE name = 'readings'")
      if try hasBlocks(database) { try database.execute("UPDATE total SET last = \(newest + jump)") }
      try database.execute("UPDATE store SET clean = 1")
    }
    let count = try count(database)
    try Backup.putInPlace(staged, as: path)
    return count
  }

  /// Whether the file is of the schema that keeps readings in blocks; older ones are brought forward by the daemon.
  private static func hasBlocks(_ database: Database) throws(SkerryError) -> Bool {
    try database.int("SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'blocks'") == 1
  }

  /// How many readings there are. Every block is unpacked: what cannot be read is found here.
  private static func count(_ database: Database) throws(SkerryError) -> Int64 {
    var count = try database.int("SELECT count(*) FROM readings")
    guard try hasBlocks(database) else { return count }
    let blocks = try database.prepare("SELECT first, count, data FROM blocks ORDER BY first")
    while try blocks.step() {
      guard let columns = try? ReadingBlock.columns(blocks.bytes(2)), columns.count == Int(blocks.int(1)) else {
        throw SkerryError(
          .corrupt,
          "\(database.path) is damaged (the block of readings from number \(blocks.int(0)) on): use another copy")
      }
      count += Int64(columns.count)
    }
    return count
  }

  private static func number(_ database: Database) throws(SkerryError) -> Int64 {
    guard try !hasBlocks(database) else { return try database.int("SELECT last FROM total") }
    return try database.int("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'readings'")
  }

  private static func replacedNumber(_ path: String) -> Int64 {
    guard access(path, F_OK) == 0, let old = try? Database.reader(path: path) else { return 0 }
    return (try? number(old)) ?? 0
  }
}
