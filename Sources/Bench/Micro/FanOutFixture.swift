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
  nonisolated init() {}
  func resumeReading() {}
  func pauseReading() {}
  func finishWriting() {}
  func close() {}
  func write(_ bytes: Bytes) {
    var offset = 0
    while offset + 8 <= bytes.count {
      if bytes[offset + 2] == FrameType.data.rawValue { frames += 1 }
      offset += 8 + Int(bytes.bigEndian(at: offset, as: UInt16.self))
    }
  }
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

  private func object(_ index: Int) -> Value {
    [
      "metadata": ["name": .string(Self.reference.name), "namespace": "default"],
      "data": ["payload": .string(Self.filler + String(index))],
    ]
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
