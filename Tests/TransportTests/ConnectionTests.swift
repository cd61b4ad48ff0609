import Base
import EventLoop
import EventLoopConformance
import Identity
import Testing
import Transport

@Suite struct TLSListenerTests {
  @LoopActor private func listen(
    _ fixture: TLSFixture, _ limits: ListenerLimits = ListenerLimits(), failures: Handoff<SkerryError>? = nil,
    accepted: @escaping (TLSStream) -> Void = { _ in }
  ) throws -> TLSListener {
    let listener = try TLSListener(
      host: "127.0.0.1", port: 0, context: fixture.server(), limits: limits, scheduler: fixture.loop,
      onAccept: accepted)
    listener.onFailure = { failures?.put($1) }
    return listener
  }

  @Test func twoHundredConnectionsEcho() async throws {
    try await onLoop {
      let fixture = try TLSFixture()
      let listener = try listen(fixture) { Echo.attach($0) }
      let context = try fixture.client()
      let dialer = try Dialer(
        targets: [HostPort(host: "127.0.0.1", port: listener.boundPort)], context: context, scheduler: fixture.loop)
      var probes: [StreamProbe] = []
      for _ in 0..<200 { probes.append(StreamProbe(try await dialer.connect(), on: fixture.loop)) }
      #expect(listener.connectionCount == 200)
      for (index, probe) in probes.enumerated() { probe.stream.write(Array("hello \(index)".utf8)) }
      for (index, probe) in probes.enumerated() {
        try await probe.wait("the echo") { $0.text == "hello \(index)" }
        probe.stream.close()
      }
      for probe in probes { try await probe.wait("the close") { $0.closed } }
      try await fixture.until("the connections are gone") { listener.connectionCount == 0 }
      #expect(listener.counts.accepted == 200)
      listener.close()
    }
  }

  @Test func aSilentClientIsDroppedAtTheHandshakeTimeout() async throws {
    try await onLoop {
      let fixture = try TLSFixture()
      var limits = ListenerLimits()
      limits.handshakeTimeout = .milliseconds(50)
      let failures = Handoff<SkerryError>()
      let listener = try listen(fixture, limits, failures: failures)
      let raw = try await TCPStream.connect(to: HostPort(host: "127.0.0.1", port: listener.boundPort))
      let probe = StreamProbe(raw, on: fixture.loop)
      #expect(await failures.get().code == .timeout)
      try await probe.wait("the end") { $0.ended || $0.closed }
      raw.close()
      listener.close()
    }
  }

  @Test func anIdleConnectionIsClosed() async throws {
    try await onLoop {
      let fixture = try TLSFixture()
      var limits = ListenerLimits()
      limits.idleTimeout = .milliseconds(80)
      let listener = try listen(fixture, limits)
      let dialer = try Dialer(
        targets: [HostPort(host: "127.0.0.1", port: listener.boundPort)], context: fixture.client(),
        scheduler: fixture.loop)
      let probe = StreamProbe(try await dialer.connect(), on: fixture.loop)
      try await probe.wait("the close") { $0.ended || $0.closed }
      #expect(listener.counts.idle == 1)
      probe.stream.close()
      listener.close()
    }
  }

  @Test func noSessionOutlivesItsCertificate() async throws {
    try await onLoop {
      let fixture = try TLSFixture()
      let clock = ShiftedClock(fixture.loop, by: .zero)
      var limits = ListenerLimits()
      limits.idleTimeout = .seconds(4)
      let listener = try TLSListener(
        host: "127.0.0.1", port: 0, context: fixture.server(), limits: limits, scheduler: clock
      ) { Echo.attach($0) }
      let dialer = try Dialer(
        targets: [HostPort(host: "127.0.0.1", port: listener.boundPort)], context: fixture.client(),
        scheduler: fixture.loop)
      let probe = StreamProbe(try await dialer.connect(), on: fixture.loop)
      probe.stream.write([1])
      try await probe.wait("the echo") { $0.received == [1] }
      clock.shift = .seconds(601)  // the fixture's client certificates last ten minutes
      try await probe.wait("the close") { $0.ended || $0.closed }
      #expect(listener.counts.expired == 1)
      probe.stream.close()
      listener.close()
    }
  }

