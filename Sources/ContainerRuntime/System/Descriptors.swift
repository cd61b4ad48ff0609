import EventLoop
import Glibc

/// Descriptors that this process inherited from whoever started it: a pipe of a shell, a lock file.
enum Descriptors {
  /// Keeps them from being inherited further. Monitors outlive us by far, and would hold such a pipe open, so that
  /// its reader never saw the end, or such a lock.
  static func keepFromChildren() {
    for name in Files.list("/proc/self/fd") {
      guard let number = Int32(name), number > 2 else { continue }
      let flags = fcntl(number, F_GETFD)
      if flags >= 0 && flags & FD_CLOEXEC == 0 { _ = fcntl(number, F_SETFD, flags | FD_CLOEXEC) }
    }
  }
}
