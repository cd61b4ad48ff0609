import Base
import Logging

/// A simulated computer as its processes see it: its clock outlives them.
@LoopActor package final class SimMachine {
  package let name: String
  package unowned let world: SimWorld
  /// What its wall clock is ahead.
  package private(set) var skew: Duration
  private var processes: [SimProcess] = []
  private var started: UInt64 = 0

  package init(_ name: String, world: SimWorld, skew: Duration = .zero) {
    self.name = name
    self.world = world
    self.skew = skew
  }

  package func setSkew(_ skew: Duration) {
    self.skew = skew
    for process in processes where process.clock.isAlive { process.clock.setSkew(skew) }
  }

  /// A new process on this machine.
  package func process(_ program: String) -> SimProcess {
    started += 1
    processes.removeAll { !$0.clock.isAlive }
    let process = SimProcess("\(name)/\(program)", number: started, machine: self)
    processes.append(process)
    return process
  }
}

/// A running program as the world sees it: what it is given, and what is taken from it when it is killed.
@LoopActor package final class SimProcess {
  package let name: String
  package let clock: SimClock
  package let random: SeededRandom
  package let logger: Logger
  private unowned let world: SimWorld
  private var drivers: [SimDriver] = []

  init(_ name: String, number: UInt64, machine: SimMachine) {
    self.name = name
    world = machine.world
    clock = SimClock(world.time, skew: machine.skew)
    random = SeededRandom.stream(world.seed, "\(name) \(number)")
    logger = world.logger(name)
  }

  package var isAlive: Bool { clock.isAlive }

  /// A store's worker: its latency is what the disk takes for one piece of work.
  package func driver(of disk: SimDisk) -> SimDriver {
    let driver = SimDriver(world.time, random: random, latency: 200_000...4_000_000)
    driver.stall = { disk.stall }
    drivers.append(driver)
    return driver
  }

  /// Nothing that this process waits for ever comes, and its connections end.
  package func kill(silently: Bool, keeping remains: Any) {
    guard clock.isAlive else { return }
    world.time.bury(remains)
    clock.kill()
    for driver in drivers { driver.kill() }
    world.network.died(clock, silently: silently)
  }

  /// Suspends a dead process's task for good.
  package func passDeadEnd() async {
    guard !clock.isAlive else { return }
    await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in world.time.bury(continuation) }
  }
}
