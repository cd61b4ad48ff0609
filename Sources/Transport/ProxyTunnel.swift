import Base
import EventLoop

/// An HTTP proxy that makes tunnels (CONNECT, RFC 9110, 9.3.6).
package struct HTTPProxy: Sendable, Hashable {
  package var address: HostPort
  /// `user:password`, sent as Basic authentication.
  package var credentials: String?

  package init(address: HostPort, credentials: String? = nil) {
    self.address = address
    self.credentials = credentials
  }

  /// From `http://[user:password@]host:port`.
  package init(_ url: String) throws(SkerryError) {
    guard url.hasPrefix("http://") else {
      throw SkerryError(.invalidArgument, "the proxy must be http://[user:password@]HOST:PORT")
    }
    var rest = url.dropFirst("http://".count)
    if rest.last == "/" { rest = rest.dropLast() }
    var credentials: String?
    if let at = rest.lastIndex(of: "@") {
      credentials = String(rest[..<at])
      rest = rest[rest.index(after: at)...]
    }
    self.init(address: try HostPort(String(rest)), credentials: credentials)
  }

  /// The request for a tunnel to `target`.
  func request(for target: HostPort) -> Bytes {
    var text = "CONNECT \(target) HTTP/1.1\r\nHost: \(target)\r\n"
    if let credentials { text += "Proxy-Authorization: Basic \(Self.base64(Bytes(credentials.utf8)))\r\n" }
    return Bytes((text + "\r\n").utf8)
  }

  /// RFC 4648, section 4.
  static func base64(_ bytes: Bytes) -> String {
    let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
    var out = ""
    for start in stride(from: 0, to: bytes.count, by: 3) {
      let group = bytes[start..<min(start + 3, bytes.count)]
      let bits = group.reduce(0) { $0 << 8 | Int($1) } << (8 * (3 - group.count))
      for position in 0..<4 {
        out.append(position <= group.count ? alphabet[bits >> (18 - 6 * position) & 63] : "=")
      }
    }
    return out
  }
}

/// Asks a proxy for a tunnel over a fresh connection, and hands the stream back when it stands.
@LoopActor final class ProxyTunnel: ByteStreamDelegate {
  /// Of a proxy's answer; a longer one is an error.
  nonisolated static let maxAnswer = 8 * 1024

  private let stream: any ByteStream
  private let target: HostPort
  private var answer: Bytes = []
  private var continuation: CheckedContinuation<Result<Void, SkerryError>, Never>?

  private init(_ stream: any ByteStream, _ target: HostPort) {
    self.stream = stream
    self.target = target
  }

  static func open(
    over stream: any ByteStream, proxy: HTTPProxy, to target: HostPort, timeout: Duration, scheduler: any Scheduler
  ) async throws(SkerryError) {
    let tunnel = ProxyTunnel(stream, target)
    let timer = scheduler.schedule(after: timeout) {
      tunnel.finish(.failure(SkerryError(.timeout, "the proxy \(proxy.address) did not answer within \(timeout)")))
    }
    let result = await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        tunnel.continuation = continuation
        stream.delegate = tunnel
        stream.resumeReading()
        stream.write(proxy.request(for: target))
      }
    } onCancel: {
      spawn { tunnel.finish(.failure(SkerryError(.cancelled, "the connection to \(target) was cancelled"))) }
    }
    scheduler.cancel(timer)
    try result.get()
  }

  private func finish(_ result: Result<Void, SkerryError>) {
    guard let continuation else { return }
    self.continuation = nil
    stream.pauseReading()
    if case .failure = result { stream.close() } else { stream.delegate = nil }
    continuation.resume(returning: result)
  }

  func stream(_ stream: any ByteStream, received bytes: UnsafeRawBufferPointer) {
    answer.append(contentsOf: bytes)
    let end = Bytes("\r\n\r\n".utf8)
    guard answer.suffix(4).elementsEqual(end) else {
      // After the header only the target may speak, and in TLS the client does first.
      if answer.count > Self.maxAnswer || answer.contains(end) {
        finish(.failure(SkerryError(.protocolViolation, "the proxy's answer to CONNECT is too long or has a body")))
      }
      return
    }
    let status = String(decoding: answer.prefix { $0 != UInt8(ascii: "\r") }, as: UTF8.self)
    let words = status.split(separator: " ", maxSplits: 2)
    guard words.count >= 2, words[0].hasPrefix("HTTP/1."), let code = Int(words[1]) else {
      return finish(.failure(SkerryError(.protocolViolation, "the proxy did not answer with HTTP")))
    }
    if (200..<300).contains(code) { return finish(.success(())) }
    let refused = code == 407 || code == 403
    finish(
      .failure(SkerryError(refused ? .forbidden : .unavailable, "the proxy refuses a tunnel to \(target): \(status)")))
  }

  func streamDidDrain(_ stream: any ByteStream) {}
  func streamReceivedEnd(_ stream: any ByteStream) {
    finish(.failure(SkerryError(.unavailable, "the proxy ended the connection before a tunnel stood")))
  }
  func streamDidClose(_ stream: any ByteStream, error: SkerryError?) {
    finish(.failure(error ?? SkerryError(.unavailable, "the proxy closed the connection")))
  }
}
