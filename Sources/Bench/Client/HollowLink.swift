import Base
import EventLoop
import Transport
import Wire

/// Hears what arrives on a hollow link.
@LoopActor protocol HollowLinkOwner: AnyObject {
  /// The handshake is done.
  func linkIsReady(_ link: HollowLink)
  /// A whole message; the buffer is valid during the call only.
  func link(_ link: HollowLink, stream: UInt32, message: UnsafeRawBufferPointer)
  /// The peer's END of a stream: the answer of a call.
  func link(_ link: HollowLink, stream: UInt32, ended: UnsafeRawBufferPointer)
  /// Credit arrived for a stream that this side talks on.
  func link(_ link: HollowLink, maySendOn stream: UInt32)
  /// The link is gone, and we did not close it.
  func linkIsOver(_ link: HollowLink, _ error: SkerryError?)
}

extension HollowLinkOwner {
  func link(_ link: HollowLink, maySendOn stream: UInt32) {}
}

/// The connecting side of the protocol, as lean as a load generator needs it: frames are read in place, out of the
/// buffer that TLS decrypted them to, and nothing is kept for a session but what follows. The production `Session` would
/// cost the generator several times what the server pays.
@LoopActor final class HollowLink: ByteStreamDelegate {
  /// Consumed bytes of a stream after which credit goes back: half of what is given at first.
  static let creditStep = 32 * 1024
  /// A message in several frames; more breaks the link.
  static let maxMessage = 8 << 20

  private let stream: any ByteStream
  private unowned let owner: any HollowLinkOwner
  private var pending: Bytes = []
  private var partial: [UInt32: Bytes] = [:]
  /// What one watch consumed; a link has few streams, so a short array beats a dictionary.
  private var consumed: [(stream: UInt32, bytes: Int)] = []
  /// What may still be sent on the streams that this side talks on.
  private var credit: [(stream: UInt32, bytes: Int)] = []
  private var firstCredit = 0
  private var outgoing: Bytes = []
  private var depth = 0
  private var nextStream: UInt32 = 1
  private(set) var isReady = false
  private(set) var isOver = false
  private(set) var pingInterval: Duration = .seconds(15)
  /// Over what time the server wants the first retry spread.
  private(set) var spread: Duration = .zero
  /// The number of the slot in its fleet.
  let index: Int

  init(_ stream: any ByteStream, owner: any HollowLinkOwner, index: Int) {
    self.stream = stream
    self.owner = owner
    self.index = index
  }

  /// Says HELLO; with `raw` there is no handshake (the floor's server speaks frames only).
  func start(hello: Value, time: WallTime, raw: Bool = false) {
    stream.delegate = self
    if raw {
      isReady = true
    } else {
      let message = Hello(
        features: [], agent: "skerry-bench", time: time.milliseconds, limits: PeerLimits(WireLimits()), hello: hello)
      stream.write(Frame(.hello, payload: message.encoded).encoded)
    }
    stream.resumeReading()
  }

  func close() {
    guard !isOver else { return }
    isOver = true
    stream.delegate = nil
    stream.close()
  }

  // MARK: sending

  /// Frames of one turn leave in one write.
  private func send(_ type: FrameType, flags: FrameFlags = [], stream id: UInt32, _ payload: Bytes) {
    var rest = payload[...]
    var flags = flags
    repeat {
      let piece = rest.prefix(WireLimits.framePayloadBytes)
      rest = rest.dropFirst(piece.count)
      outgoing.append(bigEndian: UInt16(piece.count))
      outgoing.append(type.rawValue)
      outgoing.append(rest.isEmpty ? flags.rawValue : flags.union(.more).rawValue)
      outgoing.append(bigEndian: id)
      outgoing.append(contentsOf: piece)
      flags = []
    } while !rest.isEmpty
    if depth == 0 { flush() }
  }

  private func flush() {
    guard !outgoing.isEmpty, !isOver else { return }
    stream.write(outgoing)
    outgoing.removeAll(keepingCapacity: outgoing.capacity <= 4_096)
  }

  /// Opens a stream; `last`: nothing follows from this side.
  @discardableResult
  func open(_ method: String, _ params: Bytes, priority: Priority = .status, last: Bool = true) -> UInt32 {
    let id = nextStream
    nextStream += 2
    let message = OpenMessage(method: method, priority: priority, params: params)
    if !last { credit.append((id, firstCredit)) }
    send(.open, flags: last ? .last : [], stream: id, message.encoded)
    return id
  }

  /// True while the peer takes a message on a stream that was opened without `last`.
  func canSend(on id: UInt32) -> Bool { (credit.first { $0.stream == id }?.bytes ?? 0) > 0 }

  /// Sends one message; `canSend` was asked before.
  func send(_ message: Bytes, on id: UInt32) {
    if let index = credit.firstIndex(where: { $0.stream == id }) {
      credit[index].bytes -= WireLimits.cost(message.count)
    }
    send(.data, stream: id, message)
  }

  func ping(position: UInt64) {
    guard isReady else { return }
    var writer = CBORWriter()
    writer.uint(position)
    send(.ping, stream: 0, writer.bytes)
  }

