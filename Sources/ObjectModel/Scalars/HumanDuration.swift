import Base

/// Kubernetes' short form of an age: `45s`, `3m10s`, `5h2m`, `3d`, `2y40d`.
package enum HumanDuration {
  package static func format(_ duration: Duration) -> String {
    let seconds = duration.nanosecondCount / 1_000_000_000
    if seconds < -1 { return "<invalid>" }
    if seconds < 0 { return "0s" }
    if seconds < 120 { return "\(seconds)s" }
    let minutes = seconds / 60
    if minutes < 10 { return pair(minutes, "m", seconds % 60, "s") }
    if minutes < 180 { return "\(minutes)m" }
    let hours = minutes / 60
    if hours < 8 { return pair(hours, "h", minutes % 60, "m") }
    if hours < 48 { return "\(hours)h" }
    let days = hours / 24
    if days < 8 { return pair(days, "d", hours % 24, "h") }
    if days < 365 * 2 { return "\(days)d" }
    if days < 365 * 8 { return pair(days / 365, "y", days % 365, "d") }
    return "\(days / 365)y"
  }

  /// The age of an RFC 3339 time at `now`; `<unknown>` where there is none.
  package static func age(of timestamp: String?, now: WallTime) -> String {
    guard let timestamp, let time = Timestamp.parse(timestamp) else { return "<unknown>" }
    return format(now - time)
  }

  private static func pair(_ large: Int64, _ unit: String, _ small: Int64, _ smallUnit: String) -> String {
    small == 0 ? "\(large)\(unit)" : "\(large)\(unit)\(small)\(smallUnit)"
  }
}
