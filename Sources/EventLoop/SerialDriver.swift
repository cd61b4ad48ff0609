import Base

/// Who runs blocking work one piece after the other: a thread of its own in daemons (`BlockingThread`), a simulator's
/// queue in a simulation. Whatever owns a file takes one as a parameter.
package protocol SerialDriver: AnyObject, Sendable {
  /// Runs `body` soon, never inside this call, one after the other in the order in which they came. From any thread.
  /// What comes after `stop` never runs: for work that nobody waits for.
  func run(_ body: @escaping @Sendable () -> Void)
  /// As `run`; false if the driver was stopped, and `body` will never run. Whoever waits for `body` asks here.
  func offer(_ body: @escaping @Sendable () -> Void) -> Bool
  /// Work will come within microseconds: a driver that busy polls wakes its thread up now, while the work is made ready.
  @LoopActor func expectWork()
  /// Somebody waits for what happens next: with a driver that busy polls the loop does not sleep for so long, or until
  /// another thread has posted.
  @LoopActor func keepLoopAwake(for time: Duration)
  /// Ends after what is queued: all of it has run when this returns, and nothing runs later. Not from inside a body.
  func stop()
}

extension SerialDriver {
  @LoopActor package func expectWork() {}
  @LoopActor package func keepLoopAwake(for time: Duration) {}
  package func offer(_ body: @escaping @Sendable () -> Void) -> Bool {
    run(body)
    return true
  }
}

extension BlockingThread: SerialDriver {}
