import CSQLite

/// An open file as SQLite's `sqlite3_io_methods` see it (https://www.sqlite.org/c3ref/io_methods.html).
protocol VFSFile: AnyObject {
  /// Answers how many bytes lie inside the file; the others of the buffer are zero.
  func read(_ buffer: UnsafeMutableRawBufferPointer, at offset: Int) throws(DiskError) -> Int
  func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(DiskError)
  func resize(to size: Int) throws(DiskError)
  func sync(_ flags: Int32) throws(DiskError)
  func size() throws(DiskError) -> Int
  func lock(_ level: Int32) throws(DiskError)
  func unlock(_ level: Int32) throws(DiskError)
  func isReserved() throws(DiskError) -> Bool
  /// Throws `notFound` for what it does not know.
  func control(_ operation: Int32, _ argument: UnsafeMutableRawPointer?) throws(DiskError)
  func mapMemory(_ region: Int32, bytes: Int32, extend: Int32) throws(DiskError) -> UnsafeMutableRawPointer?
  func lockMemory(_ offset: Int32, _ count: Int32, _ flags: Int32) throws(DiskError)
  func memoryBarrier()
  func unmapMemory(_ delete: Int32) throws(DiskError)
  func close()
}

/// The file system below a VFS.
protocol VFSDisk: AnyObject, Sendable {
  /// `name` is nil for a file that is to vanish when it is closed. Answers the flags it was opened with.
  func open(_ name: UnsafePointer<CChar>?, _ flags: Int32) throws(DiskError) -> (file: any VFSFile, flags: Int32)
  func delete(_ path: String, syncsDirectory: Bool) throws(DiskError)
  /// Whether the file is there and not empty, or, for other questions than `SQLITE_ACCESS_EXISTS`, may be used.
  func access(_ path: String, _ question: Int32) -> Bool
}

extension VFSDisk {
  /// SQLite relies on a directory sync with the first sync of a journal or WAL that it made.
  static func syncsDirectoryFirst(_ flags: Int32) -> Bool {
    flags & SQLITE_OPEN_CREATE != 0
      && flags & (SQLITE_OPEN_MAIN_JOURNAL | SQLITE_OPEN_SUPER_JOURNAL | SQLITE_OPEN_WAL) != 0
  }
}

/// What a `sqlite3_file` of ours holds behind its methods: one pointer to this.
final class FileBox {
  let file: any VFSFile
  /// Keeps the VFS registered while a file is open.
  let owner: VFSRegistration
  init(_ file: any VFSFile, _ owner: VFSRegistration) {
    self.file = file
    self.owner = owner
  }

  /// The methods, and behind them the box.
  static let bytes = 2 * MemoryLayout<UnsafeRawPointer>.size
  private static let offset = MemoryLayout<UnsafeRawPointer>.size

  func install(in raw: UnsafeMutablePointer<sqlite3_file>) {
    let box = Unmanaged.passRetained(self).toOpaque()
    UnsafeMutableRawPointer(raw).storeBytes(of: box, toByteOffset: Self.offset, as: UnsafeMutableRawPointer.self)
    raw.pointee.pMethods = FileMethods.table
  }

  private static func unmanaged(_ raw: UnsafeMutablePointer<sqlite3_file>?) -> Unmanaged<FileBox> {
    guard let raw else { preconditionFailure("SQLite called a method without its file") }
    let box = UnsafeMutableRawPointer(raw).load(fromByteOffset: offset, as: UnsafeMutableRawPointer.self)
    return Unmanaged<FileBox>.fromOpaque(box)
  }

  static func file(_ raw: UnsafeMutablePointer<sqlite3_file>?) -> any VFSFile {
    unmanaged(raw).takeUnretainedValue().file
  }

  static func close(_ raw: UnsafeMutablePointer<sqlite3_file>?) {
    unmanaged(raw).takeRetainedValue().file.close()
  }
}

/// The one table of methods for all our files.
enum FileMethods {
  /// Made once and only read after that (the reason for `nonisolated(unsafe)`).
  nonisolated(unsafe) static let table: UnsafePointer<sqlite3_io_methods> = {
    let table = UnsafeMutablePointer<sqlite3_io_methods>.allocate(capacity: 1)
    table.initialize(to: make())
    return UnsafePointer(table)
  }()

  /// Version 2: with shared memory, without memory-mapped reading.
  private static func make() -> sqlite3_io_methods {
    var methods = sqlite3_io_methods()
    methods.iVersion = 2
    methods.xSectorSize = { _ in 4096 }
    methods.xDeviceCharacteristics = { _ in SQLITE_IOCAP_POWERSAFE_OVERWRITE }
    setContent(&methods)
    setLocks(&methods)
    setMemory(&methods)
    return methods
  }

  private static func setContent(_ methods: inout sqlite3_io_methods) {
    methods.xClose = { raw in
      FileBox.close(raw)
      return SQLITE_OK
    }
    methods.xRead = { raw, buffer, count, offset in
      resultCode { () throws(DiskError) in
        let buffer = UnsafeMutableRawBufferPointer(start: buffer, count: Int(count))
        if try FileBox.file(raw).read(buffer, at: Int(offset)) < buffer.count { throw .shortRead }
      }
    }
    methods.xWrite = { raw, bytes, count, offset in
      resultCode { () throws(DiskError) in
        try FileBox.file(raw).write(UnsafeRawBufferPointer(start: bytes, count: Int(count)), at: Int(offset))
      }
    }
    methods.xTruncate = { raw, size in
      resultCode { () throws(DiskError) in try FileBox.file(raw).resize(to: Int(size)) }
    }
    methods.xSync = { raw, flags in resultCode { () throws(DiskError) in try FileBox.file(raw).sync(flags) } }
    methods.xFileSize = { raw, out in
      resultCode { () throws(DiskError) in out?.pointee = Int64(try FileBox.file(raw).size()) }
    }
    methods.xFileControl = { raw, operation, argument in
      resultCode { () throws(DiskError) in try FileBox.file(raw).control(operation, argument) }
    }
  }

  private static func setLocks(_ methods: inout sqlite3_io_methods) {
    methods.xLock = { raw, level in resultCode { () throws(DiskError) in try FileBox.file(raw).lock(level) } }
    methods.xUnlock = { raw, level in resultCode { () throws(DiskError) in try FileBox.file(raw).unlock(level) } }
    methods.xCheckReservedLock = { raw, out in
      resultCode { () throws(DiskError) in out?.pointee = try FileBox.file(raw).isReserved() ? 1 : 0 }
    }
  }

  private static func setMemory(_ methods: inout sqlite3_io_methods) {
    methods.xShmMap = { raw, region, bytes, extend, out in
      resultCode { () throws(DiskError) in
        out?.pointee = try FileBox.file(raw).mapMemory(region, bytes: bytes, extend: extend)
      }
    }
    methods.xShmLock = { raw, offset, count, flags in
      resultCode { () throws(DiskError) in try FileBox.file(raw).lockMemory(offset, count, flags) }
    }
    methods.xShmBarrier = { raw in FileBox.file(raw).memoryBarrier() }
    methods.xShmUnmap = { raw, delete in
      resultCode { () throws(DiskError) in try FileBox.file(raw).unmapMemory(delete) }
    }
  }
}
