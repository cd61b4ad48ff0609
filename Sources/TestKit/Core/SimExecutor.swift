import Base

/// The executor behind `LoopActor` in a simulation: a plain queue, run by hand on the main thread.
///
/// Everything happens on that one thread, which is the confinement that `@unchecked Sendable` stands for.
package final class SimExecutor: LoopExecutor, @unchecked Sendable {
  /// Jobs that may follow from one step of the world; more is a loop that waits for nothing.
  package static let maxJobsPerStep = 20_000_000

  private var queue: [UnownedJob] = []
  private var spare: [UnownedJob] = []
  /// Jobs run since the process began.
  package private(set) var jobs: UInt64 = 0
  /// Looked at between two jobs: true leaves the rest in the queue until the next call.
  package var pauses: (() -> Bool)?

  package init() {}

  /// Installs the executor of this process; it stays for the life of the process.
  package static func install() -> SimExecutor {
    guard let executor = LoopActor.install({ SimExecutor() }) as? SimExecutor else {
      preconditionFailure("an event loop owns this process: a simulation needs one of its own")
    }
    return executor
  }

  package func enqueue(_ job: consuming ExecutorJob) { queue.append(UnownedJob(job)) }

  /// Runs what is queued, and what that queues, until nothing is left.
  package func drain() {
    var budget = Self.maxJobsPerStep
    while !queue.isEmpty {
      var batch = queue
      queue = spare
      spare = []
      for job in batch {
        jobs &+= 1
        job.runSynchronously(isolatedTo: asUnownedSerialExecutor(), taskExecutor: asUnownedTaskExecutor())
      }
      budget -= batch.count
      precondition(budget > 0, "the simulated tasks run in a circle and wait for nothing")
      batch.removeAll(keepingCapacity: true)
      spare = batch
    }
  }

  package func asUnownedSerialExecutor() -> UnownedSerialExecutor { UnownedSerialExecutor(ordinary: self) }
  package func asUnownedTaskExecutor() -> UnownedTaskExecutor { UnownedTaskExecutor(ordinary: self) }
  /// There is no other thread.
  package func isIsolatingCurrentContext() -> Bool? { true }
  package func checkIsolated() {}
}
