import Base
import EventLoop
import EventLoopConformance
import Identity
import Testing
import Transport

@Suite struct TLSStreamTests {
  @Test func conformsOverMemory() async throws {
    try await onLoop {
      let fixture = try TLSFixture()
      let suite = StreamConformance(on: fixture.loop) {
        let pair = try await fixture.pair()
        return (pair.first, pair.second)
      }
      try await suite.runAll()
    }
  }

  @Test func conformsOverTCP() async throws {
    try await onLoop {
      let fixture = try TLSFixture()
      let server = try fixture.server()
      let client = try fixture.client()
      let suite = StreamConformance(on: fixture.loop) {
        let accepted = Handoff<TLSStream>()
        let listener = try TLSListener(host: "127.0.0.1", port: 0, context: server, scheduler: fixture.loop) {
          accepted.put($0)
        }
        let dialer = try Dialer(
          targets: [HostPort(host: "127.0.0.1", port: listener.boundPort)], context: client, scheduler: fixture.loop)
        let stream = try await dialer.connect()
        let other = await accepted.get()
        listener.close()
        return (stream, other)
      }
      try await suite.runAll()
    }
  }

  @Test func worksWhenEveryRecordArrivesInPieces() async throws {
    try await onLoop {
      let pair = try await TLSFixture().pair(capacity: 7)
      let loop = Loop.startShared()
      let (a, b) = (StreamProbe(pair.first, on: loop), StreamProbe(pair.second, on: loop))
      let data = StreamConformance.pattern(40_000)
      a.stream.write(data)
      try await b.wait("all bytes") { $0.received.count == data.count }
      #expect(b.received == data)
      a.stream.finishWriting()
      try await b.wait("the end") { $0.ended }
      b.stream.finishWriting()
      try await b.wait("the close") { $0.closed }
    }
  }

  @Test func aStreamTellsWhatAWriteTouches() async throws {
    try await onLoop {
      let (client, server) = try await TLSFixture().pair()
      var touched = WorkingSet()
      server.note(&touched)
      // Itself and the beginning of the session at least; no more than a delivery can use.
      #expect((3...64).contains(touched.lines), "\(touched.lines) lines")
      touched.fetch()
      client.close()
      server.close()
      // Also of what is gone by now.
      touched.fetch()
    }
  }

  @Test func peersAreKnownByTheirCertificates() async throws {
    try await onLoop {
      let (client, server) = try await TLSFixture().pair()
      #expect(server.peer.certificate?.commonName == "system:node:n1")
      #expect(server.peer.certificate?.organizations == ["system:nodes"])
      #expect(server.peer.certificate?.keyFingerprint.count == 32)
      #expect(client.peer.certificate?.commonName == "cloudcore")
      #expect(server.peer.applicationProtocol == "skerry/1")
      #expect(client.peer.applicationProtocol == "skerry/1")
      client.close()
      server.close()
    }
  }

  @Test func aClientThatOnlyKnowsThePinMayJoin() async throws {
    try await onLoop {
      let fixture = try TLSFixture()
      let pin = fixture.authority.certificate.keyFingerprint
      let good = try TLSContext.client(credentials: nil, trust: .pin(pin), alpn: ["skerry-join/1"])
      let (server, client) = try await fixture.shake(fixture.server(), good, name: nil)
      #expect(try server.get().peer.certificate == nil)
      #expect(try client.get().peer.applicationProtocol == "skerry-join/1")
      try server.get().close()
      try client.get().close()

      let bad = try TLSContext.client(
        credentials: nil, trust: .pin(Bytes(repeating: 1, count: 32)), alpn: ["skerry-join/1"])
      let (_, refused) = try await fixture.shake(fixture.server(), bad, name: nil)
      #expect(refused.failure?.code == .unauthenticated)
      #expect(refused.failure?.message.contains("pin") == true)
    }
  }

  @Test func aForeignAuthorityIsRefusedOnBothSides() async throws {
    try await onLoop {
      let (ours, theirs) = (try TLSFixture(), try TLSFixture())
      let (server, client) = try await ours.shake(ours.server(), theirs.client())
      #expect(client.failure?.code == .unauthenticated)
      #expect(client.failure?.message.contains("authority") == true)
      #expect(server.failure?.message.contains("does not trust the authority") == true)

      let stranger = try TLSContext.client(
        credentials: theirs.credentials(node: "n1"), trust: .authority(ours.authorityPEM), alpn: ["skerry/1"])
      let (refusing, refused) = try await ours.shake(ours.server(), stranger)
      #expect(refusing.failure?.code == .unauthenticated)
      try await expectRefusal(refused, .unauthenticated, "does not trust the authority")
    }
  }

  /// In TLS 1.3 a client's handshake is done before the server has judged its certificate: it hears afterwards.
  @LoopActor private func expectRefusal(
    _ result: Result<TLSStream, SkerryError>, _ code: SkerryError.Code, _ words: String
  ) async throws {
    let probe = StreamProbe(try result.get(), on: Loop.startShared())
    try await probe.wait("the refusal") { $0.closed }
    #expect(probe.error?.code == code)
    #expect(probe.error?.message.contains(words) == true, "\(probe.error?.message ?? "no error")")
  }