  @Test func oneConnectionTooManyIsTurnedAway() async throws {
    try await onLoop {
      let fixture = try TLSFixture()
      var limits = ListenerLimits()
      limits.maxConnections = 1
      let listener = try listen(fixture, limits) { Echo.attach($0) }
      let dialer = try Dialer(
        targets: [HostPort(host: "127.0.0.1", port: listener.boundPort)], context: fixture.client(),
        scheduler: fixture.loop)
      let first = try await dialer.connect()
      let error = await #expect(throws: SkerryError.self) { _ = try await dialer.connect() }
      #expect(error.map { RedialBackoff.outcome(of: $0) } == .unreachable)
      #expect(listener.counts.turnedAway == 1)
      let probe = StreamProbe(first, on: fixture.loop)
      first.close()
      try await probe.wait("the close") { $0.closed }
      try await fixture.until("the connections are gone") { listener.connectionCount == 0 }
      try await dialer.connect().close()
      listener.close()
    }
  }

  @Test func connectionsAboveTheRateWaitAndAreServed() async throws {
    try await onLoop {
      let fixture = try TLSFixture()
      var limits = ListenerLimits()
      limits.maxPerSecond = 10
      let listener = try listen(fixture, limits) { Echo.attach($0) }
      let dialer = try Dialer(
        targets: [HostPort(host: "127.0.0.1", port: listener.boundPort)], context: fixture.client(),
        scheduler: fixture.loop)
      let start = fixture.loop.now
      var streams: [TLSStream] = []
      for _ in 0..<14 { streams.append(try await dialer.connect()) }
      #expect(fixture.loop.now - start >= .milliseconds(250))
      for stream in streams { stream.close() }
      listener.close()
    }
  }

  /// A peer that says nothing holds a slot until its time is over; who comes behind it waits and is served then.
  @Test func handshakesWaitForASlot() async throws {
    try await onLoop {
      let fixture = try TLSFixture()
      var limits = ListenerLimits()
      limits.maxHandshakes = 1
      limits.handshakeTimeout = .milliseconds(200)
      let listener = try listen(fixture, limits) { Echo.attach($0) }
      let target = HostPort(host: "127.0.0.1", port: listener.boundPort)
      let silent = try await TCPStream.connect(to: target)
      try await fixture.until("the silent one has the slot") { listener.connectionCount == 1 }
      let dialer = try Dialer(targets: [target], context: fixture.client(), scheduler: fixture.loop)
      let stream = try await dialer.connect()
      #expect(listener.counts.failedHandshakes == 1, "the slot was free before its time was over")
      stream.close()
      silent.close()
      listener.close()
    }
  }

  @Test func plainHTTPIsAnsweredInHTTP() async throws {
    try await onLoop {
      let fixture = try TLSFixture()
      let failures = Handoff<SkerryError>()
      let listener = try listen(fixture, failures: failures)
      let raw = try await TCPStream.connect(to: HostPort(host: "127.0.0.1", port: listener.boundPort))
      let probe = StreamProbe(raw, on: fixture.loop)
      raw.write(Array("GET / HTTP/1.1\r\nHost: x\r\n\r\n".utf8))
      #expect(await failures.get().message.contains("plain HTTP"))
      try await probe.wait("the answer") { $0.text.hasPrefix("HTTP/1.1 400") && ($0.ended || $0.closed) }
      raw.close()
      listener.close()
    }
  }

  /// A TLS client from other hands: openssl's own.
  @Test func opensslTalksToIt() async throws {
    try await onLoop {
      let fixture = try TLSFixture()
      let failures = Handoff<SkerryError>()
      let listener = try listen(fixture, failures: failures) { Echo.attach($0) }
      let client = ["openssl", "s_client", "-connect", "127.0.0.1:\(listener.boundPort)", "-brief"]
      let joined = try await Subprocess.run(
        client + ["-alpn", "skerry-join/1"], input: Array("Q\n".utf8), deadline: .seconds(20))
      #expect(joined.errorText.contains("TLSv1.3"))
      #expect(joined.errorText.contains("cloudcore"))
      let old = try await Subprocess.run(
        client + ["-tls1_2", "-alpn", "skerry/1"], input: Array("Q\n".utf8), deadline: .seconds(20))
      #expect(!old.status.isSuccess)
      #expect(await failures.get().message.contains("TLS 1.3"))
      listener.close()
    }
  }
}

