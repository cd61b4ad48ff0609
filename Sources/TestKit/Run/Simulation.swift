import Base
import EventLoop

/// What one seed led to.
package struct RunResult: Sendable {
  package var seed: UInt64
  package var edges: Int
  package var steps: UInt64 = 0
  package var virtualSeconds: Double = 0
  package var workSeconds: Double = 0
  package var faults: [String: UInt64] = [:]
  package var checks: [String: UInt64] = [:]
  package var transitions: [String: UInt64] = [:]
  package var counts: [String: UInt64] = [:]
  package var violations: [Violation] = []
  /// The running hash of everything that happened.
  package var digest: UInt64 = 0

  /// A violation of the promise that the defect breaks.
  func finds(_ defect: Defect) -> Bool { violations.contains { $0.promise == defect.breaks } }
}

/// Runs whole seeds, one after the other, on this process's simulated executor.
package struct Simulation {
  /// Virtual time that a calm cluster may take until desired equals actual.
  package static let settling: Duration = .seconds(600)
  /// Steps after which a run counts as stuck.
  static let maxSteps: UInt64 = 60_000_000

  private let executor: SimExecutor
  let authority: SimAuthority
  let directory: String

  package init(directory: String) throws(SkerryError) {
    executor = SimExecutor.install()
    authority = try LoopActor.entered { () -> Result<SimAuthority, SkerryError> in
      do throws(SkerryError) { return .success(try SimAuthority()) } catch { return .failure(error) }
    }.get()
    self.directory = directory
  }

  package func run(seed: UInt64, planted: Defect? = nil, isSmall: Bool = false, prints: Bool = false) -> RunResult {
    let place = "\(directory)/\(seed)"
    let world = LoopActor.entered {
      SimWorld(
        seed: seed, authority: authority, directory: place, planted: planted, isSmall: isSmall, prints: prints)
    }
    let before = executor.jobs
    advance(world, until: .zero) { await world.begin() }
    let duration = world.knobs.duration
    advance(world, until: duration) {}
    let worked = world.time.now
    advance(world, until: .zero) { await world.calm() }
    let end = world.time.now + UInt64(Self.settling.nanosecondCount)
    var report = ""
    while world.time.now < end {
      advance(world, until: .seconds(5)) {}
      report = LoopActor.entered { Convergence(world).difference() }
      if report.isEmpty { break }
      if LoopActor.entered({ !world.judge.violations.isEmpty }) { break }
    }
    return LoopActor.entered {
      Convergence(world).conclude(report)
      var result = RunResult(seed: seed, edges: world.knobs.edges)
      result.steps = world.time.steps + executor.jobs - before
      result.virtualSeconds = Double(world.time.now) / 1e9
      result.workSeconds = Double(worked) / 1e9
      for (kind, count) in world.faults.counts { result.faults[kind.rawValue] = UInt64(count) }
      for (promise, count) in world.judge.checks { result.checks[promise.rawValue] = count }
      for (step, count) in world.transitions { result.transitions[step.rawValue] = count }
      result.counts = world.counts
      result.counts["readings"] = world.ledger.readings
      result.counts["acknowledged writes"] = world.workload.writes
      result.counts["watch events"] = world.watches.reduce(0) { $0 + $1.events }
      result.counts["connections"] = world.network.dials
      result.violations = world.judge.violations
      result.digest = world.trace.digest
      world.end()
      try? Files.removeTree(place)
      return result
    }
  }

  /// Runs `body` as a task and the world until it is done and so much virtual time has passed.
  func advance(_ world: SimWorld, until span: Duration, _ body: @escaping @LoopActor () async -> Void) {
    let time = world.time
    let end = time.now + UInt64(span.nanosecondCount)
    let done = Flag()
    LoopActor.entered {
      _ = spawn {
        await body()
        done.isSet = true
      }
    }
    executor.drain()
    while !done.isSet || time.now < end {
      guard time.steps < Self.maxSteps else { break }
      guard let moment = time.peek() else { break }
      if done.isSet, moment > end { return time.wait(until: end) }
      guard let step = time.next() else { break }
      LoopActor.entered {
        world.trace.mix(time.now ^ step.id)
        step.run()
        world.writeCuts.look()
      }
      executor.drain()
      LoopActor.entered { world.writeCuts.look() }
      if LoopActor.entered({ !world.judge.violations.isEmpty }) { return }
    }
    precondition(time.steps < Self.maxSteps, "seed \(world.seed) does not come to an end")
  }
}

@LoopActor private final class Flag {
  /// Confined to the simulation's one thread.
  nonisolated(unsafe) var isSet = false
  nonisolated init() {}
}
