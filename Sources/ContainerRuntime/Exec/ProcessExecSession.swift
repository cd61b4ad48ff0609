import Base
import EventLoop
import Glibc

/// A command that a helper program (runc exec) runs in a container, joined by pipes or by a terminal of ours.
///
/// Nothing is read ahead: while nobody receives, output waits in the kernel and the command comes to wait too.
@LoopActor final class ProcessExecSession: ExecSession, ByteStreamDelegate {
  private var child: Child?
  private var terminal: Terminal?
  private var input: (any ByteStream)?
  private var outputs: [ObjectIdentifier: Int] = [:]
  private var streams: [any ByteStream] = []
  private var buffered: [(stream: Int, bytes: Bytes)] = []
  private var status: ExitStatus?
  private var readers: [CheckedContinuation<Void, Never>] = []
  private var writers: [CheckedContinuation<Void, Never>] = []
  private var exitWaiters: [CheckedContinuation<Void, Never>] = []
  /// Where the helper writes the pid of the command itself.
  private let pidFile: String?

  private init(pidFile: String?) { self.pidFile = pidFile }

  /// - Parameter argv: the helper and its arguments; it exits as the command does.
  static func start(
    _ argv: [String], _ request: ExecRequest, environment: [String: String], directory: String, pidFile: String?
  ) throws(SkerryError) -> ProcessExecSession {
    let session = ProcessExecSession(pidFile: pidFile)
    if request.tty {
      try session.startWithTerminal(argv, environment, directory)
    } else {
      try session.startWithPipes(argv, request, environment, directory)
    }
    return session
  }

  private func startWithPipes(
    _ argv: [String], _ request: ExecRequest, _ environment: [String: String], _ directory: String
  ) throws(SkerryError) {
    let child = try Subprocess.spawn(
      argv, environment: environment, directory: directory, stdin: request.stdin ? .pipe : .null, stdout: .pipe,
      stderr: .pipe, detached: true, onExit: { [weak self] in self?.exited($0) })
    self.child = child
    input = child.stdin
    input?.delegate = self
    for (number, stream) in [(1, child.stdout), (2, child.stderr)] {
      guard let stream else { continue }
      adopt(stream, as: number)
    }
  }

  private func startWithTerminal(_ argv: [String], _ environment: [String: String], _ directory: String)
    throws(SkerryError)
  {
    let terminal = try Terminal()
    defer { terminal.closeChildEnd() }
    // setsid(1) makes the terminal the controlling one, so that the helper hears of its changes of size.
    child = try Subprocess.spawn(
      ["setsid", "--ctty"] + argv, environment: environment, directory: directory, stdin: .fd(terminal.childEnd),
      stdout: .fd(terminal.childEnd), stderr: .fd(terminal.childEnd),
      onExit: { [weak self] in self?.exited($0) })
    self.terminal = terminal
    let stream = try DescriptorStream.open(terminal.ownEnd, name: "terminal of \(argv.first ?? "")")
    input = stream
    adopt(stream, as: 1)
  }

  private func adopt(_ stream: any ByteStream, as number: Int) {
    outputs[ObjectIdentifier(stream)] = number
    streams.append(stream)
    stream.delegate = self
  }

  // MARK: ExecSession

  func receive() async throws(SkerryError) -> (stream: Int, bytes: Bytes)? {
    while buffered.isEmpty && !outputs.isEmpty {
      for stream in streams where outputs[ObjectIdentifier(stream)] != nil { stream.resumeReading() }
      await withCheckedContinuation { readers.append($0) }
    }
    return buffered.isEmpty ? nil : buffered.removeFirst()
  }

  func write(_ bytes: Bytes) async throws(SkerryError) {
    guard let input, status == nil, !bytes.isEmpty else { return }
    input.write(bytes)
    if input.pendingWriteBytes > 0 { await withCheckedContinuation { writers.append($0) } }
  }

