import APIFace
import Base
import EventLoop
import Logging
import Sync
import Transport
import Wire

/// Keeps one session with the cloud: dials, resumes the slice and the lanes by their cursors, answers the cloud's
/// calls, and comes back with backoff. Nothing on the node waits for it.
@LoopActor package final class CloudLink {
  package typealias Dial = @LoopActor () async throws(SkerryError) -> any ByteStream

  /// Between a lane that ended under its session and the next try.
  package static let laneRetry = Duration.seconds(5)

  private let dial: Dial
  private let hello: Value
  private let profile: LinkProfile
  private let follower: ReplicaFollower
  private let outbox: Outbox
  private let calls: APIService
  private let caller: @LoopActor () -> ServedConnection
  private let scheduler: any Scheduler
  private let random: any RandomSource
  private let logger: Logger
  private var backoff = RedialBackoff()
  private var session: Session?
  /// Ready to take over when the session ends.
  private var replacement: Link?
  private var replacing = false
  private var uplinks: [Lane: LaneUplink] = [:]
  private var stopped = false
  /// The wait between two attempts.
  private var pause: (timer: TimerID, done: CheckedContinuation<Void, Never>)?
  /// What GOAWAY asked to wait before coming back.
  private var farewell = Duration.zero
  private var task: Task<Void, Never>?
  private let connects: Counter
  private let traffic: LinkTraffic
  private let connected: Gauge

  /// A session is ready, for whoever forwards something over it; called before lanes are opened.
  package var onSession: ((Session) -> Void)?
  /// The cloud refused this node: answers whether something was done about it and the next try may come at once.
  package var onRefused: ((SkerryError) async -> Bool)?
  /// It is over.
  package var onSessionEnd: (() -> Void)?

  package init(
    dial: @escaping Dial, hello: Value, profile: LinkProfile = LinkProfile(), follower: ReplicaFollower, outbox: Outbox,
    calls: APIService,
    caller: @escaping @LoopActor () -> ServedConnection, scheduler: any Scheduler, random: any RandomSource,
    metrics: Metrics, logger: Logger
  ) {
    self.dial = dial
    self.profile = profile
    self.hello = profile.hello(hello)
    self.follower = follower
    self.outbox = outbox
    self.calls = calls
    self.caller = caller
    self.scheduler = scheduler
    self.random = random
    self.logger = logger
    connects = metrics.counter("skerry_link_connects_total", "Sessions with the cloud that were established.")
    traffic = LinkTraffic(metrics)
    connected = metrics.gauge("skerry_link_connected", "1 while a session with the cloud is live.")
    outbox.onGrew = { [weak self] lane in self?.grew(lane) }
  }

  package var isConnected: Bool { session?.isReady == true }
  package var current: Session? { session }

  package func start() {
    task = spawn { await self.run() }
  }

  package func stop() {
    stopped = true
    replacement?.session.close()
    session?.close()
    task?.cancel()
    goOn()
  }

  /// Moves to a new connection, dialled with what the dialler knows now (a renewed certificate): it is made before the
  /// old one is broken, and goes on by the cursors. If it cannot be made the old one stays.
  package func replaceSession() async {
    guard session != nil, replacement == nil, !replacing else { return }
    replacing = true
    defer { replacing = false }
    do throws(SkerryError) {
      let fresh = try await connect()
      replacement = fresh
      goOn()
      session?.close(GoAway.shutdown, message: "replaced by a new connection")
    } catch {
      logger.warning(EdgeLog.cloudUnreachable, "the session with the cloud could not be replaced: \(error)")
    }
  }

  /// Between attempts beside a session that does not answer.
  static let besidePause = Duration.seconds(1)

  /// Dials beside a session that does not answer until it does, or ends, or another one stands.
  private func dialBeside(_ session: Session) async {
    while !stopped, self.session === session, !session.isClosed, session.awaitsAnswer {
      await replaceSession()
      guard replacement == nil else { return }
      try? await scheduler.sleep(for: Self.besidePause)
    }
  }

  /// Readings that wait elsewhere for the link.
  package var readingsWaiting: () -> UInt64 = { 0 }

  /// Entries of the outbox that the cloud has not applied, and readings; our pings tell.
  private func entriesWaiting() -> UInt64 { outbox.waiting() + readingsWaiting() }

  private func run() async {
    while !stopped {
      var wasRefused = false
      var attempt: Instant? = scheduler.now
      do throws(SkerryError) {
        let link = try await next()
        attempt = nil
        try await serve(link)
      } catch {
        wasRefused = RedialBackoff.outcome(of: error) == .refused
        if wasRefused {
          if await onRefused?(error) == true { continue }
          logger.error(EdgeLog.cloudRefused, "the cloud refuses this node: \(error)")
        } else {
          logger.warning(EdgeLog.cloudUnreachable, "no session with the cloud: \(error)")
        }
      }
      if stopped { return }
      if replacement != nil { continue }
      var delay = backoff.delay(after: wasRefused ? .refused : .unreachable, random: random)
      // Counted from the attempt's beginning: one that nobody answered has used up its own waiting.
      let spent = wasRefused ? nil : attempt.map { scheduler.now - $0 }
      delay = max(RedialBackoff.minDelay, delay - (spent ?? .zero))
      // GOAWAY said when: not before, and spread from there on.
      delay += farewell
      farewell = .zero
      await wait(delay)
    }
  }

  /// Waits for the next attempt, or until a session stands that was dialled beside the last one.
  private func wait(_ delay: Duration) async {
    guard replacement == nil, !stopped else { return }
    await withCheckedContinuation { done in
      pause = (scheduler.schedule(after: delay) { [weak self] in self?.goOn() }, done)
    }
  }

  private func goOn() {
    guard let waiting = pause else { return }
    pause = nil
    scheduler.cancel(waiting.timer)
    waiting.done.resume()
  }

  /// A session that is ready, and its end.
  private struct Link {
    let session: Session
    let ending: Ending
  }

  /// The replacement that waits, if it still lives; else a new connection.
  private func next() async throws(SkerryError) -> Link {
    if let waiting = replacement {
      replacement = nil
      if !waiting.session.isClosed { return waiting }
    }
    return try await connect()
  }

  private func connect() async throws(SkerryError) -> Link {
    let stream = try await dial()
    let session = Session(stream: stream, role: .client, hello: hello, scheduler: scheduler, random: random)
    let ending = Ending()
    let served = caller()
    session.onStream = { served.answer($0) }
    session.onClose = { error in ending.finish(error) }
    session.start()
    try await session.ready()
    return Link(session: session, ending: ending)
  }

  /// Carries slice and lanes over a session until it ends.
  private func serve(_ link: Link) async throws(SkerryError) {
    let session = link.session
    self.session = session
    backoff.spread = session.reconnectSpread
    backoff.succeeded()
    connects.add()
    connected.set(1)
    logger.info("connected to the cloud at \(session.peer.address)")
    defer {
      self.session = nil
      uplinks = [:]
      connected.set(0)
      traffic.follow(nil)
      onSessionEnd?()
    }
    traffic.follow(session)
    session.gather = Session.linkGather
    session.limit(profile.rates)
    session.pingPosition = { [weak self] in self?.entriesWaiting() ?? 0 }
    // The link may be half open: a second connection finds out, while the first still may be only slow.
    session.onMissedAnswer = { [weak self, weak session] in
      spawn {
        guard let self, let session else { return }
        await self.dialBeside(session)
      }
    }
    onSession?(session)
    try openSlice(session)
    openLane(.status, session)
    // A stream that nothing is said on costs bytes at every return.
    if outbox.holds(.events) { openLane(.events, session) }
    let error = await link.ending.wait()
    if let goAway = session.peerGoAway, goAway.reason == GoAway.shutdown {
      farewell = min(goAway.delay, RedialBackoff.maxSpread)
    }
    if let error { logger.info("the session with the cloud ended: \(error)") }
  }

  private func openSlice(_ session: Session) throws(SkerryError) {
    let stream = session.open(method: "slice", params: try follower.parameters(), priority: .status)
    let reader = SliceReader(stream: stream, follower: follower, logger: logger) { [weak self, weak session] error in
      guard let session, !session.isClosed else { return }
      guard let self, self.follower.needsWhole else { return session.close("slice", message: error.message) }
      stream.reset("the slice begins again")
      do throws(SkerryError) { try self.openSlice(session) } catch {
        session.close("slice", message: error.message)
      }
    }
    session.onPing = { [follower] position in
      if reader.isIdle { follower.bookmark(position) }
    }
  }

  private func grew(_ lane: Lane) {
    guard let session, session.isReady else { return }
    if let uplink = uplinks[lane] { uplink.grew() } else if lane == .events { openLane(lane, session) }
  }

  private func openLane(_ lane: Lane, _ session: Session) {
    let isTold = lane == .status && follower.toldKey != nil
    let stream = session.open(
      method: "lane", params: LaneUplink.parameters(lane, outbox, isTold: isTold),
      priority: lane == .status ? .status : .telemetry)
    let uplink = LaneUplink(
      lane: lane, outbox: outbox, pipe: SessionPipe(stream, of: session), gather: profile.gather(lane),
      scheduler: scheduler, logger: logger)
    uplinks[lane] = uplink
    if isTold { follower.onTold = { [weak uplink] number in uplink?.told(through: number) } }
    uplink.onNext = { [weak self, weak session] in
      guard let self, let session, self.session === session, !session.isClosed else { return }
      self.openLane(lane, session)
    }
    uplink.onEnd = { [weak self, weak session] in
      guard let self, let session else { return }
      self.scheduler.schedule(after: Self.laneRetry) { [weak self, weak session] in
        guard let self, let session, session === self.session, session.takesCalls else { return }
        self.openLane(lane, session)
      }
    }
  }
}

/// Waits for the end of a session, whichever comes first: the end or the wait.
@LoopActor private final class Ending {
  private var result: SkerryError??
  private var waiting: CheckedContinuation<SkerryError?, Never>?

  func finish(_ error: SkerryError?) {
    guard result == nil else { return }
    result = .some(error)
    waiting?.resume(returning: error)
    waiting = nil
  }

  func wait() async -> SkerryError? {
    if let result { return result }
    return await withCheckedContinuation { waiting = $0 }
  }
}
