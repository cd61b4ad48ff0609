import Base
import EventLoop
import ObjectModel

/// HTTP/1.1 answers (RFC 9112) as etcd's JSON gateway gives them: a length, or chunks.
struct HTTPAnswer {
  var status: Int
  var length: Int?
  var isChunked: Bool
  /// Of the head, with its empty line.
  var headBytes: Int

  init?(_ bytes: UnsafeRawBufferPointer) {
    guard let end = Self.endOfHead(bytes) else { return nil }
    let head = String(decoding: UnsafeRawBufferPointer(rebasing: bytes[..<end]), as: UTF8.self)
    let lines = head.split(separator: "\r\n")
    status = lines.first?.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0
    length = nil
    isChunked = false
    headBytes = end
    for line in lines.dropFirst() {
      let parts = line.split(separator: ":", maxSplits: 1)
      guard parts.count == 2 else { continue }
      let value = parts[1].drop { $0 == " " }
      switch parts[0].lowercased() {
      case "content-length": length = Int(value)
      case "transfer-encoding": isChunked = value.lowercased() == "chunked"
      default: break
      }
    }
  }

  private static func endOfHead(_ bytes: UnsafeRawBufferPointer) -> Int? {
    var index = 0
    while index + 3 < bytes.count {
      if bytes[index] == 13, bytes[index + 1] == 10, bytes[index + 2] == 13, bytes[index + 3] == 10 { return index + 4 }
      index += 1
    }
    return nil
  }

  static func request(_ path: String, _ body: Bytes) -> Bytes {
    Bytes(
      "POST \(path) HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: \(body.count)\r\n\r\n"
        .utf8) + body
  }

  /// The chunk at the start of `bytes`: where its content lies and where the next begins; nil while it is not whole.
  static func chunk(_ bytes: UnsafeRawBufferPointer) -> (content: Range<Int>, next: Int)? {
    var (size, index) = (0, 0)
    while index < bytes.count, bytes[index] != 13 {
      guard let digit = Int(String(UnicodeScalar(bytes[index])), radix: 16), size < 1 << 28 else { return nil }
      size = size << 4 | digit
      index += 1
    }
    let start = index + 2
    guard start + size + 2 <= bytes.count else { return nil }
    return (start..<(start + size), start + size + 2)
  }
}

/// A watch of etcd's JSON gateway over everything below one prefix.
@LoopActor final class EtcdWatcher: BrokerPeer {
  private var head: HTTPAnswer?
  private var body: Bytes = []

  override func greet(_ stream: any ByteStream) {
    let prefix = Bytes("\(fleet.plan.namespace)/".utf8)
    let end = Bytes("\(fleet.plan.namespace)0".utf8)
    let request: Value = [
      "create_request": ["key": .string(Base64.encode(prefix)), "range_end": .string(Base64.encode(end))]
    ]
    stream.write(HTTPAnswer.request("/v3/watch", Bytes(JSON.print(request).utf8)))
  }

  override func parse(_ bytes: UnsafeRawBufferPointer) -> Int {
    var offset = 0
    if head == nil {
      guard let answer = HTTPAnswer(bytes) else { return 0 }
      head = answer
      offset = answer.headBytes
      guard answer.status == 200 else {
        broke("etcd answers \(answer.status) to a watch")
        return bytes.count
      }
    }
    while offset < bytes.count,
      let (content, next) = HTTPAnswer.chunk(UnsafeRawBufferPointer(rebasing: bytes[offset...]))
    {
      body.append(contentsOf: bytes[(offset + content.lowerBound)..<(offset + content.upperBound)])
      offset += next
      lines()
    }
    return offset
  }

  private func lines() {
    while let end = body.firstIndex(of: UInt8(ascii: "\n")) {
      let line = Bytes(body[..<end])
      body.removeSubrange(...end)
      take(line)
    }
  }

  private func take(_ line: Bytes) {
    guard let value = try? JSON.parse(line) else {
      fleet.tally.damaged += 1
      return
    }
    if value["result"]["created"].bool == true { return established() }
    for event in value["result"]["events"].array ?? [] {
      guard let text = event["kv"]["value"].string, let bytes = Base64.decode(text) else { continue }
      bytes.withUnsafeBytes { took($0) }
    }
  }

  override func took(_ payload: UnsafeRawBufferPointer) {
    // A value that is no event of ours made the key before the measurement.
    guard let found = Payload(payload), found.sequence > 0 else { return }
    super.took(payload)
  }
}

