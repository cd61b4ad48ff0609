import Base

package enum SessionRole: Sendable, Hashable {
  /// Dialled the connection: says HELLO and pings. Its streams have odd numbers.
  case client
  /// Accepted it: says WELCOME and answers pings. Its streams have even numbers.
  case server
}

/// A value whose copies share one piece of memory: thousands of sessions have the same.
package struct SessionConfiguration: Sendable {
  private struct Settings: Sendable {
    var limits = WireLimits()
    var pingInterval: Duration = .seconds(15)
    var reconnectSpread: Duration = .seconds(2)
    var agent = "skerry"
    var features: [String] = []
  }
  private final class Shared: Sendable {
    let settings: Settings
    init(_ settings: Settings) { self.settings = settings }
  }
  private var shared = Shared(Settings())

  private subscript<T>(path: WritableKeyPath<Settings, T>) -> T {
    get { shared.settings[keyPath: path] }
    set {
      var settings = shared.settings
      settings[keyPath: path] = newValue
      shared = Shared(settings)
    }
  }

  package var limits: WireLimits {
    get { shared.settings.limits }
    set { self[\.limits] = newValue }
  }
  /// Accepting side: how often the peer pings. Nothing heard for three intervals means dead, on both sides.
  package var pingInterval: Duration {
    get { shared.settings.pingInterval }
    set { self[\.pingInterval] = newValue }
  }
  /// Accepting side: over what time the peer spreads its first retry after a lost connection.
  package var reconnectSpread: Duration {
    get { shared.settings.reconnectSpread }
    set { self[\.reconnectSpread] = newValue }
  }
  package var agent: String {
    get { shared.settings.agent }
    set { self[\.agent] = newValue }
  }
  package var features: [String] {
    get { shared.settings.features }
    set { self[\.features] = newValue }
  }
  package init() {}
}

/// What a session's owner does after an event, in order.
package enum SessionAction: Sendable {
  /// Accepting side: answer with `accept` or `refuse`.
  case hello(Hello)
  /// The handshake is done; streams may be opened.
  case ready(peerHello: Value)
  case opened(stream: UInt32, OpenMessage)
  case message(stream: UInt32, Bytes)
  /// The peer's END. Of a stream opened here that is the answer, and the stream is over.
  case ended(stream: UInt32, Result<Bytes, CallError>)
  /// The stream broke off in both directions: a reset, or the session's end. The last word about it.
  case broken(stream: UInt32, CallError)
  /// Our answer on a stream that the peer opened has left; it is over.
  case closed(stream: UInt32)
  /// The stream's `canSend` was refused before and is granted now.
  case writable(stream: UInt32)
  /// The peer's ping or answer, with its position; `answerPing` unless it was an answer.
  case ping(position: UInt64, isAnswer: Bool)
  /// The first ping in a row that was not answered within an interval: dial a second connection beside this one.
  case missedAnswer
  /// The peer takes no new streams.
  case goAway(GoAway)
  /// The session is over: write what `nextWrite` still gives, then close. nil: an orderly end.
  case close(SkerryError?)
}

