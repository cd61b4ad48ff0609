import Base

/// What the cluster promises, each checked over the recorded history; a broken one is a violation of that name.
package enum Promise: String, Sendable, CaseIterable {
  /// Changes are seen in the order of the log, entries of a lane in the order of their numbers.
  case ordered
  /// A watch sees every matching revision, a replica the last state at each position that it completed.
  case noGap
  /// What went up a lane has its effect once, whatever was sent again.
  case effectExactlyOnce
  /// Who comes back within the retention goes on where they were: nothing is sent that they have.
  case resumable
  /// Nobody sees what their selector or their slice does not hold.
  case filtered
  /// When faults end, desired equals actual on every node, within a bounded time.
  case converges
  /// Queues, stores and silences stay within their limits.
  case bounded
  /// Nobody reads or writes what is not theirs, and no session outlives what it was let in by.
  case authorised
  /// What was acknowledged is there after every crash and power cut.
  case durable
  /// No revision, epoch or position is ever seen to go back.
  case revisionsNeverLower
}

package struct Violation: Sendable {
  package let promise: Promise
  package let text: String
  /// Virtual nanoseconds.
  package let at: UInt64
}

/// Counts checks and keeps what was broken.
@LoopActor package final class Judge {
  /// Violations that are kept; the first one tells the story.
  package static let kept = 20
  package private(set) var checks: [Promise: UInt64] = [:]
  package private(set) var violations: [Violation] = []
  private let time: SimTime
  private let trace: SimTrace

  package init(_ time: SimTime, trace: SimTrace) {
    self.time = time
    self.trace = trace
  }

  package func check(_ promise: Promise, _ holds: Bool, _ text: @autoclosure () -> String) {
    checks[promise, default: 0] += 1
    guard !holds else { return }
    let text = text()
    trace.note("VIOLATION \(promise.rawValue): \(text)")
    if violations.count < Self.kept { violations.append(Violation(promise: promise, text: text, at: time.now)) }
  }
}
