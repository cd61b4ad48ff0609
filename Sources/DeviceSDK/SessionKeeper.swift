import API
import Base
import EventLoop
import Logging
import Transport
import Wire

/// Keeps one session to a peer: dials, and dials again after it is lost, with backoff and jitter, for as long as the
/// process lives. For the Unix sockets between edgecore, devicecore and drivers.
@LoopActor package final class SessionKeeper {
  package typealias Dial = @LoopActor () async throws(SkerryError) -> any ByteStream
  package static let backoff = Backoff(base: .milliseconds(200), cap: .seconds(5))
  /// From the connection to the end of the handshake.
  package static let handshakeTimeout: Duration = .seconds(10)

  /// For logs: what is dialled.
  private let name: String
  private let dial: Dial
  private let hello: @LoopActor () -> Value
  private let scheduler: any Scheduler
  private let random: any RandomSource
  private let logger: Logger
  private var task: Task<Void, Never>?

  /// The session that is ready now.
  package private(set) var session: Session?
  /// The peer opened a stream. Set before `start`.
  package var onStream: (@LoopActor (SessionStream) -> Void)?
  /// A session is ready. Set before `start`.
  package var onReady: (@LoopActor (Session) -> Void)?
  /// The session that was ready is lost.
  package var onLost: (@LoopActor () -> Void)?

  package init(
    name: String, dial: @escaping Dial, hello: @escaping @LoopActor () -> Value, scheduler: any Scheduler,
    random: any RandomSource, logger: Logger
  ) {
    self.name = name
    self.dial = dial
    self.hello = hello
    self.scheduler = scheduler
    self.random = random
    self.logger = logger
  }

  package func start() {
    guard task == nil else { return }
    task = spawn { [self] in await keep() }
  }

  package func stop() {
    task?.cancel()
    session?.close()
    session = nil
  }

  private func keep() async {
    var failures = 0
    while !Task.isCancelled {
      do throws(SkerryError) {
        try await once { failures = 0 }
      } catch {
        if failures == 0 || failures.isMultiple(of: 20) {
          logger.warning(.devicePeerUnreachable, "no session with \(name), trying again: \(error)")
        }
      }
      let delay = Self.backoff.delay(failures, random: random)
      failures += 1
      do { try await scheduler.sleep(for: delay) } catch { return }
    }
  }

  /// One session from dial to end.
  private func once(_ succeeded: @LoopActor () -> Void) async throws(SkerryError) {
    let stream = try await dial()
    let session = Session(stream: stream, role: .client, hello: hello(), scheduler: scheduler, random: random)
    session.onStream = { [weak self] stream in
      guard let onStream = self?.onStream else { return stream.reset("nothing is served here") }
      onStream(stream)
    }
    let end = SessionEnd()
    session.onClose = { end.finish($0) }
    session.start()
    try await session.ready()
    guard !Task.isCancelled else { return session.close() }
    succeeded()
    self.session = session
    logger.info("session with \(name)")
    onReady?(session)
    let error = await end.wait()
    self.session = nil
    onLost?()
    if let error { throw error }
  }
}

/// Waits for a session's end.
@LoopActor private final class SessionEnd {
  private var ended = false
  private var error: SkerryError?
  private var waiter: CheckedContinuation<Void, Never>?

  func finish(_ error: SkerryError?) {
    ended = true
    self.error = error
    waiter?.resume()
    waiter = nil
  }

  func wait() async -> SkerryError? {
    if !ended { await withCheckedContinuation { waiter = $0 } }
    return error
  }
}