  /// Does several sends that leave as one write.
  func together(_ body: () -> Void) {
    depth += 1
    body()
    depth -= 1
    if depth == 0 { flush() }
  }

  // MARK: receiving

  func stream(_ stream: any ByteStream, received bytes: UnsafeRawBufferPointer) {
    together { receive(bytes) }
  }

  private func receive(_ bytes: UnsafeRawBufferPointer) {
    if pending.isEmpty { return keepRest(of: bytes, from: frames(bytes)) }
    pending.append(contentsOf: bytes)
    let whole = pending
    pending = []
    whole.withUnsafeBytes { keepRest(of: $0, from: frames($0)) }
  }

  private func keepRest(of bytes: UnsafeRawBufferPointer, from offset: Int) {
    if offset < bytes.count, !isOver { pending = Bytes(bytes[offset...]) }
  }

  /// Handles the whole frames and answers where the rest begins.
  private func frames(_ bytes: UnsafeRawBufferPointer) -> Int {
    var offset = 0
    while bytes.count - offset >= WireLimits.headerBytes, !isOver {
      let length = Int(UInt16(bigEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt16.self)))
      let end = offset + WireLimits.headerBytes + length
      guard end <= bytes.count else { break }
      let id = UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: offset + 4, as: UInt32.self))
      let payload = UnsafeRawBufferPointer(rebasing: bytes[(offset + WireLimits.headerBytes)..<end])
      frame(FrameType(rawValue: bytes[offset + 2]), FrameFlags(rawValue: bytes[offset + 3]), id, payload)
      offset = end
    }
    return offset
  }

  private func frame(_ type: FrameType, _ flags: FrameFlags, _ id: UInt32, _ payload: UnsafeRawBufferPointer) {
    switch type {
    case .data: message(type, flags, id, payload)
    case .end: message(type, flags, id, payload)
    case .welcome: welcome(payload)
    case .goAway: end(SkerryError(.closed, "the server ended the session: \(Self.reason(payload))"))
    case .reset: owner.link(self, stream: id, ended: UnsafeRawBufferPointer(start: nil, count: 0))
    case .open: send(.reset, stream: id, CBOR.encode(Self.refusal))
    case .credit: took(credit: payload, id)
    default: break  // answers to pings: they only tell that the peer lives
    }
  }

  private func took(credit payload: UnsafeRawBufferPointer, _ id: UInt32) {
    guard payload.count == 4, let index = credit.firstIndex(where: { $0.stream == id }) else { return }
    credit[index].bytes += Int(UInt32(bigEndian: payload.loadUnaligned(as: UInt32.self)))
    owner.link(self, maySendOn: id)
  }

  private static let refusal = CallError(reason: CallError.unknownMethod, message: "a hollow peer answers no calls")
    .value

  private static func reason(_ payload: UnsafeRawBufferPointer) -> String {
    (try? GoAway(Bytes(payload))).map { "\($0.reason) \($0.message)" } ?? "without a reason"
  }

  private func welcome(_ payload: UnsafeRawBufferPointer) {
    do throws(SkerryError) {
      let welcome = try Welcome(Bytes(payload))
      pingInterval = welcome.ping
      firstCredit = welcome.limits.credit
      spread = welcome.spread
      isReady = true
      owner.linkIsReady(self)
    } catch {
      end(error)
    }
  }

  private func message(_ type: FrameType, _ flags: FrameFlags, _ id: UInt32, _ payload: UnsafeRawBufferPointer) {
    if flags.contains(.more) || !partial.isEmpty && partial[id] != nil {
      var whole = partial.removeValue(forKey: id) ?? []
      whole.append(contentsOf: payload)
      guard whole.count <= Self.maxMessage else { return end(SkerryError(.limitExceeded, "a message is too long")) }
      if flags.contains(.more) {
        partial[id] = whole
        return
      }
      return whole.withUnsafeBytes { deliver(type, id, $0) }
    }
    deliver(type, id, payload)
  }

  private func deliver(_ type: FrameType, _ id: UInt32, _ message: UnsafeRawBufferPointer) {
    if type == .end { return owner.link(self, stream: id, ended: message) }
    owner.link(self, stream: id, message: message)
    give(id, WireLimits.cost(message.count))
  }

  private func give(_ id: UInt32, _ cost: Int) {
    guard let index = consumed.firstIndex(where: { $0.stream == id }) else {
      consumed.append((id, cost))
      return
    }
    consumed[index].bytes += cost
    guard consumed[index].bytes >= Self.creditStep else { return }
    var payload: Bytes = []
    payload.append(bigEndian: UInt32(consumed[index].bytes))
    consumed[index].bytes = 0
    send(.credit, stream: id, payload)
  }

  // MARK: ending

  private func end(_ error: SkerryError?) {
    guard !isOver else { return }
    isOver = true
    stream.delegate = nil
    stream.close()
    owner.linkIsOver(self, error)
  }

  func streamDidDrain(_ stream: any ByteStream) {}
  func streamReceivedEnd(_ stream: any ByteStream) { end(SkerryError(.closed, "the server closed the connection")) }
  func streamDidClose(_ stream: any ByteStream, error: SkerryError?) {
    end(error ?? SkerryError(.closed, "the connection ended"))
  }
}
