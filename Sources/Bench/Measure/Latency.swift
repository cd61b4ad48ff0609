import Base
import Histogram

/// Latencies in nanoseconds, to three significant digits, as an HDR histogram.
struct Latency: Sendable {
  private var histogram = Histogram<UInt64>(
    lowestDiscernibleValue: 1_000, highestTrackableValue: 3_600_000_000_000, numberOfSignificantValueDigits: .three)

  var count: UInt64 { histogram.totalCount }

  mutating func record(_ nanoseconds: UInt64, times: UInt64 = 1) {
    histogram.record(min(nanoseconds, 3_600_000_000_000), count: times)
  }

  /// For a closed loop that meant to start one operation each `interval`: the operations that it could not start while it
  /// waited are counted too (coordinated omission).
  mutating func recordCorrected(_ nanoseconds: UInt64, interval: UInt64) {
    histogram.recordCorrectedValue(min(nanoseconds, 3_600_000_000_000), expectedInterval: interval)
  }

  mutating func add(_ other: Latency) { histogram.add(other.histogram) }

  func percentile(_ percentile: Double) -> Duration {
    .nanoseconds(Int64(clamping: count == 0 ? 0 : histogram.valueAtPercentile(percentile)))
  }
  var max: Duration { .nanoseconds(Int64(clamping: count == 0 ? 0 : histogram.maxRecorded)) }

  /// The buckets that hold something: value and count. What travels between processes and into JSON.
  var value: Value {
    .array(histogram.recordedValues().map { [.int(Int64(clamping: $0.value)), .int(Int64(clamping: $0.count))] })
  }

  init() {}

  init(_ value: Value) {
    for bucket in value.array ?? [] {
      guard let at = bucket[0].int, let times = bucket[1].int, at >= 0, times > 0 else { continue }
      record(UInt64(at), times: UInt64(times))
    }
  }

  /// (percentile, nanoseconds) for plots.
  var curve: [(percentile: Double, nanoseconds: UInt64)] {
    guard count > 0 else { return [] }
    return [0, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.99, 100].map {
      ($0, histogram.valueAtPercentile($0))
    }
  }
}
