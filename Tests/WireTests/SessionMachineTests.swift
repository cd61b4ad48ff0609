import Base
import Testing
import Wire

/// Two machines joined by hand: bytes go over when the test says so, time is a number.
final class MachinePair {
  var client: SessionMachine
  var server: SessionMachine
  var now = Instant(nanoseconds: 1_000_000_000)
  var clientActions: [SessionAction] = []
  var serverActions: [SessionAction] = []
  /// Payload bytes per direction that went over.
  var frames: [Frame] = []

  init(client: SessionConfiguration = .init(), server: SessionConfiguration = .init(), ready: Bool = true) {
    let moment = Moment(now: Instant(nanoseconds: 1_000_000_000), wall: WallTime(seconds: 1_700_000_000))
    self.client = SessionMachine(role: .client, configuration: client, hello: ["role": "test"], at: moment)
    self.server = SessionMachine(role: .server, configuration: server, hello: .null, at: moment)
    self.client.start(at: moment)
    self.server.start(at: moment)
    if ready { settle() }
  }

  func settle() {
    while true {
      let up = client.nextWrite()
      clientActions += up.actions
      if !up.bytes.isEmpty { toServer(up.bytes) }
      let down = server.nextWrite()
      serverActions += down.actions
      if !down.bytes.isEmpty { toClient(down.bytes) }
      if up.bytes.isEmpty, down.bytes.isEmpty { return }
    }
  }

  func toServer(_ bytes: Bytes) {
    for action in server.receive(bytes, at: now) {
      if case .hello(let hello) = action {
        let moment = Moment(now: now, wall: WallTime(seconds: 1_700_000_001))
        serverActions += server.accept(hello, hello: ["hub": "h1"], session: "s1", at: moment)
      }
      if case .ping(_, isAnswer: false) = action { server.answerPing(position: 77) }
      serverActions.append(action)
    }
  }

  func toClient(_ bytes: Bytes) { clientActions += client.receive(bytes, at: now) }

  func closeError(_ actions: [SessionAction]) -> SkerryError? {
    for case .close(let error) in actions { return error }
    return nil
  }
  func messages(_ actions: [SessionAction]) -> [Bytes] {
    actions.compactMap { if case .message(_, let bytes) = $0 { bytes } else { nil } }
  }
  func opened(_ actions: [SessionAction]) -> [UInt32] {
    actions.compactMap { if case .opened(let id, _) = $0 { id } else { nil } }
  }
  func open(last: Bool = false) throws -> UInt32 {
    try client.open(OpenMessage(method: "m", priority: .status, params: [0xf6]), last: last)
  }
}

@Suite struct SessionMachineTests {
  @Test func theHandshakeTellsLimitsFeaturesAndHellos() throws {
    var client = SessionConfiguration()
    client.features = ["a", "b"]
    var server = SessionConfiguration()
    server.features = ["b", "c"]
    let pair = MachinePair(client: client, server: server)
    #expect(pair.client.isReady && pair.server.isReady)
    #expect(pair.client.features == ["b"] && pair.server.features == ["b"])
    #expect(pair.client.sessionID == "s1" && pair.client.reconnectSpread == .seconds(2))
    let hellos = (pair.clientActions + pair.serverActions).compactMap { action -> Value? in
      if case .ready(let hello) = action { hello } else { nil }
    }
    #expect(hellos == [["hub": "h1"], ["role": "test"]])
  }

  @Test func anUnknownVersionIsRefusedByName() throws {
    let pair = MachinePair(ready: false)
    var hello = try CBOR.decode(
      Hello(features: [], agent: "x", time: 0, limits: PeerLimits(.init()), hello: .null).encoded)
    hello["v"] = [7]
    pair.toServer(Frame(.hello, payload: CBOR.encode(hello)).encoded)
    #expect(pair.closeError(pair.serverActions)?.code == .unsupportedVersion)
    pair.toClient(pair.server.nextWrite().bytes)
    let error = try #require(pair.closeError(pair.clientActions))
    #expect(error.code == .unsupportedVersion)
    #expect(error.message.contains("[7]") && error.message.contains("[1]"))
  }

