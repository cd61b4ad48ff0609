import Base

/// When which property is due. A value: the service asks it with the time and gets names, so tests need no clock.
///
/// Each property keeps its own grid (first due, then every interval), so polls do not drift with the time that
/// reading takes. Polls that were missed are counted and skipped, never made up in a burst.
package struct PollSchedule: Sendable {
  /// Properties that are due within this much of each other go into one request.
  package static let slack: Duration = .milliseconds(5)

  private struct Entry: Sendable {
    var interval: Duration
    var due: Instant
  }
  private var entries: [String: Entry] = [:]
  /// Polls that were not made because the ones before them took too long.
  package private(set) var missed = 0

  package init() {}

  package var isEmpty: Bool { entries.isEmpty }

  /// Takes over the properties with their intervals. A property whose interval is unchanged keeps its grid; a new
  /// one is due after `phase`, which spreads devices that were assigned at the same time.
  package mutating func set(_ intervals: [String: Duration], now: Instant, phase: Duration = .zero) {
    var next: [String: Entry] = [:]
    for (name, interval) in intervals {
      let kept = entries[name].flatMap { $0.interval == interval ? $0 : nil }
      next[name] = kept ?? Entry(interval: interval, due: now + phase)
    }
    entries = next
  }

  /// When something is due next; nil if nothing is scheduled.
  package var nextDue: Instant? { entries.values.map(\.due).min() }

  /// The properties that are due at `now`, sorted by name; each is due again at its grid's next point.
  package mutating func takeDue(now: Instant) -> [String] {
    var due: [String] = []
    let limit = now + Self.slack
    for (name, entry) in entries where entry.due <= limit {
      due.append(name)
      let late = max(0, (now - entry.due).nanosecondCount)
      let skipped = late / max(1, entry.interval.nanosecondCount)
      missed += Int(skipped)
      entries[name]?.due = entry.due + .nanoseconds(entry.interval.nanosecondCount * (skipped + 1))
    }
    return due.sorted()
  }
}

/// How long a dead device is left alone: doubling from `base` to `cap`, with full jitter over the upper half, so
/// that many devices behind one dead gateway do not come back in step.
package struct DeviceBackoff: Sendable {
  package static let base: Duration = .milliseconds(500)
  package static let cap: Duration = .seconds(30)

  package private(set) var failures = 0
  package init() {}

  package mutating func succeeded() { failures = 0 }

  /// The delay before the next try. `random` is uniform over all 64-bit values.
  package mutating func failed(random: UInt64) -> Duration {
    let doubled = Self.base.nanosecondCount << Int64(min(failures, 16))
    failures += 1
    let ceiling = min(doubled, Self.cap.nanosecondCount)
    let half = UInt64(ceiling / 2)
    return .nanoseconds(Int64(half + random % (half + 1)))
  }
}
