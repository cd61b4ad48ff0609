import Base
import EventLoop
import Testing
import Transport
import Wire

/// A client's and a server's session over a stream in memory, on the real loop and clock.
@LoopActor struct SessionPair {
  let client: Session
  let server: Session

  init(
    server serverConfiguration: SessionConfiguration = .init(),
    client clientConfiguration: SessionConfiguration = .init()
  ) {
    let loop = Loop.startShared()
    let (a, b) = MemoryStream.pair(on: loop)
    client = Session(
      stream: a, role: .client, hello: ["role": "node"], scheduler: loop, random: SystemRandom(),
      configuration: clientConfiguration)
    server = Session(
      stream: b, role: .server, hello: ["hub": "h1"], scheduler: loop, random: SystemRandom(),
      configuration: serverConfiguration)
  }

  func start() async throws {
    server.start()
    client.start()
    try await client.ready()
    try await server.ready()
  }
}

@Suite(.timeLimit(.minutes(1))) struct SessionTests {
  @Test func aCallIsAnsweredWithItsResultOrItsError() async throws {
    try await onLoop {
      let pair = SessionPair()
      pair.server.onStream = { stream in
        if stream.method == "echo" { return stream.finish(stream.params) }
        stream.fail(CallError(reason: "NotFound", message: "no \(stream.method)", details: ["kind": "x"]))
      }
      try await pair.start()
      #expect(pair.client.peerHello == ["hub": "h1"] && pair.server.peerHello == ["role": "node"])
      let answer = try await pair.client.call(method: "echo", params: ["a": [1, 2.5, "x"]], deadline: .seconds(10))
      #expect(answer == ["a": [1, 2.5, "x"]])
      let error = await #expect(throws: CallError.self) {
        _ = try await pair.client.call(method: "other", params: .null, deadline: .seconds(10))
      }
      #expect(error == CallError(reason: "NotFound", message: "no other", details: ["kind": "x"]))
      pair.client.close()
    }
  }

  @Test func aServerStreamGoesNoFasterThanItsReader() async throws {
    try await onLoop {
      var configuration = SessionConfiguration()
      configuration.limits.initialCredit = 1_000
      let pair = SessionPair(client: configuration)
      var sent = 0
      pair.server.onStream = { stream in
        @LoopActor func pump() {
          while sent < 1_000, stream.canSend {
            stream.send(head: [UInt8(sent & 255)], shared: Bytes(repeating: 7, count: 99))
            sent += 1
          }
          if sent == 1_000 { stream.finish("done") }
        }
        stream.onWritable = pump
        pump()
      }
      try await pair.start()
      let stream = pair.client.open(method: "list", params: .null, last: true)
      // Nobody reads yet: ten messages use the credit up.
      var received = 0
      let first = try await stream.receive()
      #expect(first == [0] + Bytes(repeating: 7, count: 99))
      received += 1
      try await turns(20)
      #expect(sent <= 16)
      while let message = try await stream.receive() {
        #expect(message.first == UInt8(received & 255))
        received += 1
      }
      #expect(received == 1_000)
      #expect(try CBOR.decode(try await stream.result()) == "done")
      pair.client.close()
    }
  }

  @Test func duplexStreamsJoinAcrossTwoSessions() async throws {
    try await onLoop {
      let (near, far) = (SessionPair(), SessionPair())
      try await near.start()
      try await far.start()
      // A call that enters by `near` is joined to a call that leaves by `far`, as a hub does.
      near.server.onStream = { stream in
        let out = far.client.open(method: stream.method, params: stream.rawParams)
        spawn {
          await join(stream.duplex, out.duplex)
          switch await out.settled() {
          case .success(let result): stream.finish(raw: result)
          case .failure(let error): stream.fail(error)
          }
        }
      }
      far.server.onStream = { stream in
        spawn {
          var total: Int64 = 0
          while let message = try? await stream.receive() {
            total += Int64(message.count)
            try? await stream.sendWaiting(message.reversed())
          }
          stream.finish(.int(total))
        }
      }
      let stream = near.client.open(method: "echo", params: .null)
      for length in [1, 10, 100_000] {
        try await stream.sendWaiting(Bytes(repeating: 1, count: length - 1) + [2])
        let answer = try #require(try await stream.receive())
        #expect(answer.count == length && answer[0] == 2)
      }
      stream.finish()
      #expect(try CBOR.decode(try await stream.result()) == 100_011)
      near.client.close()
      far.client.close()
    }
  }

  @Test func aDeadlineCancelsTheCallAtTheServer() async throws {
    try await onLoop {
      let pair = SessionPair()
      let closed = Signal<CallError?>()
      pair.server.onStream = { stream in stream.onClose = { closed.send(stream.failure) } }
      try await pair.start()
      let error = await #expect(throws: CallError.self) {
        _ = try await pair.client.call(method: "slow", params: .null, deadline: .milliseconds(10))
      }
      #expect(error?.reason == "Timeout")
      #expect(await closed.value()?.reason == "Timeout")
      pair.client.close()
    }
  }

  @Test func theEndOfASessionBreaksItsStreamsAndTellsTheReason() async throws {
    try await onLoop {
      let pair = SessionPair()
      let closed = Signal<SkerryError?>()
      let asked = Signal<Bool>()
      pair.server.onStream = { _ in asked.send(true) }
      pair.client.onClose = { closed.send($0) }
      try await pair.start()
      let call = spawnThrowing { try await pair.client.call(method: "x", params: .null, deadline: .seconds(30)) }
      #expect(await asked.value())
      pair.server.close(GoAway.revoked, message: "the certificate was revoked")
      #expect(await closed.value()?.code == .forbidden)
      let error = await #expect(throws: CallError.self) { _ = try await call.value }
      #expect(error?.reason == CallError.disconnected)
      #expect(error?.message.contains("revoked") == true)
      let late = await #expect(throws: CallError.self) {
        _ = try await pair.client.call(method: "y", params: .null, deadline: .seconds(30))
      }
      #expect(late?.reason == CallError.disconnected)
    }
  }

  @Test func aDrainedSessionEndsWithItsLastStream() async throws {
    try await onLoop {
      let pair = SessionPair()
      let closed = Signal<SkerryError?>()
      let goingAway = Signal<GoAway>()
      let served = Signal<SessionStream>()
      pair.server.onStream = { served.send($0) }
      pair.client.onClose = { closed.send($0) }
      pair.client.onGoAway = { goingAway.send($0) }
      try await pair.start()
      let call = spawnThrowing { try await pair.client.call(method: "x", params: .null, deadline: .seconds(30)) }
      let stream = await served.value()
      pair.server.drain(delay: .seconds(1), reason: GoAway.rotate, patience: .seconds(30))
      #expect(await goingAway.value() == GoAway(delay: .seconds(1), reason: GoAway.rotate))
      #expect(!pair.client.takesCalls && !pair.client.isClosed)
      stream.finish("late")
      #expect(try await call.value == "late")
      #expect(await closed.value()?.message.contains("rotate") == true)
    }
  }

  @Test func aRefusedHelloIsHeardWithItsReason() async throws {
    try await onLoop {
      let pair = SessionPair()
      pair.server.onHello = { hello in
        #expect(hello == ["role": "node"])
        return .failure(CallError(reason: "Forbidden", message: "node n1 is unknown"))
      }
      pair.server.start()
      pair.client.start()
      let error = await #expect(throws: SkerryError.self) { try await pair.client.ready() }
      #expect(error?.code == .forbidden)
      #expect(error?.message.contains("node n1 is unknown") == true)
    }
  }

  @Test func pingsCarryPositionsBothWays() async throws {
    try await onLoop {
      var configuration = SessionConfiguration()
      // Three intervals of silence are death, so it must not be shorter than a busy machine's pauses.
      configuration.pingInterval = .seconds(3)
      let pair = SessionPair(server: configuration)
      let (atClient, atServer) = (Signal<UInt64>(), Signal<UInt64>())
      pair.server.pingPosition = { 42 }
      pair.client.pingPosition = { 7 }
      pair.client.onPing = { atClient.send($0) }
      pair.server.onPing = { atServer.send($0) }
      pair.client.onClose = { _ in atClient.send(.max) }
      pair.server.onClose = { _ in atServer.send(.max) }
      try await pair.start()
      #expect(await atClient.value() == 42)
      #expect(await atServer.value() == 7)
      pair.client.close()
    }
  }
}

