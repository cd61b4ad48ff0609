import API
import APIFace
import APIServer
import Base
import CloudScheduler
import EventLoop
import Glibc
import ObjectLog
import ObjectModel
import Transport
import Wire

/// Keeps the optimiser from leaving out what nobody reads.
@inline(never) private func keep<T>(_ value: borrowing T) {}

private let payloadBytes = 1_024

private func object(_ name: String = "object") -> Value {
  [
    "apiVersion": "v1", "kind": "ConfigMap",
    "metadata": [
      "name": .string(name), "namespace": "bench", "uid": "0f8fad5b-d9cb-469f-a165-70867728950e",
      "creationTimestamp": "2026-01-01T00:00:00Z", "labels": ["app": "bench", "tier": "edge"],
    ],
    "data": ["payload": .string(String(repeating: "x", count: payloadBytes))],
  ]
}

extension MicroCase {
  static let encode = MicroCase(
    name: "encode", help: "a ConfigMap of 1 KiB to deterministic CBOR", iterations: (500, 2_500), operations: 1
  ) { count, _ in
    let value = object()
    for _ in 0..<count { keep(CBOR.encode(value)) }
  }

  static let decode = MicroCase(
    name: "decode", help: "the same from CBOR to a tree", iterations: (500, 2_500), operations: 1
  ) { count, _ in
    let bytes = CBOR.encode(object())
    for _ in 0..<count { keep(try CBOR.decode(bytes)) }
  }

  static let meta = MicroCase(
    name: "meta", help: "the extracted metadata of an object, decoded", iterations: (500, 2_500), operations: 1
  ) { count, _ in
    let bytes = ObjectMeta(Object(object()), kind: .configMap).encoded
    for _ in 0..<count { keep(try ObjectMeta(decoding: bytes)) }
  }

  /// The stream of `watchedMachine`.
  private static let watched: UInt32 = 1

  /// A session's machine whose peer has opened one stream, as a watch.
  private static func watchedMachine() throws -> SessionMachine {
    let moment = Moment(now: Instant(nanoseconds: 0), wall: WallTime(seconds: 0))
    var machine = SessionMachine(role: .server, configuration: SessionConfiguration(), hello: [:], at: moment)
    machine.start(at: moment)
    let hello = Hello(features: [], agent: "", time: 0, limits: PeerLimits(WireLimits()), hello: [:])
    _ = machine.receive(Frame(.hello, payload: hello.encoded).encoded, at: moment.now)
    _ = machine.accept(hello, hello: [:], session: "", at: moment)
    let open = OpenMessage(method: CallMethod.watch, priority: .status, params: CBOR.encode([:]))
    _ = machine.receive(Frame(.open, flags: .last, stream: watched, payload: open.encoded).encoded, at: moment.now)
    _ = machine.nextWrite()
    return machine
  }

  private static func credit(_ stream: UInt32, _ bytes: Int) -> Bytes {
    var payload: Bytes = []
    payload.append(bigEndian: UInt32(bytes))
    return Frame(.credit, stream: stream, payload: payload).encoded
  }

  static let frame = MicroCase(
    name: "frame", help: "an event of 1 KiB framed on one stream of a session", iterations: (500, 2_500), operations: 1
  ) { count, _ in
    let stream = watched
    var machine = try watchedMachine()
    let body = CBOR.encode(object())
    for index in 0..<count {
      if index % 32 == 31 { _ = machine.receive(credit(stream, 32 * 1_100), at: Instant(nanoseconds: 0)) }
      try machine.send(stream, OutgoingMessage([0x85, 2, 0x19, 1, 2, 0x19, 1, 2], body, [0xf6]))
      keep(machine.nextWrite().bytes)
    }
  }

  static let receive = MicroCase(
    name: "receive", help: "a message of 1 KiB taken in by a session", iterations: (500, 2_500), operations: 1
  ) { count, _ in
    let stream: UInt32 = 3
    var machine = try watchedMachine()
    let message = CBOR.encode(object())
    let open = OpenMessage(method: "lane", priority: .status, params: CBOR.encode([:]))
    _ = machine.receive(Frame(.open, stream: stream, payload: open.encoded).encoded, at: Instant(nanoseconds: 0))
    let frame = Frame(.data, stream: stream, payload: message).encoded
    for _ in 0..<count {
      keep(machine.receive(frame, at: Instant(nanoseconds: 0)))
      machine.consumed(stream, cost: message.count)
      _ = machine.nextWrite()
    }
  }