  @Test func certificatesAreJudgedByTheInjectedClock() async throws {
    try await onLoop {
      let fixture = try TLSFixture()
      for (shift, words) in [(Duration.seconds(86_400), "expired"), (.seconds(-86_400), "not yet valid")] {
        let (_, client) = try await fixture.shake(
          fixture.server(), fixture.client(), clientClock: ShiftedClock(fixture.loop, by: shift))
        #expect(client.failure?.code == .unauthenticated)
        #expect(client.failure?.message.contains(words) == true)
      }
    }
  }

  @Test(arguments: [("localhost", true), ("127.0.0.1", true), ("hub.example", false), ("127.0.0.2", false)])
  func theServerMustBeTheOneThatWasDialled(_ name: String, _ fits: Bool) async throws {
    try await onLoop {
      let fixture = try TLSFixture()
      let (server, client) = try await fixture.shake(fixture.server(), fixture.client(), name: name)
      if fits {
        #expect(client.failure == nil)
      } else {
        #expect(client.failure?.message.contains("another name") == true)
      }
      try? server.get().close()
      try? client.get().close()
    }
  }

  @Test func noCommonProtocolIsSaidOnBothSides() async throws {
    try await onLoop {
      let fixture = try TLSFixture()
      let (server, client) = try await fixture.shake(fixture.server(), fixture.client(alpn: ["skerry/9"]))
      #expect(server.failure?.code == .unsupportedVersion)
      #expect(client.failure?.code == .unsupportedVersion)
      #expect(client.failure?.message.contains("skerry/9") == true)
    }
  }

  @Test func aMissingClientCertificateIsRefused() async throws {
    try await onLoop {
      let fixture = try TLSFixture()
      let nobody = try TLSContext.client(credentials: nil, trust: .authority(fixture.authorityPEM), alpn: ["skerry/1"])
      let (server, client) = try await fixture.shake(fixture.server(), nobody)
      #expect(server.failure?.code == .unauthenticated)
      try await expectRefusal(client, .unauthenticated, "requires a client certificate")
    }
  }

  @Test func theRefusalHookEndsTheHandshakeWithItsReason() async throws {
    try await onLoop {
      let fixture = try TLSFixture()
      let context = try fixture.server()
      context.refusal = { $0.commonName == "system:node:n1" ? "node n1 was revoked" : nil }
      let (server, client) = try await fixture.shake(context, fixture.client())
      #expect(server.failure?.code == .forbidden)
      #expect(server.failure?.message.contains("node n1 was revoked") == true)
      try await expectRefusal(client, .forbidden, "revoked")
      let (other, welcome) = try await fixture.shake(context, fixture.client("n2"))
      try other.get().close()
      try welcome.get().close()
    }
  }

  @Test func aReloadedCertificateServesTheNextSession() async throws {
    try await onLoop {
      let fixture = try TLSFixture()
      let context = try fixture.client("n1")
      let server = try fixture.server()
      let first = await fixture.shake(server, context)
      try context.reload(fixture.credentials(node: "n2"))
      let second = await fixture.shake(server, context)
      #expect(try first.server.get().peer.certificate?.commonName == "system:node:n1")
      #expect(try second.server.get().peer.certificate?.commonName == "system:node:n2")
      let (certificate, key) = (try fixture.credentials(node: "n3"), try fixture.credentials(node: "n4"))
      let mixed = TLSCredentials(certificatePEM: certificate.certificatePEM, keyPEM: key.keyPEM)
      #expect(throws: SkerryError.self) { try context.reload(mixed) }
      for side in [first.server, first.client, second.server, second.client] { try side.get().close() }
    }
  }

  @Test func aCutConnectionIsNotTakenForAnEnd() async throws {
    try await onLoop {
      let fixture = try TLSFixture()
      let transports = MemoryStream.pair(on: fixture.loop)
      let (server, client) = (try fixture.server(), try fixture.client())
      let loop = fixture.loop
      let accepting = spawnThrowing {
        try await TLSStream.handshake(over: transports.first, context: server, scheduler: loop)
      }
      let dialled = try await TLSStream.handshake(
        over: transports.second, context: client, serverName: "localhost", scheduler: loop)
      let accepted = try await accepting.value
      let (a, b) = (StreamProbe(accepted, on: loop), StreamProbe(dialled, on: loop))
      transports.second.close()  // the end of TCP without the end of TLS
      try await a.wait("the close") { $0.closed }
      #expect(!a.ended)
      #expect(a.error?.message.contains("cut") == true)
      try await b.wait("the close") { $0.closed }
    }
  }

  @Test func garbageInsteadOfTLSIsRefused() async throws {
    try await onLoop {
      let fixture = try TLSFixture()
      for junk in [Bytes(repeating: 0xff, count: 100), Bytes(repeating: 0x16, count: 20_000)] {
        let transports = MemoryStream.pair(on: fixture.loop)
        transports.second.write(junk)
        let error = await #expect(throws: SkerryError.self) {
          try await TLSStream.handshake(
            over: transports.first, context: fixture.server(), timeout: .seconds(5), scheduler: fixture.loop)
        }
        #expect(error?.code == .protocolViolation)
        transports.second.close()
      }
    }
  }
}

/// Hands one value from a callback to whoever waits for it.
@LoopActor final class Handoff<T: Sendable> {
  private var values: [T] = []
  private var waiter: CheckedContinuation<T, Never>?
  func put(_ value: T) {
    if let waiter {
      self.waiter = nil
      waiter.resume(returning: value)
    } else {
      values.append(value)
    }
  }
  func get() async -> T {
    if !values.isEmpty { return values.removeFirst() }
    return await withCheckedContinuation { waiter = $0 }
  }
}
