import Base

/// An event that comes again and again: the first times are told as they come, and then ever more seldom with a count,
/// so that what waits for days costs little. Pure.
struct RepeatedEvent: Sendable {
  /// Times that are told as they come.
  static let burst = 5
  /// After these, how long what comes is only counted: at first, and at most. Kubernetes' recorder lets one through in
  /// five minutes, too.
  static let firstPause = Duration.seconds(10)
  static let maxPause = Duration.seconds(300)

  /// The Event's name.
  let name: String
  /// When it came first, as the Event says it.
  let first: String
  private(set) var count: Int64 = 0
  private var told = 0
  private var last: Instant?
  private var next: Instant?

  init(name: String, first: String) {
    self.name = name
    self.first = first
  }

  /// It came once more; true if that is to be told.
  mutating func came(at now: Instant) -> Bool {
    count += 1
    // After a long silence it is news.
    if let last, now - last > Self.maxPause { (told, next) = (0, nil) }
    last = now
    if let next, now < next { return false }
    told += 1
    guard told >= Self.burst else { return true }
    next = now + min(Self.firstPause * (1 << min(told - Self.burst, 5)), Self.maxPause)
    return true
  }
}