@Suite struct DialerTests {
  @Test func addressesAreTriedInTurnAndTheGoodOneFirstNextTime() async throws {
    try await onLoop {
      let fixture = try TLSFixture()
      let dead = try TCPListener.listen(host: "127.0.0.1", port: 0)
      let deadPort = dead.boundPort
      dead.close()
      let listener = try TLSListener(
        host: "127.0.0.1", port: 0, context: fixture.server(), scheduler: fixture.loop
      ) { _ in }
      let targets = [
        HostPort(host: "127.0.0.1", port: deadPort), HostPort(host: "localhost", port: listener.boundPort),
      ]
      let dialer = try Dialer(targets: targets, context: fixture.client(), scheduler: fixture.loop)
      for _ in 0..<2 { try await dialer.connect().close() }
      listener.close()
      listener.closeAll()
      let error = await #expect(throws: SkerryError.self) { _ = try await dialer.connect() }
      #expect(error?.code == .unavailable)
      #expect(error?.message.contains("\(deadPort)") == true)
    }
  }

  @Test(arguments: [nil, "user:secret"])
  func aProxyMakesATunnel(_ credentials: String?) async throws {
    try await onLoop {
      let fixture = try TLSFixture()
      let listener = try TLSListener(
        host: "127.0.0.1", port: 0, context: fixture.server(), scheduler: fixture.loop
      ) { Echo.attach($0) }
      let proxy = try ConnectProxy()
      let target = HostPort(host: "127.0.0.1", port: listener.boundPort)
      let dialer = try Dialer(targets: [target], context: fixture.client(), scheduler: fixture.loop)
      let login = credentials.map { $0 + "@" } ?? ""
      dialer.proxy = try HTTPProxy("http://\(login)127.0.0.1:\(proxy.port)")
      let probe = StreamProbe(try await dialer.connect(), on: fixture.loop)
      probe.stream.write(Array("through".utf8))
      try await probe.wait("the echo") { $0.text == "through" }
      #expect(proxy.request.hasPrefix("CONNECT \(target) HTTP/1.1\r\n"))
      #expect(proxy.request.contains("Basic dXNlcjpzZWNyZXQ=\r\n") == (credentials != nil))
      probe.stream.close()
      proxy.listener.close()
      listener.close()
    }
  }

  @Test(arguments: [
    ("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", SkerryError.Code.forbidden),
    ("HTTP/1.1 502 Bad Gateway\r\n\r\n", .unavailable),
    ("SSH-2.0-OpenSSH\r\n\r\n", .protocolViolation),
    (String(repeating: "x", count: 9000), .protocolViolation),
    ("HTTP/1.1 200 OK\r\n\r\nsurprise", .protocolViolation),
  ])
  func aProxyThatRefusesIsAnError(_ answer: String, _ code: SkerryError.Code) async throws {
    try await onLoop {
      let fixture = try TLSFixture()
      let proxy = try ConnectProxy(answer: answer)
      let dialer = try Dialer(
        targets: [HostPort(host: "127.0.0.1", port: 1)], context: fixture.client(), scheduler: fixture.loop)
      dialer.proxy = HTTPProxy(address: HostPort(host: "127.0.0.1", port: proxy.port))
      let error = await #expect(throws: SkerryError.self) { _ = try await dialer.connect() }
      #expect(error?.code == code)
      proxy.listener.close()
    }
  }

  @Test(arguments: ["proxy:3128", "https://proxy:1", "http://proxy", "http://"])
  func aMalformedProxyIsRefused(_ url: String) {
    #expect(throws: SkerryError.self) { try HTTPProxy(url) }
  }
}

@Suite struct RedialBackoffTests {
  private func draw(_ outcome: RedialBackoff.Outcome, after failures: Int, spread: Duration) -> [Duration] {
    (0..<400).map { seed in
      let random = SeededRandom(seed: UInt64(seed))
      var backoff = RedialBackoff(spread: spread)
      for _ in 0..<failures { _ = backoff.delay(after: outcome, random: random) }
      return backoff.delay(after: outcome, random: random)
    }
  }

