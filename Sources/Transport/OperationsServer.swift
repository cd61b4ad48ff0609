import Base
import EventLoop

/// The answer to one path of the operations server.
package struct OperationsAnswer: Sendable {
  package var status: Int
  package var contentType: String
  package var body: Bytes
  package init(status: Int = 200, contentType: String = "text/plain; charset=utf-8", body: Bytes) {
    self.status = status
    self.contentType = contentType
    self.body = body
  }
  package init(status: Int = 200, _ text: String) { self.init(status: status, body: Bytes(text.utf8)) }
}

/// A small HTTP/1.1 server for `/metrics`, `/healthz` and `/readyz` on loopback: GET and HEAD only, one request a
/// connection. It is for scrapers and probes on the same machine and has no authentication, so it listens on loopback
/// addresses only.
@LoopActor package final class OperationsServer {
  /// Of a request's head; a longer one is answered with 431.
  package nonisolated static let maxRequest = 8 * 1024
  /// Open at once; more are closed, so that a probe gone wild cannot take the daemon's descriptors.
  package nonisolated static let maxConnections = 64
  /// For the whole exchange.
  package nonisolated static let deadline = Duration.seconds(10)

  package typealias Route = () -> OperationsAnswer

  package var boundPort: Int { listener.boundPort }
  /// `http://127.0.0.1:9100`, to which a path is appended.
  package var url: String { "http://\(listener.name)" }
  private let listener: StreamListener
  private let scheduler: any Scheduler
  private let routes: [String: Route]
  private var exchanges: [ObjectIdentifier: OperationsExchange] = [:]

  /// Serves each path of `routes`. Port 0 lets the kernel choose.
  package init(host: String = "127.0.0.1", port: Int, scheduler: any Scheduler, routes: [String: Route])
    throws(SkerryError)
  {
    guard host == "localhost" || host == "::1" || host.hasPrefix("127.") else {
      throw SkerryError(
        .invalidArgument, "the operations server has no authentication and serves loopback only, not \(host)")
    }
    listener = try TCPListener.listen(host: host, port: port)
    self.scheduler = scheduler
    self.routes = routes
    listener.onAccept = { [weak self] in self?.took($0) }
  }

  package func close() {
    listener.close()
    for exchange in exchanges.values { exchange.stream.close() }
  }

  private func took(_ stream: any ByteStream) {
    guard exchanges.count < Self.maxConnections else { return stream.close() }
    let exchange = OperationsExchange(stream, routes) { [weak self] in self?.exchanges[ObjectIdentifier($0)] = nil }
    exchanges[ObjectIdentifier(exchange)] = exchange
    exchange.timer = scheduler.schedule(after: Self.deadline) { [weak exchange] in exchange?.stream.close() }
    exchange.onClose = { [scheduler] timer in scheduler.cancel(timer) }
  }
}

/// One request and its answer.
@LoopActor private final class OperationsExchange: ByteStreamDelegate {
  let stream: any ByteStream
  var timer: TimerID?
  var onClose: ((TimerID) -> Void)?
  private let routes: [String: OperationsServer.Route]
  private let onGone: (OperationsExchange) -> Void
  private var request: Bytes = []
  private var answered = false

  init(
    _ stream: any ByteStream, _ routes: [String: OperationsServer.Route], onGone: @escaping (OperationsExchange) -> Void
  ) {
    self.stream = stream
    self.routes = routes
    self.onGone = onGone
    stream.delegate = self
    stream.resumeReading()
  }

  func stream(_ stream: any ByteStream, received bytes: UnsafeRawBufferPointer) {
    guard !answered else { return }
    request.append(contentsOf: bytes)
    let head = String(decoding: request, as: UTF8.self)
    if head.utf8.contains("\r\n\r\n".utf8) || head.utf8.contains("\n\n".utf8) {
      answer(to: head)
    } else if request.count > OperationsServer.maxRequest {
      send(OperationsAnswer(status: 431, "the request is too long\n"), withBody: true)
    }
  }

  private func answer(to head: String) {
    let words = head.split(whereSeparator: \.isNewline).first?.split(separator: " ") ?? []
    guard words.count == 3, words[2].hasPrefix("HTTP/1.") else {
      return send(OperationsAnswer(status: 400, "this is not HTTP/1.1\n"), withBody: true)
    }
    guard words[0] == "GET" || words[0] == "HEAD" else {
      return send(OperationsAnswer(status: 405, "only GET and HEAD are served here\n"), withBody: true)
    }
    let path = String(words[1].prefix { $0 != "?" })
    let answer = routes[path]?() ?? missing(path)
    send(answer, withBody: words[0] == "GET")
  }

  private func missing(_ path: String) -> OperationsAnswer {
    OperationsAnswer(status: 404, "there is no \(path) here, only \(routes.keys.sorted().joined(separator: ", "))\n")
  }

  private func send(_ answer: OperationsAnswer, withBody: Bool) {
    answered = true
    let head = """
      HTTP/1.1 \(answer.status) \(Self.reason(answer.status))\r
      Content-Type: \(answer.contentType)\r
      Content-Length: \(answer.body.count)\r
      Connection: close\r
      \r

      """
    stream.write(Bytes(head.utf8) + (withBody ? answer.body : []))
    stream.finishWriting()
  }

  private static func reason(_ status: Int) -> String {
    switch status {
    case 200: "OK"
    case 400: "Bad Request"
    case 404: "Not Found"
    case 405: "Method Not Allowed"
    case 431: "Request Header Fields Too Large"
    case 503: "Service Unavailable"
    default: "Status"
    }
  }

  func streamDidDrain(_ stream: any ByteStream) {}
  func streamReceivedEnd(_ stream: any ByteStream) { if !answered { stream.close() } }
  func streamDidClose(_ stream: any ByteStream, error: SkerryError?) {
    if let timer { onClose?(timer) }
    onGone(self)
  }
}

extension Collection where Element == UInt8 {
  /// True if `part` is somewhere within.
  func contains(_ part: some Collection<UInt8>) -> Bool {
    var rest = self[...]
    while rest.count >= part.count {
      if rest.starts(with: part) { return true }
      rest = rest.dropFirst()
    }
    return part.isEmpty
  }
}