  private static let watchers = 64

  static let fanOut = MicroCase(
    name: "fan-out", help: "one event from the log to one session's connection, without TLS", iterations: (20, 100),
    operations: watchers
  ) { count, scheduler in
    let fixture = try await FanOutFixture.make(watchers, scheduler)
    for index in 0..<count { await fixture.publish(index) }
    guard fixture.frames == (count + 1) * watchers else {
      throw SkerryError(.internal, "\(fixture.frames) events were sent, not \((count + 1) * watchers)")
    }
  }

  static let append = MicroCase(
    name: "append", help: "one change of a group of 100 in the durable log", iterations: (5, 25), operations: 100
  ) { count, scheduler in
    let directory = "/tmp/sb-micro-\(getpid())"
    try Files.makeDirectory(directory, mode: 0o700)
    defer { try? Files.removeTree(directory) }
    let log = try SQLiteObjectLog.open(
      SQLiteObjectLog.Configuration(path: "\(directory)/log.db"), scheduler: scheduler, random: SeededRandom(seed: 1))
    let value = object()
    let (body, meta) = (CBOR.encode(value), ObjectMeta(Object(value), kind: .configMap).encoded)
    for round in 0..<count {
      var body = body
      body.append(contentsOf: withUnsafeBytes(of: round) { Bytes($0) })
      let changes = (0..<100).map {
        Change(
          key: "configmaps/bench/key-\($0)", guarding: .any, operation: .put(body: body, status: nil, meta: meta))
      }
      let results = await withCheckedContinuation { continuation in
        log.append(changes) { continuation.resume(returning: $0) }
      }
      guard case .applied? = results.last else { throw SkerryError(.internal, "the log does not take a change") }
    }
    try await log.close()
  }

  static let apply = MicroCase(
    name: "write", help: "an update of a ConfigMap through the API server, onto a log in memory", iterations: (50, 250),
    operations: 1
  ) { count, scheduler in
    let fixture = try await FanOutFixture.make(0, scheduler)
    for index in 0..<count { try await fixture.update(index) }
  }

  private static let callers = 16

  static let call = MicroCase(
    name: "call", help: "the same as calls on a session, 16 in a turn, without TLS", iterations: (20, 100),
    operations: callers
  ) { count, scheduler in
    let fixture = try await FanOutFixture.make(0, scheduler)
    let calls = try await fixture.caller(callers)
    for index in 0..<count { await calls.update(index) }
    guard calls.answers == count * callers else {
      throw SkerryError(.internal, "\(calls.answers) calls were answered, not \(count * callers)")
    }
  }

  static let schedule = MicroCase(
    name: "schedule", help: "where a pod goes among 5,000 nodes", iterations: (20, 100), operations: 1
  ) { count, _ in
    var cluster = Cluster()
    for index in 0..<5_000 {
      cluster.set(
        NodeRecord(
          Object([
            "metadata": ["name": .string("node-\(index)"), "labels": ["zone": .string("z\(index % 3)")]],
            "status": HollowStatus.node("node-\(index)", at: WallTime(seconds: 0)),
          ])))
    }
    var scheduling = Scheduling()
    let random = SeededRandom(seed: 1)
    for index in 0..<count {
      let pod = Object([
        "metadata": ["name": .string("pod-\(index)"), "namespace": "bench", "uid": .string("uid-\(index)")],
        "spec": ["containers": [["name": "main", "image": "hollow"]]],
      ])
      let demand = PodDemand(pod, key: ObjectKey(namespace: "bench", name: "pod-\(index)"))
      guard case .node(let name) = scheduling.decide(demand, cluster, random: random) else {
        throw SkerryError(.internal, "no node fits")
      }
      cluster.place(demand, on: name)
    }
  }
}
