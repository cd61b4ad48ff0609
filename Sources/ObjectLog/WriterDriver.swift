import Base
import EventLoop

/// Who runs a log's writer: a thread of its own in daemons, a simulator's queue in a simulation.
package protocol WriterDriver: AnyObject, Sendable {
  /// Runs `body` soon, never inside this call, one after the other in the order in which they came. From any thread.
  func run(_ body: @escaping @Sendable () -> Void)
  /// Ends after what is queued; called on the loop when the writer has nothing left to do.
  func stop()
}

extension BlockingThread: WriterDriver {}