  @Test func theFirstRetryIsUniformInTheSpread() throws {
    let delays = draw(.unreachable, after: 0, spread: .seconds(30))
    #expect(try #require(delays.max()) <= .seconds(30))
    for quarter in 0..<4 {
      let low = Duration.milliseconds(7500 * quarter)
      let count = delays.count { $0 >= low && $0 < low + .milliseconds(7500) }
      #expect((60...140).contains(count))
    }
  }

  @Test func whileUnreachableTheCeilingStaysNearTheSpread() throws {
    let delays = draw(.unreachable, after: 50, spread: .seconds(10))
    #expect(try #require(delays.max()) <= .seconds(10))
    #expect(try #require(delays.max()) > .seconds(7))
  }

  @Test func refusalsWaitLongerAndAreBounded() throws {
    #expect(try #require(draw(.refused, after: 0, spread: .seconds(2)).max()) <= .seconds(5))
    let late = try #require(draw(.refused, after: 60, spread: .seconds(2)).max())
    #expect(late > .seconds(250) && late <= RedialBackoff.maxRefusedWindow)
  }

  @Test func aSuccessStartsOverAndTheSpreadIsKeptInBounds() {
    var backoff = RedialBackoff(spread: .seconds(5))
    let random = SeededRandom(seed: 7)
    for _ in 0..<9 { _ = backoff.delay(after: .refused, random: random) }
    backoff.succeeded()
    #expect(backoff.failures == 0)
    #expect(backoff.delay(after: .unreachable, random: random) <= .seconds(5))
    backoff.spread = .seconds(1_000_000)
    #expect(backoff.spread == RedialBackoff.maxSpread)
    backoff.spread = .zero
    #expect(backoff.delay(after: .unreachable, random: random) >= RedialBackoff.minDelay)
  }
}

/// Sends back what comes, and ends when the peer does.
@LoopActor final class Echo: ByteStreamDelegate {
  static func attach(_ stream: any ByteStream) {
    stream.delegate = Echo()
    stream.resumeReading()
  }
  func stream(_ stream: any ByteStream, received bytes: UnsafeRawBufferPointer) { stream.write(Bytes(bytes)) }
  func streamDidDrain(_ stream: any ByteStream) {}
  func streamReceivedEnd(_ stream: any ByteStream) { stream.finishWriting() }
  func streamDidClose(_ stream: any ByteStream, error: SkerryError?) {}
}

/// An HTTP proxy for one tunnel, or one that only gives a fixed answer.
@LoopActor final class ConnectProxy: ByteStreamDelegate {
  let listener: StreamListener
  private(set) var request = ""
  private let answer: String?
  private var client: (any ByteStream)?
  private var server: (any ByteStream)?
  var port: Int { listener.boundPort }

  init(answer: String? = nil) throws {
    self.answer = answer
    listener = try TCPListener.listen(host: "127.0.0.1", port: 0)
    listener.onAccept = { [self] stream in
      client = stream
      stream.delegate = self
      stream.resumeReading()
    }
  }

  func stream(_ stream: any ByteStream, received bytes: UnsafeRawBufferPointer) {
    if let server { return (stream === server ? client : server)?.write(Bytes(bytes)) ?? () }
    request += String(decoding: bytes, as: UTF8.self)
    guard request.hasSuffix("\r\n\r\n") else { return }
    if let answer { return stream.write(Bytes(answer.utf8)) }
    stream.pauseReading()
    let target = String(request.split(separator: " ")[1])
    spawn { await self.join(target) }
  }

  private func join(_ target: String) async {
    guard let client, let address = try? HostPort(target), let stream = try? await TCPStream.connect(to: address) else {
      return
    }
    server = stream
    stream.delegate = self
    stream.resumeReading()
    client.write(Array("HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n".utf8))
    client.resumeReading()
  }

  func streamDidDrain(_ stream: any ByteStream) {}
  func streamReceivedEnd(_ stream: any ByteStream) {
    client?.close()
    server?.close()
  }
  func streamDidClose(_ stream: any ByteStream, error: SkerryError?) {}
}
