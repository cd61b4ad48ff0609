import Base

/// Knows a client that waits for each of its writes before it makes the next one.
///
/// Such a write passes four times from one thread or process to another, and what it takes to be woken is then a good
/// part of its time: more than the work, and nearly as much as the disk. While commits are this small and this quick, the
/// loop and the writer stay awake for each other (`SerialDriver.expectWork`, `keepLoopAwake`). Under load commits are
/// larger, nobody sleeps long anyway, and the processors have better things to do.
struct LoneWriter {
  /// A commit of so many jobs is somebody's who waits for it.
  static let maxJobs = 2
  /// How long the loop polls for a commit: two of a good disk.
  static let maxAnswerPoll = Duration.microseconds(600)
  /// After a commit that took longer the loop does not poll.
  static let slowCommit = Duration.microseconds(1_200)
  /// How long the loop polls for the next change of somebody who came back as quickly the last time.
  static let maxChangePoll = Duration.microseconds(400)

  /// The last commit had few jobs.
  private(set) var isAlone = false
  private var isQuick = false
  private var comesBack = false
  private var committed: Instant?

  /// A commit of some jobs took `time` and was answered.
  mutating func committed(_ jobs: Int, in time: Duration, at now: Instant) {
    isAlone = jobs <= Self.maxJobs
    isQuick = time < Self.slowCommit
    if !isAlone { comesBack = false }
    committed = now
  }

  /// A change came.
  mutating func changed(at now: Instant) {
    comesBack = committed.map { now - $0 <= Self.maxChangePoll } ?? false
  }

  /// Whether the loop polls for the commit of what is on its way to the writer.
  func awaitsAnswer(_ jobsOnTheWay: Int) -> Bool { isAlone && isQuick && jobsOnTheWay <= Self.maxJobs }

  /// Whether the loop polls for the next change.
  var awaitsChange: Bool { isAlone && isQuick && comesBack }
}
