import Base
import CSQLite
import Synchronization

/// A simulated disk as SQLite reaches it.
final class DiskCore: VFSDisk {
  let state: Mutex<DiskState>

  init(random: any RandomSource) { state = Mutex(DiskState(random: random)) }

  /// One operation under the mutex. What crosses it are SQLite's buffers, which stay in place during a call.
  func perform<R: Sendable>(_ body: (inout DiskState) throws(DiskError) -> R) throws(DiskError) -> R {
    let result: Result<R, DiskError> = state.withLock { state in
      do throws(DiskError) { return .success(try body(&state)) } catch { return .failure(error) }
    }
    return try result.get()
  }

  func open(_ name: UnsafePointer<CChar>?, _ flags: Int32) throws(DiskError) -> (file: any VFSFile, flags: Int32) {
    let path = name.map { String(cString: $0) }
    let opened = try perform { (state) throws(DiskError) in
      try state.open(
        path, creates: flags & SQLITE_OPEN_CREATE != 0, isExclusive: flags & SQLITE_OPEN_EXCLUSIVE != 0)
    }
    let vanishing = flags & SQLITE_OPEN_DELETEONCLOSE != 0 ? path : nil
    let file = ImageHandle(
      core: self, opened: opened, path: path, syncsDirectory: Self.syncsDirectoryFirst(flags), vanishing: vanishing)
    return (file, flags)
  }

  func delete(_ path: String, syncsDirectory: Bool) throws(DiskError) {
    try perform { (state) throws(DiskError) in
      try state.unlink(path)
      if syncsDirectory { try state.syncDirectory(DirectoryImage.directory(of: path)) }
    }
  }

  func access(_ path: String, _ question: Int32) -> Bool {
    state.withLock { state in
      question == SQLITE_ACCESS_EXISTS ? state.size(of: path) ?? 0 > 0 : state.exists(path)
    }
  }
}

/// An open file of a simulated disk. Used by one connection at a time, like every `sqlite3_file`.
final class ImageHandle: VFSFile {
  private let core: DiskCore
  private let opened: DiskState.Opened
  private let path: String?
  private let vanishing: String?
  private var syncsDirectory: Bool

  init(core: DiskCore, opened: DiskState.Opened, path: String?, syncsDirectory: Bool, vanishing: String?) {
    self.core = core
    self.opened = opened
    self.path = path
    self.syncsDirectory = syncsDirectory
    self.vanishing = vanishing
  }

  func read(_ buffer: UnsafeMutableRawBufferPointer, at offset: Int) throws(DiskError) -> Int {
    try core.perform { (state) throws(DiskError) in try state.read(opened, buffer, at: offset) }
  }

  func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(DiskError) {
    try core.perform { (state) throws(DiskError) in try state.write(opened, bytes, at: offset) }
  }

  func resize(to size: Int) throws(DiskError) {
    try core.perform { (state) throws(DiskError) in try state.resize(opened, to: size) }
  }

  func sync(_ flags: Int32) throws(DiskError) {
    let directory = syncsDirectory ? path.map(DirectoryImage.directory) : nil
    try core.perform { (state) throws(DiskError) in
      try state.sync(opened)
      if let directory { try state.syncDirectory(directory) }
    }
    syncsDirectory = false
  }

  func size() throws(DiskError) -> Int {
    try core.perform { (state) throws(DiskError) in try state.size(opened) }
  }

  func close() {
    core.state.withLock { state in
      state.close(opened)
      if let vanishing, state.isAlive(opened) {
        _ = resultCode { () throws(DiskError) in try state.unlink(vanishing) }
      }
    }
  }

  func control(_ operation: Int32, _ argument: UnsafeMutableRawPointer?) throws(DiskError) { throw .notFound }

  // MARK: Locks

  /// A dead handle holds locks of its own life, among the dead.
  private func share<R: Sendable>(_ body: (Sharing) throws(DiskError) -> R) throws(DiskError) -> R {
    try core.perform { (state) throws(DiskError) in
      guard state.isAlive(opened) else { throw .dead }
      return try body(opened.sharing)
    }
  }

  func lock(_ level: Int32) throws(DiskError) {
    try share { (sharing) throws(DiskError) in try sharing.lock(level, by: opened.handle) }
  }

  func unlock(_ level: Int32) throws(DiskError) {
    try share { (sharing) throws(DiskError) in sharing.unlock(level, by: opened.handle) }
  }

  func isReserved() throws(DiskError) -> Bool {
    try share { (sharing) throws(DiskError) in sharing.isReserved }
  }

  func mapMemory(_ region: Int32, bytes: Int32, extend: Int32) throws(DiskError) -> UnsafeMutableRawPointer? {
    let address = try share { (sharing) throws(DiskError) in
      sharing.map(Int(region), bytes: Int(bytes), extend: extend != 0, by: opened.handle).map { UInt(bitPattern: $0) }
    }
    return address.flatMap { UnsafeMutableRawPointer(bitPattern: $0) }
  }

  func lockMemory(_ offset: Int32, _ count: Int32, _ flags: Int32) throws(DiskError) {
    let range = Int(offset)..<Int(offset + count)
    try share { (sharing) throws(DiskError) in
      if flags & SQLITE_SHM_UNLOCK != 0 {
        sharing.unlockMemory(range, by: opened.handle)
      } else {
        try sharing.lockMemory(range, isExclusive: flags & SQLITE_SHM_EXCLUSIVE != 0, by: opened.handle)
      }
    }
  }

  /// Taking and leaving a mutex is a full barrier.
  func memoryBarrier() { core.state.withLock { _ in } }

  /// Also for the dead: their memory goes with the last of them.
  func unmapMemory(_ delete: Int32) throws(DiskError) {
    core.state.withLock { _ in opened.sharing.unmap(by: opened.handle) }
  }
}
