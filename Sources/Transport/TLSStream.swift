import Base
import COpenSSL
import EventLoop
import Identity

/// TLS 1.3 over any byte stream. It may be written to at once; bytes wait for the handshake.
///
/// Plaintext waits here, unencrypted and uncopied, while more than `maxEncrypted` bytes wait below, so that a slow
/// peer costs no second copy and OpenSSL's output is bounded. A stream that ends without TLS's own end was cut, and
/// closes with an error.
@LoopActor package final class TLSStream: ByteStream {
  /// Encrypted bytes that may wait for the transport before the rest stays plaintext.
  package nonisolated static let maxEncrypted = 64 * 1024
  /// Plaintext that fits one record (RFC 8446, 5.1).
  nonisolated static let recordBytes = 16 * 1024
  /// How long a peer that is refused may take to read why, before the connection is dropped.
  package nonisolated static let refusalLinger = Duration.seconds(1)

  enum State { case handshaking, open, refused, closed }

  // First what `write` touches: `note` tells the beginning alone.
  let transport: any ByteStream
  let ssl: OpaquePointer
  private var queuedBytes = 0
  var state = State.handshaking
  private var finishing = false
  private var drainPending = false
  /// How far `write` looks when nothing waits.
  private static let writeBytes = 56

  package var delegate: (any ByteStreamDelegate)?
  package internal(set) var peer: PeerInfo
  /// When bytes came last, for idle limits.
  package internal(set) var lastReceived: Instant
  /// Hears once how the handshake went, before anything else is told.
  var onHandshake: ((Result<Void, SkerryError>) -> Void)?
  /// Hears once that the stream is gone, beside the delegate.
  var onGone: (() -> Void)?

  let scheduler: any Scheduler
  let context: TLSContext
  let serverName: String?
  /// Keeps the `SSL_CTX` and the certificates that this session began with.
  let material: TLSMaterial
  /// Why the verification hook refused the peer; more than OpenSSL knows.
  var refusalReason: String?

  private var reading = false
  var isReading: Bool { reading }
  private var receivedEnd = false
  private var transportEnded = false
  /// Ciphertext that came while reading was paused.
  private var leftover: Bytes = []
  private var resumeScheduled = false

  private var queue: [Bytes] = []
  private var queueStart = 0
  private var queueOffset = 0
  private var finished = false
  private var closeError: SkerryError?

  /// Begins the handshake over an open transport. A client's `serverName` is what the server's certificate must be
  /// for: a DNS name or an address; nil where a pin alone identifies it.
  package init(
    over transport: any ByteStream, context: TLSContext, serverName: String? = nil, scheduler: any Scheduler
  ) throws(SkerryError) {
    guard let ssl = SSL_new(context.current.pointer) else {
      throw SkerryError(.internal, "no memory for a TLS session")
    }
    self.transport = transport
    self.scheduler = scheduler
    self.context = context
    self.serverName = serverName
    self.ssl = ssl
    material = context.current
    peer = transport.peer
    lastReceived = scheduler.now
    let engine = TLSEngine.shared
    BIO_up_ref(engine.bio)  // SSL_set_bio takes one reference over
    SSL_set_bio(ssl, engine.bio, engine.bio)
    SSL_set_ex_data(ssl, 0, Unmanaged.passUnretained(self).toOpaque())
    let fits = PeerChain.demand(SSL_get0_param(ssl), at: scheduler.wall, name: serverName)
    transport.delegate = self
    guard fits else {
      abandon()
      throw SkerryError(.invalidArgument, "\"\(serverName ?? "")\" is no name that a certificate can be for")
    }
    switch context.side {
    case .server: SSL_set_accept_state(ssl)
    case .client:
      SSL_set_connect_state(ssl)
      if let serverName, IPAddress.bytes(serverName) == nil { _ = skerry_set_server_name(ssl, serverName) }
    }
    transport.resumeReading()
    if context.side == .client {
      var nothing = UnsafeRawBufferPointer(start: nil, count: 0)
      advanceHandshake(&nothing)
    }
  }

  package var pendingWriteBytes: Int { state == .closed ? 0 : queuedBytes + transport.pendingWriteBytes }

  // MARK: Reading

  package func resumeReading() {
    guard state != .closed, !reading else { return }
    reading = true
    guard state == .open, !resumeScheduled else { return }
    resumeScheduled = true
    scheduler.schedule(after: .zero) { self.resume() }  // deliveries come in a later turn, never inside of this call
  }

  package func pauseReading() {
    reading = false
    if state == .open { transport.pauseReading() }
  }

  private func resume() {
    resumeScheduled = false
    guard reading, state == .open else { return }
    let bytes = leftover
    leftover = []
    bytes.withUnsafeBytes { feed($0) }
    if reading, state == .open { transport.resumeReading() }
    if transportEnded { transportDidEnd() }
  }

  /// Takes ciphertext; keeps what the session cannot take now.
  private func feed(_ bytes: UnsafeRawBufferPointer) {
    var input = bytes
    if state == .handshaking { advanceHandshake(&input) }
    if state == .open { readRecords(&input) }
    if state == .open || state == .handshaking, input.count > 0 { leftover.append(contentsOf: input) }
  }

  private func readRecords(_ input: inout UnsafeRawBufferPointer) {
    let engine = TLSEngine.shared
    while reading, state == .open, !receivedEnd {
      let goesOn = engine.withPlaintext { buffer in
        let count = engine.call(&input) { SSL_read(ssl, buffer.baseAddress, Int32(buffer.count)) }
        let status = count > 0 ? SSL_ERROR_NONE : SSL_get_error(ssl, count)
        engine.flush(to: transport)  // answers to key updates
        switch status {
        case SSL_ERROR_NONE:
          delegate?.stream(self, received: UnsafeRawBufferPointer(rebasing: buffer[..<Int(count)]))
          // Most often that was all: no other call is needed to hear so.
          return input.count > 0 || (state == .open && SSL_has_pending(ssl) == 1)
        case SSL_ERROR_WANT_READ: return false
        case SSL_ERROR_ZERO_RETURN:
          receivedEnd = true
          delegate?.streamReceivedEnd(self)
          closeIfDone()
          return false
        default:
          fail(failure(status, "reading from"))
          return false
        }
      }
      if !goesOn { break }
    }
  }

  // MARK: Writing

  package func write(_ bytes: Bytes) {
    guard state == .open || state == .handshaking, !finishing, !bytes.isEmpty else { return }
    if state == .open, queuedBytes == 0, bytes.count <= Self.recordBytes,
      transport.pendingWriteBytes < Self.maxEncrypted
    {
      return writeRecord(bytes)
    }
    queue.append(bytes)
    queuedBytes += bytes.count
    pump()
    if pendingWriteBytes > 0 { drainPending = true }
  }

  /// One record, when nothing waits before it: what nearly every write is.
  private func writeRecord(_ bytes: Bytes) {
    let engine = TLSEngine.shared
    let count = bytes.withUnsafeBytes { raw in engine.call { SSL_write(ssl, raw.baseAddress, Int32(raw.count)) } }
    guard Int(count) == bytes.count else { return fail(failure(SSL_get_error(ssl, count), "sending to")) }
    engine.flush(to: transport)
    if pendingWriteBytes > 0 { drainPending = true }
  }

  /// Encrypts what may go and sends it.
  func pump() {
    guard state == .open else { return }
    let engine = TLSEngine.shared
    while queuedBytes > 0, transport.pendingWriteBytes < Self.maxEncrypted {
      let chunk = min(queue[queueStart].count - queueOffset, Self.maxEncrypted)
      let count = queue[queueStart].withUnsafeBytes { raw in
        let from = raw.baseAddress.map { $0 + queueOffset }
        return engine.call { SSL_write(ssl, from, Int32(chunk)) }
      }
      guard count > 0 else { return fail(failure(SSL_get_error(ssl, count), "sending to")) }
      advanceQueue(Int(count))
      engine.flush(to: transport)
      guard state == .open else { return }
    }
    if finishing, queuedBytes == 0, !finished {
      finished = true
      sayGoodbye()
      transport.finishWriting()
      closeIfDone()
    }
  }

  private func advanceQueue(_ count: Int) {
    queuedBytes -= count
    queueOffset += count
    guard queueOffset == queue[queueStart].count else { return }
    queue[queueStart] = []
    queueOffset = 0
    queueStart += 1
    if queuedBytes == 0 {
      queue.removeAll(keepingCapacity: queue.count <= 16)
      queueStart = 0
    } else if queueStart > 256 {
      queue.removeFirst(queueStart)
      queueStart = 0
    }
  }

  func notifyIfDrained() {
    guard state == .open, drainPending, pendingWriteBytes == 0 else { return }
    drainPending = false
    if !finishing { delegate?.streamDidDrain(self) }
  }

  /// Sends TLS's end (close_notify).
  private func sayGoodbye() {
    let engine = TLSEngine.shared
    _ = engine.call { SSL_shutdown(ssl) }
    engine.flush(to: transport)
  }

  // MARK: Ending

  package func finishWriting() {
    guard state == .open || state == .handshaking, !finishing else { return }
    finishing = true
    pump()
  }

  package func close() {
    guard state != .closed else { return }
    if state == .open, !finished { sayGoodbye() }
    tearDown()
  }

  package func reset() {
    transport.reset()
    tearDown()
  }

  package func expectToAnswer() {
    if state == .open { transport.expectToAnswer() }
  }

  package func note(_ touched: inout WorkingSet) {
    touched.add(self, bytes: Self.writeBytes)
    withUnsafeTemporaryAllocation(of: skerry_piece.self, capacity: Int(SKERRY_WRITE_PIECES)) { pieces in
      let count = skerry_write_pieces(ssl, pieces.baseAddress)
      for piece in pieces[..<Int(count)] { touched.add(piece.start, bytes: piece.count) }
    }
    transport.note(&touched)
  }

  private func closeIfDone() {
    if finished, receivedEnd, transport.pendingWriteBytes == 0 { close() }
  }

  /// Ends a handshake that takes too long or is no longer wanted; an open stream goes on.
  func giveUpHandshake(_ error: SkerryError) {
    if state == .handshaking { fail(error) }
  }

  func fail(_ error: SkerryError) {
    guard state != .closed else { return }
    if closeError == nil { closeError = error }
    let handshake = onHandshake
    onHandshake = nil
    if state == .handshaking { linger() } else if state != .refused { tearDown() }
    handshake?(.failure(error))
  }

  /// Leaves a refused peer the time to read the alert: closing at once could throw it away with unread input.
  private func linger() {
    TLSEngine.shared.flush(to: transport)
    state = .refused
    transport.finishWriting()
    scheduler.schedule(after: Self.refusalLinger) { self.tearDown() }
  }

  private func tearDown() {
    guard state != .closed else { return }
    state = .closed
    reading = false
    queue = []
    queueStart = 0
    queuedBytes = 0
    leftover = []
    transport.close()
  }

  private func transportDidEnd() {
    transportEnded = true
    switch state {
    case .handshaking: fail(SkerryError(.closed, "\(peer.address) ended the connection during the TLS handshake"))
    case .refused: tearDown()
    case .closed: break
    case .open:
      guard leftover.isEmpty, !receivedEnd else { return }
      fail(SkerryError(.closed, "the connection with \(peer.address) was cut: TCP ended before TLS did"))
    }
  }
}

extension TLSStream: ByteStreamDelegate {
  package func stream(_ stream: any ByteStream, received bytes: UnsafeRawBufferPointer) {
    lastReceived = scheduler.now
    if leftover.isEmpty { return feed(bytes) }
    leftover.append(contentsOf: bytes)
  }

  package func streamDidDrain(_ stream: any ByteStream) {
    pump()
    closeIfDone()
    notifyIfDrained()
  }

  package func streamReceivedEnd(_ stream: any ByteStream) { transportDidEnd() }

  package func streamDidClose(_ stream: any ByteStream, error: SkerryError?) {
    if closeError == nil, !(finished && receivedEnd) { closeError = error }
    state = .closed
    let listener = delegate
    let handshake = onHandshake
    let gone = onGone
    delegate = nil
    onHandshake = nil
    onGone = nil
    SSL_free(ssl)
    handshake?(
      .failure(closeError ?? SkerryError(.closed, "the connection with \(peer.address) was closed in the handshake")))
    listener?.streamDidClose(self, error: closeError)
    gone?()
  }
}
