import Base
import CloudHub
import EdgeAgent
import EventLoop
import FaultVFS
import Glibc
import Sync
import Testing
import Wire

/// Every store of the daemons under power cuts at random writes. What it told somebody before is there afterwards.
@Suite struct PowerCutTests {
  /// How many times as many seeds as `make test` takes.
  private static var rounds: UInt64 { number("POWER_CUT_ROUNDS") ?? 1 }
  /// The first seed: to see one again that found something.
  private static var first: UInt64 { number("POWER_CUT_FIRST") ?? 1 }

  /// Whether a finding comes with what the disk did.
  private static var traces: Bool { getenv("POWER_CUT_TRACE") != nil }

  private static func number(_ variable: String) -> UInt64? {
    getenv(variable).flatMap { UInt64(String(cString: $0)) }
  }

  /// Runs a trial for each seed until each disk lost power `cuts` times.
  private func run(
    _ store: String, _ count: UInt64, cuts: Int, _ make: @escaping @LoopActor @Sendable (UInt64) -> any Trial
  ) async throws {
    var total = 0
    let seeds = Self.first...Self.first + count * Self.rounds - 1
    for seed in seeds {
      let (finding, count) = try await onLoop { () async -> (String?, Int) in
        let trial = make(seed)
        if Self.traces { trial.disk.startTrace() }
        let finding = await trial.run(cuts: cuts)
        if finding != nil { for line in trial.disk.trace { print(line) } }
        return (finding, trial.total)
      }
      if let finding { Issue.record("seed \(seed) \(finding)") }
      total += count
    }
    // `make power-cuts` sums these lines up.
    print("simulated power cuts of \(store): \(seeds.count * cuts), each with a full check; \(total) acknowledged")
    #expect(total > 5 * cuts, "the stores hardly wrote anything")
  }

  @Test func leadersKeepTheirRevisions() async throws {
    try await run("a cloud's object log", 8, cuts: 40) { LeaderTrial(seed: $0) }
  }

  @Test func replicasKeepTheirPosition() async throws {
    try await run("a node's replica", 4, cuts: 40) { FollowerTrial(seed: $0) }
  }

  @Test func outboxesKeepTheirEntries() async throws {
    try await run("a node's outbox", 6, cuts: 40) { OutboxTrial(seed: $0) }
  }

  @Test func theCloudKeepsItsReadings() async throws {
    try await run("a cloud's readings", 6, cuts: 40) { CloudReadingsTrial(seed: $0) }
  }

  @Test func devicesKeepTheirReadings() async throws {
    try await run("a device store", 6, cuts: 40) { DeviceReadingsTrial(seed: $0) }
  }

  /// Each trial can fail: where syncs are ignored it finds a loss within a few seeds.
  @Test func ignoredSyncsAreFound() async throws {
    let makers: [@LoopActor @Sendable (UInt64) -> any Trial] = [
      { LeaderTrial(seed: $0) }, { FollowerTrial(seed: $0) }, { OutboxTrial(seed: $0) },
      { CloudReadingsTrial(seed: $0) }, { DeviceReadingsTrial(seed: $0) },
    ]
    for (index, make) in makers.enumerated() {
      var found: String?
      for seed in 1...10 as ClosedRange<UInt64> where found == nil {
        found = try await onLoop { () async -> String? in
          let trial = make(seed)
          trial.disk.faults.ignoresSyncs = true
          return await trial.run(cuts: 10)
        }
      }
      #expect(found != nil, "trial \(index) lost nothing")
    }
  }
}

/// What a store leaves on its disk while it runs.
@Suite struct WriteAheadLogTests {
  /// Neither the outbox nor the cloud's readings ever copied their WAL into the database while the daemon ran: it grew
  /// until the disk was full.
  @Test func stayShortWhileTheStoreRuns() async throws {
    try await onLoop {
      let disk = DiskImage(random: SeededRandom(seed: 1))
      let outbox = try Outbox(
        path: "/outbox.db", vfs: disk.vfs, random: SeededRandom(seed: 2), logger: quiet, driver: TurnDriver())
      let readings = try ReadingsStore(
        path: "/readings.db", vfs: disk.vfs, isPlaced: { _, _ in true }, metrics: Metrics(), logger: quiet,
        driver: TurnDriver())
      let incarnation = try #require(Incarnation(Bytes(repeating: 1, count: 16)))
      let text = String(repeating: "x", count: 3000)
      for round in 1...200 as ClosedRange<UInt64> {
        for _ in 0..<15 { outbox.append(.events, .event(namespace: "default", object: .string(text))) }
        _ = await settle { outbox.incarnations(.events).first?.last == 15 * round }
        let entries = (15 * round - 14...15 * round).map { number in
          let reading = Reading(
            number: 0, device: "default/d", property: "p", type: "STRING", value: text, quality: "Good", time: 1)
          return LaneEntry(number: number, payload: CBOR.encode(reading.encoded))
        }
        try await readings.apply(
          LaneBatch(incarnation: incarnation, after: 15 * round - 15, through: 15 * round, entries: entries),
          node: "n", lane: .readings)
      }
      #expect(outbox.incarnations(.events).first?.last == 3000)
      for path in ["/outbox.db-wal", "/readings.db-wal"] {
        let bytes = try #require(disk.read(path)?.count)
        #expect(bytes < 6 << 20, "\(path) has \(bytes) bytes")
      }
    }
  }
}
