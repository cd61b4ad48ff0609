import Base
import Testing
import Wire

/// Two machines that talk at random, over a link that cuts and delays at random, from a seed; and a model of what
/// each end must have seen.
private struct Soak {
  /// One direction of one stream, as the model knows it.
  struct Lane {
    var sent: [Bytes] = []
    var received = 0
    /// Received and not consumed: at most the credit and one message.
    var held = 0
    var finished = false
    var endHeard = false
  }
  final class End {
    var machine: SessionMachine
    init(_ machine: consuming SessionMachine) { self.machine = machine }
  }
  struct Key: Hashable {
    let stream: UInt32
    let fromClient: Bool
  }

  static let credit = 5_000
  let random: SeededRandom
  let machines: [End]
  /// Bytes on their way from each machine.
  var links: [Bytes] = [[], []]
  var lanes: [Key: Lane] = [:]
  var open: Set<UInt32> = []
  var broken: Set<UInt32> = []
  let moment = Moment(now: Instant(nanoseconds: 1), wall: WallTime(seconds: 1))

  init(seed: UInt64) {
    random = SeededRandom(seed: seed)
    var configuration = SessionConfiguration()
    configuration.limits.initialCredit = Self.credit
    configuration.limits.streams = 6
    machines = [SessionRole.client, .server].map {
      End(
        SessionMachine(
          role: $0, configuration: configuration, hello: .null,
          at: Moment(now: Instant(nanoseconds: 1), wall: WallTime(seconds: 1))))
    }
    for side in 0...1 { machines[side].machine.start(at: moment) }
    for _ in 0..<10 { for side in 0...1 { flush(side, all: true) } }
  }

  func below(_ bound: Int) -> Int { Int(random.below(UInt64(bound))) }

  /// Moves what the machine gives onto its link, and a piece of the link to the other machine.
  mutating func flush(_ side: Int, all: Bool) {
    while true {
      let (bytes, actions) = machines[side].machine.nextWrite()
      #expect(bytes.count <= WireLimits.frameBytes)
      perform(actions, at: side)
      links[side] += bytes
      if bytes.isEmpty || (!all && below(2) == 0) { break }
    }
    let count = all ? links[side].count : below(links[side].count + 1)
    let piece = Bytes(links[side].prefix(count))
    links[side].removeFirst(count)
    perform(machines[1 - side].machine.receive(piece, at: moment.now), at: 1 - side)
  }

  mutating func perform(_ actions: [SessionAction], at side: Int) {
    for action in actions {
      switch action {
      case .hello(let hello):
        perform(machines[side].machine.accept(hello, hello: .null, session: "s", at: moment), at: side)
      case .message(let id, let bytes): received(Key(stream: id, fromClient: side == 1), bytes)
      case .ended(let id, .success):
        let key = Key(stream: id, fromClient: side == 1)
        #expect(lanes[key]?.finished == true, "an end that was not said")
        #expect(lanes[key]?.received == lanes[key]?.sent.count, "the end came before the last message")
        lanes[key]?.endHeard = true
      case .broken(let id, _): #expect(broken.contains(id), "a stream broke that nobody reset")
      case .close(let error): Issue.record("the session ended: \(String(describing: error))")
      default: break
      }
    }
  }

  mutating func received(_ key: Key, _ bytes: Bytes) {
    guard var lane = lanes[key], lane.received < lane.sent.count else {
      Issue.record("a message that nobody sent, on stream \(key.stream)")
      return
    }
    #expect(lane.sent[lane.received] == bytes, "messages are out of order or damaged")
    lane.received += 1
    #expect(lane.held < Self.credit, "a message was started without credit")
    lane.held += WireLimits.cost(bytes.count)
    lanes[key] = lane
  }

  mutating func step() throws {
    let side = below(2)
    switch below(10) {
    case 0: try openStream(side)
    case 1...4: try send(side)
    case 5: finish(side)
    case 6: if below(4) == 0 { reset(side) }
    case 7: consume(side, all: false)
    default: flush(side, all: false)
    }
  }

