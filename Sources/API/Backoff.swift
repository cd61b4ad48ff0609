import Base

/// Exponential backoff with full jitter: the n-th retry waits a time uniform in `0 ... min(cap, base * 2^n)`, so that
/// many who failed together do not come back together.
package struct Backoff: Sendable {
  package var base: Duration
  package var cap: Duration

  package init(base: Duration, cap: Duration) {
    self.base = base
    self.cap = cap
  }

  /// The longest wait before retry number `attempt` (0 is the first).
  package func ceiling(_ attempt: Int) -> Duration {
    let limit = UInt64(clamping: cap.nanosecondCount)
    let start = UInt64(clamping: base.nanosecondCount)
    guard attempt < 63, start <= limit >> UInt64(max(0, attempt)) else { return cap }
    return .nanoseconds(Int64(clamping: start << UInt64(max(0, attempt))))
  }

  /// The wait before retry number `attempt`; at least a nanosecond, so that a retry never runs inside its failure.
  package func delay(_ attempt: Int, random: any RandomSource) -> Duration {
    let ceiling = UInt64(clamping: ceiling(attempt).nanosecondCount)
    guard ceiling > 1 else { return .nanoseconds(1) }
    return .nanoseconds(Int64(clamping: 1 + random.below(ceiling)))
  }
}
