import Base
import Glibc

extension Backup {
  /// Copies all of `source` to `PATH.restoring`, a name that a restore which stopped may have left; answers it.
  package static func stage(_ source: Database, for path: String) throws(SkerryError) -> String {
    let staged = path + ".restoring"
    unlink(staged)
    let copy = try Backup(of: source, to: staged)
    while try !copy.step() {}
    return staged
  }

  /// Gives a staged file the name `path`, durably. What was there is kept as
  /// `PATH.replaced`, which must not exist.
  package static func putInPlace(_ staged: String, as path: String) throws(SkerryError) {
    try moveAside(path)
    guard rename(staged, path) == 0 else {
      throw SkerryError(.system, "cannot name the restored \(path): \(String(cString: strerror(errno)))")
    }
    try syncDirectory(of: path)
  }

  private static func moveAside(_ path: String) throws(SkerryError) {
    guard access(path, F_OK) == 0 else { return }
    let replaced = path + ".replaced"
    guard access(replaced, F_OK) != 0 else {
      throw SkerryError(.alreadyExists, "\(replaced) is still there from an earlier restore: move or delete it first")
    }
    for suffix in ["", "-wal"] where access(path + suffix, F_OK) == 0 {
      guard rename(path + suffix, replaced + suffix) == 0 else {
        throw SkerryError(.system, "cannot move \(path)\(suffix) aside: \(String(cString: strerror(errno)))")
      }
    }
    unlink(path + "-shm")
  }
}
