import API
import APIClient
import APIFace
import Base
import EventLoop
import ObjectModel
import Testing
import Transport
import Wire

/// A fake API behind the face, and the client in front of it, over a stream in memory.
@LoopActor struct FaceWorld {
  let api = FakeAPI()
  let service: APIService
  let server: Session
  let session: Session
  let client: APIClient
  /// What the client claims; the face must not care.
  let claimed = Caller(user: "system:admin", groups: ["skerry:admin"], node: nil, origin: .inProcess)

  init(
    user: String = "jane", limits: APIService.Limits = .init(), credit: Int = 65_536
  ) async throws {
    let loop = Loop.startShared()
    let (a, b) = MemoryStream.pair(on: loop)
    var configuration = SessionConfiguration()
    configuration.limits.initialCredit = credit
    session = Session(
      stream: a, role: .client, hello: .null, scheduler: loop, random: SystemRandom(), configuration: configuration)
    server = Session(stream: b, role: .server, hello: .null, scheduler: loop, random: SystemRandom())
    service = APIService(api: api, scheduler: loop, limits: limits)
    service.attach(server, caller: Caller(user: user, groups: [], node: nil, origin: .network))
    server.start()
    session.start()
    client = APIClient(session: session)
    try await session.ready()
  }

  func pod(_ name: String) -> ObjectReference { ObjectReference(resource: "pods", namespace: "default", name: name) }
}

