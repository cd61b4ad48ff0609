import Base
import DeviceSDK
import DeviceServices
import EventLoop
import Testing

@Suite struct ReadingStoreTests {
  @Test func appendsGroupAndWatchersHear() async throws {
    let directory = Directory()
    let path = directory.file
    let (commits, numbers) = try await onLoop { () async throws -> (Int, [UInt64]) in
      let store = try ReadingStore(path: path, scheduler: Loop.startShared(), random: SeededRandom(seed: 1))
      let counter = Counter()
      let watcher = store.watch { counter.add() }
      let tasks = (1...50).map { index in
        spawnThrowing { try await store.append(ReadingLog.Batch(readings: readings(Int64(index)...Int64(index)))) }
      }
      for task in tasks { try await task.value }
      store.unwatch(watcher)
      let page = try await store.perform { log throws(SkerryError) in
        try log.page(incarnation: nil, after: 0, limit: 100)
      }
      await store.close()
      return (Int(counter.current), page?.readings.map(\.number) ?? [])
    }
    #expect(numbers == Array(1...50))
    #expect(commits >= 1 && commits < 50, "50 appends took \(commits) commits")
  }

  @Test func aClosedStoreRefuses() async throws {
    let directory = Directory()
    let path = directory.file
    try await onLoop {
      let store = try ReadingStore(path: path, scheduler: Loop.startShared(), random: SeededRandom(seed: 1))
      await store.close()
      do throws(SkerryError) {
        try await store.append(ReadingLog.Batch(readings: []))
        Issue.record("a closed store took a reading")
      } catch {
        #expect(error.code == .closed)
      }
      // The file is free again.
      let again = try ReadingStore(path: path, scheduler: Loop.startShared(), random: SeededRandom(seed: 2))
      await again.close()
    }
  }
}
