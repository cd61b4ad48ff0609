import Base
import EventLoop
import Glibc
import ObjectLog
import ObjectLogConformance
import Store
import Testing

@LoopActor private final class MemoryHarness: LogHarness {
  func leader(_ limits: LogLimits) throws -> any ObjectLog {
    MemoryObjectLog(random: SeededRandom(seed: 1), limits: limits)
  }
  func follower(_ limits: LogLimits) throws -> any ObjectLog {
    MemoryObjectLog(role: .follower, random: SeededRandom(seed: 2), limits: limits)
  }
}

@LoopActor private final class SQLiteHarness: LogHarness {
  private let directory: TemporaryDirectory
  private let scheduler: any Scheduler
  private var logs: [SQLiteObjectLog] = []

  init(_ directory: TemporaryDirectory, _ scheduler: any Scheduler) {
    self.directory = directory
    self.scheduler = scheduler
  }

  func leader(_ limits: LogLimits) throws -> any ObjectLog { try open(.leader, limits) }
  func follower(_ limits: LogLimits) throws -> any ObjectLog { try open(.follower, limits) }

  private func open(_ role: LogRole, _ limits: LogLimits) throws -> SQLiteObjectLog {
    let path = directory.path + "/\(logs.count).db"
    let log = try SQLiteObjectLog.open(
      SQLiteObjectLog.Configuration(path: path, role: role, limits: limits), scheduler: scheduler,
      random: SeededRandom(seed: 3))
    logs.append(log)
    return log
  }

  /// Closes the logs and checks what they left, byte by byte.
  func finish() async throws {
    for (index, log) in logs.enumerated() {
      try await log.close()
      _ = try LogCheck.run(path: directory.path + "/\(index).db")
    }
  }
}

@Suite struct ConformanceTests {
  @Test(arguments: LogConformance.all) func memory(_ suite: LogConformance) async throws {
    try await onLoop { try await suite.run(MemoryHarness()) }
  }

  @Test(arguments: LogConformance.all) func sqlite(_ suite: LogConformance) async throws {
    let directory = try TemporaryDirectory()
    try await onLoop {
      let harness = SQLiteHarness(directory, testScheduler())
      try await suite.run(harness)
      try await harness.finish()
    }
  }
}
