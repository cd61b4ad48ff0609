import Base
import EventLoop
import Glibc
import ObjectModel

/// benchmarks/peers/etcd_watch.py: watches of etcd over gRPC, in a process of their own. It says when all stand, and then
/// again and again what has arrived.
@LoopActor final class GRPCWatcher: ByteStreamDelegate {
  struct Report: Sendable {
    var events = 0
    var responses = 0
    var errors = 0
    /// When the last event arrived, on the machine's monotonic clock.
    var last: UInt64 = 0
  }

  private let context: BenchContext
  private let log: String
  private var child: Child?
  private var text: Bytes = []
  private(set) var isReady = false
  private(set) var report = Report()

  /// Starts `command` (a program and its first arguments) and waits until all watches stand.
  static func start(
    _ command: String, _ server: PeerServer, prefix: String, streams: Int, _ context: BenchContext
  ) async throws -> GRPCWatcher {
    let watcher = GRPCWatcher(context, log: "\(server.directory)/grpc.log")
    let argv =
      command.split(separator: " ").map(String.init) + [
        "--endpoint", server.target.address.description, "--ca", "\(server.directory)/ca.crt", "--prefix", prefix,
        "--streams", String(streams), "--connections", String(streams),
      ]
    let output = open(watcher.log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
    guard output >= 0 else { throw Files.failure("open", watcher.log) }
    defer { Glibc.close(output) }
    let child = try Subprocess.spawn(
      argv, stdin: .pipe, stdout: .pipe, stderr: .fd(output), detached: true, onExit: { _ in })
    context.own(child)
    watcher.child = child
    child.stdout?.delegate = watcher
    child.stdout?.resumeReading()
    let stands = try await Objects.wait(context, .seconds(90), each: .milliseconds(20)) {
      watcher.isReady || child.exitStatus != nil
    }
    guard stands, watcher.isReady else {
      watcher.stop()
      let last = (Files.readText(watcher.log) ?? "").split(separator: "\n").last ?? "it said nothing"
      throw SkerryError(.unavailable, "the gRPC watches do not stand: \(last)")
    }
    return watcher
  }

  private init(_ context: BenchContext, log: String) {
    self.context = context
    self.log = log
  }

  /// Waits until so many events have arrived, or no more come; answers what has.
  func await(events: Int, patience: Duration) async throws -> Report {
    _ = try await Objects.wait(context, patience, each: .milliseconds(50)) {
      report.events >= events || report.errors > 0 || child?.exitStatus != nil
    }
    return report
  }

  func stop() {
    guard let child else { return }
    self.child = nil
    child.stdin?.close()
    child.kill(SIGKILL)
    context.disown(child)
  }

  func stream(_ stream: any ByteStream, received bytes: UnsafeRawBufferPointer) {
    text.append(contentsOf: bytes)
    while let end = text.firstIndex(of: UInt8(ascii: "\n")) {
      take(Bytes(text[..<end]))
      text.removeSubrange(...end)
    }
  }
  func streamDidDrain(_ stream: any ByteStream) {}
  func streamReceivedEnd(_ stream: any ByteStream) {}
  func streamDidClose(_ stream: any ByteStream, error: SkerryError?) {}

  private func take(_ line: Bytes) {
    guard let value = try? JSON.parse(line) else { return }
    if value["ready"].int != nil { isReady = true }
    guard let events = value["events"].int else { return }
    report = Report(
      events: Int(events), responses: Int(value["responses"].int ?? 0), errors: Int(value["errors"].int ?? 0),
      last: UInt64(clamping: value["last"].int ?? 0))
  }
}
