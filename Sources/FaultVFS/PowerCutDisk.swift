import Base
import CSQLite
import Glibc
import Synchronization

/// The system's files under this process's SQLite, with a power cut in them: what was written stays in this process
/// until it is synced, and in the operation with a given number the power fails. Then a random part of what was not
/// synced reaches the real files, and the process ends by SIGKILL in the same moment.
///
/// A process that is just killed loses nothing that the kernel holds; this is how a test sees what a machine loses.
/// Other processes must not write the same files.
final class PowerCutDisk: VFSDisk {
  /// One file as all connections of the process see it.
  private struct RealFile: Sendable {
    var cache: CachedFile
    var handles = 0
    /// The name is there, and its directory was not synced since.
    var isNew: Bool
  }

  private struct State: Sendable {
    var files: [String: RealFile] = [:]
    /// Deleted names whose directory was not synced since, with what they held durably.
    var deleted: [String: Bytes] = [:]
    var operations: UInt64 = 0
  }

  private let state = Mutex(State())
  private let random: any RandomSource
  private let cutAt: UInt64
  private let ignoresSyncs: Bool
  /// The system's VFS: made by SQLite, lives as long as the process and is never written (the reason for
  /// `nonisolated(unsafe)`).
  private nonisolated(unsafe) let base: UnsafeMutablePointer<sqlite3_vfs>

  init(base: UnsafeMutablePointer<sqlite3_vfs>, random: any RandomSource, cutAt: UInt64, ignoresSyncs: Bool) {
    self.base = base
    self.random = random
    self.cutAt = cutAt
    self.ignoresSyncs = ignoresSyncs
  }

  // MARK: Names

  func open(_ name: UnsafePointer<CChar>?, _ flags: Int32) throws(DiskError) -> (file: any VFSFile, flags: Int32) {
    let real = UnsafeMutableRawPointer.allocate(byteCount: Int(base.pointee.szOsFile), alignment: 16)
    real.initializeMemory(as: UInt8.self, repeating: 0, count: Int(base.pointee.szOsFile))
    let file = real.assumingMemoryBound(to: sqlite3_file.self)
    let existed = name.map { Glibc.access($0, F_OK) == 0 } ?? false
    var out: Int32 = 0
    if let error = DiskError(code: base.pointee.xOpen(base, name, file, flags, &out)) {
      real.deallocate()
      throw error
    }
    let path = name.map { String(cString: $0) }
    let handle = PowerCutFile(
      disk: self, path: flags & SQLITE_OPEN_DELETEONCLOSE == 0 ? path : nil, real: file,
      syncsDirectory: Self.syncsDirectoryFirst(flags))
    if let path = handle.path {
      do throws(DiskError) {
        let size = try handle.realSize()
        // An empty database was made by its owner a moment ago, and its name is not durable either.
        let isNew = !existed || flags & SQLITE_OPEN_MAIN_DB != 0 && flags & SQLITE_OPEN_CREATE != 0 && size == 0
        try change("creation of", path, counts: !existed) { state in
          state.files[path, default: RealFile(cache: CachedFile(size: size), isNew: isNew)].handles += 1
        }
      } catch {
        handle.closeReal()
        throw error
      }
    }
    return (handle, out)
  }

  func delete(_ path: String, syncsDirectory: Bool) throws(DiskError) {
    var held: Bytes?
    if let file = state.withLock({ $0.files[path] }) {
      held = file.isNew ? nil : Self.content(path)
    } else {
      held = Self.content(path)
    }
    try check(base.pointee.xDelete(base, path, syncsDirectory ? 1 : 0))
    try change("deletion of", path) { state in
      if state.files[path]?.handles ?? 0 == 0 { state.files[path] = nil }
      if let held { state.deleted[path] = held }
    }
    if syncsDirectory { directoryWasSynced(of: path) }
  }

  func access(_ path: String, _ question: Int32) -> Bool {
    if question == SQLITE_ACCESS_EXISTS, let size = state.withLock({ $0.files[path]?.cache.size }) { return size > 0 }
    var answer: Int32 = 0
    return base.pointee.xAccess(base, path, question, &answer) == SQLITE_OK && answer != 0
  }

