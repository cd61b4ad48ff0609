import Base
import CloudHub
import EventLoop
import Logging
import Store
import Sync
import Testing
import Wire

/// Readings that came packed, and the files of the time before they lay so.
@Suite struct ReadingBlocksTests {
  /// Runs what is given to it when it is told to.
  private final class Turns: SerialDriver, @unchecked Sendable {
    // Confined to the loop's thread: the reason for `@unchecked Sendable`.
    private(set) var waiting: [@Sendable () -> Void] = []
    private(set) var steps = 0
    func run(_ body: @escaping @Sendable () -> Void) { waiting.append(body) }
    func stop() { turn() }
    func turn() {
      while !waiting.isEmpty {
        steps += 1
        waiting.removeFirst()()
      }
    }
  }

  @LoopActor private final class World {
    let directory = "/tmp/skerry-blocks-\(SystemRandom().bytes(8).hex)"
    let metrics = Metrics()
    var path: String { "\(directory)/readings.db" }
    init() throws {
      _ = Loop.startShared()
      try Files.makeDirectory(directory)
    }
    deinit { try? Files.removeTree(directory) }
    func open(keeping bound: Int64 = 1_000_000, driver: (any SerialDriver)? = nil) throws -> ReadingsStore {
      try ReadingsStore(
        path: path, maxReadings: bound, isPlaced: { device, node in device.hasSuffix("@\(node)") }, metrics: metrics,
        logger: Logger(label: "test"), driver: driver)
    }
  }

  private func incarnation(_ byte: UInt8) throws -> Incarnation {
    try #require(Incarnation(Bytes(repeating: byte, count: 16)))
  }

  /// Readings of two properties in turn, of one device or of several in turn.
  private func packed(
    _ id: Incarnation, after: UInt64, count: Int, devices: [String] = ["a/d@n1"], fault: String = ""
  ) throws -> LaneBatch {
    let names = devices.enumerated().flatMap { place, device in
      ["t", "p"].enumerated().map { number, property in
        SeriesName(series: UInt64(7 + place * 2 + number), device: device, property: property, type: "FLOAT")
      }
    }
    let rows = (0..<count).map { index in
      BlockRow(
        series: names[index % names.count].series, time: Int64(after) * 10 + Int64(index),
        value: .double(Double(after) + Double(index) / 10), fault: index == count - 1 ? fault : "")
    }
    var table = SeriesTable()
    return try table.unpack(
      PackedReadings(incarnation: id, after: after, names: names, block: ReadingBlock.encode(rows)))
  }

