import Base
import EventLoop
import Glibc

/// The process's own terminal.
@LoopActor final class ProcessConsole: Console {
  /// Reads the terminal, which may take for ever: a thread that nobody waits for when the process ends.
  private var inputThread: BlockingThread?

  var isTerminal: Bool { isatty(1) == 1 }

  func write(_ bytes: Bytes) { put(bytes, 1) }
  func writeError(_ bytes: Bytes) { put(bytes, 2) }

  private func put(_ bytes: Bytes, _ descriptor: Int32) {
    var done = 0
    while done < bytes.count {
      let count = bytes[done...].withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
      if count < 0 && (errno == EINTR || errno == EAGAIN) { continue }
      // A reader that went away (`| head`) ends the command, as SIGPIPE would.
      guard count >= 0 else { exit(descriptor == 1 ? 141 : 1) }
      done += count
    }
  }

  nonisolated func readInput(limit: Int) throws(SkerryError) -> Bytes {
    try Files.readAll(0, "standard input", limit)
  }

  func nextInput() async -> Bytes? {
    let thread = inputThread ?? BlockingThread(name: "stdin")
    inputThread = thread
    return await withCheckedContinuation { continuation in
      thread.run {
        var chunk = Bytes(repeating: 0, count: 16 * 1024)
        var count = read(0, &chunk, chunk.count)
        while count < 0 && errno == EINTR { count = read(0, &chunk, chunk.count) }
        continuation.resume(returning: count > 0 ? Bytes(chunk[0..<count]) : nil)
      }
    }
  }

  var size: (width: Int, height: Int)? {
    var size = winsize()
    guard ioctl(1, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 else { return nil }
    return (Int(size.ws_col), Int(size.ws_row))
  }

  func makeRaw() -> (@LoopActor () -> Void)? {
    var original = termios()
    guard tcgetattr(0, &original) == 0 else { return nil }
    var raw = original
    cfmakeraw(&raw)
    tcsetattr(0, TCSANOW, &raw)
    let saved = original
    return {
      var restored = saved
      tcsetattr(0, TCSANOW, &restored)
    }
  }

  func onResize(_ action: @escaping @LoopActor () -> Void) -> (@LoopActor () -> Void) {
    let watch = Signals.on(SIGWINCH, action)
    return { watch.cancel() }
  }
}
