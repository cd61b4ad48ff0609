import Base
import CloudHub
import EventLoop
import Logging
import Sync
import Testing
import Wire

@Suite struct ReadingsStoreTests {
  @LoopActor private func withStore(_ body: @LoopActor (ReadingsStore, Metrics) async throws -> Void) async throws {
    _ = Loop.startShared()
    let directory = "/tmp/skerry-readings-\(SystemRandom().bytes(8).hex)"
    try Files.makeDirectory(directory)
    defer { try? Files.removeTree(directory) }
    let metrics = Metrics()
    let store = try ReadingsStore(
      path: "\(directory)/readings.db", isPlaced: { device, node in device.hasSuffix("@\(node)") }, metrics: metrics,
      logger: Logger(label: "test"))
    defer { store.close() }
    try await body(store, metrics)
  }

  private func incarnation(_ byte: UInt8) throws -> Incarnation {
    try #require(Incarnation(Bytes(repeating: byte, count: 16)))
  }

  private func readings(_ id: Incarnation, after: UInt64, through: UInt64, device: String) -> LaneBatch {
    let entries = ((after + 1)...through).map { number in
      let reading = Reading(
        number: number, device: device, property: "p", type: "INT", value: "\(number)", quality: "Good", time: 1)
      return LaneEntry(number: number, payload: CBOR.encode(reading.encoded))
    }
    return LaneBatch(incarnation: id, after: after, through: through, entries: entries)
  }

  private func gap(_ id: Incarnation, from: UInt64, to: UInt64) -> LaneBatch {
    let lost = LanePayload.dropped(from: from, to: to, count: to - from + 1).encode()
    return LaneBatch(
      incarnation: id, after: from - 1, through: to, entries: [LaneEntry(number: to, payload: lost)])
  }

  @Test func whatANodeLetGoIsAGapOfItsSeries() async throws {
    try await onLoop {
      try await withStore { store, metrics in
        let id = try incarnation(1)
        try await store.apply(readings(id, after: 0, through: 3, device: "a/d@n1"), node: "n1", lane: .readings)
        // Two runs without a reading in between are one gap.
        try await store.apply(gap(id, from: 4, to: 10), node: "n1", lane: .readings)
        try await store.apply(gap(id, from: 11, to: 12), node: "n1", lane: .readings)
        try await store.apply(readings(id, after: 12, through: 14, device: "a/d@n1"), node: "n1", lane: .readings)
        #expect(try store.cursor(node: "n1", lane: .readings, incarnation: id) == 14)
        #expect(
          try store.page(device: "a/d@n1", property: nil, after: 0, limit: 9).map(\.value) == [
            "1", "2", "3", "13", "14",
          ])
        let gaps = try store.gaps(device: "a/d@n1", after: 0, through: .max)
        #expect(gaps == [.init(id: 1, place: 3, node: "n1", from: 4, to: 12, count: 9)])
        // It belongs to the page that holds the readings around it, and to devices of that node alone.
        #expect(try store.gaps(device: "a/d@n1", after: 0, through: 3).isEmpty)
        #expect(try store.gaps(device: "a/d@n1", after: 3, through: 5).count == 1)
        #expect(try store.gaps(device: "a/e@n2", after: 0, through: .max).isEmpty)
        #expect(metrics.text().contains("skerry_readings_let_go_total 9"))
      }
    }
  }

  @Test func gapsAreBounded() async throws {
    try await onLoop {
      try await withStore { store, _ in
        let id = try incarnation(2)
        // Every second number is let go, so that no two gaps are one.
        let count = UInt64(ReadingsStore.maxGaps) + 20
        var entries: [LaneEntry] = []
        for number in 1...count {
          let lost = LanePayload.dropped(from: number * 2, to: number * 2, count: 1).encode()
          entries.append(LaneEntry(number: number, payload: lost))
        }
        try await store.apply(
          LaneBatch(incarnation: id, after: 0, through: count, entries: entries), node: "n1", lane: .readings)
        let gaps = try store.gaps(device: "a/d@n1", after: 0, through: .max)
        #expect(gaps.count == Int(ReadingsStore.maxGaps))
        #expect(gaps.last?.to == count * 2)
      }
    }
  }

  @Test func aRestoredDeviceStoreIsNotTakenTwice() async throws {
    try await onLoop {
      try await withStore { store, _ in
        let (old, new) = (try incarnation(3), try incarnation(4))
        try await store.apply(readings(old, after: 0, through: 5, device: "a/d@n1"), node: "n1", lane: .readings)
        store.keepOnly([new], node: "n1", lane: .readings)
        try await store.apply(readings(new, after: 0, through: 1, device: "a/d@n1"), node: "n1", lane: .readings)
        #expect(try store.cursor(node: "n1", lane: .readings, incarnation: old) == 5)
        // More incarnations end than are remembered.
        for number in 0...LaneSink.maxClosedCursors {
          var bytes: Bytes = []
          for _ in 0..<2 { bytes.append(bigEndian: UInt64(number + 1_000)) }
          let next = try #require(Incarnation(bytes))
          try await store.apply(readings(next, after: 0, through: 1, device: "a/d@n1"), node: "n1", lane: .readings)
          store.keepOnly([new], node: "n1", lane: .readings)
        }
        try await store.apply(readings(new, after: 1, through: 2, device: "a/d@n1"), node: "n1", lane: .readings)
        #expect(try store.cursor(node: "n1", lane: .readings, incarnation: old) == 0)
        #expect(try store.cursor(node: "n1", lane: .readings, incarnation: new) == 2)
      }
    }
  }

  @Test func aRestoredBackupTakesReadingsAgainFromItsOwnCursorAndReusesNoNumber() async throws {
    try await onLoop {
      _ = Loop.startShared()
      let directory = "/tmp/skerry-readings-\(SystemRandom().bytes(8).hex)"
      try Files.makeDirectory(directory)
      defer { try? Files.removeTree(directory) }
      let (path, copy) = ("\(directory)/readings.db", "\(directory)/copy")
      @LoopActor func open() throws -> ReadingsStore {
        try ReadingsStore(
          path: path, isPlaced: { _, _ in true }, metrics: Metrics(), logger: Logger(label: "test"))
      }
      let id = try incarnation(7)
      // In a function of its own, so that the file is let go at its end.
      @LoopActor func fill() async throws {
        let store = try open()
        try await store.apply(readings(id, after: 0, through: 3, device: "a/d"), node: "n1", lane: .readings)
        #expect(try ReadingsArchive.backup(from: path, to: copy) == 3)
        try await store.apply(readings(id, after: 3, through: 5, device: "a/d"), node: "n1", lane: .readings)
        #expect(throws: SkerryError.self) { try ReadingsArchive.restore(from: copy, to: path) }
        store.close()
      }
      try await fill()
      #expect(try ReadingsArchive.restore(from: copy, to: path) == 3)
      let store = try open()
      #expect(try store.cursor(node: "n1", lane: .readings, incarnation: id) == 3)
      // The node still has the fifth; the fourth is gone.
      try await store.apply(gap(id, from: 4, to: 4), node: "n1", lane: .readings)
      try await store.apply(readings(id, after: 4, through: 5, device: "a/d"), node: "n1", lane: .readings)
      let page = try store.page(device: "a/d", property: nil, after: 0, limit: 10)
      #expect(page.map(\.value) == ["1", "2", "3", "5"])
      #expect(page.last?.number == UInt64(ReadingsArchive.jump) + 6)
      #expect(try store.gaps(device: "a/d", after: 0, through: .max).map(\.count) == [1])
      store.close()
    }
  }
}
