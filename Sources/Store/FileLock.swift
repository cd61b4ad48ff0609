import Base
import Glibc

/// The exclusive hold of one daemon on a file, kept in `PATH.lock` beside it.
///
/// The kernel frees it when the process dies, however it dies. The lock file also remembers what was stored there,
/// so that a database that somebody emptied is not taken for a new one.
package final class FileLock {
  private let descriptor: Int32
  package let path: String
  /// What an earlier holder noted with `note`, empty for a new lock file.
  package let noted: String

  /// A note is one short line; longer content is not ours.
  private static let maxNoteBytes = 256
  /// How long a start waits for the last holder to be gone.
  private static let maxWaitMilliseconds = 2000
  private static let waitStepMilliseconds = 20

  /// Takes the lock of `target` or says who has it.
  package init(of target: String) throws(SkerryError) {
    path = target + ".lock"
    let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else {
      let reason = String(cString: strerror(errno))
      throw SkerryError(.system, "cannot open \(path): \(reason); check that its directory exists and may be written")
    }
    let content = Self.read(descriptor)
    guard Self.take(descriptor) else {
      close(descriptor)
      let holder = content.split(separator: " ").first.map { " \($0)" } ?? ""
      throw SkerryError(
        .unavailable,
        "\(target) is in use by another daemon (process\(holder)): stop it, or give this one another data directory")
    }
    self.descriptor = descriptor
    noted = content.split(separator: " ").dropFirst().first.map { $0.trimmingNewline } ?? ""
    write(noted)
  }

  deinit { close(descriptor) }

  /// Tries for a moment: a holder that was killed keeps its descriptors until the kernel is done with it.
  private static func take(_ descriptor: Int32) -> Bool {
    for _ in 0..<(maxWaitMilliseconds / waitStepMilliseconds) {
      if flock(descriptor, LOCK_EX | LOCK_NB) == 0 { return true }
      poll(nil, 0, Int32(waitStepMilliseconds))
    }
    return flock(descriptor, LOCK_EX | LOCK_NB) == 0
  }

  /// Keeps one word beside the holder's process number, for whoever opens next.
  package func note(_ word: String) { write(word) }

  private func write(_ word: String) {
    let line = Array("\(getpid()) \(word)\n".utf8)
    // A lost note costs a clearer error message, nothing more; so failures are passed over.
    _ = line.withUnsafeBytes { pwrite(descriptor, $0.baseAddress, $0.count, 0) }
    _ = ftruncate(descriptor, line.count)
  }

  private static func read(_ descriptor: Int32) -> String {
    var buffer = Bytes(repeating: 0, count: maxNoteBytes)
    let count = buffer.withUnsafeMutableBytes { pread(descriptor, $0.baseAddress, $0.count, 0) }
    return String(decoding: buffer.prefix(max(count, 0)), as: UTF8.self)
  }
}

extension Substring {
  fileprivate var trimmingNewline: String { last == "\n" ? String(dropLast()) : String(self) }
}
