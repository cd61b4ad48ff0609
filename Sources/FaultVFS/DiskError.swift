import CSQLite

/// Why an operation on a disk failed, as SQLite's result code. The extended codes are macros that Swift cannot import
/// (https://www.sqlite.org/rescode.html).
struct DiskError: Error {
  let code: Int32

  private init(_ code: Int32) { self.code = code }
  private init(io part: Int32) { code = SQLITE_IOERR | part << 8 }

  init?(code: Int32) {
    if code == SQLITE_OK { return nil }
    self.code = code
  }

  static let read = DiskError(io: 1)
  static let shortRead = DiskError(io: 2)
  static let write = DiskError(io: 3)
  static let sync = DiskError(io: 4)
  static let directorySync = DiskError(io: 5)
  static let resize = DiskError(io: 6)
  static let delete = DiskError(io: 10)
  static let noSuchFile = DiskError(io: 23)
  static let cannotOpen = DiskError(SQLITE_CANTOPEN)
  static let busy = DiskError(SQLITE_BUSY)
  static let full = DiskError(SQLITE_FULL)
  static let notFound = DiskError(SQLITE_NOTFOUND)
  /// The process that opened the handle died, or the power failed under it.
  static let dead = DiskError(SQLITE_IOERR)
}

/// SQLite's answer for what `body` does.
func resultCode(_ body: () throws(DiskError) -> Void) -> Int32 {
  do throws(DiskError) {
    try body()
    return SQLITE_OK
  } catch {
    return error.code
  }
}

/// Turns a result code of another VFS into an error.
func check(_ code: Int32) throws(DiskError) {
  if let error = DiskError(code: code) { throw error }
}
