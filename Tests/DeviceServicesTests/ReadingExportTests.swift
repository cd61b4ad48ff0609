import Base
import DeviceSDK
import DeviceServices
import EventLoop
import Sync
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

  /// The next batch as the readings lane carries it.
  @LoopActor private static func next(_ stream: SessionStream) async throws -> PackedReadings {
    let message = try LaneMessage.decode(try #require(try await stream.receive()))
    guard case .readings(let packed) = message else { throw SkerryError(.protocolViolation, "\(message)") }
    return packed
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
      var table = SeriesTable()
      let batch = try table.unpack(first)
      #expect(batch.after == 0 && batch.through == 3)
      #expect(
        batch.readings.first
          == Sync.Reading(
            number: 1, device: "default/d", property: "counter", type: "uint16", value: "1", quality: "Good",
            time: 1000))
      let second = try await Self.next(stream)
      // A series is named once.
      #expect(second.names.isEmpty && second.after == 3)
      #expect(try table.unpack(second).through == 5)
      // It waits, and goes on when there is more.
      spawnThrowing { try await store.append(ReadingLog.Batch(readings: readings(6...6))) }
      let later = try await Self.next(stream)
      #expect(later.after == 5 && later.incarnation == first.incarnation)
      #expect(try table.unpack(later).through == 6)
      stream.reset("enough")
      let incarnation: Value = .string(first.incarnation.description)
      let answer = try await session.call(
        method: ReadingExport.acknowledge, params: ["i": incarnation, "t": 4], deadline: .seconds(5))
      #expect(answer["waiting"] == 2)
      let listed = try await session.call(method: ReadingExport.incarnations, params: [:], deadline: .seconds(5))
      #expect(listed["incarnations"][0] == ["i": incarnation, "exported": 4, "last": 6])
      let again = session.open(method: ReadingExport.pull, params: [:])
      #expect(try await Self.next(again).after == 4)
      let positioned = session.open(method: ReadingExport.pull, params: ["incarnation": incarnation, "after": 5])
      #expect(try await Self.next(positioned).after == 5)
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