  @Test func aCallAndItsAnswerLeaveNothingBehind() throws {
    let pair = MachinePair()
    let id = try pair.open(last: true)
    pair.settle()
    #expect(pair.opened(pair.serverActions) == [id])
    pair.server.finish(id, .success(CBOR.encode(["x": 1])))
    pair.settle()
    guard case .ended(id, .success(let result)) = pair.clientActions.last else { Issue.record("no answer"); return }
    #expect(try CBOR.decode(result) == ["x": 1])
    // Another thousand calls: streams that ended do not count.
    for _ in 0..<2_000 {
      let next = try pair.open(last: true)
      pair.settle()
      pair.server.finish(next, .failure(CallError(reason: "NotFound", message: "none")))
      pair.settle()
    }
    #expect(pair.closeError(pair.clientActions) == nil)
  }

  @Test func longMessagesAreCutAndJoined() throws {
    let pair = MachinePair()
    let params = CBOR.encode(.string(String(repeating: "p", count: 100_000)))
    let id = try pair.client.open(OpenMessage(method: "big", priority: .bulk, params: params))
    let message = Bytes((0..<200_000).map { UInt8(truncatingIfNeeded: $0) })
    try pair.client.send(
      id, OutgoingMessage(Bytes(message[..<10]), Bytes(message[10..<150_000]), Bytes(message[150_000...])))
    pair.settle()
    for case .opened(_, let open) in pair.serverActions { #expect(open.params == params) }
    #expect(pair.messages(pair.serverActions) == [message])
    pair.server.finish(id, .success(params))
    pair.settle()
    guard case .ended(_, .success(params)) = pair.clientActions.last else { Issue.record("no answer"); return }
  }

  @Test func withheldCreditStopsTheSenderAfterAtMostOneMessageTooMany() throws {
    let pair = MachinePair()
    let id = try pair.open()
    for number in 0..<200 { try pair.client.send(id, OutgoingMessage(Bytes(repeating: UInt8(number), count: 1_000))) }
    pair.settle()
    // 65 messages use 65,000 of 65,536; the 66th may still start.
    #expect(pair.messages(pair.serverActions).count == 66)
    let refused = !pair.client.canSend(id)
    #expect(refused)
    pair.server.consumed(id, cost: 66_000)
    pair.settle()
    #expect(pair.messages(pair.serverActions).count == 132)
    for _ in 0..<3 {
      pair.server.consumed(id, cost: 66_000)
      pair.settle()
    }
    #expect(pair.messages(pair.serverActions).count == 200)
    #expect(pair.clientActions.contains { if case .writable(id) = $0 { true } else { false } })
    let granted = pair.client.canSend(id)
    #expect(granted)
  }

  @Test func sendingPastCreditEndsTheSession() throws {
    let pair = MachinePair()
    let id = try pair.open()
    pair.settle()
    let frame = Frame(.data, stream: id, payload: Bytes(repeating: 0, count: 16_000)).encoded
    for _ in 0..<6 { pair.toServer(frame) }
    #expect(pair.closeError(pair.serverActions)?.code == .protocolViolation)
  }

  @Test func aPingOvertakesALargeMessage() throws {
    let pair = MachinePair()
    let id = try pair.open()
    try pair.client.send(id, OutgoingMessage(Bytes(repeating: 1, count: 60_000)))
    _ = pair.client.nextWrite()
    pair.now = pair.now + .seconds(15)
    _ = pair.client.tick(at: pair.now, position: 5)
    var frames: [Frame] = []
    var decoder = FrameDecoder()
    try decoder.decode(pair.client.nextWrite().bytes, into: &frames)
    #expect(frames.first?.type == .ping)
    #expect(frames.last?.type == .data && frames.last?.flags == .more)
  }

  @Test func classesLeaveInOrderAndStreamsOfAClassTakeTurns() throws {
    let pair = MachinePair()
    let bulk = try pair.client.open(OpenMessage(method: "b", priority: .bulk, params: [0xf6]))
    let one = try pair.client.open(OpenMessage(method: "o", priority: .status, params: [0xf6]))
    let two = try pair.client.open(OpenMessage(method: "t", priority: .status, params: [0xf6]))
    for id in [bulk, one, two] {
      for _ in 0..<2 { try pair.client.send(id, OutgoingMessage(Bytes(repeating: 0, count: 500))) }
    }
    var frames: [Frame] = []
    var decoder = FrameDecoder()
    try decoder.decode(pair.client.nextWrite().bytes, into: &frames)
    // OPENs leave in the order of their numbers, whatever their class.
    #expect(frames.map(\.stream) == [bulk, one, two, one, two, one, two, bulk, bulk])
  }

  @Test func silenceIsDeathOnBothSidesWithinThreeIntervals() throws {
    let pair = MachinePair()
    let id = try pair.open(last: true)
    pair.settle()
    let start = pair.now
    // The link is cut: ticks go on, bytes do not.
    for second in 1...45 {
      pair.now = start + .seconds(Int64(second))
      pair.clientActions += pair.client.tick(at: pair.now, position: 0)
      pair.serverActions += pair.server.tick(at: pair.now, position: 0)
      _ = pair.client.nextWrite()
      if second == 30 {
        #expect(pair.clientActions.contains { if case .missedAnswer = $0 { true } else { false } })
      }
      if second == 44 { #expect(!pair.client.isClosed && !pair.server.isClosed) }
    }
    #expect(pair.closeError(pair.clientActions)?.code == .timeout)
    #expect(pair.closeError(pair.serverActions)?.code == .timeout)
    #expect(pair.serverActions.contains { if case .broken(id, _) = $0 { true } else { false } })
  }

  @Test func pingsAreAnsweredWithThePosition() throws {
    let pair = MachinePair()
    for _ in 0..<100 {
      pair.now = pair.client.deadline
      pair.clientActions += pair.client.tick(at: pair.now, position: 9)
      pair.settle()
    }
    let answers = pair.clientActions.compactMap { if case .ping(let position, true) = $0 { position } else { nil } }
    #expect(answers == Array(repeating: 77, count: 100))
    #expect(!pair.client.isClosed && !pair.server.isClosed)
    #expect(!pair.clientActions.contains { if case .missedAnswer = $0 { true } else { false } })
  }

  @Test func aHandshakeThatNeverComesTimesOut() throws {
    let pair = MachinePair(ready: false)
    pair.now = pair.now + .seconds(10)
    #expect(pair.closeError(pair.server.tick(at: pair.now, position: 0))?.code == .timeout)
  }

  @Test func aPeerMayNotOpenMoreStreamsThanItWasTold() throws {
    var server = SessionConfiguration()
    server.limits.streams = 2
    let pair = MachinePair(server: server)
    _ = try pair.open()
    _ = try pair.open()
    let error = #expect(throws: SkerryError.self) { try pair.open() }
    #expect(error?.code == .limitExceeded)
    // A client that does not keep to it is reset, and the session lives.
    pair.settle()
    pair.toServer(
      Frame(.open, stream: 5, payload: OpenMessage(method: "m", priority: .control, params: [0]).encoded).encoded)
    var frames: [Frame] = []
    var decoder = FrameDecoder()
    try decoder.decode(pair.server.nextWrite().bytes, into: &frames)
    #expect(frames.map(\.type) == [.reset] && frames[0].stream == 5)
    #expect(pair.server.isClosed == false)
  }

  @Test func aResetBreaksTheStreamAndCrossingFramesAreSkipped() throws {
    let pair = MachinePair()
    let id = try pair.open()
    pair.settle()
    pair.server.reset(id, CallError(reason: CallError.cancelled, message: "enough"))
    try pair.client.send(id, OutgoingMessage([1, 2, 3]))
    pair.settle()
    guard case .broken(id, let error) = pair.clientActions.last else { Issue.record("not broken"); return }
    #expect(error.message == "enough")
    #expect(!pair.server.isClosed && pair.messages(pair.serverActions).isEmpty)
  }

  @Test func goAwayStopsNewStreamsAndLetsOldOnesEnd() throws {
    let pair = MachinePair()
    let id = try pair.open(last: true)
    pair.settle()
    pair.server.goAway(GoAway(delay: .seconds(3), reason: GoAway.rotate))
    pair.settle()
    #expect(throws: SkerryError.self) { try pair.open() }
    pair.server.finish(id, .success([1]))
    pair.settle()
    guard case .ended(id, .success([1])) = pair.clientActions.last else { Issue.record("no answer"); return }
  }

  @Test func unknownFramesMarkedIgnorableAreSkipped() throws {
    let pair = MachinePair()
    pair.toServer(Frame(FrameType(rawValue: 99), flags: .ignorable, stream: 3, payload: [1]).encoded)
    #expect(pair.server.isClosed == false)
    pair.toServer(Frame(FrameType(rawValue: 99), stream: 3, payload: [1]).encoded)
    #expect(pair.closeError(pair.serverActions)?.code == .protocolViolation)
  }

  /// Each breaks a rule of the protocol, after the handshake, towards the server.
  static let violations: [Frame] = [
    Frame(.data, stream: 1, payload: []), Frame(.end, stream: 1, payload: [0xa0]),
    Frame(.credit, stream: 1, payload: [0, 0, 0, 1]), Frame(.open, stream: 2, payload: [0xa0]),
    Frame(.open, stream: 1, payload: [0xa0]), Frame(.open, stream: 0, payload: [0xa0]),
    Frame(.open, stream: 1, payload: [0xff]), Frame(.ping, stream: 1, payload: [0]),
    Frame(.ping, payload: [0x18, 0x01]), Frame(.ping, flags: .reply, payload: [0]), Frame(.hello, payload: [0xa0]),
    Frame(.welcome, payload: [0xa0]), Frame(.goAway, payload: [0x01]), Frame(.reset, stream: 1, payload: [0xa0]),
  ]
  @Test(arguments: violations) func brokenRulesEndTheSessionWithAReason(_ frame: Frame) throws {
    let pair = MachinePair()
    pair.toServer(frame.encoded)
    #expect(pair.closeError(pair.serverActions)?.code == .protocolViolation)
    pair.toClient(pair.server.nextWrite().bytes)
    guard case .goAway(let goAway) = pair.clientActions.last else { Issue.record("no GOAWAY"); return }
    #expect(goAway.reason == GoAway.protocolViolation && !goAway.message.isEmpty)
  }

  @Test func messagesAndTheirPartsAreBounded() throws {
    var server = SessionConfiguration()
    server.limits.messageBytes = 40_000
    let pair = MachinePair(server: server)
    let id = try pair.open()
    #expect(throws: SkerryError.self) { try pair.client.send(id, OutgoingMessage(Bytes(repeating: 0, count: 40_001))) }
    pair.settle()
    for _ in 0..<3 {
      pair.toServer(Frame(.data, flags: .more, stream: id, payload: Bytes(repeating: 0, count: 16_000)).encoded)
    }
    #expect(pair.closeError(pair.serverActions)?.code == .limitExceeded)
  }

  @Test func whoAsksAndNeverReadsIsCut() throws {
    let pair = MachinePair()
    let ping = Frame(.ping, payload: [0]).encoded
    for _ in 0..<40_000 where !pair.server.isClosed { pair.toServer(ping) }
    #expect(pair.closeError(pair.serverActions)?.code == .limitExceeded)
  }
}
