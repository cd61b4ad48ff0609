import Base
import CSQLite
import Glibc

/// A copy of a whole database while it is in use, made a few pages at a time.
///
/// Writes through the source connection between two steps go into the copy too; so the copy is the state at its
/// last step. It is written beside its destination and takes its name only when it is complete and on disk.
package final class Backup {
  /// Pages (of 4 KiB) a step copies when nothing else is said: about a millisecond of work.
  package static let defaultPages = 256

  private let source: Database
  private let destination: Database
  private let path: String
  private let partial: String
  private var raw: OpaquePointer?

  /// Begins a copy to `path`, which must not exist.
  package init(of source: Database, to path: String) throws(SkerryError) {
    guard access(path, F_OK) != 0 else {
      throw SkerryError(.alreadyExists, "\(path) exists: choose another name, nothing is overwritten")
    }
    self.source = source
    self.path = path
    partial = path + ".partial"
    unlink(partial)
    destination = try Database(path: partial, options: Database.Options(access: .create, writeAheadLog: false))
    raw = sqlite3_backup_init(destination.handle, "main", source.handle, "main")
    if raw == nil { throw destination.failure(sqlite3_errcode(destination.handle), doing: "backup") }
  }

  deinit {
    guard let raw else { return }
    sqlite3_backup_finish(raw)
    unlink(partial)
  }

  /// Copies some pages (all of them if negative); true when the copy stands under its name.
  package func step(pages: Int = Backup.defaultPages) throws(SkerryError) -> Bool {
    guard let raw else { return true }
    let code = sqlite3_backup_step(raw, Int32(clamping: pages))
    switch code & 0xff {
    case SQLITE_OK: return false
    case SQLITE_BUSY, SQLITE_LOCKED: return false  // somebody writes just now; the next step goes on
    case SQLITE_DONE:
      try finish(raw)
      return true
    default: throw destination.failure(code, doing: "backup")
    }
  }

  private func finish(_ handle: OpaquePointer) throws(SkerryError) {
    raw = nil
    let code = sqlite3_backup_finish(handle)
    guard code == SQLITE_OK else {
      unlink(partial)
      throw destination.failure(code, doing: "backup")
    }
    // The copy has the source's journal mode in its header; one file is easier to carry than three.
    _ = try destination.textPragma("journal_mode = DELETE")
    guard rename(partial, path) == 0 else {
      let reason = String(cString: strerror(errno))
      unlink(partial)
      throw SkerryError(.system, "cannot name the backup \(path): \(reason)")
    }
    try Self.syncDirectory(of: path)
  }

  /// Makes a new name in a directory durable.
  package static func syncDirectory(of path: String) throws(SkerryError) {
    let directory = path.lastIndex(of: "/").map { String(path[..<$0]) } ?? "."
    let descriptor = open(directory.isEmpty ? "/" : directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { throw SkerryError(.system, "cannot open \(directory)") }
    defer { close(descriptor) }
    guard fsync(descriptor) == 0 else {
      throw SkerryError(.system, "cannot sync \(directory): \(String(cString: strerror(errno)))")
    }
  }
}
