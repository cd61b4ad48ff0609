import Base
import Glibc

/// Waiting inside blocking work, for what the system gives no event for. Only within `offload` or on a
/// `BlockingThread`: on the loop it would stop everything.
package enum BlockingPause {
  package static func wait(_ duration: Duration) {
    poll(nil, 0, Int32(clamping: max(1, duration.milliseconds)))
  }
}
