import Base
import EventLoop
import ObjectModel

/// The line that a NATS server says in the clear before TLS begins.
/// Source: https://docs.nats.io/reference/reference-protocols/nats-protocol
@LoopActor final class NATSGreeting: ByteStreamDelegate {
  private var line: Bytes = []
  private var waiter: CheckedContinuation<Void, Never>?
  private var isWhole = false
  private var failure: SkerryError?

  /// Reads `INFO {…}`; what follows is TLS.
  static func read(from stream: any ByteStream, scheduler: any Scheduler) async throws(SkerryError) {
    let greeting = NATSGreeting()
    stream.delegate = greeting
    let timer = scheduler.schedule(after: .seconds(30)) {
      greeting.end(SkerryError(.timeout, "the NATS server does not greet"))
    }
    stream.resumeReading()
    await withCheckedContinuation { continuation in
      if greeting.isWhole { continuation.resume() } else { greeting.waiter = continuation }
    }
    scheduler.cancel(timer)
    stream.pauseReading()
    stream.delegate = nil
    if let failure = greeting.failure {
      stream.close()
      throw failure
    }
  }

  private func end(_ error: SkerryError?) {
    guard !isWhole else { return }
    isWhole = true
    failure = error
    waiter?.resume()
    waiter = nil
  }

  func stream(_ stream: any ByteStream, received bytes: UnsafeRawBufferPointer) {
    line.append(contentsOf: bytes)
    guard line.last == UInt8(ascii: "\n") else { return }
    stream.pauseReading()
    end(line.starts(with: "INFO ".utf8) ? nil : SkerryError(.protocolViolation, "this is no NATS server"))
  }
  func streamDidDrain(_ stream: any ByteStream) {}
  func streamReceivedEnd(_ stream: any ByteStream) {
    end(SkerryError(.closed, "the NATS server closed the connection"))
  }
  func streamDidClose(_ stream: any ByteStream, error: SkerryError?) {
    end(error ?? SkerryError(.closed, "the NATS server closed the connection"))
  }
}

/// NATS' client protocol, as far as the bench speaks it.
enum NATS {
  static let connect =
    "CONNECT {\"verbose\":false,\"pedantic\":false,\"tls_required\":true,\"lang\":\"bench\",\"version\":\"0\",\"protocol\":1}\r\n"

  enum Message {
    case message(payload: UnsafeRawBufferPointer)
    case ping
    case pong
    case error(String)
    case other
  }

  /// The first message in `bytes` and its length; nil while it is not whole.
  static func next(_ bytes: UnsafeRawBufferPointer) -> (Message, Int)? {
    guard let end = bytes.firstIndex(of: UInt8(ascii: "\n")), end > 0 else { return nil }
    let length = end + 1
    switch bytes[0] {
    case UInt8(ascii: "M"):
      // MSG subject sid [reply] size
      var (size, factor, index) = (0, 1, end - 2)
      while index > 0, (48...57).contains(bytes[index]) {
        size += Int(bytes[index] - 48) * factor
        factor *= 10
        index -= 1
      }
      guard bytes.count >= length + size + 2 else { return nil }
      return (
        .message(payload: UnsafeRawBufferPointer(rebasing: bytes[length..<(length + size)])), length + size + 2
      )
    case UInt8(ascii: "P"): return (bytes[1] == UInt8(ascii: "I") ? .ping : .pong, length)
    case UInt8(ascii: "-"): return (.error(String(decoding: bytes[..<end], as: UTF8.self)), length)
    default: return (.other, length)
    }
  }
}

/// One subscription on one connection.
@LoopActor final class NATSSubscriber: BrokerPeer {
  override func greet(_ stream: any ByteStream) {
    stream.write(Bytes((NATS.connect + "SUB \(fleet.plan.namespace) 1\r\nPING\r\n").utf8))
  }

  override func parse(_ bytes: UnsafeRawBufferPointer) -> Int {
    var offset = 0
    while offset < bytes.count,
      let (message, length) = NATS.next(UnsafeRawBufferPointer(rebasing: bytes[offset...]))
    {
      offset += length
      switch message {
      case .message(let payload): took(payload)
      case .ping: stream?.write(Bytes("PONG\r\n".utf8))
      case .pong: established()
      case .error(let text): broke(text)
      case .other: break
      }
    }
    return offset
  }
}

/// Publishes on one connection; a PING behind a number of messages keeps it from running ahead of the server.
@LoopActor final class NATSPublisher: BrokerPublisher {
  private static let inbox = "_INBOX.bench"
  private var answers: [CheckedContinuation<Bool, Never>] = []

  override func hello() -> Bytes { Bytes((NATS.connect + "SUB \(Self.inbox).* 9\r\nPING\r\n").utf8) }

  override func publish(_ payload: Bytes, subject: String) {
    send(Bytes("PUB \(subject) \(payload.count)\r\n".utf8) + payload + [13, 10])
  }

  override func mark() { send(Bytes("PING\r\n".utf8)) }

  override func publishAcknowledged(_ payload: Bytes, subject: String) {
    send(Bytes("PUB \(subject) \(Self.inbox).a \(payload.count)\r\n".utf8) + payload + [13, 10])
  }

  /// Makes the stream that JetStream keeps on disk.
  override func prepareStream(subject: String) async throws(SkerryError) {
    let configuration: Value = [
      "name": "BENCH", "subjects": [.string(subject)], "storage": "file", "num_replicas": 1, "retention": "limits",
    ]
    let body = Bytes(JSON.print(configuration).utf8)
    send(
      Bytes("PUB $JS.API.STREAM.CREATE.BENCH \(Self.inbox).s \(body.count)\r\n".utf8) + body + [13, 10])
    let made = await withCheckedContinuation { answers.append($0) }
    guard made else { throw SkerryError(.unavailable, "JetStream does not make a stream") }
  }

  override func parse(_ bytes: UnsafeRawBufferPointer) -> Int {
    var offset = 0
    while offset < bytes.count,
      let (message, length) = NATS.next(UnsafeRawBufferPointer(rebasing: bytes[offset...]))
    {
      offset += length
      switch message {
      case .message(let payload):
        let text = String(decoding: payload, as: UTF8.self)
        let isGood = !text.contains("\"error\"")
        if answers.isEmpty { acknowledged(isGood) } else { answers.removeFirst().resume(returning: isGood) }
      case .ping: send(Bytes("PONG\r\n".utf8))
      case .pong: marked()
      case .error(let text): broke(text)
      case .other: break
      }
    }
    return offset
  }
}
