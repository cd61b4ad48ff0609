import Base
import Glibc

/// What a finished program left.
package struct SubprocessResult: Sendable {
  package var status: ExitStatus
  package var output: Bytes
  package var errorOutput: Bytes
  package init(status: ExitStatus, output: Bytes, errorOutput: Bytes) {
    self.status = status
    self.output = output
    self.errorOutput = errorOutput
  }
  package var outputText: String { String(decoding: output, as: UTF8.self) }
  package var errorText: String { String(decoding: errorOutput, as: UTF8.self) }
}

extension Subprocess {
  /// Runs a program to its end. It leads a process group, which is killed at the deadline, when the task is cancelled
  /// and when it prints more than `outputLimit` bytes on either of its outputs.
  ///
  /// A status other than success is a result, not an error; errors are `system` (it cannot be started), `timeout`,
  /// `limitExceeded` and `cancelled`.
  package static func run(
    _ argv: [String], environment: [String: String]? = nil, directory: String? = nil, input: Bytes = [],
    outputLimit: Int = 1 << 20, deadline: Duration, uid: UInt32? = nil, gid: UInt32? = nil, on loop: Loop? = nil
  ) async throws(SkerryError) -> SubprocessResult {
    let run = SubprocessRun(name: argv.first ?? "", outputLimit: outputLimit)
    if Task.isCancelled { throw SkerryError(.cancelled, "\(run.name) was not started: the task is cancelled") }
    let child = try spawn(
      argv, environment: environment, directory: directory, stdin: input.isEmpty ? .null : .pipe, stdout: .pipe,
      stderr: .pipe, detached: true, uid: uid, gid: gid, onExit: { run.exited($0) })
    return try await run.wait(child, input: input, deadline: deadline)
  }
}

/// One program that somebody waits for. It is done when the process has exited and both outputs have ended, or a
/// moment after the exit: a daemon that the program left behind may hold its outputs open for ever.
@LoopActor private final class SubprocessRun: ByteStreamDelegate {
  /// Enough to read what is in the pipes when the process has gone.
  static let outputGrace = Duration.milliseconds(200)

  let name: String
  private let outputLimit: Int
  private var child: Child?
  private var output: Bytes = []
  private var errorOutput: Bytes = []
  private var openOutputs = 0
  private var status: ExitStatus?
  private var failure: SkerryError?
  private var timers: [TimerID] = []
  private var finished: Result<SubprocessResult, SkerryError>?
  private var continuation: CheckedContinuation<Result<SubprocessResult, SkerryError>, Never>?

  init(name: String, outputLimit: Int) {
    self.name = name
    self.outputLimit = outputLimit
  }

  func wait(_ child: Child, input: Bytes, deadline: Duration) async throws(SkerryError) -> SubprocessResult {
    self.child = child
    for stream in [child.stdout, child.stderr] {
      guard let stream else { continue }
      openOutputs += 1
      stream.delegate = self
      stream.resumeReading()
    }
    if let stdin = child.stdin {
      stdin.write(input)
      stdin.finishWriting()
      stdin.delegate = CloseAfterWriting.shared
    }
    let timer = Loop.current.schedule(after: deadline) { [self] in
      fail(SkerryError(.timeout, "\(name) did not end within \(deadline) and was killed"))
    }
    timers.append(timer)
    let result = await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        if let finished { return continuation.resume(returning: finished) }
        self.continuation = continuation
      }
    } onCancel: {
      spawn { self.fail(SkerryError(.cancelled, "\(self.name) was killed: the task was cancelled")) }
    }
    return try result.get()
  }

  func exited(_ status: ExitStatus) {
    self.status = status
    guard openOutputs > 0, failure == nil else { return finish() }
    timers.append(Loop.current.schedule(after: Self.outputGrace) { self.finish() })
  }

  private func fail(_ error: SkerryError) {
    guard finished == nil, failure == nil else { return }
    failure = error
    child?.killGroup(SIGKILL)
    if status != nil { finish() }
  }

  private func finish() {
    guard finished == nil, let status else { return }
    let result: Result<SubprocessResult, SkerryError> =
      if let failure { .failure(failure) } else {
        .success(SubprocessResult(status: status, output: output, errorOutput: errorOutput))
      }
    finished = result
    for timer in timers { Loop.current.cancel(timer) }
    for stream in child?.pipes.values.map({ $0 }) ?? [] { stream.close() }
    child = nil
    continuation?.resume(returning: result)
    continuation = nil
  }

  func stream(_ stream: any ByteStream, received bytes: UnsafeRawBufferPointer) {
    if stream === child?.stdout { output.append(contentsOf: bytes) } else { errorOutput.append(contentsOf: bytes) }
    if max(output.count, errorOutput.count) > outputLimit {
      fail(SkerryError(.limitExceeded, "\(name) printed more than \(outputLimit) bytes and was killed"))
    }
  }

  func streamDidDrain(_ stream: any ByteStream) {}
  func streamReceivedEnd(_ stream: any ByteStream) { stream.close() }
  func streamDidClose(_ stream: any ByteStream, error: SkerryError?) {
    openOutputs -= 1
    if openOutputs == 0, status != nil { finish() }
  }
}

/// Looks after a child's standard input; a child that does not read it to the end is within its rights.
@LoopActor private final class CloseAfterWriting: ByteStreamDelegate {
  static let shared = CloseAfterWriting()
  func stream(_ stream: any ByteStream, received bytes: UnsafeRawBufferPointer) {}
  func streamDidDrain(_ stream: any ByteStream) {}
  func streamReceivedEnd(_ stream: any ByteStream) {}
  func streamDidClose(_ stream: any ByteStream, error: SkerryError?) {}
}