  func closeInput() {
    // A terminal has no end of input but the character that says so.
    if terminal != nil { input?.write([4]) } else { input?.finishWriting() }
    if terminal == nil { input = nil }
  }

  func resize(width: Int, height: Int) { terminal?.resize(width: width, height: height) }

  func exitCode() async throws(SkerryError) -> Int32 {
    if status == nil { await withCheckedContinuation { exitWaiters.append($0) } }
    return switch status {
    case .exited(let code): code
    case .signalled(let signal): 128 + signal
    case nil: throw SkerryError(.internal, "a command ended without a status")
    }
  }

  func kill() {
    if let pidFile, let text = Files.readText(pidFile, limit: 64), let pid = Int32(text), pid > 1, status == nil {
      // The helper still waits for it, so the number has not been used again.
      Glibc.kill(pid, SIGKILL)
    }
    if pidFile == nil { child?.killGroup(SIGKILL) }
    for stream in streams { stream.close() }
  }

  // MARK: events

  private func exited(_ status: ExitStatus) {
    self.status = status
    if let pidFile { try? Files.removeFile(pidFile) }
    wake(&exitWaiters)
    wake(&writers)
    // Whatever is still in the pipes is read; a process that the command left behind may hold them, which is its
    // right: the reader decides how long to listen.
    wake(&readers)
  }

  private func wake(_ list: inout [CheckedContinuation<Void, Never>]) {
    let waiting = list
    list = []
    for continuation in waiting { continuation.resume() }
  }

  func stream(_ stream: any ByteStream, received bytes: UnsafeRawBufferPointer) {
    guard let number = outputs[ObjectIdentifier(stream)] else { return }
    buffered.append((number, Bytes(bytes)))
    for stream in streams { stream.pauseReading() }
    wake(&readers)
  }

  func streamDidDrain(_ stream: any ByteStream) { wake(&writers) }

  func streamReceivedEnd(_ stream: any ByteStream) {
    if outputs[ObjectIdentifier(stream)] != nil { stream.close() }
  }

  /// A terminal ends with an error (EIO) when its last user closes it; for us that is its end.
  func streamDidClose(_ stream: any ByteStream, error: SkerryError?) {
    outputs[ObjectIdentifier(stream)] = nil
    if stream === input { wake(&writers) }
    wake(&readers)
  }
}

/// A pseudo-terminal (pty(7)) in raw mode: the container's own terminal does echo and line editing.
@LoopActor final class Terminal {
  /// TIOCSPTLCK and TIOCGPTN (ioctl_tty(2)): what unlockpt and ptsname do, which Swift's Glibc does not show.
  private static let setLock: UInt = 0x4004_5431
  private static let getNumber: UInt = 0x8004_5430

  let ownEnd: Int32
  private(set) var childEnd: Int32

  init() throws(SkerryError) {
    let own = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC)
    guard own >= 0 else { throw Files.failure("open", "/dev/ptmx") }
    var (locked, number): (Int32, Int32) = (0, 0)
    guard ioctl(own, Self.setLock, &locked) == 0, ioctl(own, Self.getNumber, &number) == 0 else {
      let error = Files.failure("unlock the terminal of", "/dev/ptmx")
      close(own)
      throw error
    }
    let name = "/dev/pts/\(number)"
    let other = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC)
    guard other >= 0 else {
      let error = Files.failure("open", name)
      close(own)
      throw error
    }
    var settings = termios()
    tcgetattr(other, &settings)
    cfmakeraw(&settings)
    tcsetattr(other, TCSANOW, &settings)
    ownEnd = own
    childEnd = other
  }

  func closeChildEnd() {
    if childEnd >= 0 { close(childEnd) }
    childEnd = -1
  }

  func resize(width: Int, height: Int) {
    var size = winsize(
      ws_row: UInt16(clamping: height), ws_col: UInt16(clamping: width), ws_xpixel: 0, ws_ypixel: 0)
    _ = ioctl(ownEnd, UInt(TIOCSWINSZ), &size)
  }
}