extension SessionTests {
  /// A peer that reads slowly has a long way to go through bulk; our answer to its ping is not behind it.
  @Test func aPingDoesNotWaitBehindBulk() async throws {
    try await onLoop {
      let loop = Loop.startShared()
      var configuration = SessionConfiguration()
      configuration.pingInterval = .seconds(1)
      configuration.limits.initialCredit = 4 << 20
      let (near, far) = MemoryStream.pair(on: loop, capacity: 16 << 10)
      let client = Session(
        stream: near, role: .client, hello: [:], scheduler: loop, random: SystemRandom(), configuration: configuration)
      let server = Session(
        stream: far, role: .server, hello: [:], scheduler: loop, random: SystemRandom(), configuration: configuration)
      server.onStream = { stream in
        for _ in 0..<200 { stream.send(Bytes(repeating: 7, count: 8 << 10)) }
        stream.finish()
      }
      let (asked, answered, all) = (Signal<UInt64>(), Signal<Int>(), Signal<Int>())
      server.onPing = { asked.send($0) }
      var received = 0
      client.onPing = { _ in answered.send(received) }
      server.start()
      client.start()
      try await client.ready()
      near.pauseReading()
      let bulk = client.open(method: "logs", params: [:], priority: .bulk, last: true)
      bulk.onMessage = { received += $0.count }
      bulk.onEnd = { _ in all.send(received) }
      _ = await asked.value()
      #expect(received == 0 && server.pendingBytes > 1 << 20)
      near.resumeReading()
      #expect(await answered.value() <= 64 << 10)
      #expect(await all.value() == 200 * (8 << 10))
      client.close()
    }
  }

