import Base
import EventLoop
import FaultVFS
import Glibc
import Testing

/// Every store of the daemons under power cuts at random writes. What it told somebody before is there afterwards.
@Suite struct PowerCutTests {
  /// How many times as many seeds as `make test` takes.
  private static var rounds: UInt64 { getenv("POWER_CUT_ROUNDS").flatMap { UInt64(String(cString: $0)) } ?? 1 }

  /// Runs a trial for each seed until each disk lost power `cuts` times.
  private func run(
    _ count: UInt64, cuts: Int, _ make: @escaping @LoopActor @Sendable (UInt64) -> any Trial
  ) async throws {
    var total = 0
    for seed in 1...count * Self.rounds {
      let (finding, count) = try await onLoop { () async -> (String?, Int) in
        let trial = make(seed)
        return (await trial.run(cuts: cuts), trial.total)
      }
      if let finding { Issue.record("seed \(seed) \(finding)") }
      total += count
    }
    #expect(total > 5 * cuts, "the stores hardly wrote anything")
  }

  @Test func leadersKeepTheirRevisions() async throws {
    try await run(8, cuts: 40) { LeaderTrial(seed: $0) }
  }

  @Test func replicasKeepTheirPosition() async throws {
    try await run(4, cuts: 40) { FollowerTrial(seed: $0) }
  }

  @Test func outboxesKeepTheirEntries() async throws {
    try await run(6, cuts: 40) { OutboxTrial(seed: $0) }
  }

  @Test func theCloudKeepsItsReadings() async throws {
    try await run(6, cuts: 40) { CloudReadingsTrial(seed: $0) }
  }

  @Test func devicesKeepTheirReadings() async throws {
    try await run(6, cuts: 40) { DeviceReadingsTrial(seed: $0) }
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
