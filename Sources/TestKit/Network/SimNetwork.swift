import Base
import EventLoop

/// All connections of the world, and the one place where they are made, slowed and broken.
@LoopActor package final class SimNetwork {
  /// How long a dialler waits for an answer that does not come.
  package static let dialTimeout: Duration = .seconds(10)

  /// What listens: decides about a peer as a TLS handshake does, then takes the connection.
  package struct Listener {
    let clock: SimClock
    let refusal: @LoopActor (PeerInfo) -> SkerryError?
    let accept: @LoopActor (SimStream) -> Void
  }

  let time: SimTime
  let random: any RandomSource
  private let trace: SimTrace
  private var listeners: [String: Listener] = [:]
  private var streams: [UInt64: SimStream] = [:]
  private var lastStream: UInt64 = 0
  /// The next so many dials are refused by the listener's machine.
  package var refusals = 0
  package private(set) var dials: UInt64 = 0
  /// Listens in on new connections.
  package var onConnection: (@LoopActor (_ dialling: SimStream, _ accepting: SimStream) -> Void)?

  package init(_ time: SimTime, random: any RandomSource, trace: SimTrace) {
    self.time = time
    self.random = random
    self.trace = trace
  }

  package func listen(
    _ name: String, clock: SimClock, refusal: @escaping @LoopActor (PeerInfo) -> SkerryError?,
    accept: @escaping @LoopActor (SimStream) -> Void
  ) {
    listeners[name] = Listener(clock: clock, refusal: refusal, accept: accept)
  }

  package func stopListening(_ name: String) { listeners[name] = nil }

  /// Dials `name` over `link`: answers when both handshakes are done, as `Dialer.connect` does.
  package func connect(
    to name: String, over link: SimLink, clock: SimClock, identity: PeerInfo, versions: [Int64]? = nil
  ) async throws(SkerryError) -> any ByteStream {
    dials += 1
    let result: Result<SimStream, SkerryError> = await withCheckedContinuation { continuation in
      let attempt = DialAttempt(continuation, clock: clock, time: time)
      clock.schedule(after: Self.dialTimeout) {
        attempt.finish(.failure(SkerryError(.timeout, "\(name) did not answer within \(Self.dialTimeout)")))
      }
      dial(name, link, clock, identity, attempt)
    }
    let stream = try result.get()
    if let versions { stream.offer(versions) }
    return stream
  }

  private func dial(
    _ name: String, _ link: SimLink, _ clock: SimClock, _ identity: PeerInfo, _ attempt: DialAttempt
  ) {
    if link.isSilent { return }
    let there = link.up.arrival(of: 1500, at: time.now, random: random)
    time.schedule(at: there) {
      if link.isSilent { return }
      let back = link.down.arrival(of: 2500, at: self.time.now, random: self.random)
      self.time.schedule(at: back) { self.answer(name, link, clock, identity, attempt) }
    }
  }

  private func answer(
    _ name: String, _ link: SimLink, _ clock: SimClock, _ identity: PeerInfo, _ attempt: DialAttempt
  ) {
    if link.isSilent { return }
    guard clock.isAlive else { return attempt.bury() }
    guard !link.isCut, let listener = listeners[name], listener.clock.isAlive else {
      return attempt.finish(.failure(SkerryError(.unavailable, "\(name) refused the connection")))
    }
    if refusals > 0 {
      refusals -= 1
      return attempt.finish(.failure(SkerryError(.unavailable, "\(name) refused the connection")))
    }
    if let refusal = listener.refusal(identity) { return attempt.finish(.failure(refusal)) }
    guard !attempt.isOver else { return }
    lastStream += 1
    let (near, far) = SimStream.pair(
      self, number: lastStream, dialling: (clock, link.up, PeerInfo(address: name)),
      accepting: (listener.clock, link.down, identity))
    streams[near.number * 2] = near
    streams[near.number * 2 + 1] = far
    trace.mix(near.number)
    onConnection?(near, far)
    listener.accept(far)
    attempt.finish(.success(near))
  }

  func ended(_ stream: SimStream) {
    let key = stream.number * 2
    if streams[key] === stream { streams[key] = nil } else { streams[key + 1] = nil }
  }

  /// Both ends in memory of one machine: a Unix socket.
  package func local(_ a: SimClock, _ b: SimClock) -> (SimStream, SimStream) {
    lastStream += 1
    let path = SimPath(latency: .microseconds(50), jitter: .zero, bytesPerSecond: 0)
    let (near, far) = SimStream.pair(
      self, number: lastStream, dialling: (a, path, PeerInfo(address: "unix:devices")),
      accepting: (b, path, PeerInfo(address: "unix:edge")))
    streams[near.number * 2] = near
    streams[near.number * 2 + 1] = far
    return (near, far)
  }

  /// Open ends, in the order in which they were made.
  package func open(where belongs: (SimStream) -> Bool) -> [SimStream] {
    streams.filter { belongs($0.value) }.sorted { $0.key < $1.key }.map(\.value)
  }

  /// The process with that clock died.
  package func died(_ clock: SimClock, silently: Bool) {
    for stream in open(where: { $0.clock === clock }) { stream.abandon(silently: silently) }
  }

  /// Resets every connection that uses one of the two paths; both ends hear of it.
  package func reset(_ link: SimLink) { for stream in open(where: { $0.uses(link) }) { stream.broke() } }

  /// A middlebox forgets every connection of the link: half-open for good.
  package func forget(_ link: SimLink) { for stream in open(where: { $0.uses(link) }) { stream.forget() } }

  /// The next thing that the cloud says over this link is lost with its connection.
  package func resetAfterNextAnswer(_ link: SimLink) {
    for stream in open(where: { $0.uses(link) }) { stream.breaksAtNextWrite = true }
  }

  /// What the open connections of this link have to say upwards arrives only after `delay`, while new ones are quick:
  /// an old session that still speaks.
  package func holdBack(_ link: SimLink, for delay: Duration) {
    for stream in open(where: { $0.goes(over: link.up) }) { stream.lag(delay) }
  }

  /// The programs at the ends of the link take nothing from their sockets for a while.
  package func stall(_ link: SimLink, for delay: Duration) {
    for stream in open(where: { $0.goes(over: link.up) }) {
      stream.stalledUntil = time.now + UInt64(delay.nanosecondCount)
    }
  }
}

extension SimStream {
  func uses(_ link: SimLink) -> Bool { goes(over: link.up) || goes(over: link.down) }
}

/// Waits for the end of one dial; whichever comes first counts.
@LoopActor private final class DialAttempt {
  private var continuation: CheckedContinuation<Result<SimStream, SkerryError>, Never>?
  private let clock: SimClock
  private let time: SimTime
  init(
    _ continuation: CheckedContinuation<Result<SimStream, SkerryError>, Never>, clock: SimClock, time: SimTime
  ) {
    self.continuation = continuation
    self.clock = clock
    self.time = time
  }
  var isOver: Bool { continuation == nil }
  func finish(_ result: Result<SimStream, SkerryError>) {
    guard clock.isAlive else { return bury() }
    continuation?.resume(returning: result)
    continuation = nil
  }
  func bury() {
    if let continuation { time.bury(continuation) }
    continuation = nil
  }
}
