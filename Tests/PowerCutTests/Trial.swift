import Base
import EventLoop
import FaultVFS
import Logging
import Store
import Synchronization

/// A store on a disk that ends its life again and again, and what the store promised meanwhile.
@LoopActor protocol Trial: AnyObject {
  var disk: DiskImage { get }
  var random: SeededRandom { get }
  /// How much was acknowledged so far.
  var total: Int { get }
  /// Opens the store, writes a little, and leaves it in order or by `disk.crash()`. Throws or returns early when the
  /// disk's life ends in between.
  func live() async throws(SkerryError)
  /// Opens the store, compares it with the promises, and leaves it. What is wrong, or nil.
  func verify() async throws(SkerryError) -> String?
}

extension Trial {
  /// Lives, each of which ends in one of the next operations: mostly by a power cut, sometimes the process alone dies,
  /// sometimes the disk was full or failing before that. Answers the first thing that is wrong.
  func run(cuts: Int) async -> String? {
    while disk.powerCuts < cuts {
      let operation = disk.operations + 1 + random.below(80)
      switch random.below(10) {
      case 0, 1: disk.crash(at: operation)
      case 2:
        disk.faults.capacity = disk.usedBytes + Int(random.below(20_000))
        disk.cutPower(at: operation)
      case 3:
        disk.faults.failing = [random.below(2) == 0 ? .write : .sync]
        disk.faults.failsOneIn = 10
        disk.cutPower(at: operation)
      default: disk.cutPower(at: operation)
      }
      let isHealthy = disk.faults.capacity == nil && disk.faults.failing.isEmpty
      if let finding = await liveUntilEnd(isHealthy) { return finding }
      disk.faults.capacity = nil
      disk.faults.failing = []
      do throws(SkerryError) {
        try fullCheck()
        if let finding = try await verify() { return "after \(disk.powerCuts) cuts: \(finding)" }
      } catch {
        return "after \(disk.powerCuts) cuts: \(error)"
      }
    }
    return nil
  }

  /// The full check of every database as the cut left it, on a copy, so that it repairs nothing.
  private func fullCheck() throws(SkerryError) {
    let copy = DiskImage(random: SeededRandom(seed: 0))
    copy.restore(disk.image)
    for path in copy.paths where path.hasSuffix(".db") {
      let database = try Database.reader(path: path, vfs: copy.vfs)
      // A first start that did not come to its first commit.
      if try database.int("SELECT count(*) FROM sqlite_schema") == 0 { continue }
      try database.checkStructure(full: true)
    }
  }

  /// After a failure that was not the end: the store goes on, perhaps when the fault is over. Throws at the end of a life.
  func goOn(after error: SkerryError, in life: UInt64) throws(SkerryError) {
    if disk.lives != life { throw error }
    if disk.faults.capacity == nil, disk.faults.failing.isEmpty { throw error }
    if random.below(2) == 0 {
      disk.faults.capacity = nil
      disk.faults.failing = []
    }
  }

  private func liveUntilEnd(_ isHealthy: Bool) async -> String? {
    let lives = disk.lives
    while disk.lives == lives {
      do throws(SkerryError) { try await live() } catch {
        if disk.lives == lives, isHealthy { return "without a fault: \(error)" }
        if disk.lives == lives { disk.powerCut() }
      }
    }
    return nil
  }
}

/// Runs a store's blocking work on the loop, one piece a turn: what a simulator does.
final class TurnDriver: SerialDriver {
  private let queue = Mutex<[@Sendable () -> Void]>([])

  func run(_ body: @escaping @Sendable () -> Void) {
    queue.withLock { $0.append(body) }
    spawn { self.turn() }
  }

  func stop() { while turn() {} }

  @discardableResult
  private func turn() -> Bool {
    let next = queue.withLock { $0.isEmpty ? nil : $0.removeFirst() }
    next?()
    return next != nil
  }
}

let quiet = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

/// Lets everything that waits on the loop run until `isDone`; false if that does not come.
@LoopActor func settle(_ isDone: () -> Bool) async -> Bool {
  for _ in 0..<1000 {
    if isDone() { return true }
    await Task.yield()
  }
  return isDone()
}
