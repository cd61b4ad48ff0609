import Base
import ContainerRuntime
import EventLoop

/// A probe's command inside the container.
@LoopActor enum ProbeExec {
  static func run(
    _ runtime: any ContainerRuntime, _ id: String, _ command: [String], _ timeout: Duration, _ scheduler: any Scheduler
  ) async -> (passed: Bool, message: String) {
    do throws(SkerryError) {
      let session = try await runtime.exec(id, ExecRequest(command: command))
      let timer = scheduler.schedule(after: timeout) { session.kill() }
      defer { scheduler.cancel(timer) }
      session.closeInput()
      var output: Bytes = []
      while let (_, bytes) = try await session.receive() {
        if output.count < ProbeNetwork.maxReply { output += bytes }
      }
      let code = try await session.exitCode()
      return (code == 0, "exit code \(code): \(String(decoding: output.prefix(200), as: UTF8.self))")
    } catch {
      return (false, "\(error)")
    }
  }
}

/// Probes over the network: a connection, or the status line of an HTTP/1.1 GET.
@LoopActor enum ProbeNetwork {
  /// Bytes of a reply that are looked at.
  static let maxReply = 4096

  static func tcp(host: String, port: Int, timeout: Duration, scheduler: any Scheduler) async -> (
    passed: Bool, message: String
  ) {
    do throws(SkerryError) {
      let stream = try await TCPStream.connect(to: HostPort(host: host, port: port), timeout: timeout)
      stream.close()
      return (true, "")
    } catch {
      return (false, "\(error)")
    }
  }

  static func http(
    host: String, port: Int, path: String, timeout: Duration, scheduler: any Scheduler
  ) async -> (passed: Bool, message: String) {
    do throws(SkerryError) {
      let stream = try await TCPStream.connect(to: HostPort(host: host, port: port), timeout: timeout)
      let reply = HTTPReply(stream)
      stream.write(
        Bytes(
          "GET \(path) HTTP/1.1\r\nHost: \(host):\(port)\r\nUser-Agent: skerry-probe\r\nConnection: close\r\n\r\n".utf8)
      )
      let timer = scheduler.schedule(after: timeout) { reply.end() }
      let status = await reply.status()
      scheduler.cancel(timer)
      stream.close()
      guard let status else { return (false, "no HTTP status within \(timeout)") }
      return ((200..<400).contains(status), "HTTP probe failed with statuscode: \(status)")
    } catch {
      return (false, "\(error)")
    }
  }
}

/// Waits for the status line of one HTTP reply.
@LoopActor private final class HTTPReply: ByteStreamDelegate {
  private var bytes: Bytes = []
  private var ended = false
  private var waiting: CheckedContinuation<Int?, Never>?

  init(_ stream: any ByteStream) {
    stream.delegate = self
    stream.resumeReading()
  }

  func status() async -> Int? {
    if let status = parsed() { return status }
    if ended { return nil }
    return await withCheckedContinuation { waiting = $0 }
  }

  /// The three digits after `HTTP/1.x `.
  private func parsed() -> Int? {
    guard bytes.count >= 12, bytes.starts(with: "HTTP/1.".utf8) else { return nil }
    return Int(String(decoding: bytes[9..<12], as: UTF8.self))
  }

  func end() {
    ended = true
    settle()
  }

  private func settle() {
    let status = parsed()
    guard status != nil || ended, let waiter = waiting else { return }
    waiting = nil
    waiter.resume(returning: status)
  }

  func stream(_ stream: any ByteStream, received arrived: UnsafeRawBufferPointer) {
    if bytes.count < ProbeNetwork.maxReply { bytes += Bytes(arrived) }
    settle()
  }
  func streamDidDrain(_ stream: any ByteStream) {}
  func streamReceivedEnd(_ stream: any ByteStream) { end() }
  func streamDidClose(_ stream: any ByteStream, error: SkerryError?) { end() }
}
