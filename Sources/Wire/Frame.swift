import Base

/// The kind of a frame. Numbers below 16 belong to the connection (stream 0), the others to a stream.
package struct FrameType: RawRepresentable, Sendable, Hashable {
  package let rawValue: UInt8
  package init(rawValue: UInt8) { self.rawValue = rawValue }

  package static let hello = FrameType(rawValue: 1)
  package static let welcome = FrameType(rawValue: 2)
  package static let ping = FrameType(rawValue: 3)
  package static let goAway = FrameType(rawValue: 4)
  package static let open = FrameType(rawValue: 16)
  package static let data = FrameType(rawValue: 17)
  package static let credit = FrameType(rawValue: 18)
  package static let end = FrameType(rawValue: 19)
  package static let reset = FrameType(rawValue: 20)

  var isKnown: Bool { (1...4).contains(rawValue) || (16...20).contains(rawValue) }
  var belongsToConnection: Bool { rawValue < 16 }
}

package struct FrameFlags: OptionSet, Sendable, Hashable {
  package let rawValue: UInt8
  package init(rawValue: UInt8) { self.rawValue = rawValue }

  /// OPEN, DATA, END: the message goes on in the next frame of this type on this stream.
  package static let more = FrameFlags(rawValue: 0x01)
  /// PING: this answers the peer's ping.
  package static let reply = FrameFlags(rawValue: 0x01)
  /// OPEN: the opener sends no messages; as if an empty END followed.
  package static let last = FrameFlags(rawValue: 0x02)
  /// Whoever does not know the frame's type skips it; without this flag the session ends.
  package static let ignorable = FrameFlags(rawValue: 0x80)
}

/// One frame: an 8-byte header (length of the payload, type, flags, stream; network byte order) and its payload.
package struct Frame: Sendable, Hashable {
  package var type: FrameType
  package var flags: FrameFlags
  package var stream: UInt32
  package var payload: Bytes
  package init(_ type: FrameType, flags: FrameFlags = [], stream: UInt32 = 0, payload: Bytes) {
    self.type = type
    self.flags = flags
    self.stream = stream
    self.payload = payload
  }

  /// The frame as it goes over the connection. The payload fits a frame.
  package var encoded: Bytes {
    var out: Bytes = []
    out.reserveCapacity(WireLimits.headerBytes + payload.count)
    Self.appendHeader(type, flags: flags, stream: stream, payloadCount: payload.count, to: &out)
    out.append(contentsOf: payload)
    return out
  }

  static func appendHeader(
    _ type: FrameType, flags: FrameFlags, stream: UInt32, payloadCount: Int, to out: inout Bytes
  ) {
    precondition(payloadCount <= WireLimits.framePayloadBytes, "a frame's payload was not cut")
    out.append(UInt8(truncatingIfNeeded: payloadCount >> 8))
    out.append(UInt8(truncatingIfNeeded: payloadCount))
    out.append(type.rawValue)
    out.append(flags.rawValue)
    out.append(UInt8(truncatingIfNeeded: stream >> 24))
    out.append(UInt8(truncatingIfNeeded: stream >> 16))
    out.append(UInt8(truncatingIfNeeded: stream >> 8))
    out.append(UInt8(truncatingIfNeeded: stream))
  }
}

/// Cuts the bytes of a connection into frames. Holds at most one unfinished frame; a payload is copied once, out of
/// the connection's buffer.
package struct FrameDecoder: Sendable {
  private var pending: Bytes = []

  package init() {}

  /// True between frames.
  package var isIdle: Bool { pending.isEmpty }

  /// Appends the frames that `input` completes. Throws `protocolViolation` for a length above the limit, before
  /// anything is held for it; the connection cannot be read any further then.
  package mutating func decode(_ input: UnsafeRawBufferPointer, into frames: inout [Frame]) throws(SkerryError) {
    var offset = 0
    if !pending.isEmpty {
      unsafe fill(to: WireLimits.headerBytes, from: input, &offset)
      guard pending.count >= WireLimits.headerBytes else { return }
      unsafe fill(to: try Self.frameLength(pending.bigEndian(at: 0)), from: input, &offset)
      guard pending.count == (try Self.frameLength(pending.bigEndian(at: 0))) else { return }
      frames.append(unsafe pending.withUnsafeBytes { unsafe Self.frame($0) })
      pending = []
    }
    while input.count - offset >= WireLimits.headerBytes {
      let bytes = unsafe UnsafeRawBufferPointer(rebasing: input[offset...])
      let length = try Self.frameLength(unsafe UInt16(bytes[0]) << 8 | UInt16(bytes[1]))
      guard bytes.count >= length else { break }
      frames.append(unsafe Self.frame(UnsafeRawBufferPointer(rebasing: bytes[..<length])))
      offset += length
    }
    unsafe fill(to: .max, from: input, &offset)
  }

  /// The same for bytes in an array.
  package mutating func decode(_ input: Bytes, into frames: inout [Frame]) throws(SkerryError) {
    // A typed throw does not pass through the closure's rethrow, so the result carries it.
    var result: Result<Void, SkerryError> = .success(())
    unsafe input.withUnsafeBytes { raw in
      result = Result { () throws(SkerryError) in unsafe try decode(raw, into: &frames) }
    }
    try result.get()
  }

  private mutating func fill(to count: Int, from input: UnsafeRawBufferPointer, _ offset: inout Int) {
    let take = min(max(count - pending.count, 0), input.count - offset)
    guard take > 0 else { return }
    unsafe pending.append(contentsOf: input[offset..<(offset + take)])
    offset += take
  }

  private static func frameLength(_ payload: UInt16) throws(SkerryError) -> Int {
    guard Int(payload) <= WireLimits.framePayloadBytes else {
      throw SkerryError(
        .protocolViolation,
        "a frame announces \(payload) bytes of payload; at most \(WireLimits.framePayloadBytes) are allowed")
    }
    return WireLimits.headerBytes + Int(payload)
  }

  /// The frame that is all of these bytes.
  private static func frame(_ bytes: UnsafeRawBufferPointer) -> Frame {
    let stream = unsafe UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: 4, as: UInt32.self))
    let payload = unsafe Bytes(UnsafeRawBufferPointer(rebasing: bytes[WireLimits.headerBytes...]))
    return unsafe Frame(
      FrameType(rawValue: bytes[2]), flags: FrameFlags(rawValue: bytes[3]), stream: stream, payload: payload)
  }
}
