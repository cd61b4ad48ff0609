import API
import APIFace
import APIServer
import Base
import EventLoop
import ObjectLog
import ObjectModel
import Transport
import Wire

/// Everybody may do everything: what is measured is the path behind the question.
@LoopActor private final class Anybody: Authorizer {
  nonisolated init() {}
  func authorize(_ request: AccessRequest, caller: Caller) throws(APIError) {}
}

/// A connection that swallows what is sent and counts the frames.
@LoopActor private final class NullStream: ByteStream {
  var delegate: (any ByteStreamDelegate)?
  let peer = PeerInfo(address: "null")
  let pendingWriteBytes = 0
  private(set) var frames = 0
  private(set) var ends = 0
  /// What `written` waits for.
  private var waiter: (ends: Int, continuation: CheckedContinuation<Void, Never>)?
  nonisolated init() {}
  func resumeReading() {}
  func pauseReading() {}
  func finishWriting() {}
  func close() {}
  func write(_ bytes: Bytes) {
    var offset = 0
    while offset + 8 <= bytes.count {
      if bytes[offset + 2] == FrameType.data.rawValue { frames += 1 }
      // A message that fills up a record goes on in the next one.
      let goesOn = FrameFlags(rawValue: bytes[offset + 3]).contains(.more)
      if bytes[offset + 2] == FrameType.end.rawValue, !goesOn { ends += 1 }
      offset += 8 + Int(bytes.bigEndian(at: offset, as: UInt16.self))
    }
    guard let waiting = waiter, ends >= waiting.ends else { return }
    waiter = nil
    waiting.continuation.resume()
  }
  /// Waits for that many ENDs in all.
  func written(_ ends: Int) async { await withCheckedContinuation { waiter = (ends, $0) } }
  /// As if the peer had sent it.
  func inject(_ bytes: Bytes) {
    bytes.withUnsafeBytes { delegate?.stream(self, received: $0) }
  }
}

/// An API server over a log in memory, with sessions that each watch its ConfigMaps.
@LoopActor final class FanOutFixture {
  private let log: MemoryObjectLog
  private let server: APIServer
  private let service: APIService
  private let scheduler: any Scheduler
  private var streams: [NullStream] = []
  private var sessions: [Session] = []
  private var template = ""
  private static let reference = ObjectReference(resource: ConfigMap.resource, namespace: "default", name: "shared")

  /// Events that were sent, each watch's first bookmark among them.
  var frames: Int { streams.reduce(0) { $0 + $1.frames } }

  static func make(_ watchers: Int, _ scheduler: any Scheduler) async throws -> FanOutFixture {
    let fixture = FanOutFixture(scheduler)
    fixture.server.start()
    try await fixture.server.bootstrap()
    _ = try await fixture.server.create(
      resource: ConfigMap.resource, namespace: "default", object: fixture.object(-1), caller: .bench)
    for _ in 0..<watchers { fixture.connect() }
    // Watches are opened by tasks: each gets its turn.
    for _ in 0..<8 { try await scheduler.sleep(for: .milliseconds(1)) }
    return fixture
  }

  private init(_ scheduler: any Scheduler) {
    self.scheduler = scheduler
    let random = SeededRandom(seed: 1)
    log = MemoryObjectLog(random: random)
    server = APIServer(log: log, authorizer: Anybody(), scheduler: scheduler, random: random)
    service = APIService(api: server, scheduler: scheduler)
  }

  private static let filler = String(decoding: Bytes(repeating: UInt8(ascii: "x"), count: 1_000), as: UTF8.self)

  private func object(_ index: Int, _ name: String = reference.name) -> Value {
    [
      "metadata": ["name": .string(name), "namespace": "default"],
      "data": ["payload": .string(Self.filler + String(index))],
    ]
  }

  /// A session that updates as many ConfigMaps, one call each at a time.
  func caller(_ count: Int) async throws -> CallFixture {
    let names = (0..<count).map { "called-\($0)" }
    for name in names {
      _ = try await server.create(
        resource: ConfigMap.resource, namespace: "default", object: object(-1, name), caller: .bench)
    }
    connect()
    guard let stream = streams.last else { throw SkerryError(.internal, "a fixture has no session") }
    return CallFixture(
      stream,
      params: names.map { name in
        let reference = ObjectReference(resource: ConfigMap.resource, namespace: "default", name: name)
        return CBOR.encode(BatchItem.update(reference, object: object(0, name), subresource: "").params)
      })
  }

  private func connect() {
    let stream = NullStream()
    let session = Session(
      stream: stream, role: .server, hello: [:], scheduler: scheduler, random: SeededRandom(seed: 2))
    service.attach(session, caller: .bench)
    session.start()
    let hello = Hello(features: [], agent: "", time: 0, limits: PeerLimits(WireLimits()), hello: [:])
    stream.inject(Frame(.hello, payload: hello.encoded).encoded)
    let options = WatchOptions(resource: ConfigMap.resource, namespace: "default", after: log.tail.position)
    let open = OpenMessage(method: CallMethod.watch, priority: .status, params: CBOR.encode(options.params))
    stream.inject(Frame(.open, flags: .last, stream: 1, payload: open.encoded).encoded)
    streams.append(stream)
    sessions.append(session)
  }

  func update(_ index: Int) async throws {
    _ = try await server.update(Self.reference, object: object(index), subresource: "", caller: .bench)
  }

  private lazy var stored: StoredObject? = try? log.read(Self.reference.key, at: nil)

  /// One event, straight onto the log, and a turn of the loop in which it leaves.
  func publish(_ index: Int) async {
    guard let stored else { return }
    var body = stored.body
    body[body.count - 1] = UInt8(ascii: "a") + UInt8(index % 26)
    body[body.count - 2] = UInt8(ascii: "a") + UInt8(index / 26 % 26)
    let change = Change(
      key: Self.reference.key, guarding: .any, operation: .put(body: body, status: nil, meta: stored.meta))
    await withCheckedContinuation { continuation in
      log.append([change]) { _ in continuation.resume() }
    }
    if index % 32 == 31 {
      var payload: Bytes = []
      payload.append(bigEndian: UInt32(32 * 1_300))
      let credit = Frame(.credit, stream: 1, payload: payload).encoded
      for stream in streams { stream.inject(credit) }
    }
    await withCheckedContinuation { continuation in
      scheduler.schedule(after: .zero) { continuation.resume() }
    }
    await withCheckedContinuation { continuation in
      scheduler.schedule(after: .zero) { continuation.resume() }
    }
  }
}

/// The peer of a session that writes: its calls are encoded before, and only differ in a byte each time.
@LoopActor final class CallFixture {
  private let stream: NullStream
  private var params: [Bytes]
  private let places: [Int]
  private var opened: UInt32 = 1
  private let before: Int
  var answers: Int { stream.ends - before }

  fileprivate init(_ stream: NullStream, params: [Bytes]) {
    self.stream = stream
    self.params = params
    places = params.map { $0.firstIndex(of: UInt8(ascii: "x")) ?? 0 }
    before = stream.ends
  }

  /// One update of each object, all in one turn; returns when all are answered.
  func update(_ index: Int) async {
    for (call, place) in places.enumerated() {
      params[call][place] = UInt8(ascii: "a") + UInt8(index % 26)
      opened += 2
      let open = OpenMessage(method: CallMethod.update, priority: .control, params: params[call])
      stream.inject(Frame(.open, flags: .last, stream: opened, payload: open.encoded).encoded)
    }
    await stream.written(stream.ends + params.count)
  }
}
