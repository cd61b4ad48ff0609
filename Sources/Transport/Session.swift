import Base
import EventLoop
import Wire

/// One protocol session over any byte stream: TLS, a Unix socket, or two ends in memory.
///
/// The rules live in `SessionMachine`; this class joins it to a connection and a clock. Everything runs on the loop,
/// callbacks come synchronously, and frames of one turn of the loop leave in one write.
@LoopActor package final class Session {
  package typealias Role = SessionRole

  /// Bytes that may wait in the connection before the next frames are chosen: what has been handed down cannot be
  /// overtaken by a ping any more.
  package static let connectionBytes = WireLimits.frameBytes
  /// Writes in one turn of the loop; the rest waits a turn, so that one fast reader does not hold up the others.
  package static let writesPerTurn = 16
  /// How long a closed session waits for its last words to leave.
  package static let linger: Duration = .seconds(2)
  /// How long one waits that does so since its peer was not heard.
  package static let lastWords: Duration = .milliseconds(50)
  /// How far into a session `pass` looks: what comes before the machine, and the beginning of that.
  private static let passBytes = 384
  /// What a node and its hub set `gather` to.
  package static let linkGather: Duration = .milliseconds(10)

  // First what `pass` touches: `note` tells the beginning alone.
  private let connection: any ByteStream
  private var isOver = false
  /// How long frames of classes below control wait for others: for links where each packet costs.
  package var gather: Duration = .zero
  package private(set) var bytesSent: UInt64 = 0
  /// Frames left or came: `sent` and `received` have changed.
  package var onTraffic: (@LoopActor () -> Void)?
  var machine: SessionMachine

  /// Where the session's time comes from.
  package let clock: any Scheduler
  private let random: any RandomSource
  private let hello: Value

  private var streams = StreamMap<SessionStream>()
  private var timer: TimerID?
  private var budgetTimer: TimerID?
  private var gathering: TimerID?
  private var depth = 0
  private var flushIsDue = false
  private var isFinished = false
  /// What is said when the last stream is over.
  private var draining: GoAway?
  private var waiters: [CheckedContinuation<Result<Void, SkerryError>, Never>] = []
  private var outcome: Result<Void, SkerryError>?

  /// What the peer's role said of itself in the handshake; null before, and after `forgetHello`.
  package private(set) var peerHello: Value = .null
  /// How often this peer pings, set before it is let in; nil: as the configuration says. Accepting side.
  package var pingInterval: Duration?
  /// Over what time this peer spreads its first retry; nil: as the configuration says. Accepting side.
  package var ownSpread: Duration?
  package private(set) var bytesReceived: UInt64 = 0

  /// Accepting side: looks at the peer's hello and answers our own, or refuses. Without it everyone is let in and
  /// hears the `hello` of `init`.
  package var onHello: (@LoopActor (_ peerHello: Value) -> Result<Value, CallError>)?
  /// The handshake is done.
  package var onReady: (@LoopActor () -> Void)?
  /// The peer opened a stream. Set its callbacks before returning, or read it with `receive`. Without a handler it is
  /// refused.
  package var onStream: (@LoopActor (_ incoming: SessionStream) -> Void)?
  /// Once, at the end: nil after an orderly one. All streams have been told before.
  package var onClose: (@LoopActor (SkerryError?) -> Void)?
  /// The peer's ping, or its answer to ours, with the position it carries.
  package var onPing: (@LoopActor (_ position: UInt64) -> Void)?
  /// What our pings and answers carry.
  package var pingPosition: @LoopActor () -> UInt64 = { 0 }
  /// A ping was not answered within an interval: dial a second connection beside this one.
  package var onMissedAnswer: (@LoopActor () -> Void)?
  /// The peer takes no new streams; what runs goes on.
  package var onGoAway: (@LoopActor (GoAway) -> Void)?

  package init(
    stream: any ByteStream, role: Role, hello: Value, scheduler: any Scheduler, random: any RandomSource,
    configuration: SessionConfiguration = SessionConfiguration()
  ) {
    connection = stream
    clock = scheduler
    self.random = random
    self.hello = hello
    machine = SessionMachine(
      role: role, configuration: configuration, hello: hello,
      at: Moment(now: scheduler.now, wall: scheduler.wall))
  }

  /// Lets the peer's hello go, once it was looked at: thousands of sessions hold nothing that nobody asks for.
  package func forgetHello() { peerHello = .null }

  package var peer: PeerInfo { connection.peer }
  package var lastHeard: Instant { machine.lastHeard }
  package var isReady: Bool { machine.phase == .ready }
  package var isClosed: Bool { machine.phase == .closed }
  /// True while new streams can be opened: the session is ready and the peer has not said GOAWAY.
  package var takesCalls: Bool { isReady && machine.peerGoAway == nil }
  /// The accepting side's wall clock at the handshake; nil before, and on that side itself.
  package var peerTime: WallTime? {
    machine.peerTime > 0
      ? WallTime(nanoseconds: machine.peerTime.multipliedReportingOverflow(by: 1_000_000).partialValue) : nil
  }
  /// A ping of ours is under way.
  package var awaitsAnswer: Bool { machine.asked != nil }
  /// The peer's GOAWAY, if it said one.
  package var peerGoAway: GoAway? { machine.peerGoAway }
  /// Names the session in the logs of both sides; empty before the handshake.
  package var sessionID: String { machine.sessionID }
  /// Over what time the accepting side wants retries after a lost connection spread.
  package var reconnectSpread: Duration { machine.reconnectSpread }
  /// Bytes of frames that left and came, by class, without what TLS adds.
  package var sent: TrafficCount { machine.scheduler.sent }
  package var received: TrafficCount { machine.received }
  /// How often the connecting side pings.
  package var interval: Duration { machine.interval }

  /// Keeps what this side sends to these rates from now on.
  package func limit(_ rates: LinkBudget.Rates) {
    machine.limit(rates, at: clock.now)
    scheduleFlush()
  }

  /// What waits here and in the connection.
  package var pendingBytes: Int {
    connection.pendingWriteBytes + machine.scheduler.messageBytes + machine.scheduler.controlBytes
  }

  private var moment: Moment { Moment(now: clock.now, wall: clock.wall) }

  // MARK: life

  /// Takes over the connection: says HELLO, or waits for it.
  package func start() {
    connection.delegate = self
    event { session in session.machine.start(at: session.moment) }
    setTimer()
    connection.resumeReading()
  }

  /// Returns when the handshake is done; throws when the session ended before.
  package func ready() async throws(SkerryError) {
    if let outcome { return try outcome.get() }
    let result = await withCheckedContinuation { waiters.append($0) }
    try result.get()
  }

  private func settle(_ result: Result<Void, SkerryError>) {
    guard outcome == nil else { return }
    outcome = result
    let waiting = waiters
    waiters = []
    for waiter in waiting { waiter.resume(returning: result) }
  }

  /// Tells the peer to open no more streams and to come back after `delay`. What runs goes on.
  package func goAway(delay: Duration, reason: String, message: String = "") {
    event { session in
      session.machine.goAway(GoAway(delay: delay, reason: reason, message: message))
    }
  }

  /// Says GOAWAY and ends the session once no stream is open any more, or when `patience` is over.
  package func drain(delay: Duration, reason: String, message: String = "", patience: Duration) {
    goAway(delay: delay, reason: reason, message: message)
    let farewell = GoAway(delay: delay, reason: reason, message: message)
    draining = farewell
    clock.schedule(after: patience) { [weak self] in self?.close(farewell) }
    closeIfDrained()
  }

  private func closeIfDrained() {
    guard let draining, streams.isEmpty else { return }
    self.draining = nil
    clock.schedule(after: .zero) { self.close(draining) }
  }

  private func close(_ goAway: GoAway) { act { session in session.machine.close(goAway) } }

  /// Ends the session; the peer hears the reason (see `GoAway`), all streams break.
  package func close(_ reason: String = GoAway.shutdown, message: String = "", delay: Duration = .zero) {
    close(GoAway(delay: delay, reason: reason, message: message))
  }

  // MARK: streams

  /// Opens a stream. It never throws: when it cannot be opened, the stream breaks at once, in the next turn of the
  /// loop, so that callers have one path for failure.
  package func open(method: String, params: Value, priority: Priority = .control, last: Bool = false) -> SessionStream {
    open(method: method, params: CBOR.encode(params), priority: priority, last: last)
  }

  /// The same with encoded params. With `last` this side sends no messages.
  package func open(method: String, params: Bytes, priority: Priority = .control, last: Bool = false) -> SessionStream {
    let item = CBORItem(params)
    var opened: Result<UInt32, SkerryError> = .success(0)
    event { session in
      opened = Result { () throws(SkerryError) in
        try session.machine.open(OpenMessage(method: method, priority: priority, params: params), last: last)
      }
    }
    switch opened {
    case .success(let id):
      let stream = SessionStream(self, id: id, method: method, params: item, isIncoming: false)
      streams[id] = stream
      return stream
    case .failure(let error):
      let stream = SessionStream(self, id: 0, method: method, params: item, isIncoming: false)
      let reason = error.code == .limitExceeded ? CallError.limitExceeded : CallError.disconnected
      clock.schedule(after: .zero) { stream.broke(CallError(reason: reason, message: error.description)) }
      return stream
    }
  }

  // MARK: the machine's events

  /// Lets the machine do something; what it wants to send leaves at the end of the outermost event, or in the next
  /// turn of the loop when nobody stands above.
  func event<R, E: Error>(_ body: (Session) throws(E) -> R) throws(E) -> R {
    let result = try body(self)
    if depth == 0 { scheduleFlush() }
    return result
  }

  /// The same for events with actions, which are performed at once.
  private func act(_ body: (Session) -> [SessionAction]) {
    depth += 1
    perform(body(self))
    depth -= 1
    if depth == 0 { flush() }
  }

  private func perform(_ actions: [SessionAction]) {
    for action in actions {
      switch action {
      case .hello(let peer): answer(peer)
      case .ready(let hello):
        peerHello = hello
        setTimer()
        settle(.success(()))
        let callback = onReady
        // Neither is asked again.
        (onReady, onHello) = (nil, nil)
        callback?()
      case .opened(let id, let message): opened(id, message)
      case .message(let id, let bytes): streams[id]?.arrived(bytes)
      case .ended(let id, let outcome): ended(id, outcome)
      case .broken(let id, let error): forget(id)?.broke(error)
      case .closed(let id): forget(id)?.over()
      case .writable(let id): streams[id]?.writable()
      case .ping(let position, let isAnswer):
        onPing?(position)
        guard !isAnswer else { continue }
        machine.answerPing(position: pingPosition())
        // Our answer is here in an instant: its packet carries what would be a packet more on a link that is paid for.
        connection.expectToAnswer()
      case .missedAnswer: onMissedAnswer?()
      case .goAway(let goAway): onGoAway?(goAway)
      case .close(let error):
        onTraffic?()
        closed(error)
      }
    }
  }

  private func answer(_ peer: Hello) {
    switch onHello?(peer.hello) ?? .success(hello) {
    case .success(let own):
      perform(
        machine.accept(
          peer, hello: own, session: random.bytes(8).hex, ping: pingInterval, spread: ownSpread, at: moment))
    case .failure(let error):
      perform(
        machine.close(
          GoAway(reason: GoAway.refused, message: error.message), error: SkerryError(.forbidden, error.message)))
    }
  }

  private func opened(_ id: UInt32, _ message: OpenMessage) {
    let stream = SessionStream(self, id: id, method: message.method, params: message.item, isIncoming: true)
    streams[id] = stream
    guard let onStream else {
      return stream.fail(CallError(reason: CallError.unknownMethod, message: "this side takes no calls"))
    }
    onStream(stream)
  }

  private func ended(_ id: UInt32, _ outcome: Result<Bytes, CallError>) {
    guard let stream = streams[id] else { return }
    stream.ended(outcome)
    guard !stream.isIncoming else { return }
    forget(id)
    stream.over()
  }

  private func closed(_ error: SkerryError?) {
    if let timer { clock.cancel(timer) }
    timer = nil
    settle(.failure(error ?? SkerryError(.closed, "the session was closed")))
    let callback = onClose
    forgetCallbacks()
    callback?(error)
    // Towards a peer that is not heard the last words may wait behind what it has not acknowledged, and the end of the
    // stream with them; a reset overtakes them, so that it knows as soon as we do.
    let isUnheard = error?.code == .timeout
    // The last words leave in the background; this timer keeps the session alive until then.
    clock.schedule(after: isUnheard ? Self.lastWords : Self.linger) {
      guard !self.isOver else { return }
      if isUnheard { self.connection.reset() } else { self.connection.close() }
    }
  }

  /// Whoever the callbacks hold is let go.
  private func forgetCallbacks() {
    onHello = nil
    onReady = nil
    onStream = nil
    onClose = nil
    onPing = nil
    onMissedAnswer = nil
    onGoAway = nil
    onTraffic = nil
    pingPosition = { 0 }
  }

  /// A stream is over.
  @discardableResult
  func forget(_ id: UInt32) -> SessionStream? {
    let stream = streams.removeValue(forKey: id)
    closeIfDrained()
    return stream
  }

  // MARK: time

  private func setTimer() {
    if let timer { clock.cancel(timer) }
    timer = nil
    guard !isClosed else { return }
    // Strong, as in the other timers here: a weak reference would cost every later use of the session. A session lives
    // until it is closed, and then it has no timer.
    timer = clock.schedule(after: max(machine.deadline - clock.now, .zero)) {
      self.timer = nil
      self.act { session in session.machine.tick(at: session.clock.now, position: session.pingPosition()) }
      self.setTimer()
    }
  }

  // MARK: writing

  /// What nobody waits for is held for a moment, so that more of it leaves in one record and one packet.
  private func scheduleFlush() {
    guard gather > .zero, !machine.scheduler.hasUrgent else { return flushSoon() }
    guard !flushIsDue, gathering == nil, !isOver else { return }
    gathering = clock.schedule(after: gather) {
      self.gathering = nil
      self.flush()
    }
  }

  private func flushSoon() {
    guard !flushIsDue, !isOver else { return }
    flushIsDue = true
    clock.nextTurn(self)
  }

  private func finishIfClosed() {
    guard isClosed, !isFinished else { return }
    isFinished = true
    connection.finishWriting()
  }

  /// What the budget holds back leaves when it may.
  private func wakeForBudget() {
    guard machine.scheduler.budget != nil, budgetTimer == nil, let held = machine.scheduler.heldUntil else { return }
    budgetTimer = clock.schedule(after: max(held - clock.now, .milliseconds(1))) {
      self.budgetTimer = nil
      self.flush()
    }
  }

  private func put(_ bytes: Bytes) {
    bytesSent += UInt64(bytes.count)
    connection.write(bytes)
  }

  /// Sends a run at once if nothing waits before it; see `MessageRun.Outcome`.
  func pass(_ run: MessageRun) -> MessageRun.Outcome {
    guard gather == .zero, !isOver, connection.pendingWriteBytes == 0 else { return .refused }
    let outcome = machine.passes(run)
    if outcome == .sent {
      put(run.frames)
      onTraffic?()
    }
    return outcome
  }

  /// Notes the memory that `pass` touches.
  func note(_ touched: inout WorkingSet) {
    touched.add(self, bytes: Self.passBytes)
    machine.note(&touched)
    connection.note(&touched)
  }

  private func flush() {
    guard !isOver else { return }
    depth += 1
    defer { depth -= 1 }
    var writes = 0
    machine.refill(at: clock.now)
    while connection.pendingWriteBytes < Self.connectionBytes {
      if machine.hasNothingToWrite {
        if writes > 0 { onTraffic?() }
        return finishIfClosed()
      }
      let (bytes, actions) = machine.nextWrite()
      // Before the actions: what they lead to may leave at once.
      if !bytes.isEmpty { put(bytes) }
      perform(actions)
      guard !bytes.isEmpty else {
        if writes > 0 { onTraffic?() }
        wakeForBudget()
        return finishIfClosed()
      }
      writes += 1
      if writes == Self.writesPerTurn { return flushSoon() }
    }
  }
}

extension Session: TurnTask {
  package func takeTurn() {
    flushIsDue = false
    flush()
  }
}

extension Session: ByteStreamDelegate {
  package func stream(_ stream: any ByteStream, received bytes: UnsafeRawBufferPointer) {
    bytesReceived += UInt64(bytes.count)
    act { session in session.machine.receive(bytes, at: session.clock.now) }
    onTraffic?()
  }

  package func streamDidDrain(_ stream: any ByteStream) { flush() }

  package func streamReceivedEnd(_ stream: any ByteStream) {
    let error =
      machine.peerGoAway == nil ? SkerryError(.unavailable, "the peer closed the connection without a word") : nil
    act { session in session.machine.disconnected(error) }
  }

  package func streamDidClose(_ stream: any ByteStream, error: SkerryError?) {
    isOver = true
    act { session in
      session.machine.disconnected(error ?? SkerryError(.unavailable, "the connection to \(stream.peer.address) ended"))
    }
  }
}
