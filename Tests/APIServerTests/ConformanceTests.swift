import API
import APIConformance
import APIServer
import Base
import CloudHub
import EventLoop
import Logging
import ObjectLog
import ObjectModel
import Testing

/// A server over a log in memory.
@LoopActor final class ServerHarness: APIHarness {
  let log: MemoryObjectLog
  let server: APIServer
  let slices: SliceHub
  let authorizer: HouseAuthorizer
  let metrics = Metrics()

  init(limits: APIServerLimits = APIServerLimits()) async throws {
    let loop = Loop.startShared()
    log = MemoryObjectLog(random: SeededRandom(seed: 1))
    // The node's rule as cloudcore has it.
    slices = SliceHub(
      log: log, anchors: KindRegistry.standard.kinds.map(\.resource), logger: Logger(label: "skerry.test"))
    try slices.start()
    authorizer = HouseAuthorizer(graph: slices, metrics: metrics)
    server = APIServer(
      log: log, authorizer: authorizer, scheduler: loop, random: SystemRandom(), limits: limits, metrics: metrics)
    try await server.bootstrap()
  }

  func api(_ caller: Caller) async throws -> any API { server }
  func compact(through revision: UInt64) throws { log.compact(through: revision) }
}

@Suite struct ServerConformanceTests {
  @Test(.timeLimit(.minutes(1)), arguments: APIConformance.all)
  func serves(_ conformance: APIConformance) async throws {
    try await onLoop { try await conformance.run(try await ServerHarness()) }
  }

  /// The same with rings so short that watches must read the log, and pages so short that lists must go on.
  @Test(.timeLimit(.minutes(1)), arguments: APIConformance.all)
  func servesBeyondItsBuffers(_ conformance: APIConformance) async throws {
    try await onLoop {
      var limits = APIServerLimits()
      limits.tailEntries = 2
      limits.scannedEntries = 3
      try await conformance.run(try await ServerHarness(limits: limits))
    }
  }
}
