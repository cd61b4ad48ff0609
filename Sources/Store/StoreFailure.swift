import Base
import CSQLite
import Glibc

/// What SQLite answered, turned into an error that names the file and the remedy.
struct StoreFailure {
  let code: Int32
  let path: String
  let detail: String
  let systemError: Int32
  let doing: String

  init(code: Int32, handle: OpaquePointer, path: String, doing: String) {
    self.code = code
    self.path = path
    detail = String(cString: sqlite3_errmsg(handle))
    systemError = sqlite3_system_errno(handle)
    self.doing = doing
  }

  var error: SkerryError {
    if diskIsFull { return fullDisk }
    switch code & 0xff {
    case SQLITE_CORRUPT:
      return SkerryError(.corrupt, "\(path) is damaged (\(detail)): stop the daemon and restore a backup")
    case SQLITE_NOTADB:
      return SkerryError(.corrupt, "\(path) is not a database (\(detail)): it was overwritten; restore a backup")
    case SQLITE_BUSY, SQLITE_LOCKED:
      return SkerryError(
        .unavailable, "\(path) is in use by another process: stop the other daemon or program that has it open")
    case SQLITE_CANTOPEN:
      return SkerryError(
        .system, "cannot open \(path) (\(systemReason)): check that it and its directory exist and may be read")
    case SQLITE_READONLY, SQLITE_PERM, SQLITE_AUTH:
      return SkerryError(
        .system, "cannot write \(path) (\(detail)): check the owner and permissions of it and its directory")
    case SQLITE_IOERR:
      return SkerryError(.system, "input or output failed at \(path) (\(systemReason)): check the disk")
    case SQLITE_NOMEM: return SkerryError(.system, "no memory for \(path)")
    case SQLITE_TOOBIG: return SkerryError(.limitExceeded, "a value is too large for \(path)")
    default: return SkerryError(.internal, "\(path): \(detail) (SQLite \(code)) in: \(doing.prefix(200))")
    }
  }

  private var systemReason: String {
    systemError == 0 ? detail : "\(detail): \(String(cString: strerror(systemError)))"
  }

  private var diskIsFull: Bool {
    if code & 0xff == SQLITE_FULL { return true }
    return code & 0xff == SQLITE_IOERR && [ENOSPC, EDQUOT, EFBIG].contains(systemError)
  }

  private var fullDisk: SkerryError {
    let why =
      switch systemError {
      case EFBIG: "disk full at \(path): the file may not grow further; raise the process's file size limit"
      case EDQUOT: "disk full at \(path): its owner's quota is used up; free space or raise the quota"
      default: "disk full at \(path): free space on its file system"
      }
    return SkerryError(.system, why)
  }
}
