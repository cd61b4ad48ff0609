import Base
import EventLoop
import EventLoopConformance
import Testing
import Transport

@Suite struct OperationsServerTests {
  /// What the server answers to raw bytes.
  @LoopActor private func exchange(_ request: String, ready: Bool = true) async throws -> String {
    let loop = Loop.startShared()
    let server = try OperationsServer(
      port: 0, scheduler: loop,
      routes: [
        "/metrics": { OperationsAnswer(contentType: "text/plain; version=0.0.4", body: Array("a_total 1\n".utf8)) },
        "/readyz": { ready ? OperationsAnswer("ok\n") : OperationsAnswer(status: 503, "no sync yet\n") },
      ])
    let probe = StreamProbe(
      try await TCPStream.connect(to: HostPort(host: "127.0.0.1", port: server.boundPort)), on: loop)
    probe.stream.write(Bytes(request.utf8))
    try await probe.wait("the answer") { $0.ended || $0.closed }
    probe.stream.close()
    server.close()
    return probe.text
  }

  @Test(arguments: [
    ("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 OK\r\n", "\r\n\r\na_total 1\n"),
    ("GET /readyz?verbose HTTP/1.0\r\n\r\n", "HTTP/1.1 200 OK\r\n", "\r\n\r\nok\n"),
    ("HEAD /metrics HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\n", "Content-Length: 10\r\nConnection: close\r\n\r\n"),
    ("GET /nothing HTTP/1.1\r\n\r\n", "HTTP/1.1 404", "only /metrics, /readyz\n"),
    ("POST /metrics HTTP/1.1\r\n\r\n", "HTTP/1.1 405", "only GET and HEAD are served here\n"),
    ("hello\r\n\r\n", "HTTP/1.1 400", "not HTTP/1.1\n"),
  ])
  func answersAreHTTP(_ request: String, _ start: String, _ end: String) async throws {
    let answer = try await onLoop { try await exchange(request) }
    #expect(answer.hasPrefix(start))
    #expect(answer.hasSuffix(end))
  }

  @Test func aRouteMayAnswerThatItIsNotReady() async throws {
    let answer = try await onLoop { try await exchange("GET /readyz HTTP/1.1\r\n\r\n", ready: false) }
    #expect(answer.hasPrefix("HTTP/1.1 503 Service Unavailable\r\n"))
  }

  @Test func aHeadWithoutEndIsBounded() async throws {
    let endless = "GET /metrics HTTP/1.1\r\nX: " + String(repeating: "x", count: 10_000)
    let answer = try await onLoop { try await exchange(endless) }
    #expect(answer.hasPrefix("HTTP/1.1 431"))
  }

  @Test func onlyLoopbackIsServed() async throws {
    await #expect(throws: SkerryError.self) {
      try await onLoop {
        _ = try OperationsServer(host: "0.0.0.0", port: 0, scheduler: Loop.startShared(), routes: [:])
      }
    }
  }
}
