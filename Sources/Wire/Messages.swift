import Base

/// The first word of the connecting side.
package struct Hello: Sendable, Hashable {
  package static let supportedVersions: [Int64] = [1]

  /// Versions it speaks, best first.
  package var versions: [Int64]
  package var features: [String]
  /// Program and version, for logs.
  package var agent: String
  /// Its wall clock, milliseconds since 1970.
  package var time: Int64
  package var limits: PeerLimits
  /// What the roles above agree on (who connects, for what).
  package var hello: Value

  package var encoded: Bytes {
    var message: Value = [
      "v": .array(versions.map { .int($0) }), "f": .array(features.map { .string($0) }), "agent": .string(agent),
      "time": .int(time), "hello": hello,
    ]
    limits.write(to: &message)
    return CBOR.encode(message)
  }

  package init(
    versions: [Int64] = Hello.supportedVersions, features: [String], agent: String, time: Int64, limits: PeerLimits,
    hello: Value
  ) {
    self.versions = versions
    self.features = features
    self.agent = agent
    self.time = time
    self.limits = limits
    self.hello = hello
  }

  package init(_ bytes: Bytes) throws(SkerryError) {
    let value = try decodeMessage(bytes, "HELLO")
    guard let versions = value["v"].array else { throw violation("HELLO names no versions") }
    self.init(
      versions: versions.compactMap(\.int), features: (value["f"].array ?? []).compactMap(\.string),
      agent: value["agent"].string ?? "", time: value["time"].int ?? 0, limits: try PeerLimits(value, "HELLO"),
      hello: value["hello"])
  }
}

/// The accepting side's answer to HELLO.
package struct Welcome: Sendable, Hashable {
  package var version: Int64
  /// Those of HELLO that both know; in force from here on.
  package var features: [String]
  package var agent: String
  package var time: Int64
  package var limits: PeerLimits
  /// How often the connecting side pings.
  package var ping: Duration
  /// Over what time the first retry after a lost connection is spread.
  package var spread: Duration
  /// Names this session in the logs of both sides.
  package var session: String
  package var hello: Value

  package var encoded: Bytes {
    var message: Value = [
      "v": .int(version), "f": .array(features.map { .string($0) }), "agent": .string(agent), "time": .int(time),
      "ping": .int(ping.milliseconds), "spread": .int(spread.milliseconds), "session": .string(session),
      "hello": hello,
    ]
    limits.write(to: &message)
    return CBOR.encode(message)
  }

  package init(
    version: Int64, features: [String], agent: String, time: Int64, limits: PeerLimits, ping: Duration,
    spread: Duration, session: String, hello: Value
  ) {
    self.version = version
    self.features = features
    self.agent = agent
    self.time = time
    self.limits = limits
    self.ping = ping
    self.spread = spread
    self.session = session
    self.hello = hello
  }

  /// Bounds of the ping interval that a connecting side follows, in milliseconds.
  static let pingRange: ClosedRange<Int64> = 10...3_600_000

  package init(_ bytes: Bytes) throws(SkerryError) {
    let value = try decodeMessage(bytes, "WELCOME")
    guard let version = value["v"].int, Hello.supportedVersions.contains(version) else {
      throw SkerryError(.unsupportedVersion, "WELCOME names version \(value["v"]), which was not offered")
    }
    let ping = value["ping"].int ?? 15_000
    guard Self.pingRange.contains(ping) else { throw violation("WELCOME asks for a ping each \(ping) ms") }
    self.init(
      version: version, features: (value["f"].array ?? []).compactMap(\.string), agent: value["agent"].string ?? "",
      time: value["time"].int ?? 0, limits: try PeerLimits(value, "WELCOME"), ping: .milliseconds(ping),
      spread: .milliseconds(min(max(value["spread"].int ?? 0, 0), 3_600_000)),
      session: value["session"].string ?? "", hello: value["hello"])
  }
}

/// What one side takes, as the other must keep it.
package struct PeerLimits: Sendable, Hashable {
  package var message: Int
  package var streams: Int
  package var credit: Int

  package init(_ limits: WireLimits) {
    message = limits.messageBytes
    streams = limits.streams
    credit = limits.initialCredit
  }

  /// What is as it is by default is left out.
  func write(to value: inout Value) {
    let standard = PeerLimits(WireLimits())
    if credit != standard.credit { value["credit"] = .int(Int64(credit)) }
    var limits: Value = [:]
    if message != standard.message { limits["message"] = .int(Int64(message)) }
    if streams != standard.streams { limits["streams"] = .int(Int64(streams)) }
    if limits != [:] { value["limits"] = limits }
  }

  init(_ value: Value, _ name: String) throws(SkerryError) {
    let limits = value["limits"]
    func number(_ value: Value, _ standard: Int, _ least: Int) throws(SkerryError) -> Int {
      guard !value.isNull else { return standard }
      guard let number = value.int, number >= least else { throw violation("\(name) has a bad limit") }
      return Int(min(number, Int64(WireLimits.maxCredit)))
    }
    message = try number(limits["message"], WireLimits().messageBytes, 1_024)
    streams = try number(limits["streams"], WireLimits().streams, 0)
    credit = try number(value["credit"], WireLimits().initialCredit, 0)
  }
}

