import Base
import DeviceServices
import EventLoop
import Glibc

/// Runs that are made for one question, with figures instead of chance: `skerry-simulate --scenario NAME`.
enum Scenario: String, CaseIterable {
  case hourCut = "hour-cut"

  /// Runs it and prints what it came to; false if a promise was broken.
  func run(planted: Defect?, isSmall: Bool, prints: Bool) throws(SkerryError) -> Bool {
    let directory = SimulateCommand.scratch()
    defer { try? Files.removeTree(directory) }
    return try Simulation(directory: directory).hourCut(
      isSmall ? .small : HourCut.Scale(), planted: planted, prints: prints)
  }
}

extension Simulation {
  /// Longest that a cluster may take to start, to catch up and to settle, each.
  private static let patience: Duration = .seconds(900)

  fileprivate func hourCut(_ scale: HourCut.Scale, planted: Defect?, prints: Bool) throws(SkerryError) -> Bool {
    let cut = LoopActor.entered {
      HourCut(
        SimWorld(
          seed: 1, authority: authority, directory: "\(directory)/hour-cut", planted: planted,
          knobs: HourCut.knobs(scale),
          prints: prints),
        scale)
    }
    let world = LoopActor.entered { cut.world }
    advance(world, until: .seconds(30)) { await cut.furnish() }
    advance(world, until: scale.cut) { cut.cut() }
    advance(world, until: .zero) { cut.heal() }
    wait(world, "what waited has not arrived") { cut.hasCaughtUp() }
    advance(world, until: .seconds(5)) {}
    advance(world, until: .seconds(1)) { cut.stopReading() }
    wait(world, "the cluster does not settle") { cut.isSettled() }
    let result = LoopActor.entered { () -> Result<[Violation], SkerryError> in
      do throws(SkerryError) {
        if world.judge.violations.isEmpty { try cut.examine() }
        return .success(world.judge.violations)
      } catch {
        return .failure(error)
      }
    }
    let violations = try result.get()
    LoopActor.entered {
      SimulateCommand.say(cut.description)
      world.end()
    }
    SimulateCommand.say("violations: \(violations.count)")
    for violation in violations { SimulateCommand.say("  \(violation.promise.rawValue): \(violation.text)") }
    return violations.isEmpty
  }

  /// Lets time pass in small steps until `isDone`.
  private func wait(_ world: SimWorld, _ complaint: String, _ isDone: @LoopActor () -> Bool) {
    let end = world.time.now + UInt64(Self.patience.nanosecondCount)
    while !LoopActor.entered(isDone) {
      guard world.time.now < end, LoopActor.entered({ world.judge.violations.isEmpty }) else {
        return LoopActor.entered {
          world.judge.check(
            .converges, false, "after \(Self.patience): \(complaint): \(Convergence(world).difference())")
        }
      }
      advance(world, until: .milliseconds(100)) {}
    }
  }
}

extension HourCut {
  var description: String {
    let (figures, rate) = (figures, scale.bytesPerSecond)
    let wire = Double(figures.bytes) / Double(max(figures.arrived, 1))
    let holds = world.judge.violations.isEmpty
    let bounds = ReadingLimits()
    let limits = "\(bounds.maxBytes >> 20) MiB, \(Int(bounds.maxAge.seconds / 86_400)) days"
    return """
      hour-cut: a link of \(rate) B/s and \(scale.latency.milliseconds) ms each way, cut for \(Int(scale.cut.seconds)) s; \
      \(Self.readingsPerSecond) readings/s of \(Self.devices) devices, \(scale.exits) exits of \(scale.pods) pods' containers
      when the link is back:    \(figures.waiting) readings wait; \(figures.statusesTold) statuses were told, \
      \(figures.statusesWaiting) wait, the newest of each pod
      until all has arrived:    \(figures.arrived) readings in \(figures.bytes) bytes on the wire, \(Self.two(wire)) B a reading
      virtual catch-up time:    \(Self.two(figures.catchUp)) s; bytes over rate \(Self.two(Double(figures.bytes) / Double(rate))) s
      ratio:                    \(Self.two(figures.ratio)), at most 2
      at the end:               \(figures.inCloud) readings in the cloud of \(figures.readings)\(holds ? ", each once and in order" : "")
      the node's store:         \(figures.storeBytes) bytes; its bounds are the defaults, \(limits)\(holds ? ": nothing was let go" : "")
      CPU:                      \(Self.two(Self.processorSeconds)) s
      """
  }

  private static func two(_ value: Double) -> String {
    let hundredths = Int((value * 100).rounded())
    return "\(hundredths / 100)." + String(100 + hundredths % 100).dropFirst()
  }

  /// What this process took of the processors.
  private static var processorSeconds: Double {
    var usage = rusage()
    getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    return Double(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec)
      + Double(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6
  }
}