  mutating func openStream(_ side: Int) throws {
    let params = CBOR.encode(.string(String(repeating: "p", count: below(40_000))))
    let priority = Priority(rawValue: UInt8(below(4))) ?? .bulk
    let message = OpenMessage(method: "m", priority: priority, params: params)
    guard let id = try? machines[side].machine.open(message) else { return }
    #expect(open.insert(id).inserted)
    lanes[Key(stream: id, fromClient: true)] = Lane()
    lanes[Key(stream: id, fromClient: false)] = Lane()
  }

  /// A stream that this side may still send on.
  func sendable(_ side: Int) -> Key? {
    let keys = lanes.filter {
      $0.key.fromClient == (side == 0) && !$0.value.finished && !broken.contains($0.key.stream)
    }
    .keys.sorted { $0.stream < $1.stream }
    guard !keys.isEmpty else { return nil }
    let key = keys[below(keys.count)]
    // The acceptor knows a stream only once its OPEN has arrived; `canSend` says so.
    return key
  }

  mutating func send(_ side: Int) throws {
    guard let key = sendable(side), machines[side].machine.canSend(key.stream) else { return }
    let size = below(5) == 0 ? below(60_000) : below(400)
    let bytes = Bytes(repeating: UInt8(truncatingIfNeeded: random.next()), count: size)
    let cut = below(size + 1)
    try machines[side].machine.send(key.stream, OutgoingMessage(Bytes(bytes[..<cut]), Bytes(bytes[cut...])))
    lanes[key]?.sent.append(bytes)
  }

  /// Whoever opened a stream ends its direction; the other side answers only after that, which ends the stream.
  mutating func finish(_ side: Int) {
    guard let key = sendable(side) else { return }
    let isOpener = key.stream.isMultiple(of: 2) == (side == 1)
    let other = Key(stream: key.stream, fromClient: !key.fromClient)
    guard isOpener || lanes[other]?.endHeard == true else { return }
    machines[side].machine.finish(key.stream, .success([0x01]))
    lanes[key]?.finished = true
  }

  mutating func reset(_ side: Int) {
    guard let key = sendable(side), machines[side].machine.canSend(key.stream) else { return }
    broken.insert(key.stream)
    machines[side].machine.reset(key.stream, CallError(reason: CallError.cancelled, message: "enough"))
  }

  mutating func consume(_ side: Int, all: Bool) {
    for key in lanes.keys.sorted(by: { $0.stream < $1.stream }) where key.fromClient == (side == 1) {
      guard all || below(2) == 0, let held = lanes[key]?.held, held > 0 else { continue }
      machines[side].machine.consumed(key.stream, cost: held)
      lanes[key]?.held = 0
    }
  }

  /// Nothing new: everything that was said arrives, and every stream ends.
  mutating func settle() {
    for _ in 0..<400 {
      for side in 0...1 {
        flush(side, all: true)
        consume(side, all: true)
        for _ in 0..<8 { finish(side) }
      }
      if lanes.allSatisfy({ broken.contains($0.key.stream) || $0.value.endHeard }) { return }
    }
  }
}

@Suite struct SessionSoakTests {
  @Test(arguments: 1...30) func whatWasSaidArrivesOnceInOrderWithinCredit(_ seed: UInt64) throws {
    var soak = Soak(seed: seed)
    for _ in 0..<500 { try soak.step() }
    soak.settle()
    for (key, lane) in soak.lanes where !soak.broken.contains(key.stream) {
      #expect(lane.received == lane.sent.count, "stream \(key.stream) lost messages")
      #expect(lane.endHeard, "stream \(key.stream) did not end")
    }
    for end in soak.machines {
      #expect(end.machine.scheduler.messageBytes == 0 && end.machine.scheduler.isIdle)
      #expect(end.machine.isClosed == false)
    }
    #expect(soak.lanes.values.contains { $0.sent.count > 3 }, "the run said nothing")
  }
}
