import CSQLite
import Glibc

/// Joins what a commit writes to the write-ahead log into one write.
///
/// SQLite writes each page and the 24 bytes of its frame's head apart, one behind the other, and then syncs
/// (https://www.sqlite.org/fileformat2.html#the_write_ahead_log). Here they are held until that sync, or until the
/// connection itself reads, measures or cuts the file. So it is only for connections whose every commit syncs the WAL
/// (`Synchronous.full`): SQLite shows a commit to others, and answers it, after the sync alone, and so nobody can look for
/// what is still held. Frames that are held when the process dies belong to no commit.
///
/// It stands between SQLite and the file's own methods: the file's `pMethods` point to `methods`, and behind them lies the
/// rest. Confined to the thread that its connection is confined to; freed when SQLite closes the file.
struct GatheredWAL {
  /// Bytes held at most: a commit that is larger is written in pieces of this size.
  static let maxHeldBytes = 128 << 10

  /// First, since the file's pointer to its methods is what leads here.
  private var methods: sqlite3_io_methods
  private let original: UnsafePointer<sqlite3_io_methods>
  private let buffer: UnsafeMutableRawPointer
  private var held = 0
  /// Where in the file the first held byte belongs.
  private var start: Int64 = 0

  private init(over original: UnsafePointer<sqlite3_io_methods>) {
    self.original = original
    methods = original.pointee
    buffer = .allocate(byteCount: Self.maxHeldBytes, alignment: 16)
    methods.xWrite = { GatheredWAL.write($0, $1, $2, $3) }
    methods.xSync = { file, flags in GatheredWAL.passing(file) { $0.xSync(file, flags) } }
    methods.xRead = { file, bytes, count, offset in
      GatheredWAL.passing(file) { $0.xRead(file, bytes, count, offset) }
    }
    methods.xTruncate = { file, size in GatheredWAL.passing(file) { $0.xTruncate(file, size) } }
    methods.xFileSize = { file, size in GatheredWAL.passing(file) { $0.xFileSize(file, size) } }
    methods.xClose = { GatheredWAL.close($0) }
  }

  /// Begins to gather the writes of this connection's WAL; nothing happens if it has none open. Once a connection.
  static func begin(on connection: OpaquePointer) {
    var found: UnsafeMutablePointer<sqlite3_file>?
    let code = sqlite3_file_control(connection, "main", SQLITE_FCNTL_JOURNAL_POINTER, &found)
    guard code == SQLITE_OK, let file = found, let original = file.pointee.pMethods else { return }
    let gathered = UnsafeMutablePointer<GatheredWAL>.allocate(capacity: 1)
    gathered.initialize(to: GatheredWAL(over: original))
    guard let methods = gathered.pointer(to: \.methods) else {
      preconditionFailure("the methods of a gathered WAL are no stored property")
    }
    precondition(UnsafeRawPointer(methods) == UnsafeRawPointer(gathered), "the methods of a gathered WAL come first")
    file.pointee.pMethods = UnsafePointer(methods)
  }

  private typealias File = UnsafeMutablePointer<sqlite3_file>

  private static func of(_ file: File?) -> UnsafeMutablePointer<GatheredWAL> {
    guard let methods = file?.pointee.pMethods else { preconditionFailure("SQLite called a method without its file") }
    return UnsafeMutableRawPointer(mutating: methods).assumingMemoryBound(to: GatheredWAL.self)
  }

  private static func write(_ file: File?, _ bytes: UnsafeRawPointer?, _ count: Int32, _ offset: Int64) -> Int32 {
    let gathered = of(file)
    guard let bytes, count > 0 else { return SQLITE_OK }
    let size = Int(count)
    let isNext = offset == gathered.pointee.start + Int64(gathered.pointee.held)
    if !isNext || gathered.pointee.held + size > maxHeldBytes {
      let code = flush(file, gathered)
      guard code == SQLITE_OK else { return code }
    }
    guard size <= maxHeldBytes else { return gathered.pointee.original.pointee.xWrite(file, bytes, count, offset) }
    if gathered.pointee.held == 0 { gathered.pointee.start = offset }
    memcpy(gathered.pointee.buffer + gathered.pointee.held, bytes, size)
    gathered.pointee.held += size
    return SQLITE_OK
  }

  /// What could not be written is forgotten: SQLite gives the transaction up, and begins the next one at its place.
  private static func flush(_ file: File?, _ gathered: UnsafeMutablePointer<GatheredWAL>) -> Int32 {
    let count = gathered.pointee.held
    guard count > 0 else { return SQLITE_OK }
    gathered.pointee.held = 0
    return gathered.pointee.original.pointee.xWrite(
      file, gathered.pointee.buffer, Int32(count), gathered.pointee.start)
  }

  /// Calls a method of the file behind what is held.
  private static func passing(_ file: File?, _ method: (sqlite3_io_methods) -> Int32) -> Int32 {
    let gathered = of(file)
    let code = flush(file, gathered)
    return code == SQLITE_OK ? method(gathered.pointee.original.pointee) : code
  }

  private static func close(_ file: File?) -> Int32 {
    let gathered = of(file)
    let original = gathered.pointee.original
    file?.pointee.pMethods = original
    gathered.pointee.buffer.deallocate()
    gathered.deinitialize(count: 1)
    gathered.deallocate()
    return original.pointee.xClose(file)
  }
}