@Suite(.timeLimit(.minutes(1))) struct APIFaceTests {
  @Test func everyCallArrivesAndAnswers() async throws {
    try await onLoop {
      let world = try await FaceWorld()
      let client = world.client
      let created = try await client.create(
        resource: "pods", namespace: "default", object: ["metadata": ["name": "a"], "status": ["phase": "Pending"]],
        caller: world.claimed)
      #expect(created == world.api.objects["pods/default/a"])
      #expect(created.reference == world.pod("a") && created.status == CBOR.encode(["phase": "Pending"]))
      let updated = try await client.update(
        world.pod("a"), object: ["metadata": ["name": "a"]], subresource: "", caller: world.claimed)
      #expect(updated.revision == 2 && updated.status == nil)
      let patched = try await client.patch(
        world.pod("a"), type: .json, patch: [["op": "test"]], subresource: "status", caller: world.claimed)
      let body = try CBOR.decode(patched.body)
      #expect(body["type"] == "application/json-patch+json" && body["patch"] == [["op": "test"]])
      #expect(body["sub"] == "status")
      #expect(try await client.get(world.pod("a"), caller: world.claimed) == patched)
      let results = try await client.batch(
        [
          .create(resource: "pods", namespace: "default", object: ["metadata": ["name": "b"]]),
          .create(resource: "pods", namespace: "default", object: ["metadata": ["name": "a"]]),
          .delete(world.pod("a"), DeleteOptions(gracePeriod: 0)),
        ], caller: world.claimed)
      #expect(try results[0].get().reference.name == "b")
      #expect(throws: APIError(.alreadyExists, "pods \"a\" already exists")) { try results[1].get() }
      #expect(throws: APIError(.badRequest, "only creates")) { try results[2].get() }
      let deleted = try await client.delete(world.pod("a"), options: DeleteOptions(), caller: world.claimed)
      #expect(deleted.revision == 5)
      let error = await #expect(throws: APIError.self) {
        _ = try await client.get(world.pod("a"), caller: world.claimed)
      }
      #expect(error == .notFound("pods", "a"))
      // Who calls is the connection's to say.
      #expect(world.api.callers.map(\.user) == ["jane"])
      world.session.close()
    }
  }

  @Test func listsComeInPagesThroughASmallWindow() async throws {
    try await onLoop {
      let world = try await FaceWorld(credit: 200)
      for number in 0..<500 {
        let name = "p\(String(number + 1_000))"
        world.api.put(world.pod(name), ["spec": ["x": .string(String(repeating: "y", count: 300))]])
      }
      var names: [String] = []
      var options = ListOptions(resource: "pods", limit: 120)
      repeat {
        let page = try await world.client.list(options, caller: world.claimed)
        #expect(page.revision == 500)
        names += page.items.map(\.reference.name)
        options.continuation = page.continuation
      } while !options.continuation.isEmpty
      #expect(names == (0..<500).map { "p\(String($0 + 1_000))" })
      world.session.close()
    }
  }

  @Test func aWatchDeliversAndFollows() async throws {
    try await onLoop {
      let world = try await FaceWorld()
      world.api.put(world.pod("a"), [:])
      let cursor = try await world.client.watch(WatchOptions(resource: "pods", after: 0), caller: world.claimed)
      let puller = Puller(cursor)
      var events = try await puller.take(1)
      world.api.put(world.pod("a"), ["spec": 1])
      _ = try await world.api.delete(world.pod("a"), options: DeleteOptions(), caller: world.claimed)
      events += try await puller.take(2)
      #expect(events.map(\.kind) == [.added, .modified, .deleted])
      #expect(events.map(\.position) == [1, 2, 3])
      #expect(cursor.position == 3)
      cursor.cancel()
      try await world.api.watched.wait(for: "the end of the watch") { world.api.cursors.isEmpty }
      world.session.close()
    }
  }

  @Test func aWatcherThatDoesNotReadIsACursorThatLags() async throws {
    try await onLoop {
      let world = try await FaceWorld(credit: 10_000)
      let cursor = try await world.client.watch(WatchOptions(resource: "pods", after: 0), caller: world.claimed)
      for number in 0..<5_000 {
        world.api.put(
          world.pod("p"), ["spec": .string(String(repeating: "y", count: 1_000)), "n": .int(Int64(number))])
      }
      try await world.api.watched.wait(for: "a pull") { world.api.cursors[0].pulled > 0 }
      // Calls on the same session go by, and whatever else the watch would send meanwhile.
      for _ in 0..<10 { _ = try await world.client.get(world.pod("p"), caller: world.claimed) }
      // Ten messages of credit and one batch; the rest stays in the log.
      #expect(world.api.cursors[0].pulled <= 60)
      #expect(world.server.pendingBytes < 100_000)
      var positions: [UInt64] = []
      let puller = Puller(cursor)
      while positions.count < 5_000 { positions += try await puller.next(limit: 64).map(\.position) }
      #expect(positions == Array(1...5_000))
      world.session.close()
    }
  }

  @Test func refusalsOfAWatchAreThrownByWatchAndTooOldByNext() async throws {
    try await onLoop {
      let stranger = try await FaceWorld(user: "nobody")
      let error = await #expect(throws: APIError.self) {
        _ = try await stranger.client.watch(WatchOptions(resource: "pods", after: 0), caller: stranger.claimed)
      }
      #expect(error?.reason == .forbidden && error?.message.contains("\"nobody\" cannot watch") == true)
      stranger.session.close()
      let world = try await FaceWorld()
      for _ in 0..<10 { world.api.put(world.pod("a"), [:]) }
      world.api.compacted = 5
      let cursor = try await world.client.watch(WatchOptions(resource: "pods", after: 2), caller: world.claimed)
      let caught = try await Puller(cursor).failure()
      #expect(caught == APIError(.expired, "too old resource version: 2 (5)"))
      #expect(try cursor.next(limit: 10).isEmpty)
      world.session.close()
    }
  }

  @Test func quietWatchesHearTheirPosition() async throws {
    try await onLoop {
      var limits = APIService.Limits()
      limits.bookmarkInterval = .milliseconds(5)
      let world = try await FaceWorld(limits: limits)
      let cursor = try await world.client.watch(WatchOptions(resource: "pods", after: 0), caller: world.claimed)
      for _ in 0..<3 { world.api.put(ObjectReference(resource: "nodes", name: "n1"), [:]) }
      let events = try await Puller(cursor).next(limit: 10)
      #expect(events.map(\.kind) == [.bookmark] && events[0].position == 3 && events[0].object == nil)
      world.session.close()
    }
  }

  @Test func connectCarriesMessagesBothWaysAndAnAnswer() async throws {
    try await onLoop {
      let world = try await FaceWorld()
      let answer = try await world.client.connect(
        world.pod("a"), subresource: "status", options: ["x": 1], stream: nil, caller: world.claimed)
      #expect(answer == ["options": ["x": 1], "name": "a"])
      let half = ScriptedStream((0..<50).map { Bytes(repeating: UInt8($0), count: 5_000) })
      let count = try await world.client.connect(
        world.pod("a"), subresource: "echo", options: .null, stream: half, caller: world.claimed)
      #expect(count == 50)
      #expect(half.sent == half.script)
      world.session.close()
    }
  }

  @Test func malformedCallsAreRefusedByTheParam() async throws {
    try await onLoop {
      let world = try await FaceWorld()
      func refusal(_ method: String, _ params: Value) async -> CallError? {
        await #expect(throws: CallError.self) {
          _ = try await world.session.call(method: method, params: params, deadline: .seconds(10))
        }
      }
      let missing = await refusal("get", ["resource": "pods"])
      #expect(missing == CallError(reason: "BadRequest", message: "get: the param name is missing"))
      let unknown = await refusal("list", ["resource": "pods", "selector": "a=b"])
      #expect(unknown?.message == "list: unknown params selector")
      let wrong = await refusal("watch", ["resource": "pods", "after": "7"])
      #expect(wrong?.message == "watch: the param after must be an integer")
      let noMap = await refusal("create", 7)
      #expect(noMap?.message == "create: the params are no map")
      let other = await refusal("proxy", [:])
      #expect(other?.reason == CallError.unknownMethod)
      world.session.close()
    }
  }

  @Test func watchesOfASessionAreBounded() async throws {
    try await onLoop {
      var limits = APIService.Limits()
      limits.watchesPerSession = 2
      let world = try await FaceWorld(limits: limits)
      let options = WatchOptions(resource: "pods", after: 0)
      let first = try await world.client.watch(options, caller: world.claimed)
      let second = try await world.client.watch(options, caller: world.claimed)
      let error = await #expect(throws: APIError.self) {
        _ = try await world.client.watch(options, caller: world.claimed)
      }
      #expect(error?.reason == .tooManyRequests)
      first.cancel()
      try await world.api.watched.wait(for: "the end of the first") { world.api.cursors.count == 1 }
      let third = try await world.client.watch(options, caller: world.claimed)
      second.cancel()
      third.cancel()
      world.session.close()
    }
  }
}

/// Says its script and keeps what it is sent.
@LoopActor final class ScriptedStream: DuplexStream {
  let script: [Bytes]
  private var next = 0
  private(set) var sent: [Bytes] = []
  init(_ script: [Bytes]) { self.script = script }
  func receive() async throws(SkerryError) -> Bytes? {
    guard next < script.count else { return nil }
    next += 1
    return script[next - 1]
  }
  func send(_ message: Bytes) async throws(SkerryError) { sent.append(message) }
  func finish() {}
  func reset(_ reason: String) {}
}