  private static func content(_ path: String) -> Bytes? {
    let file = Glibc.open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { return nil }
    defer { Glibc.close(file) }
    var (bytes, buffer) = (Bytes(), Bytes(repeating: 0, count: 1 << 16))
    while true {
      let count = buffer.withUnsafeMutableBytes { Glibc.read(file, $0.baseAddress, $0.count) }
      guard count > 0 else { return bytes }
      bytes += buffer[..<count]
    }
  }

  // MARK: What files do

  /// One operation, and the power cut that may fall into it: after a change, before a sync.
  private func change(
    _ what: String, _ path: String, counts: Bool = true, isSync: Bool = false,
    _ body: (inout State) throws(DiskError) -> Void
  ) throws(DiskError) {
    let result: Result<Void, DiskError> = state.withLock { state in
      if counts { state.operations += 1 }
      let isCut = counts && state.operations >= cutAt
      if isCut, isSync { cutPower(&state, what, path) }
      do throws(DiskError) { try body(&state) } catch { return .failure(error) }
      if isCut { cutPower(&state, what, path) }
      return .success(())
    }
    try result.get()
  }

  func write(
    _ path: String, _ bytes: UnsafeRawBufferPointer, at offset: Int, _ medium: RealMedium
  ) throws(DiskError) {
    try change("write of", path) { (state) throws(DiskError) in
      var medium = medium
      try state.files[path]?.cache.write(bytes, at: offset, over: &medium)
    }
  }

  func resize(_ path: String, to size: Int, _ medium: RealMedium) throws(DiskError) {
    try change("resize of", path) { (state) throws(DiskError) in
      var medium = medium
      try state.files[path]?.cache.resize(to: size, over: &medium)
    }
  }

  func sync(
    _ path: String, _ medium: RealMedium, syncsDirectory: Bool, _ sync: () -> Int32
  ) throws(DiskError) {
    try change("sync of", path, isSync: true) { (state) throws(DiskError) in
      if self.ignoresSyncs { return }
      var medium = medium
      try state.files[path]?.cache.sync(to: &medium)
      try check(sync())
    }
    if syncsDirectory, !ignoresSyncs { directoryWasSynced(of: path) }
  }

  private func directoryWasSynced(of path: String) {
    let directory = DirectoryImage.directory(of: path)
    state.withLock { state in
      for name in state.files.keys where DirectoryImage.directory(of: name) == directory {
        state.files[name]?.isNew = false
      }
      state.deleted = state.deleted.filter { DirectoryImage.directory(of: $0.key) != directory }
    }
  }

  func read(
    _ path: String, _ buffer: UnsafeMutableRawBufferPointer, at offset: Int, _ medium: RealMedium
  ) throws(DiskError) -> Int {
    let result: Result<Int, DiskError> = state.withLock { state in
      guard let file = state.files[path] else { return .failure(.read) }
      do throws(DiskError) { return .success(try file.cache.read(buffer, at: offset, over: medium)) } catch {
        return .failure(error)
      }
    }
    return try result.get()
  }

  func size(_ path: String) -> Int? { state.withLock { $0.files[path]?.cache.size } }

  func close(_ path: String) {
    state.withLock { state in
      state.files[path]?.handles -= 1
      // What is not synced outlives the last handle, as in a kernel.
      if let file = state.files[path], file.handles <= 0, file.cache.pending.isEmpty, !file.isNew {
        state.files[path] = nil
      }
    }
  }

  // MARK: The end

  /// Decides what the disk holds, and ends the process.
  private func cutPower(_ state: inout State, _ what: String, _ path: String) -> Never {
    let survival = Survival(random: random)
    for path in state.files.keys.sorted() {
      guard let file = state.files[path] else { continue }
      DescriptorMedium.lose(file.cache, path, survival)
      if file.isNew, random.below(2) == 0 { unlink(path) }
    }
    for path in state.deleted.keys.sorted() where random.below(2) == 0 {
      DescriptorMedium.put(state.deleted[path] ?? [], path)
    }
    let line = Array("SKERRY_TEST_VFS: power cut in operation \(state.operations), the \(what) \(path)\n".utf8)
    _ = line.withUnsafeBytes { Glibc.write(STDERR_FILENO, $0.baseAddress, $0.count) }
    kill(getpid(), SIGKILL)
    // The signal is on its way.
    while true { pause() }
  }
}
