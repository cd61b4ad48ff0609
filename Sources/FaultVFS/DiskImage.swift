import Base
import Synchronization

/// A disk in memory with a mind of its own: it keeps apart what was synced and what was only written, and can lose
/// power. SQLite reaches it by the VFS name `vfs`; other files are written with the calls here. As many in one process
/// as there are simulated machines; the same seed and the same calls lead to the same bytes.
///
/// A handle that was open at a crash or power cut is dead: everything it does is answered with an I/O error.
package final class DiskImage: Sendable {
  /// What SQLite opens files of this disk with (`Database.Options.vfs`). Good while the disk or an open file lives.
  package var vfs: String { registration.name }

  private let core: DiskCore
  private let registration: VFSRegistration
  private static let count = Atomic<UInt64>(0)

  /// `random` decides what is lost.
  package init(random: any RandomSource) {
    core = DiskCore(random: random)
    let number = Self.count.wrappingAdd(1, ordering: .relaxed).newValue
    registration = VFSRegistration(name: "skerry-disk-\(number)", disk: core)
  }

  // MARK: Faults

  package var faults: DiskFaults {
    get { core.state.withLock { $0.faults } }
    set { core.state.withLock { $0.faults = newValue } }
  }

  /// Changes and syncs so far: what `cutPower(at:)` counts.
  package var operations: UInt64 { core.state.withLock { $0.operations } }

  package var powerCuts: Int { core.state.withLock { $0.powerCuts } }

  package var usedBytes: Int { core.state.withLock { $0.usedBytes } }

  /// The process dies: its handles are dead and its locks gone; what it wrote is all there.
  package func crash() { core.state.withLock { $0.crash() } }

  /// The power fails now. Of what was not followed by a sync, each operation is kept, lost, or torn at sector
  /// boundaries, in any order; so are names whose directory was not synced.
  package func powerCut() { core.state.withLock { $0.powerCut() } }

  /// The power will fail in the middle of the operation with this number, counted as `operations` does; nil takes it
  /// back. One that is past falls into the next operation.
  package func cutPower(at operation: UInt64?) {
    core.state.withLock { $0.end = operation.map { ($0, isPowerCut: true) } }
  }

  /// Like `cutPower(at:)` for a process that dies: what it wrote so far is there, synced or not.
  package func crash(at operation: UInt64?) {
    core.state.withLock { $0.end = operation.map { ($0, isPowerCut: false) } }
  }

  /// The operation with this number will fail with an I/O error, without an effect.
  package func fail(at operation: UInt64?) { core.state.withLock { $0.failAt = operation } }

  /// Ends of a life so far, by `crash`, `powerCut` or `restore`. Handles opened before the last one are dead.
  package var lives: UInt64 { core.state.withLock { $0.life } }

  /// From now on `trace` shows the operations.
  package func startTrace() { core.state.withLock { $0.startTrace() } }

  /// The newest changes, syncs and ends of a life, each with its number; empty unless they are traced.
  package var trace: [String] { core.state.withLock { $0.trace ?? [] } }

  // MARK: Images

  /// Every file's name and content as the kernel shows them: a backup of the machine.
  package var image: [String: Bytes] { core.state.withLock { $0.image } }

  /// Puts an image in place of what is there, as whoever restores a machine does; handles are dead.
  package func restore(_ image: [String: Bytes]) { core.state.withLock { $0.restore(image) } }

  // MARK: Files of whoever is not SQLite

  /// The names on the disk, sorted.
  package var paths: [String] { core.state.withLock { $0.paths } }

  package func exists(_ path: String) -> Bool { core.state.withLock { $0.exists(path) } }

  /// A file's content, or nil if it is not there.
  package func read(_ path: String) -> Bytes? { core.state.withLock { $0.content(of: path) } }

  /// Makes the file or replaces its content. Not durable before `sync` and `syncDirectory`.
  package func write(_ path: String, _ bytes: Bytes) throws(SkerryError) {
    try perform("write", path) { (state) throws(DiskError) in
      let opened = try state.open(path, creates: true, isExclusive: false)
      defer { state.close(opened) }
      if try state.size(opened) > 0 { try state.resize(opened, to: 0) }
      var failure: DiskError?
      bytes.withUnsafeBytes { buffer in
        do throws(DiskError) { try state.write(opened, buffer, at: 0) } catch { failure = error }
      }
      if let failure { throw failure }
    }
  }

  package func sync(_ path: String) throws(SkerryError) {
    try perform("sync", path) { (state) throws(DiskError) in
      let opened = try state.open(path, creates: false, isExclusive: false)
      defer { state.close(opened) }
      try state.sync(opened)
    }
  }

  package func rename(_ path: String, to new: String) throws(SkerryError) {
    try perform("rename", path) { (state) throws(DiskError) in try state.rename(path, to: new) }
  }

  package func remove(_ path: String) throws(SkerryError) {
    try perform("remove", path) { (state) throws(DiskError) in try state.unlink(path) }
  }

  /// Makes the names in the directory of `path` durable.
  package func syncDirectory(of path: String) throws(SkerryError) {
    try perform("sync the directory of", path) { (state) throws(DiskError) in
      try state.syncDirectory(DirectoryImage.directory(of: path))
    }
  }

  /// Replaces a file as `Files.writeDurably` does: the old or the new content is there after a power cut.
  package func writeDurably(_ path: String, _ bytes: Bytes) throws(SkerryError) {
    try write(path + ".new", bytes)
    try sync(path + ".new")
    try rename(path + ".new", to: path)
    try syncDirectory(of: path)
  }

  private func perform(
    _ what: String, _ path: String, _ body: (inout DiskState) throws(DiskError) -> Void
  ) throws(SkerryError) {
    let code = core.state.withLock { state in resultCode { () throws(DiskError) in try body(&state) } }
    guard let error = DiskError(code: code) else { return }
    let kind: SkerryError.Code = error.code == DiskError.noSuchFile.code ? .notFound : .system
    throw SkerryError(kind, "the simulated disk cannot \(what) \(path) (\(error.code))")
  }
}
