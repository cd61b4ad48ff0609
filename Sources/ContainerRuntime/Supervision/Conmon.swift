import Base
import EventLoop
import ObjectModel

/// Starts conmon (github.com/containers/conmon) for one container.
///
/// conmon forks itself away and, on descriptor `_OCI_SYNCPIPE`, writes one line of JSON: `{"data": pid}`, or a
/// negative number and a message when the runtime program failed.
@LoopActor final class Conmon: ByteStreamDelegate {
  /// Longest wait for a runtime program to make a container.
  static let deadline: Duration = .seconds(60)
  /// The most that is read of conmon's answer and of its error output.
  static let maxAnswerBytes = 64 << 10
  /// conmon cuts a log file at this size when nobody rotates it (edgecore is down): a bound for the disk, high above
  /// `LogRotation.maxBytes`, since what it cuts is lost.
  static let maxUnattendedLogBytes = 256 << 20

  private var child: Child?
  private var answer: Bytes = []
  private var errorOutput: Bytes = []
  private var continuation: CheckedContinuation<Void, Never>?
  private var done = false
  private var timedOut = false

  private init() {}

  struct Request {
    var record: ContainerRecord
    var layout: RuntimeLayout
    var launcher: any Launcher
    var tty: Bool
    var stdin: Bool
    var environment: [String: String]
  }

  /// Answers the pid of the created process, which waits for its start.
  static func launch(_ request: Request, scheduler: any Scheduler) async throws(SkerryError) -> Int32 {
    let launch = Conmon()
    let child = try Subprocess.spawn(
      arguments(request), environment: request.environment, directory: "/", stderr: .pipe, extra: [.pipe],
      detached: true, onExit: { _ in })
    return try await launch.wait(child, scheduler)
  }

  private static func arguments(_ request: Request) -> [String] {
    let (record, layout) = (request.record, request.layout)
    var argv = [
      "conmon", "--api-version", "1", "--cid", record.id, "--cuuid", record.token, "--name", record.id,
      "--runtime", request.launcher.runtimeProgram, "--bundle", layout.bundle(record.id),
      "--container-pidfile", layout.pidFile(record.id), "--conmon-pidfile", layout.monitorPidFile(record.id),
      "--log-path", "k8s-file:\(record.logPath)", "--log-size-max", "\(maxUnattendedLogBytes)",
      "--exit-dir", layout.exits, "--persist-dir", "\(layout.containers)/\(record.id)",
      "--socket-dir-path", layout.bundles, "--full-attach",
    ]
    argv += request.launcher.runtimeArguments.map { "--runtime-arg=\($0)" }
    if request.tty { argv.append("--terminal") }
    if request.stdin { argv += ["--stdin", "--leave-stdin-open"] }
    return argv
  }

  private func wait(_ child: Child, _ scheduler: any Scheduler) async throws(SkerryError) -> Int32 {
    self.child = child
    for stream in child.pipes.values {
      stream.delegate = self
      stream.resumeReading()
    }
    let timer = scheduler.schedule(after: Self.deadline) { [self] in
      timedOut = true
      finish()
    }
    if !done { await withCheckedContinuation { continuation = $0 } }
    scheduler.cancel(timer)
    for stream in child.pipes.values { stream.close() }
    self.child = nil
    return try parse()
  }

  private func parse() throws(SkerryError) -> Int32 {
    guard !timedOut else {
      throw SkerryError(.timeout, "conmon did not make the container within \(Self.deadline)")
    }
    let line = answer.prefix { $0 != UInt8(ascii: "\n") }
    guard let value = try? JSON.parse(Bytes(line)), let pid = value["data"].int else {
      throw SkerryError(.system, "conmon failed before it made the container: \(Tool.quote(errorOutput))")
    }
    guard pid > 0, let pid = Int32(exactly: pid) else {
      let message = value["message"].string ?? Tool.quote(errorOutput)
      throw SkerryError(.system, "the container could not be made: \(Self.short(message))")
    }
    return pid
  }

  /// runc's own words without its log line around them.
  private static func short(_ message: String) -> String {
    let lines = message.split(separator: "\n").map(String.init)
    return String(lines.joined(separator: "; ").suffix(Tool.maxQuotedBytes))
  }

  private func finish() {
    done = true
    continuation?.resume()
    continuation = nil
  }

  func stream(_ stream: any ByteStream, received bytes: UnsafeRawBufferPointer) {
    guard stream === child?.pipes[3] else {
      errorOutput.append(contentsOf: bytes.prefix(Self.maxAnswerBytes - errorOutput.count))
      return
    }
    answer.append(contentsOf: bytes.prefix(Self.maxAnswerBytes - answer.count))
    if answer.contains(UInt8(ascii: "\n")) { finish() }
  }

  func streamDidDrain(_ stream: any ByteStream) {}
  func streamReceivedEnd(_ stream: any ByteStream) { if stream === child?.pipes[3] { finish() } }
  func streamDidClose(_ stream: any ByteStream, error: SkerryError?) { if stream === child?.pipes[3] { finish() } }
}
