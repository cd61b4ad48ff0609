import Base
import Wire

/// Frames and the session machine. The first byte says which side is attacked and how the input is cut; the rest is
/// what the peer sends, behind a proper handshake if the second bit says so.
func attack(_ input: Bytes) {
  guard let first = input.first else { return }
  let bytes = Bytes(input.dropFirst())
  cutAnywhere(bytes, chunk: Int(first >> 2) + 1)
  talk(bytes, role: first & 1 == 0 ? .server : .client, handshake: first & 2 == 0, chunk: Int(first >> 2) * 7 + 1)
}

/// The decoder answers the same frames however the bytes are cut, and frames encode to the bytes they came from.
private func cutAnywhere(_ bytes: Bytes, chunk: Int) {
  var whole: [Frame] = []
  var parts: [Frame] = []
  var decoder = FrameDecoder()
  let wasRefused = (try? decoder.decode(bytes, into: &whole)) == nil
  var slow = FrameDecoder()
  var partsRefused = false
  for start in stride(from: 0, to: bytes.count, by: chunk) where !partsRefused {
    partsRefused = (try? slow.decode(Bytes(bytes[start..<min(start + chunk, bytes.count)]), into: &parts)) == nil
  }
  precondition(whole == parts && wasRefused == partsRefused, "the cut changes the frames")
  precondition(bytes.starts(with: whole.flatMap(\.encoded)), "frames encode to other bytes")
}

private func talk(_ bytes: Bytes, role: SessionRole, handshake: Bool, chunk: Int) {
  var configuration = SessionConfiguration()
  configuration.limits.streams = 4
  configuration.limits.messageBytes = 4_096
  configuration.limits.initialCredit = 256
  let moment = Moment(now: Instant(nanoseconds: 1), wall: WallTime(seconds: 1))
  var machine = SessionMachine(role: role, configuration: configuration, hello: .null, at: moment)
  machine.start(at: moment)
  var talk = Talk(machine: machine, moment: moment)
  if handshake {
    talk.hear(role == .server ? hello(configuration) : welcome(configuration))
    if role == .client { talk.openSome() }
  }
  for start in stride(from: 0, to: bytes.count, by: chunk) {
    talk.hear(Bytes(bytes[start..<min(start + chunk, bytes.count)]))
  }
  talk.perform(talk.machine.disconnected(nil))
  precondition(talk.machine.isClosed && talk.streams.isEmpty, "streams outlive the session")
}

private func hello(_ configuration: SessionConfiguration) -> Bytes {
  let limits = PeerLimits(configuration.limits)
  return Frame(.hello, payload: Hello(features: [], agent: "", time: 0, limits: limits, hello: .null).encoded).encoded
}

private func welcome(_ configuration: SessionConfiguration) -> Bytes {
  let welcome = Welcome(
    version: 1, features: [], agent: "", time: 0, limits: PeerLimits(configuration.limits), ping: .seconds(15),
    spread: .zero, session: "", hello: .null)
  return Frame(.welcome, payload: welcome.encoded).encoded
}

/// A machine, and an owner that does what the actions ask for and holds the rules it can see.
private struct Talk: ~Copyable {
  var machine: SessionMachine
  let moment: Moment
  var streams: Set<UInt32> = []
  private var closes = 0

  init(machine: consuming SessionMachine, moment: Moment) {
    self.machine = machine
    self.moment = moment
  }

  mutating func hear(_ bytes: Bytes) {
    perform(machine.receive(bytes, at: moment.now))
    drain()
  }

  mutating func openSome() {
    for last in [true, false] {
      guard let id = try? machine.open(OpenMessage(method: "m", priority: .bulk, params: [0]), last: last) else {
        continue
      }
      streams.insert(id)
      try? machine.send(id, OutgoingMessage([1], Bytes(repeating: 2, count: 300), [3]))
    }
    drain()
  }

  mutating func drain() {
    while true {
      let (bytes, actions) = machine.nextWrite()
      precondition(bytes.count <= WireLimits.frameBytes, "a write is longer than a frame may be")
      perform(actions)
      if bytes.isEmpty { return }
    }
  }

  mutating func perform(_ actions: [SessionAction]) {
    for action in actions {
      precondition(closes == 0, "an action behind close")
      switch action {
      case .hello(let hello): perform(machine.accept(hello, hello: .null, session: "s", at: moment))
      case .opened(let id, let open):
        precondition(streams.insert(id).inserted, "a stream was opened twice")
        if open.method.utf8.count.isMultiple(of: 2) { machine.finish(id, .success(open.params)) }
      case .message(let id, let bytes):
        precondition(streams.contains(id), "a message on no stream")
        if machine.canSend(id) { try? machine.send(id, OutgoingMessage(bytes)) }
        if bytes.count.isMultiple(of: 3) { machine.consumed(id, cost: WireLimits.cost(bytes.count)) }
      case .ended(let id, _):
        precondition(streams.contains(id), "the end of no stream")
        if !id.isMultiple(of: 2) == (machine.role == .client) { streams.remove(id) }
      case .broken(let id, _), .closed(let id):
        precondition(streams.remove(id) != nil, "the last word about no stream")
      case .ping(_, let isAnswer): if !isAnswer { machine.answerPing(position: 1) }
      case .close: closes += 1
      case .ready, .writable, .missedAnswer, .goAway: break
      }
    }
  }
}
