import Base
import DeviceSDK
import DeviceServices
import EventLoop
import Testing
import Transport
import Wire

@Suite(.timeLimit(.minutes(1))) struct ReadingExportTests {
  /// edgecore's end of a session whose other end serves the export.
  @LoopActor private static func session(_ store: ReadingStore) async throws -> Session {
    let loop = Loop.startShared()
    let export = ReadingExport(store: store, logger: quietLogger())
    let (near, far) = MemoryStream.pair(on: loop)
    let server = Session(stream: far, role: .client, hello: [:], scheduler: loop, random: SystemRandom())
    server.onStream = { if !export.serve($0) { $0.reset("unknown") } }
    let client = Session(stream: near, role: .server, hello: [:], scheduler: loop, random: SystemRandom())
    client.start()
    server.start()
    try await client.ready()
    return client
  }

  @LoopActor private static func next(_ stream: SessionStream) async throws -> Value {
    try CBOR.decode(try #require(try await stream.receive()))
  }

  @Test func pullsFollowTheLogAndAcknowledgementsLast() async throws {
    let directory = Directory()
    let path = directory.file
    try await onLoop {
      let loop = Loop.startShared()
      let store = try ReadingStore(path: path, scheduler: loop, random: SeededRandom(seed: 5))
      try await store.append(ReadingLog.Batch(readings: readings(1...5)))
      let session = try await Self.session(store)
      let stream = session.open(method: ReadingExport.pull, params: ["after": 0, "limit": 3])
      let first = try await Self.next(stream)
      #expect(first["a"] == 0 && first["t"] == 3)
      #expect(first["r"][0] == [1, "default/d", "counter", "uint16", "1", "Good", 1000])
      #expect(try await Self.next(stream)["t"] == 5)
      // It waits, and goes on when there is more.
      spawnThrowing { try await store.append(ReadingLog.Batch(readings: readings(6...6))) }
      let later = try await Self.next(stream)
      #expect(later["a"] == 5 && later["t"] == 6 && later["i"] == first["i"])
      stream.reset("enough")
      let incarnation = first["i"]
      _ = try await session.call(
        method: ReadingExport.acknowledge, params: ["i": incarnation, "t": 4], deadline: .seconds(5))
      let listed = try await session.call(method: ReadingExport.incarnations, params: [:], deadline: .seconds(5))
      #expect(listed["incarnations"][0] == ["i": incarnation, "exported": 4, "last": 6])
      let again = session.open(method: ReadingExport.pull, params: [:])
      #expect(try await Self.next(again)["a"] == 4)
      let positioned = session.open(method: ReadingExport.pull, params: ["incarnation": incarnation, "after": 5])
      #expect(try await Self.next(positioned)["a"] == 5)
      session.close()
      await store.close()
    }
  }

  @Test func badRequestsAreRefusedInWords() async throws {
    let directory = Directory()
    let path = directory.file
    try await onLoop {
      let store = try ReadingStore(path: path, scheduler: Loop.startShared(), random: SeededRandom(seed: 5))
      let session = try await Self.session(store)
      let unknown = String(repeating: "ab", count: 16)
      for (method, params, reason) in [
        (ReadingExport.pull, ["incarnation": .string(unknown), "after": 3], "NotFound"),
        (ReadingExport.pull, ["incarnation": "xyz"], "BadRequest"),
        (ReadingExport.acknowledge, ["i": 3], "BadRequest"),
      ] as [(String, Value, String)] {
        let error = await #expect(throws: CallError.self) {
          _ = try await session.call(method: method, params: params, deadline: .seconds(5))
        }
        #expect(
          error?.reason == reason && error?.message.isEmpty == false,
          "\(method) \(params): \(String(describing: error))")
      }
      session.close()
      await store.close()
    }
  }
}
