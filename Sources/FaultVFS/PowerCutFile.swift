import Base
import CSQLite
import Glibc

/// A real file by the system's VFS, which does the locks and the shared memory too.
struct RealMedium: Medium {
  let file: UnsafeMutablePointer<sqlite3_file>

  var methods: sqlite3_io_methods {
    guard let methods = file.pointee.pMethods else {
      preconditionFailure("the system's VFS opened a file without methods")
    }
    return methods.pointee
  }

  func read(_ buffer: UnsafeMutableRawBufferPointer, at offset: Int) throws(DiskError) {
    let code = methods.xRead(file, buffer.baseAddress, Int32(buffer.count), Int64(offset))
    // It zeroes what it cannot read.
    if code != DiskError.shortRead.code { try check(code) }
  }

  func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(DiskError) {
    try check(methods.xWrite(file, bytes.baseAddress, Int32(bytes.count), Int64(offset)))
  }

  func resize(to size: Int) throws(DiskError) {
    var now: Int64 = 0
    try check(methods.xFileSize(file, &now))
    if Int64(size) > now {
      // The system's VFS only cuts; a write makes it longer.
      try withUnsafeBytes(of: UInt8(0)) { (zero) throws(DiskError) in try write(zero, at: size - 1) }
    } else {
      try check(methods.xTruncate(file, Int64(size)))
    }
  }
}

/// A real file by descriptor, for the last moment of the process.
struct DescriptorMedium: Medium {
  let descriptor: Int32

  func read(_ buffer: UnsafeMutableRawBufferPointer, at offset: Int) throws(DiskError) {
    guard pread(descriptor, buffer.baseAddress, buffer.count, off_t(offset)) == buffer.count else { throw .read }
  }

  func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(DiskError) {
    guard pwrite(descriptor, bytes.baseAddress, bytes.count, off_t(offset)) == bytes.count else { throw .write }
  }

  func resize(to size: Int) throws(DiskError) {
    guard ftruncate(descriptor, off_t(size)) == 0 else { throw .resize }
  }

  /// Brings to a file what a power cut leaves of its changes.
  static func lose(_ cache: CachedFile, _ path: String, _ survival: Survival) {
    if cache.pending.isEmpty { return }
    let descriptor = open(path, O_RDWR | O_CLOEXEC)
    guard descriptor >= 0 else { return }
    var medium = DescriptorMedium(descriptor: descriptor)
    let size = Int(lseek(descriptor, 0, SEEK_END))
    _ = resultCode { () throws(DiskError) in try cache.lose(to: &medium, mediumSize: size, survival: survival) }
  }

  /// Puts back a file whose deletion was lost.
  static func put(_ bytes: Bytes, _ path: String) {
    let descriptor = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { return }
    bytes.withUnsafeBytes { buffer in
      _ = resultCode { () throws(DiskError) in try DescriptorMedium(descriptor: descriptor).write(buffer, at: 0) }
    }
  }
}

/// An open file of `PowerCutDisk`: content by the disk's cache, everything else by the system's VFS. Used by one
/// connection at a time, like every `sqlite3_file`.
final class PowerCutFile: VFSFile {
  /// Nil for a file that vanishes: nothing of it is worth keeping.
  let path: String?
  private let disk: PowerCutDisk
  private let medium: RealMedium
  private var syncsDirectory: Bool

  init(disk: PowerCutDisk, path: String?, real: UnsafeMutablePointer<sqlite3_file>, syncsDirectory: Bool) {
    self.disk = disk
    self.path = path
    medium = RealMedium(file: real)
    self.syncsDirectory = syncsDirectory
  }

  private var real: UnsafeMutablePointer<sqlite3_file> { medium.file }
  private var methods: sqlite3_io_methods { medium.methods }

  func realSize() throws(DiskError) -> Int {
    var size: Int64 = 0
    try check(methods.xFileSize(real, &size))
    return Int(size)
  }

  func closeReal() {
    _ = methods.xClose(real)
    UnsafeMutableRawPointer(real).deallocate()
  }

  // MARK: Content

  func read(_ buffer: UnsafeMutableRawBufferPointer, at offset: Int) throws(DiskError) -> Int {
    if let path { return try disk.read(path, buffer, at: offset, medium) }
    let inside = max(0, min(buffer.count, try realSize() - offset))
    try medium.read(buffer, at: offset)
    return inside
  }

  func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(DiskError) {
    guard let path else { return try medium.write(bytes, at: offset) }
    try disk.write(path, bytes, at: offset, medium)
  }

  func resize(to size: Int) throws(DiskError) {
    guard let path else { return try medium.resize(to: size) }
    try disk.resize(path, to: size, medium)
  }

  func sync(_ flags: Int32) throws(DiskError) {
    let (methods, real) = (methods, real)
    guard let path else { return try check(methods.xSync(real, flags)) }
    try disk.sync(path, medium, syncsDirectory: syncsDirectory) { methods.xSync(real, flags) }
    syncsDirectory = false
  }

  func size() throws(DiskError) -> Int {
    if let path, let size = disk.size(path) { return size }
    return try realSize()
  }

  func close() {
    closeReal()
    if let path { disk.close(path) }
  }

  /// Hints about the size to come would change the real file.
  func control(_ operation: Int32, _ argument: UnsafeMutableRawPointer?) throws(DiskError) {
    if operation == SQLITE_FCNTL_SIZE_HINT || operation == SQLITE_FCNTL_CHUNK_SIZE { return }
    try check(methods.xFileControl(real, operation, argument))
  }

  // MARK: Locks

  func lock(_ level: Int32) throws(DiskError) { try check(methods.xLock(real, level)) }

  func unlock(_ level: Int32) throws(DiskError) { try check(methods.xUnlock(real, level)) }

  func isReserved() throws(DiskError) -> Bool {
    var answer: Int32 = 0
    try check(methods.xCheckReservedLock(real, &answer))
    return answer != 0
  }

  func mapMemory(_ region: Int32, bytes: Int32, extend: Int32) throws(DiskError) -> UnsafeMutableRawPointer? {
    var memory: UnsafeMutableRawPointer?
    try check(methods.xShmMap(real, region, bytes, extend, &memory))
    return memory
  }

  func lockMemory(_ offset: Int32, _ count: Int32, _ flags: Int32) throws(DiskError) {
    try check(methods.xShmLock(real, offset, count, flags))
  }

  func memoryBarrier() { methods.xShmBarrier(real) }

  func unmapMemory(_ delete: Int32) throws(DiskError) { try check(methods.xShmUnmap(real, delete)) }
}
