import Base
import EventLoop
import Glibc

/// Keeps a container's log bounded: `0.log` is written, `0.log.1` is the one before it, and so on. Nothing is lost
/// but the oldest file: conmon is told to open its log again after the rename, and writes to the renamed file until
/// then.
enum LogRotation {
  /// A log file is put aside once it is larger.
  static let maxBytes: Int64 = 10 << 20
  /// Files kept beside the one that is written.
  static let maxOldFiles = 4
  /// conmon's control message: event 2 (open the logs again) and two numbers that it does not use.
  private static let reopen = Bytes("2 0 0\n".utf8)

  /// Blocking. `control` is the FIFO in the container's bundle. True if it rotated.
  static func rotateIfLarge(_ log: String, control: String, maxBytes: Int64 = maxBytes) throws(SkerryError) -> Bool {
    guard let found = Files.look(log), found.bytes > maxBytes else { return false }
    // Not blocking: without a conmon nobody reads the FIFO, and nobody writes the log either.
    let file = open(control, O_WRONLY | O_NONBLOCK | O_CLOEXEC)
    guard file >= 0 else { return false }
    defer { close(file) }
    for number in stride(from: maxOldFiles, to: 1, by: -1) where Files.exists("\(log).\(number - 1)") {
      guard Glibc.rename("\(log).\(number - 1)", "\(log).\(number)") == 0 else {
        throw Files.failure("rename", "\(log).\(number - 1)")
      }
    }
    guard Glibc.rename(log, "\(log).1") == 0 else { throw Files.failure("rename", log) }
    guard reopen.withUnsafeBytes({ Glibc.write(file, $0.baseAddress, $0.count) }) == reopen.count else {
      throw Files.failure("tell conmon to open its log again by", control)
    }
    return true
  }
}
