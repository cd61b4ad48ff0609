import API
import Base
import EventLoop
import ObjectModel

/// What events for single nodes cost the server, apart from what it does for all its sessions meanwhile.
///
/// Thousands of sessions ping, and that costs the same whether or not anything happens: divided by the events of the
/// same time it would be taken for a cost of theirs, the more so the slower they come.
@LoopActor struct NodeEvents {
  /// Between them a fleet of hollow nodes pings, each time another part of it; a stretch of idle time holds two turns.
  private static let stretch = Duration.seconds(1)
  /// Bookmarks for all watches fall into one of them at most; the median leaves that one out.
  private static let rounds = 5

  let context: BenchContext
  let options: Options
  let recorder: Recorder
  let server: BenchServer
  let fleet: RemoteFleet
  /// Nodes that something happens to, spread over all.
  let concerned: Int

  func run() async throws {
    try await fleet.reset()
    let count = fleet.plan.count
    let idle = try await idleShare()
    let changes = options.int("changes")
    context.progress("churn: \(changes) pods come to single nodes")
    let (whole, api) = (Meter(server.probe, context.scheduler), try await server.api())
    var (made, costs) = (0, [Double]())
    for round in 1...Self.rounds {
      let first = made
      made = changes * round / Self.rounds
      guard made > first else { continue }
      let meter = Meter(server.probe, context.scheduler)
      try await concern(first..<made, api)
      if let used = meter.used, let idle {
        costs.append((Double(used.total) - idle * Double(meter.elapsed.nanosecondCount)) / 1e3 / Double(made - first))
      }
    }
    let name = "CPU of an event for one node with \(count) sessions"
    recorder.result.add(cpu: "\(name), and of idling meanwhile", whole, operations: Double(changes))
    if let idle { recorder.result.add("idle CPU with \(count) sessions", idle * 100, "% of a core") }
    if let cost = Self.median(costs) { recorder.result.add(name, cost, "µs") }
    recorder.result.check(try await fleet.report().tally)
  }

  /// The part of a core that the server uses while nothing happens; nil if its process is not known.
  private func idleShare() async throws -> Double? {
    let time = options.duration("idle")
    context.progress("churn: idle for \(time)")
    var (shares, left) = ([Double](), time)
    while left > .zero, server.probe != nil {
      let meter = Meter(server.probe, context.scheduler)
      try await context.scheduler.sleep(for: min(left, Self.stretch))
      if let used = meter.used { shares.append(Double(used.total) / Double(meter.elapsed.nanosecondCount)) }
      left -= Self.stretch
    }
    return Self.median(shares)
  }

  /// Pods of these numbers come to their nodes; returns when all are told to run.
  private func concern(_ numbers: Range<Int>, _ api: any API) async throws {
    let plan = fleet.plan
    try await Objects.create(
      api, resource: Pod.resource,
      numbers.map { Objects.pod("one-\($0)", node: plan.nodeName(($0 % concerned) * (plan.count / concerned))) })
    let running = try await Objects.wait(context, options.duration("deadline"), each: .milliseconds(20)) {
      try await fleet.report().tally.deliveries >= UInt64(numbers.upperBound)
    }
    guard running else { throw SkerryError(.timeout, "the pods of single nodes do not run") }
  }

  private static func median(_ values: [Double]) -> Double? {
    var figure = Figure("", "", .neither)
    figure.values = values
    return values.isEmpty ? nil : figure.median
  }
}