  /// Frames below control wait a moment for others.
  @Test func framesOfOneMomentLeaveTogether() async throws {
    try await onLoop {
      let pair = SessionPair()
      let writes = Counter()
      let arrived = Signal<Int>()
      try await pair.start()
      pair.server.onStream = { stream in
        stream.onMessage = { message in
          if message == [2] { arrived.send(Int(writes.current)) }
        }
      }
      let stream = pair.client.open(method: "lane", params: [:], priority: .status)
      try await Loop.startShared().sleep(for: .milliseconds(5))
      pair.client.gather = .milliseconds(50)
      pair.client.onTraffic = { writes.add() }
      stream.send([1])
      try await Loop.startShared().sleep(for: .milliseconds(5))
      #expect(writes.current == 0)
      stream.send([2])
      #expect(await arrived.value() == 1)
      pair.client.close()
    }
  }
}

/// One value that a callback hands to a waiting test.
@LoopActor final class Signal<Value: Sendable> {
  private var sent: Value?
  private var waiting: CheckedContinuation<Value, Never>?
  func send(_ value: Value) {
    guard sent == nil else { return }
    sent = value
    waiting?.resume(returning: value)
    waiting = nil
  }
  func value() async -> Value {
    if let sent { return sent }
    return await withCheckedContinuation { waiting = $0 }
  }
}

/// Lets the loop turn: what is on its way in memory arrives.
@LoopActor func turns(_ count: Int) async throws {
  for _ in 0..<count { try await Loop.startShared().sleep(for: .zero) }
}
