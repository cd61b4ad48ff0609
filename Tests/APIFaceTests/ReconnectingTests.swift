import API
import APIClient
import APIFace
import Base
import EventLoop
import ObjectModel
import Testing
import Transport
import Wire

@Suite(.timeLimit(.minutes(1))) struct ReconnectingTests {
  /// A server that can be lost and reached again.
  @LoopActor final class Server {
    let api = FakeAPI()
    let service: APIService
    var sessions: [Session] = []
    /// The next dials that fail.
    var refusals = 0
    init() { service = APIService(api: api, scheduler: Loop.startShared()) }

    func dial() async throws(SkerryError) -> Session {
      guard refusals == 0 else {
        refusals -= 1
        throw SkerryError(.unavailable, "nobody listens")
      }
      let loop = Loop.startShared()
      let (a, b) = MemoryStream.pair(on: loop)
      let server = Session(stream: b, role: .server, hello: .null, scheduler: loop, random: SystemRandom())
      service.attach(server, caller: Caller(user: "jane", groups: [], node: nil, origin: .network))
      server.start()
      sessions.append(server)
      let client = Session(stream: a, role: .client, hello: .null, scheduler: loop, random: SystemRandom())
      client.start()
      try await client.ready()
      return client
    }

    func client(patience: Duration = .seconds(30)) -> ReconnectingAPIClient {
      ReconnectingAPIClient(
        scheduler: Loop.startShared(), random: SystemRandom(), patience: patience,
        retry: Backoff(base: .milliseconds(1), cap: .milliseconds(5))
      ) { () throws(SkerryError) in try await self.dial() }
    }
  }

  let caller = Caller.controller("test")
  func pod(_ name: String) -> ObjectReference { ObjectReference(resource: "pods", namespace: "default", name: name) }

  @Test func aWatchResumesOverLostConnectionsWithoutGapOrRepeat() async throws {
    try await onLoop {
      let server = Server()
      let client = server.client()
      let cursor = try await client.watch(WatchOptions(resource: "pods", after: 0), caller: caller)
      let puller = Puller(cursor)
      var positions: [UInt64] = []
      for round in 1...20 {
        for _ in 0..<50 { server.api.put(pod("a"), ["n": .int(Int64(positions.count))]) }
        server.refusals = round % 3
        // Lost at once, with events on their way and events that nobody pulled yet.
        if round.isMultiple(of: 2) { positions += try cursor.next(limit: 7).map(\.position) }
        server.sessions.last?.close(GoAway.shutdown)
        while positions.count < round * 50 { positions += try await puller.next(limit: 7).map(\.position) }
      }
      #expect(positions == Array(1...1_000))
      #expect(client.connections >= 15)
      client.close()
    }
  }

  @Test func aWatchFromNothingListsThenFollows() async throws {
    try await onLoop {
      let server = Server()
      for name in ["a", "b", "c"] { server.api.put(pod(name), [:]) }
      let client = server.client()
      let cursor = try await client.watch(WatchOptions(resource: "pods", after: nil), caller: caller)
      server.api.put(pod("d"), [:])
      let events = try await Puller(cursor).take(5, limit: 2)
      #expect(events.map(\.kind) == [.added, .added, .added, .bookmark, .added])
      #expect(events.map(\.position) == [0, 0, 0, 3, 4])
      client.close()
    }
  }

  @Test func readsAreAskedAgainAndTheCompactedIsHeard() async throws {
    try await onLoop {
      let server = Server()
      server.api.put(pod("a"), [:])
      let client = server.client()
      #expect(try await client.get(pod("a"), caller: caller).revision == 1)
      let cursor = try await client.watch(WatchOptions(resource: "pods", after: 1), caller: caller)
      server.refusals = 3
      server.sessions.last?.close()
      #expect(try await client.list(ListOptions(resource: "pods"), caller: caller).items.count == 1)
      #expect(client.connections == 2)
      server.sessions.last?.close()
      server.api.compacted = 9
      let caught = try await Puller(cursor).failure()
      #expect(caught.reason == .expired)
      client.close()
    }
  }

  /// Sessions that somebody else keeps: calls wait for one without a bound, and watches go on with the next.
  @Test func sessionsThatAreHandedOverAreUsed() async throws {
    try await onLoop {
      let server = Server()
      let client = ReconnectingAPIClient(
        scheduler: Loop.startShared(), random: SystemRandom(), patience: nil,
        retry: Backoff(base: .milliseconds(1), cap: .milliseconds(5)))
      server.api.put(pod("a"), [:])
      let early = spawnThrowing { try await client.get(pod("a"), caller: caller) }
      client.link(try await server.dial())
      #expect(try await early.value.revision == 1)
      let puller = Puller(try await client.watch(WatchOptions(resource: "pods", after: 0), caller: caller))
      #expect(try await puller.take(1).map(\.position) == [1])
      server.sessions.last?.close()
      client.link(nil)
      server.api.put(pod("b"), [:])
      client.link(try await server.dial())
      #expect(try await puller.take(1).map(\.position) == [2])
      #expect(client.connections == 2)
      // The end is heard by those that wait, those that come, and the watches.
      client.link(nil)
      server.sessions.last?.close()
      let late = spawnThrowing { try await client.get(pod("a"), caller: caller) }
      client.close()
      let error = await #expect(throws: APIError.self) { try await late.value }
      #expect(error?.message == "the client was closed")
      #expect(try await puller.failure().reason == .serviceUnavailable)
    }
  }

  @Test func whoCannotConnectHearsWhyAfterTheDeadline() async throws {
    try await onLoop {
      let server = Server()
      server.refusals = .max
      let client = server.client(patience: .milliseconds(30))
      let error = await #expect(throws: APIError.self) { _ = try await client.get(pod("a"), caller: caller) }
      #expect(error?.reason == .serviceUnavailable)
      #expect(error?.message.contains("nobody listens") == true)
      client.close()
    }
  }
}