/// Clients that put 1 KiB values by etcd's JSON gateway, each one after the other on a connection of its own.
@LoopActor final class EtcdWriters: Publisher {
  private let dialer: HollowDialer
  private let scheduler: any Scheduler
  private let count: Int
  private let prefix: String
  private var clients: [EtcdClient] = []
  private(set) var latency = Latency()
  private(set) var operations = 0
  private(set) var failures = 0
  private var ends: UInt64 = 0
  private var waiter: CheckedContinuation<Void, Never>?
  let bytes: Int

  init(_ target: BenchTarget, _ params: Value, scheduler: any Scheduler) throws(SkerryError) {
    dialer = try HollowDialer(target, wire: WireCount(), scheduler: scheduler)
    self.scheduler = scheduler
    count = Int(params["clients"].int ?? 1)
    prefix = params["subject"].string ?? "bench"
    bytes = Int(params["bytes"].int ?? 1_024)
  }

  var now: UInt64 { scheduler.now.nanoseconds }
  var isOver: Bool { now >= ends }

  func prepare() async throws(SkerryError) {
    for index in 0..<count {
      let client = EtcdClient(self, number: index, prefix: prefix)
      client.adopt(try await dialer.dial(slot: 700_000 + index))
      clients.append(client)
    }
  }

  func run(_ params: Value) async throws(SkerryError) -> Value {
    (latency, operations, failures) = (Latency(), 0, 0)
    let start = now
    ends = start + UInt64(clamping: params["duration"].int ?? 0)
    for client in clients { client.put() }
    await withCheckedContinuation { waiter = $0 }
    guard failures == 0 else { throw SkerryError(.unavailable, "etcd refused \(failures) puts") }
    return [
      "operations": .int(Int64(operations)), "nanoseconds": .int(Int64(now - start)), "latency": latency.value,
      "began": .int(Int64(clamping: start)),
    ]
  }

  func answered(_ client: EtcdClient, due: UInt64, isGood: Bool) {
    operations += 1
    if isGood { latency.record(now > due ? now - due : 0) } else { failures += 1 }
    if !isOver, isGood { return client.put() }
    client.isIdle = true
    guard clients.allSatisfy(\.isIdle) else { return }
    waiter?.resume()
    waiter = nil
  }

  func close() { for client in clients { client.close() } }
}

/// One connection of a writer.
@LoopActor final class EtcdClient: ByteStreamDelegate {
  private static let keys: UInt64 = 100
  private unowned let writers: EtcdWriters
  private let number: Int
  private let prefix: String
  private var stream: (any ByteStream)?
  private var pending: Bytes = []
  private var sequence: UInt64 = 0
  private var due: UInt64 = 0
  var isIdle = true

  init(_ writers: EtcdWriters, number: Int, prefix: String) {
    self.writers = writers
    self.number = number
    self.prefix = prefix
  }

  func adopt(_ stream: any ByteStream) {
    self.stream = stream
    stream.delegate = self
    stream.resumeReading()
  }

  func put() {
    isIdle = false
    sequence += 1
    due = writers.now
    let key = Base64.encode(Bytes("\(prefix)/w\(number)-\(sequence % Self.keys)".utf8))
    let value = Base64.encode(Payload(writer: UInt32(number), sequence: sequence, time: due).bytes(writers.bytes))
    // Base64 needs no escapes.
    stream?.write(HTTPAnswer.request("/v3/kv/put", Bytes("{\"key\":\"\(key)\",\"value\":\"\(value)\"}".utf8)))
  }

  func close() {
    stream?.delegate = nil
    stream?.close()
    stream = nil
  }

  func stream(_ stream: any ByteStream, received bytes: UnsafeRawBufferPointer) {
    pending.append(contentsOf: bytes)
    let whole = pending
    let answer = whole.withUnsafeBytes { raw -> (Bool, Int)? in
      guard let head = HTTPAnswer(raw), let length = head.length, raw.count >= head.headBytes + length else {
        return nil
      }
      return (head.status == 200, head.headBytes + length)
    }
    guard let (isGood, used) = answer else { return }
    pending.removeFirst(used)
    writers.answered(self, due: due, isGood: isGood)
  }
  func streamDidDrain(_ stream: any ByteStream) {}
  func streamReceivedEnd(_ stream: any ByteStream) { broke() }
  func streamDidClose(_ stream: any ByteStream, error: SkerryError?) { broke() }
  private func broke() {
    close()
    if !isIdle { writers.answered(self, due: due, isGood: false) }
  }
}