/// Why and when a side stops: no new streams from here on; come back after `delay`.
package struct GoAway: Sendable, Hashable {
  package var delay: Duration
  package var reason: String
  package var message: String
  package init(delay: Duration = .zero, reason: String, message: String = "") {
    self.delay = delay
    self.reason = reason
    self.message = message
  }

  /// Reasons; docs in proto-spec. Others may come from a newer peer and mean `shutdown`.
  package static let shutdown = "shutdown"
  package static let rotate = "rotate"
  package static let replaced = "replaced"
  package static let revoked = "revoked"
  package static let refused = "refused"
  package static let timeout = "timeout"
  package static let unsupportedVersion = "unsupportedVersion"
  package static let protocolViolation = "protocolViolation"
  package static let limitExceeded = "limitExceeded"

  package var encoded: Bytes {
    CBOR.encode([
      "delay": .int(delay.milliseconds), "reason": .string(reason), "message": .string(message),
    ])
  }

  package init(_ bytes: Bytes) throws(SkerryError) {
    let value = try decodeMessage(bytes, "GOAWAY")
    self.init(
      delay: .milliseconds(min(max(value["delay"].int ?? 0, 0), 86_400_000)),
      reason: value["reason"].string ?? Self.shutdown, message: value["message"].string ?? "")
  }

  /// The error that a side sees whose peer went away for this reason.
  package var error: SkerryError {
    let code: SkerryError.Code =
      switch reason {
      case Self.unsupportedVersion: .unsupportedVersion
      case Self.protocolViolation: .protocolViolation
      case Self.limitExceeded: .limitExceeded
      case Self.refused, Self.revoked: .forbidden
      case Self.timeout: .timeout
      default: .closed
      }
    return SkerryError(code, "the peer ended the session (\(reason))\(message.isEmpty ? "" : ": \(message)")")
  }
}

/// OPEN: a call. `params` stays encoded until the method is known.
package struct OpenMessage: Sendable, Hashable {
  package static let maxMethodBytes = 128

  package var method: String
  package var priority: Priority
  package var item: CBORItem
  /// The params' bytes.
  package var params: Bytes { item.bytes }
  package init(method: String, priority: Priority, params: Bytes) {
    self.init(method: method, priority: priority, item: CBORItem(params))
  }
  private init(method: String, priority: Priority, item: CBORItem) {
    self.method = method
    self.priority = priority
    self.item = item
  }

  package var encoded: Bytes {
    let params = params
    var writer = CBORWriter(reservingCapacity: params.count + method.utf8.count + 16)
    writer.map(3)
    writer.text("c")
    writer.uint(UInt64(priority.rawValue))
    writer.text("m")
    writer.text(method)
    writer.text("p")
    writer.raw(params)
    return writer.bytes
  }

  package init(_ bytes: Bytes) throws(SkerryError) {
    var method: String?
    var priority = Priority.control
    var place: Range<Int>?
    try readMap(bytes, "OPEN") { (key, reader) throws(SkerryError) in
      switch key {
      case "c": priority = Priority(rawValue: UInt8(try reader.uint(upTo: 255))) ?? .bulk
      case "m": method = try reader.text()
      case "p": place = try reader.skip()
      default: try reader.skip()
      }
    }
    guard let method, method.utf8.count <= Self.maxMethodBytes else { throw violation("OPEN names no method") }
    self.init(method: method, priority: priority, item: place.map { CBORItem(bytes, in: $0) } ?? CBORItem([0xf6]))
  }
}

/// END: how a direction of a stream ended. The result stays encoded.
package struct EndMessage: Sendable, Hashable {
  package var outcome: Result<Bytes, CallError>
  /// CBOR null: the result of a call that answers nothing.
  package static let nothing: Bytes = [0xf6]

  /// What stands before a result: the head of a map, and its key `r`.
  static let resultHead: Bytes = [0xa1, 0x61, 0x72]

  package init(_ outcome: Result<Bytes, CallError>) { self.outcome = outcome }

  package var encoded: Bytes {
    switch outcome {
    case .success(Self.nothing): return [0xa0]
    case .success(let result): return Self.resultHead + result
    case .failure(let error): return CBOR.encode(["e": error.value])
    }
  }

  package init(_ bytes: Bytes) throws(SkerryError) {
    var outcome: Result<Bytes, CallError> = .success(Self.nothing)
    try readMap(bytes, "END") { (key, reader) throws(SkerryError) in
      switch key {
      case "e": outcome = .failure(CallError(try reader.value()))
      case "r":
        let result = try reader.raw()
        if case .success = outcome { outcome = .success(result) }
      default: try reader.skip()
      }
    }
    self.outcome = outcome
  }
}

func violation(_ message: String) -> SkerryError { SkerryError(.protocolViolation, message) }

/// Decodes the payload of a connection-level frame, which is a map; unknown members are for newer versions.
private func decodeMessage(_ bytes: Bytes, _ name: String) throws(SkerryError) -> Value {
  do {
    let value = try CBOR.decode(bytes)
    guard value.object != nil else { throw violation("the payload is no map") }
    return value
  } catch {
    throw SkerryError(.protocolViolation, "\(name) cannot be read", cause: error)
  }
}

private func readMap(
  _ bytes: Bytes, _ name: String, _ member: (CBORKey, inout CBORReader) throws(SkerryError) -> Void
) throws(SkerryError) {
  do {
    var reader = CBORReader(bytes)
    var last: CBORKey?
    for _ in 0..<(try reader.map()) {
      let key = try reader.key()
      if let last, !last.precedes(key) { throw violation("the key \"\(key.text)\" is repeated or out of order") }
      last = key
      try member(key, &reader)
    }
    try reader.finish()
  } catch {
    throw SkerryError(.protocolViolation, "\(name) cannot be read", cause: error)
  }
}
