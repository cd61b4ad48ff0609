import Base
import EventLoop
import EventLoopConformance
import Testing

@Suite struct RelayTests {
  /// A client and a server joined through a relay.
  @LoopActor private struct Joined {
    let listener: StreamListener
    let relay: Relay
    let client: StreamProbe
    let server: StreamProbe

    init(_ prepare: (Relay) -> Void = { _ in }) async throws {
      let loop = Loop.startShared()
      listener = try TCPListener.listen(host: "127.0.0.1", port: 0)
      relay = try Relay(to: HostPort(host: "127.0.0.1", port: listener.boundPort), scheduler: loop)
      prepare(relay)
      let stream = try await TCPStream.connect(to: HostPort(host: "127.0.0.1", port: relay.port))
      client = StreamProbe(stream, on: loop)
      server = StreamProbe(await accepted(listener), on: loop)
    }

    func close() async throws {
      relay.close()
      listener.close()
      client.stream.close()
      server.stream.close()
      try await client.wait("the close") { $0.closed }
      try await server.wait("the close") { $0.closed }
    }
  }

  @Test func aPassingRelayConforms() async throws {
    try await onLoop {
      let loop = Loop.startShared()
      let listener = try TCPListener.listen(host: "127.0.0.1", port: 0)
      let relay = try Relay(to: HostPort(host: "127.0.0.1", port: listener.boundPort), scheduler: loop)
      let suite = StreamConformance(on: loop) {
        let client = try await TCPStream.connect(to: HostPort(host: "127.0.0.1", port: relay.port))
        return (client, await accepted(listener))
      }
      try await suite.carriesBytesBothWays()
      try await suite.holdsBackAWriterWhoseReaderIsPaused()
      try await suite.keepsAHalfOpenDirectionUsable()
      try await suite.writesAllBeforeItEnds()
      try await suite.survivesManySmallWrites()
      relay.close()
      listener.close()
    }
  }

  @Test func aCutResetsBothSides() async throws {
    try await onLoop {
      let joined = try await Joined()
      joined.client.stream.write([1])
      try await joined.server.wait("the byte") { $0.received == [1] }
      joined.relay.cut()
      try await joined.client.wait("the reset") { $0.closed }
      try await joined.server.wait("the reset") { $0.closed }
      #expect(joined.client.error?.code == .closed)
      #expect(joined.server.error?.code == .closed)
      #expect(joined.relay.connectionCount == 0)
      try await joined.close()
    }
  }

  @Test func aRefusingRelayRefusesUntilItPasses() async throws {
    try await onLoop {
      let joined = try await Joined()
      let target = HostPort(host: "127.0.0.1", port: joined.relay.port)
      try joined.relay.set(.refuse)
      let error = await #expect(throws: SkerryError.self) { _ = try await TCPStream.connect(to: target) }
      #expect(error?.code == .unavailable)
      joined.client.stream.write([1])
      try await joined.server.wait("a byte on the old connection") { $0.received == [1] }
      try joined.relay.set(.pass)
      try await TCPStream.connect(to: target).close()
      try await joined.close()
    }
  }

  @Test func aBlackHoleHoldsEverythingAndGivesItBack() async throws {
    try await onLoop {
      let loop = Loop.startShared()
      let joined = try await Joined()
      try joined.relay.set(.blackHole)
      joined.client.stream.write(Array("held".utf8))
      joined.server.stream.write(Array("too".utf8))
      let late = StreamProbe(
        try await TCPStream.connect(to: HostPort(host: "127.0.0.1", port: joined.relay.port)), on: loop)
      late.stream.write(Array("late".utf8))
      try await loop.sleep(for: .milliseconds(30))
      #expect(joined.client.received.isEmpty && joined.server.received.isEmpty)
      #expect(!joined.client.closed && !joined.server.closed && !late.closed)
      try joined.relay.set(.pass)
      try await joined.server.wait("what was held") { $0.text == "held" }
      try await joined.client.wait("what was held") { $0.text == "too" }
      let other = StreamProbe(await accepted(joined.listener), on: loop)
      try await other.wait("the late one") { $0.text == "late" }
      other.stream.close()
      late.stream.close()
      try await joined.close()
    }
  }

  @Test func latencyAndBandwidthAreThoseOfTheLink() async throws {
    try await onLoop {
      let loop = Loop.startShared()
      let joined = try await Joined {
        $0.latency = .milliseconds(40)
        $0.bytesPerSecond = 1_000_000
      }
      let start = loop.now
      joined.client.stream.write(StreamConformance.pattern(100_000))
      try await joined.server.wait("all bytes") { $0.received.count == 100_000 }
      #expect(loop.now - start >= .milliseconds(140))
      #expect(joined.server.received == StreamConformance.pattern(100_000))
      #expect(joined.relay.bytesForwarded == 100_000)
      try await joined.close()
    }
  }

  @Test func aTargetThatIsDownResetsTheClient() async throws {
    try await onLoop {
      let loop = Loop.startShared()
      let listener = try TCPListener.listen(host: "127.0.0.1", port: 0)
      let relay = try Relay(to: HostPort(host: "127.0.0.1", port: listener.boundPort), scheduler: loop)
      listener.close()
      let client = StreamProbe(
        try await TCPStream.connect(to: HostPort(host: "127.0.0.1", port: relay.port)), on: loop)
      try await client.wait("the reset") { $0.closed }
      #expect(client.error != nil)
      relay.close()
    }
  }
}
