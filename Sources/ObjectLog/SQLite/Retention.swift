import Base

/// When which position was the newest, so that history can be let go by age and by size.
///
/// Times are of the monotonic clock, so they do not outlive the process: what is there at a start is kept for the
/// whole retention again, still bounded by bytes.
struct Retention {
  private struct Mark {
    var at: Instant
    var position: UInt64
    /// Bytes of all entries published up to here since the start.
    var written: UInt64
  }
  /// Marks in one retention: the grain of letting go.
  private static let grain: UInt64 = 16

  private let time: Duration
  private let bytes: UInt64
  private var marks: [Mark]
  private var position: UInt64
  private var written: UInt64 = 0

  init(_ limits: LogLimits, now: Instant, position: UInt64) {
    time = limits.retentionTime
    bytes = limits.retentionBytes
    self.position = position
    marks = [Mark(at: now, position: position, written: 0)]
  }

  /// How often `expired` is worth asking.
  var interval: Duration { max(time / Int(Self.grain), .milliseconds(100)) }

  mutating func restart(now: Instant, position: UInt64) {
    self.position = position
    marks = [Mark(at: now, position: position, written: written)]
  }

  mutating func note(_ entries: [Entry], now: Instant) {
    for entry in entries { written += UInt64(entry.object.size) }
    position = entries.last?.position ?? position
    guard let last = marks.last else { return mark(now) }
    if written - last.written > bytes / Self.grain || now - last.at > interval { mark(now) }
  }

  private mutating func mark(_ now: Instant) {
    if marks.last?.position != position { marks.append(Mark(at: now, position: position, written: written)) }
  }

  /// The newest position that is older than the retention; it and all before it may go.
  mutating func expired(now: Instant) -> UInt64? {
    mark(now)
    guard let index = marks.lastIndex(where: { now - $0.at > time }) else { return nil }
    defer { marks.removeFirst(index + 1) }
    return marks[index].position
  }

  /// If history takes too many bytes: a position after which at most three quarters of them were written.
  mutating func overflow(retained: UInt64) -> UInt64? {
    guard retained > bytes, marks.count > 1 else { return nil }
    let index = marks.firstIndex { written - $0.written <= bytes / 4 * 3 } ?? marks.count - 1
    guard index > 0 || marks[0].position < position else { return nil }
    defer { marks.removeFirst(min(index + 1, marks.count - 1)) }
    return marks[index].position
  }
}
