import API
import APIClient
import Base
import EventLoop
import Glibc
import Transport

/// What every scenario works with: where it may write, the workers, and how it tells how far it is.
@LoopActor final class BenchContext {
  let scheduler: any Scheduler
  let random: any RandomSource
  let directory: String
  let pool: WorkerPool
  /// Servers and brokers that run now; ended when the bench ends, however it does.
  private var children: [ObjectIdentifier: Child] = [:]
  /// What else must not stay behind: traces on a given server, a whole local cluster.
  private var cleanups: [Int: () async -> Void] = [:]
  private var lastCleanup = 0
  private let started: Instant
  private var serverCount = 0
  var isQuiet = false

  init(directory: String, scheduler: any Scheduler, random: any RandomSource) throws(SkerryError) {
    self.scheduler = scheduler
    self.random = random
    self.directory = directory
    pool = try WorkerPool(directory: directory, scheduler: scheduler, random: random)
    started = scheduler.now
  }

  /// A line on stderr with the time since the start.
  func progress(_ text: String) {
    guard !isQuiet else { return }
    let seconds = Int((scheduler.now - started).seconds)
    let clock = "\(seconds / 60):\(seconds % 60 < 10 ? "0" : "")\(seconds % 60)"
    let line = Bytes("[\(clock)] \(text)\n".utf8)
    _ = line.withUnsafeBytes { write(2, $0.baseAddress, $0.count) }
  }

  /// A new directory for one server.
  func newDirectory(_ name: String) throws(SkerryError) -> String {
    serverCount += 1
    let path = "\(directory)/\(name)-\(serverCount)"
    try Files.makeDirectory(path, mode: 0o700)
    return path
  }

  func own(_ child: Child) { children[ObjectIdentifier(child)] = child }
  func disown(_ child: Child) { children[ObjectIdentifier(child)] = nil }

  /// Something to do even if the scenario fails or the bench is interrupted; answers the number for `forget`.
  func atEnd(_ action: @escaping () async -> Void) -> Int {
    lastCleanup += 1
    cleanups[lastCleanup] = action
    return lastCleanup
  }
  func forget(_ cleanup: Int) { cleanups[cleanup] = nil }

  /// Ends what a scenario that failed, or was interrupted, has left: its clients first, so that they do not come back
  /// while their traces are removed. Whatever runs next gets new workers.
  func clear() async {
    await pool.renew()
    let left = cleanups
    cleanups = [:]
    for cleanup in left.values { await cleanup() }
    for child in children.values {
      child.kill(SIGCONT)
      child.kill(SIGKILL)
    }
    children = [:]
  }

  /// Ends everything that the bench started.
  func end() async {
    await clear()
    pool.stop()
  }
}

/// CPU and time of one phase.
@LoopActor struct Meter {
  private let probe: ProcessProbe?
  private let scheduler: any Scheduler
  private let start: Instant
  private let cpu: CPUTime

  init(_ probe: ProcessProbe?, _ scheduler: any Scheduler) {
    self.probe = probe
    self.scheduler = scheduler
    cpu = probe?.cpu ?? CPUTime()
    start = scheduler.now
  }

  var elapsed: Duration { scheduler.now - start }
  var began: UInt64 { start.nanoseconds }
  /// CPU that the process used since; nil if it is not ours to see.
  var used: CPUTime? { probe.map { $0.cpu - cpu } }

  /// Microseconds of CPU an operation; nil without operations or a process.
  func perOperation(_ count: Double) -> (total: Double, user: Double, system: Double)? {
    guard let used, count > 0 else { return nil }
    let ticks = Double(used.user + used.system)
    let total = Double(used.total) / 1e3 / count
    // The kernel splits in ticks; the shares of those are applied to the exact total.
    let user = ticks > 0 ? total * Double(used.user) / ticks : total
    return (total, user, total - user)
  }
}

extension ScenarioResult {
  /// CPU an operation of the server, whole and split.
  @LoopActor mutating func add(
    cpu name: String, _ meter: Meter, operations: Double, bound: Double? = nil
  ) {
    guard let cost = meter.perOperation(operations) else {
      return note("\(name): the server's process is not known here (--server-pid)")
    }
    add(name, cost.total, "µs", bound: bound)
    add("  of it user", cost.user, "µs", .neither, of: name)
    add("  of it system", cost.system, "µs", .neither, of: name)
  }

  /// A figure that belongs to another: its name is told apart by that.
  mutating func add(
    _ part: String, _ value: Double, _ unit: String, _ better: Figure.Better, of whole: String
  ) {
    add("\(whole),\(part.drop { $0 == " " }.dropFirst(5))", value, unit, better)
  }
}
