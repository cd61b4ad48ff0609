import Base
import EventLoop
import Wire

/// One stream of a session: a call and its answer, with messages both ways in between.
///
/// Two styles, one at a time: callbacks for hot paths, `receive` and `sendWaiting` for code that reads better in a row.
@LoopActor package final class SessionStream {
  package let id: UInt32
  package let method: String
  /// As they came; null after `forgetParams`.
  package private(set) var encodedParams: CBORItem
  package var rawParams: Bytes { encodedParams.bytes }
  /// True if the peer opened it.
  package let isIncoming: Bool
  /// nil once the stream is over; strong until then, so that a stream in use keeps its session.
  private var session: Session?

  private var inbox: [Bytes] = []
  private var inboxStart = 0
  private var receivers: [CheckedContinuation<Void, Never>] = []
  private var senders: [CheckedContinuation<Void, Never>] = []
  private var resultWaiters: [CheckedContinuation<Void, Never>] = []
  /// The peer's END, or why there will be none.
  private var outcome: Result<Bytes, CallError>?
  /// Set when the stream broke off.
  package private(set) var failure: CallError?
  private var isOver = false

  init(_ session: Session, id: UInt32, method: String, params: CBORItem, isIncoming: Bool) {
    self.session = session
    self.id = id
    self.method = method
    encodedParams = params
    self.isIncoming = isIncoming
  }

  /// The params as a value; null if they are not in the data model.
  package private(set) lazy var params: Value = (try? encodedParams.decoded()) ?? .null

  package var peer: PeerInfo? { session?.peer }

  private static let noParams = CBORItem([0xf6])

  /// Lets the params go: of streams that stay open for long nobody asks for them again.
  package func forgetParams() {
    encodedParams = Self.noParams
    params = .null
  }

  // MARK: callbacks

  /// A message. Credit goes back when the call returns, unless `manualCredit` is set. What arrived before it was set
  /// is delivered when it is.
  package var onMessage: (@LoopActor (Bytes) -> Void)? {
    didSet {
      while onMessage != nil, let message = takeMessage() { deliver(message) }
    }
  }
  /// The receiver gives credit back itself, with `grant`.
  package var manualCredit = false
  /// `canSend` was refused and is granted now.
  package var onWritable: (@LoopActor () -> Void)?
  /// The peer's END with its result, or the failure; once. If it came before this was set, it is delivered then.
  package var onEnd: (@LoopActor (Result<Value, CallError>) -> Void)? {
    didSet { if let outcome, let onEnd { onEnd(Self.decoded(outcome)) } }
  }
  /// The same with the result still encoded.
  package var onRawEnd: (@LoopActor (Result<Bytes, CallError>) -> Void)? {
    didSet { if let outcome, let onRawEnd { onRawEnd(outcome) } }
  }
  /// The stream is over in both directions, in whatever way (`failure` tells); once, the last callback.
  package var onClose: (@LoopActor () -> Void)?

  private static func decoded(_ outcome: Result<Bytes, CallError>) -> Result<Value, CallError> {
    outcome.flatMap { bytes in
      do { return .success(try CBOR.decode(bytes)) } catch {
        return .failure(CallError(reason: "InternalError", message: "the result cannot be read: \(error)"))
      }
    }
  }

  // MARK: sending

  /// True while a message given now would find credit and room. After a no, `onWritable` is called.
  package var canSend: Bool { session?.machine.canSend(id) ?? false }

  /// Queues a message, also past credit: callers look at `canSend` first. Nothing happens on a stream that is over.
  package func send(_ message: Bytes) { send(OutgoingMessage(message)) }

  /// One message of up to three pieces; they are copied only into the frame.
  package func send(head: Bytes, shared: Bytes, tail: Bytes = []) { send(OutgoingMessage(head, shared, tail)) }

  /// Messages that were framed for many streams alike leave at once, or not at all; see `MessageRun.Outcome`.
  package func pass(_ run: MessageRun) -> MessageRun.Outcome {
    guard let session, run.stream == id else { return .refused }
    return session.pass(run)
  }

  /// Notes the memory that `pass` touches.
  package func note(_ touched: inout WorkingSet) {
    touched.add(self)
    session?.note(&touched)
  }

  private func send(_ message: OutgoingMessage) {
    guard let session else { return }
    do throws(SkerryError) {
      try session.event { session throws(SkerryError) in try session.machine.send(id, message) }
    } catch {
      reset(error.message, as: CallError.limitExceeded)
    }
  }

  /// Credit for messages that were consumed: `WireLimits.cost` of each.
  package func grant(_ cost: Int) {
    session?.event { session in session.machine.consumed(id, cost: cost) }
  }

  /// Ends our direction behind what is queued. On a stream that the peer opened this is the answer, and its end.
  package func finish(_ result: Value = .null) { finish(raw: CBOR.encode(result)) }

  /// The same with an encoded result.
  package func finish(raw result: Bytes) {
    session?.event { session in session.machine.finish(id, .success(result)) }
  }

  /// The same with a result in up to three pieces; they are copied only into the frame.
  package func finish(head: Bytes, shared: Bytes, tail: Bytes) {
    session?.event { session in session.machine.finish(id, head: head, shared, tail) }
  }

  /// Ends our direction with an error.
  package func fail(_ error: CallError) {
    session?.event { session in session.machine.finish(id, .failure(error)) }
  }

  /// Breaks the stream off in both directions; `onEnd` is not called any more, `onClose` is.
  package func reset(_ reason: String, as word: String = CallError.cancelled) {
    onEnd = nil
    onRawEnd = nil
    giveUp(CallError(reason: word, message: reason))
  }

  /// Breaks the stream off as if the peer had: whoever waits for the end hears the error.
  func giveUp(_ error: CallError) {
    guard let session else { return }
    session.event { session in session.machine.reset(id, error) }
    session.forget(id)
    broke(error)
  }

  // MARK: from the session

  func arrived(_ message: Bytes) {
    if onMessage != nil, inboxStart == inbox.count { return deliver(message) }
    inbox.append(message)
    resume(&receivers)
  }

  private func deliver(_ message: Bytes) {
    onMessage?(message)
    if !manualCredit { grant(WireLimits.cost(message.count)) }
  }

  private func takeMessage() -> Bytes? {
    guard inboxStart < inbox.count else { return nil }
    let message = inbox[inboxStart]
    inbox[inboxStart] = []
    inboxStart += 1
    if inboxStart == inbox.count {
      inbox.removeAll(keepingCapacity: true)
      inboxStart = 0
    }
    return message
  }

  func writable() {
    resume(&senders)
    onWritable?()
  }

  func ended(_ outcome: Result<Bytes, CallError>) {
    guard self.outcome == nil else { return }
    self.outcome = outcome
    resume(&receivers)
    resume(&resultWaiters)
    onRawEnd?(outcome)
    onEnd?(Self.decoded(outcome))
  }

  func broke(_ error: CallError) {
    guard failure == nil, !isOver else { return }
    failure = error
    ended(.failure(error))
    over()
  }

  /// The last word: lets everything go.
  func over() {
    guard !isOver else { return }
    isOver = true
    session = nil
    resume(&receivers)
    resume(&senders)
    let callback = onClose
    onMessage = nil
    onWritable = nil
    onEnd = nil
    onRawEnd = nil
    onClose = nil
    callback?()
  }

  private func resume(_ waiting: inout [CheckedContinuation<Void, Never>]) {
    guard !waiting.isEmpty else { return }
    let taken = waiting
    waiting = []
    for continuation in taken { continuation.resume() }
  }

  // MARK: in a row

  /// The next message; nil after the peer's END, whatever it says (`result` has it). Throws when the stream broke.
  package func receive() async throws(SkerryError) -> Bytes? {
    while true {
      if let message = takeMessage() {
        grant(WireLimits.cost(message.count))
        return message
      }
      if let failure { throw Self.error(failure) }
      if outcome != nil || isOver { return nil }
      await withCheckedContinuation { receivers.append($0) }
    }
  }

  /// Sends one message, after waiting for credit and room.
  package func sendWaiting(_ message: Bytes) async throws(SkerryError) {
    while !canSend {
      if let failure { throw Self.error(failure) }
      if isOver { throw SkerryError(.closed, "the stream \(method) is over") }
      await withCheckedContinuation { senders.append($0) }
    }
    send(message)
  }

  /// The peer's END with its result, still encoded.
  package func result() async throws(CallError) -> Bytes { try await settled().get() }

  /// The same as a value, also of a stream that broke.
  package func settled() async -> Result<Bytes, CallError> {
    while true {
      if let outcome { return outcome }
      await withCheckedContinuation { resultWaiters.append($0) }
    }
  }

  static func error(_ failure: CallError) -> SkerryError {
    let code: SkerryError.Code =
      switch failure.reason {
      case CallError.cancelled: .cancelled
      case CallError.disconnected: .unavailable
      case CallError.limitExceeded: .limitExceeded
      default: .closed
      }
    return SkerryError(code, failure.message)
  }

  /// The stream as the API's duplex stream.
  package var duplex: any DuplexStream { SessionDuplex(self) }
}

/// Gives a session's stream the shape that API code takes.
@LoopActor private final class SessionDuplex: DuplexStream {
  private let stream: SessionStream
  init(_ stream: SessionStream) { self.stream = stream }
  func receive() async throws(SkerryError) -> Bytes? { try await stream.receive() }
  func send(_ message: Bytes) async throws(SkerryError) { try await stream.sendWaiting(message) }
  /// On a stream that the peer opened our END is the call's answer, which whoever serves the call gives.
  func finish() { if !stream.isIncoming { stream.finish() } }
  func reset(_ reason: String) { stream.reset(reason) }
}