  @Test func pagesGoThroughBlocksByDeviceAndProperty() async throws {
    try await onLoop {
      let world = try World()
      let store = try world.open()
      defer { store.close() }
      let id = try incarnation(1)
      var newest: [[Reading]] = []
      store.onStored = { newest.append($0) }
      let devices = ["a/d@n1", "a/e@n1"]
      for round in 0..<5 {
        let batch = try packed(id, after: UInt64(round * 8), count: 8, devices: devices, fault: "broken")
        try await store.apply(batch, node: "n1", lane: .readings)
      }
      #expect(try store.cursor(node: "n1", lane: .readings, incarnation: id) == 40)
      let all = try store.page(device: "a/d@n1", property: nil, after: 0, limit: 100)
      var expected: [UInt64] = []
      for round in 0..<5 as Range<UInt64> {
        for place in [1, 2, 5, 6] as [UInt64] { expected.append(round * 8 + place) }
      }
      #expect(all.map(\.number) == expected)
      #expect(
        all[2]
          == Reading(
            number: 5, device: "a/d@n1", property: "t", type: "FLOAT", value: "0.4", quality: "Good", time: 4))
      // Pages begin and end in the middle of blocks.
      #expect(try store.page(device: "a/d@n1", property: nil, after: 5, limit: 4).map(\.number) == [6, 9, 10, 13])
      #expect(try store.page(device: "a/d@n1", property: nil, after: nil, limit: 3).map(\.number) == [34, 37, 38])
      #expect(try store.page(device: "a/e@n1", property: "p", after: 30, limit: 9).map(\.number) == [32, 36, 40])
      #expect(try store.page(device: "a/e@n1", property: "p", after: 39, limit: 9).map(\.quality) == ["broken"])
      #expect(try store.page(device: "a/e@n1", property: "x", after: 0, limit: 9).isEmpty)
      #expect(try store.page(device: "a/x@n1", property: nil, after: nil, limit: 9).isEmpty)
      // One of each series, the newest that is good.
      #expect(newest.count == 5)
      #expect(newest[0].map(\.device) == ["a/e@n1", "a/d@n1", "a/d@n1", "a/e@n1"])
      #expect(newest[0].map(\.value) == ["0.3", "0.4", "0.5", "0.6"])
    }
  }

  @Test func devicesOfOtherNodesAreLeftOutOfABlock() async throws {
    try await onLoop {
      let world = try World()
      let store = try world.open()
      defer { store.close() }
      let id = try incarnation(2)
      let batch = try packed(id, after: 0, count: 8, devices: ["a/d@n2", "a/e@n1"])
      try await store.apply(batch, node: "n1", lane: .readings)
      try await store.apply(try packed(id, after: 8, count: 4, devices: ["a/d@n2"]), node: "n1", lane: .readings)
      #expect(try store.page(device: "a/d@n2", property: nil, after: 0, limit: 9).isEmpty)
      let kept = try store.page(device: "a/e@n1", property: nil, after: 0, limit: 9)
      #expect(kept.map(\.value) == ["0.2", "0.3", "0.6", "0.7"])
      #expect(kept.map(\.number) == [1, 2, 3, 4])
      // What was refused has been dealt with: the node does not send it again.
      #expect(try store.cursor(node: "n1", lane: .readings, incarnation: id) == 12)
      let text = world.metrics.text()
      #expect(text.contains("skerry_readings_refused_total 8") && text.contains("skerry_readings_stored_total 4"))
    }
  }

  @Test func batchesOfManyNodesShareATransaction() async throws {
    try await onLoop {
      let world = try World()
      let turns = Turns()
      let store = try world.open(driver: turns)
      let id = try incarnation(3)
      var done = 0
      for node in 1...20 {
        let batch = try packed(id, after: 0, count: 4, devices: ["a/d@n\(node)"])
        spawn {
          try? await store.apply(batch, node: "n\(node)", lane: .readings)
          done += 1
        }
      }
      for _ in 0..<100 { await Task.yield() }
      #expect(turns.waiting.count == 1 && done == 0)
      turns.turn()
      for _ in 0..<1000 where done < 20 { await Task.yield() }
      #expect(done == 20 && turns.steps == 1)
      for node in 1...20 {
        #expect(try store.cursor(node: "n\(node)", lane: .readings, incarnation: id) == 4)
        #expect(try store.page(device: "a/d@n\(node)", property: nil, after: 0, limit: 9).count == 4)
      }
      store.close()
    }
  }

  @Test func theOldestBlocksGo() async throws {
    try await onLoop {
      let world = try World()
      let store = try world.open(keeping: 100)
      defer { store.close() }
      let id = try incarnation(4)
      for round in 0..<30 {
        try await store.apply(
          try packed(id, after: UInt64(round * 8), count: 8, devices: ["a/d@n1", "a/e@n1"]), node: "n1",
          lane: .readings)
      }
      for device in ["a/d@n1", "a/e@n1"] {
        let page = try store.page(device: device, property: nil, after: 0, limit: 1000)
        // Twelve whole blocks are at most 100 readings.
        #expect(page.count == 48)
        #expect(page.last?.number == (device == "a/d@n1" ? 238 : 240))
      }
      #expect(try ReadingsArchive.check(path: world.path) == 96)
    }
  }

  @Test func aBlockThatIsNoneStopsTheLaneAndStoresNothing() throws {
    var table = SeriesTable()
    let name = SeriesName(series: 1, device: "a/d", property: "p", type: "INT")
    let block = ReadingBlock.encode([BlockRow(series: 1, time: 1, value: 5)])
    #expect(throws: SkerryError.self) {
      try table.unpack(
        PackedReadings(incarnation: try incarnation(5), after: 0, names: [name], block: Bytes(block.dropLast())))
    }
  }

  /// As the version before blocks made it.
  @LoopActor private func makeOld(_ world: World, readings: Int) throws {
    let old = Schema(
      name: ReadingsArchive.schema.name, applicationID: ReadingsArchive.schema.applicationID,
      migrations: Array(ReadingsArchive.schema.migrations.prefix(2)))
    let file = try StoreFile(path: world.path, schema: old)
    try file.database.execute("INSERT INTO names VALUES (1, 'a/d@n1'), (2, 't')")
    for number in 1...readings {
      try file.database.execute(
        "INSERT INTO readings (device, property, type, value, quality, time) "
          + "VALUES (1, 2, 'INT', 'old \(number)', 'Good', \(number))")
    }
    try file.database.execute("UPDATE total SET count = \(readings)")
    try file.close()
  }

  @Test func readingsOfTheTimeBeforeBlocksStayReadableUntilTheyAreTrimmed() async throws {
    try await onLoop {
      let world = try World()
      try makeOld(world, readings: 6)
      let store = try world.open(keeping: 10)
      let id = try incarnation(6)
      @LoopActor func numbers(_ after: UInt64?, _ limit: Int, _ property: String? = nil) throws -> [UInt64] {
        try store.page(device: "a/d@n1", property: property, after: after, limit: limit).map(\.number)
      }
      #expect(try numbers(0, 9) == [1, 2, 3, 4, 5, 6])
      try await store.apply(try packed(id, after: 0, count: 4), node: "n1", lane: .readings)
      #expect(try numbers(4, 4) == [5, 6, 7, 8])
      #expect(try numbers(nil, 6) == [5, 6, 7, 8, 9, 10])
      #expect(try numbers(nil, 3, "t") == [6, 7, 9])
      #expect(try store.page(device: "a/d@n1", property: nil, after: 5, limit: 1).first?.value == "old 6")
      try await store.apply(try packed(id, after: 4, count: 2), node: "n1", lane: .readings)
      #expect(try numbers(0, 99) == Array(3...12))
      try await store.apply(try packed(id, after: 6, count: 6), node: "n1", lane: .readings)
      try await store.apply(try packed(id, after: 12, count: 2), node: "n1", lane: .readings)
      // Rows are trimmed to the reading, blocks whole.
      #expect(try numbers(0, 99) == Array(11...20))
      store.close()
    }
  }

  @Test func aBackupOfTheTimeBeforeBlocksIsPutBack() async throws {
    try await onLoop {
      let world = try World()
      try makeOld(world, readings: 3)
      let copy = "\(world.directory)/copy"
      #expect(try ReadingsArchive.backup(from: world.path, to: copy) == 3)
      @LoopActor func goOn() async throws {
        let store = try world.open()
        try await store.apply(try packed(try incarnation(7), after: 0, count: 4), node: "n1", lane: .readings)
        store.close()
      }
      try await goOn()
      #expect(try ReadingsArchive.restore(from: copy, to: world.path) == 3)
      let store = try world.open()
      defer { store.close() }
      try await store.apply(try packed(try incarnation(8), after: 0, count: 2), node: "n1", lane: .readings)
      let page = try store.page(device: "a/d@n1", property: nil, after: 0, limit: 9)
      #expect(page.map(\.number).prefix(3) == [1, 2, 3])
      // Behind the newest number of what was replaced too.
      #expect(page.map(\.number).suffix(2) == [UInt64(ReadingsArchive.jump) + 8, UInt64(ReadingsArchive.jump) + 9])
    }
  }

  @Test func singleReadingsArePackedAsTheyAreText() async throws {
    try await onLoop {
      let world = try World()
      let store = try world.open()
      defer { store.close() }
      let id = try incarnation(9)
      let long = String(repeating: "x", count: ReadingBlock.maxText)
      func entry(_ number: UInt64, _ value: String, _ quality: String = "Good") -> LaneEntry {
        let reading = Reading(
          number: number, device: "a/d@n1", property: "p", type: "STRING", value: value, quality: quality, time: 1)
        return LaneEntry(number: number, payload: CBOR.encode(reading.encoded))
      }
      // More text than one block may hold, and one value that none may.
      var entries = (1...400).map { entry($0, "\($0)" + long.dropFirst(4)) }
      entries.append(entry(401, long + "x"))
      entries.append(entry(402, "", "gone"))
      try await store.apply(
        LaneBatch(incarnation: id, after: 0, through: 402, entries: entries), node: "n1", lane: .readings)
      let page = try store.page(device: "a/d@n1", property: nil, after: 0, limit: 1000)
      #expect(page.count == 401)
      #expect(page[399].value == "400" + long.dropFirst(4))
      #expect(page[400].value.isEmpty && page[400].quality == "gone")
      #expect(world.metrics.text().contains("skerry_readings_refused_total 1"))
    }
  }
}