/// One session of the protocol as a value: bytes and time in, bytes and actions out. No socket, no clock.
///
/// Whoever owns it feeds `receive`, calls `tick` at `deadline`, performs the actions, and writes what `nextWrite` gives
/// whenever the connection takes more. Not copyable: a session looks at its machine many times for each frame, and Swift
/// would copy it for many of these looks.
package struct SessionMachine: ~Copyable, Sendable {
  package enum Phase: Sendable {
    case new, waiting, ready, closed
  }

  /// One stream; both ends.
  struct Stream: Sendable {
    let isIncoming: Bool
    /// Cost of messages that the peer may still start.
    var credit: Int
    /// Consumed here and not yet told the peer.
    var ungranted = 0
    var priority: Priority
    var localEnded = false
    var remoteEnded = false
    /// OPEN is still arriving.
    var isOpening = false
    /// A message that arrived in part, and the frame type that goes on with it.
    var partial: (type: FrameType, bytes: Bytes)?
  }

  // First what `passes` looks at, close together: thousands of sessions are asked one after the other, and each piece of
  // memory that lies apart is waited for.
  /// What comes from outside reads this rather than `isReady`, which would copy the whole machine.
  package internal(set) var phase = Phase.new
  /// What the peer takes; until it is known nothing is sent.
  var peerLimits: PeerLimits
  package internal(set) var scheduler: SendScheduler

  package let role: SessionRole
  package let configuration: SessionConfiguration
  var limits: WireLimits { configuration.limits }
  private let hello: Value

  var decoder = FrameDecoder()
  var streams = StreamMap<Stream>()
  var incomingCount = 0
  /// The highest stream that the peer opened; anything up to it that is not in `streams` is over.
  var highestIncoming: UInt32 = 0
  var nextOutgoing: UInt32
  var assembling = 0
  package internal(set) var features: Set<String> = []
  /// Of WELCOME.
  package internal(set) var sessionID = ""
  package internal(set) var reconnectSpread: Duration = .zero
  package internal(set) var peerGoAway: GoAway?
  package internal(set) var sentGoAway = false

  /// When something was last heard from the peer.
  package internal(set) var lastHeard: Instant
  package internal(set) var interval: Duration
  var nextPing: Instant
  /// The accepting side's wall clock as its answer told it, milliseconds since 1970; 0 before, and on that side itself.
  package internal(set) var peerTime: Int64 = 0
  /// When the ping under way was sent; nil once it is answered.
  package internal(set) var asked: Instant?
  /// `missedAnswer` was told of it.
  var toldMissed = false
  /// Bytes of frames that came, by class.
  package internal(set) var received = TrafficCount()
  let started: Instant

  var actions: [SessionAction] = []

  /// `hello` is what this side's role says in HELLO; the accepting side gives its own in `accept`.
  package init(role: SessionRole, configuration: SessionConfiguration, hello: Value, at moment: Moment) {
    self.role = role
    self.configuration = configuration
    self.hello = hello
    scheduler = SendScheduler(limits: configuration.limits)
    nextOutgoing = role == .client ? 1 : 2
    peerLimits = PeerLimits(WireLimits())
    lastHeard = moment.now
    started = moment.now
    interval = configuration.pingInterval
    nextPing = moment.now
  }

  package var isReady: Bool { phase == .ready }
  package var isClosed: Bool { phase == .closed }

  /// Moves the collected actions out; every event ends with it.
  mutating func taken() -> [SessionAction] {
    guard !actions.isEmpty else { return [] }
    let taken = actions
    actions = []
    return taken
  }

  // MARK: handshake

  /// Begins: the connecting side says HELLO, the accepting side waits for it.
  package mutating func start(at moment: Moment) {
    guard phase == .new else { return }
    phase = .waiting
    guard role == .client else { return }
    let message = Hello(
      features: configuration.features, agent: configuration.agent, time: moment.wall.milliseconds,
      limits: PeerLimits(limits), hello: hello)
    scheduler.control(Frame(.hello, payload: message.encoded))
  }

  /// Accepting side, after `.hello`: lets the peer in.
  /// `ping` and `spread` are what this peer is told, if not what everybody is.
  package mutating func accept(
    _ peer: Hello, hello: Value, session: String, ping: Duration? = nil, spread: Duration? = nil, at moment: Moment
  ) -> [SessionAction] {
    guard phase == .waiting, role == .server else { return [] }
    interval = ping ?? configuration.pingInterval
    let common = peer.features.filter(configuration.features.contains)
    let welcome = Welcome(
      version: 1, features: common, agent: configuration.agent, time: moment.wall.milliseconds,
      limits: PeerLimits(limits), ping: interval, spread: spread ?? configuration.reconnectSpread, session: session,
      hello: hello)
    let frame = Frame(.welcome, payload: welcome.encoded)
    peerLimits = peer.limits
    features = Set(common)
    sessionID = session
    scheduler.control(frame)
    phase = .ready
    actions.append(.ready(peerHello: peer.hello))
    return taken()
  }

  /// Ends the session at once with a reason that the peer hears.
  package mutating func close(_ goAway: GoAway, error: SkerryError? = nil) -> [SessionAction] {
    end(goAway, error)
    return taken()
  }

  /// Tells the peer to open no more streams and to come back after the delay; what runs goes on.
  package mutating func goAway(_ goAway: GoAway) {
    guard phase == .ready, !sentGoAway else { return }
    sentGoAway = true
    scheduler.control(Frame(.goAway, payload: goAway.encoded))
  }

  /// The connection is gone.
  package mutating func disconnected(_ error: SkerryError?) -> [SessionAction] {
    end(nil, error ?? peerGoAway?.error)
    return taken()
  }

  /// Ends every stream and the session; says GOAWAY if that can still be said.
  mutating func end(_ goAway: GoAway?, _ error: SkerryError?) {
    guard phase != .closed else { return }
    let spoken = phase == .ready || (phase == .waiting && role == .server)
    phase = .closed
    let lost = CallError(reason: CallError.disconnected, message: error?.description ?? "the session ended")
    for id in streams.keys where streams[id]?.isOpening == false {
      actions.append(.broken(stream: id, lost))
    }
    streams = StreamMap()
    let sent = scheduler.sent
    scheduler = SendScheduler(limits: limits, sent: sent)
    if let goAway, spoken { scheduler.control(Frame(.goAway, payload: goAway.encoded)) }
    actions.append(.close(error))
  }

  // MARK: sending

  /// Keeps what this side sends to these rates.
  package mutating func limit(_ rates: LinkBudget.Rates, at now: Instant) {
    scheduler.budget = rates.isUnlimited ? nil : LinkBudget(rates, now: now)
  }

  /// Time has passed for the budget; before `nextWrite`.
  package mutating func refill(at now: Instant) { scheduler.budget?.refill(now) }

  /// `nextWrite` would give nothing: most often nothing waits, or nothing more.
  package var hasNothingToWrite: Bool { actions.isEmpty && scheduler.hasNothingToSay }

  /// The next bytes to write; empty when nothing can leave now.
  package mutating func nextWrite() -> (bytes: Bytes, actions: [SessionAction]) {
    var events: [SendScheduler.Event] = []
    let bytes = scheduler.next(events: &events)
    for event in events {
      switch event {
      case .writable(let id): if streams[id] != nil { actions.append(.writable(stream: id)) }
      case .ended(let id):
        guard streams[id]?.isIncoming == true else { continue }
        forget(id)
        actions.append(.closed(stream: id))
      }
    }
    return (bytes, taken())
  }

  // MARK: time

  /// When `tick` is due at the latest.
  package var deadline: Instant {
    switch phase {
    case .new, .waiting: started + limits.helloTimeout
    case .ready: min(lastHeard + interval * 3, nextPingOrAnswer)
    case .closed: Instant(nanoseconds: .max)
    }
  }

  /// Sends the ping that is due and looks whether the peer still lives. `position` is what our ping carries.
  package mutating func tick(at now: Instant, position: UInt64) -> [SessionAction] {
    switch phase {
    case .new, .closed: break
    case .waiting:
      guard now - started >= limits.helloTimeout else { break }
      end(
        GoAway(reason: GoAway.timeout, message: "no handshake within \(limits.helloTimeout)"),
        SkerryError(.timeout, "the peer did not finish the handshake within \(limits.helloTimeout)"))
    case .ready:
      if now - lastHeard >= interval * 3 {
        end(
          GoAway(reason: GoAway.timeout, message: "nothing heard for \(interval * 3)"),
          SkerryError(.timeout, "nothing was heard from the peer for \(interval * 3)"))
      } else if role == .client {
        if let asked, !toldMissed, now - asked >= answerTime {
          toldMissed = true
          actions.append(.missedAnswer)
        }
        if now >= nextPing { ping(at: now, position) }
      }
    }
    return taken()
  }

  /// How long an answer may take before it counts as missed: a third of the interval, so that a second connection is
  /// there long before the peer counts as dead.
  package var answerTime: Duration { interval / 3 }

  private var nextPingOrAnswer: Instant {
    guard role == .client else { return Instant(nanoseconds: .max) }
    guard let asked, !toldMissed else { return nextPing }
    return min(nextPing, asked + answerTime)
  }

  private mutating func ping(at now: Instant, _ position: UInt64) {
    if asked == nil { asked = now }
    nextPing = now + interval
    sendPing([], position)
  }

  /// Answers the peer's ping with our position.
  package mutating func answerPing(position: UInt64) {
    guard phase == .ready else { return }
    sendPing(.reply, position)
  }

  private mutating func sendPing(_ flags: FrameFlags, _ position: UInt64) {
    var writer = CBORWriter()
    writer.uint(position)
    scheduler.control(Frame(.ping, flags: flags, payload: writer.bytes))
  }
}

extension WallTime {
  /// Milliseconds since 1970, as HELLO and WELCOME carry it.
  package var milliseconds: Int64 { nanoseconds / 1_000_000 }
}
