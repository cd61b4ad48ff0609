import Base
import Glibc
import Store

/// Puts a backup of a leader's log in place, as a new epoch.
///
/// What was acknowledged after the backup is missing, so the epoch rises, the position jumps by 10^9 or more, and
/// everything before counts as compacted: no reader can mistake the new history for the old one.
package enum LogRestore {
  /// Restores `backup` to `path`, checked in full first; the daemon must not run. A log that is there is kept as
  /// `PATH.replaced`. Answers where the new history begins. Works on the system's files only.
  package static func run(
    from backup: String, to path: String, random: any RandomSource
  ) throws(SkerryError) -> Cursor {
    let lock = try FileLock(of: path)
    let staged = try Backup.stage(try sound(backup), for: path)
    let cursor = try begin(staged, nil, after: replacedCursor(path), random)
    try Backup.putInPlace(staged, as: path)
    withExtendedLifetime(lock) {}
    return cursor
  }

  /// Checks a backup in full, for whoever restores more than the log and wants to know before anything is touched.
  package static func verify(_ backup: String) throws(SkerryError) { _ = try sound(backup) }

  private static func sound(_ backup: String) throws(SkerryError) -> Database {
    let source = try Database(path: backup, options: Database.Options(access: .readOnly, writeAheadLog: false))
    _ = try LogCheck.run(source, sealing: nil)
    return source
  }

  /// How far the log that is replaced had got, if it can still be read.
  private static func replacedCursor(_ path: String) -> Cursor? {
    guard access(path, F_OK) == 0, let old = try? Database.reader(path: path) else { return nil }
    return (try? LogState.load(old))?.cursor
  }

  /// The same for a leader's log that was put in place with its whole disk, which `vfs` names: a new epoch begins
  /// behind `old`, where the replaced log had got to.
  package static func beginEpoch(
    of path: String, vfs: String?, after old: Cursor?, random: any RandomSource
  ) throws(SkerryError) -> Cursor {
    try begin(path, vfs, after: old, random)
  }

  private static func begin(
    _ path: String, _ vfs: String?, after old: Cursor?, _ random: any RandomSource
  ) throws(SkerryError) -> Cursor {
    let database = try Database(
      path: path, options: Database.Options(access: .readWrite, vfs: vfs, writeAheadLog: false))
    guard var state = try LogState.bringUp(database) else {
      throw SkerryError(.corrupt, "\(path) has no state row: use another backup")
    }
    guard state.role == .leader else {
      throw SkerryError(
        .invalidArgument, "this is the backup of a replica: delete the replica instead, its leader fills it again")
    }
    if let old, old.log == state.cursor.log {
      state.cursor.epoch = max(state.cursor.epoch, old.epoch)
      state.cursor.position = max(state.cursor.position, old.position)
    }
    try state.beginEpoch(random: random)
    try database.write { () throws(SkerryError) in
      try state.store(try database.prepare(LogState.upsert))
      try database.execute("UPDATE store SET clean = 1")
    }
    return state.cursor
  }
}
