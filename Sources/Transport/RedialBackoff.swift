import Base

/// When to try again: the first retry is uniform in the spread that the hub has told, so that a fleet does not come
/// back in one moment; then full jitter, with a ceiling near that spread while nobody answers, since the link may be
/// back at any time, and a longer one only when the answer was a refusal.
package struct RedialBackoff: Sendable {
  package enum Outcome: Sendable {
    /// Nobody answered, or the connection broke.
    case unreachable
    /// The other side answered that it does not want us: certificate, version, authority.
    case refused
  }

  /// Of a client that no hub has told one.
  package static let defaultSpread = Duration.seconds(2)
  /// What a hub may tell at most, so that a wrong one cannot send a fleet away for a day.
  package static let maxSpread = Duration.seconds(600)
  /// No retry comes sooner: full jitter may draw zero, and a hot loop helps nobody.
  package static let minDelay = Duration.milliseconds(50)
  package static let firstRefusedWindow = Duration.seconds(5)
  package static let maxRefusedWindow = Duration.seconds(300)
  /// The ceiling while unreachable, as a multiple of the spread.
  static let unreachableCeiling = 1

  /// The width that the hub asks for; it is kept within `minDelay...maxSpread`.
  package var spread: Duration {
    didSet { spread = min(max(spread, Self.minDelay), Self.maxSpread) }
  }
  /// Failures in a row.
  package private(set) var failures = 0
  private var refusals = 0

  package init(spread: Duration = RedialBackoff.defaultSpread) {
    self.spread = min(max(spread, Self.minDelay), Self.maxSpread)
  }

  /// A session was established (not only a connection): the next failure is a first one again.
  package mutating func succeeded() {
    failures = 0
    refusals = 0
  }

  /// The delay before the next attempt.
  package mutating func delay(after outcome: Outcome, random: any RandomSource) -> Duration {
    let window = nextWindow(outcome)
    let drawn = Duration.nanoseconds(Int64(random.below(UInt64(window.nanosecondCount) + 1)))
    return max(drawn, Self.minDelay)
  }

  /// The width of the interval from which the next delay is drawn.
  private mutating func nextWindow(_ outcome: Outcome) -> Duration {
    defer { failures += 1 }
    switch outcome {
    case .unreachable:
      refusals = 0
      // Grows from the spread itself.
      return min(spread * (failures + 1), spread * Self.unreachableCeiling)
    case .refused:
      defer { refusals += 1 }
      let base = max(spread, Self.firstRefusedWindow)
      return min(base * (1 << min(refusals, 8)), Self.maxRefusedWindow)
    }
  }

  /// What an error of `Dialer` or of a session means for the next attempt.
  package static func outcome(of error: SkerryError) -> Outcome {
    switch error.code {
    case .unauthenticated, .forbidden, .unsupportedVersion, .protocolViolation, .invalidArgument: .refused
    default: .unreachable
    }
  }
}
