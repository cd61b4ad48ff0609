import Glibc
import Logging
import Synchronization

/// Writes log lines to stderr as `time level logger message key=value …`, one `write` a line, so that lines of several
/// threads never mix.
package struct LogfmtHandler: LogHandler {
  /// Bytes of one line; the rest is cut, so that no peer fills the disk with one message.
  package static let maxLine = 8 * 1024

  package var logLevel: Logger.Level
  package var metadata: Logger.Metadata = [:]
  private let label: String
  private let clock: @Sendable () -> WallTime

  /// `clock` is the scheduler's wall clock: nothing here asks for time by itself.
  package init(label: String, level: Logger.Level, clock: @escaping @Sendable () -> WallTime) {
    self.label = label
    logLevel = level
    self.clock = clock
  }

  package subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  package func log(event: LogEvent) {
    var line = "\(Self.time(clock())) \(event.level.rawValue) \(label): \(event.message)"
    for (key, value) in metadata.merging(event.metadata ?? [:], uniquingKeysWith: { $1 }).sorted(by: { $0.key < $1.key }
    ) {
      line += " \(key)=\(Self.quoted("\(value)"))"
    }
    var bytes = Bytes(line.utf8.prefix(Self.maxLine - 1).map { $0 == 0x0a ? 0x20 : $0 })
    bytes.append(0x0a)
    // A log line that cannot be written has nobody left to be told to.
    _ = bytes.withUnsafeBytes { write(2, $0.baseAddress, $0.count) }
  }

  private static func quoted(_ text: String) -> String {
    text.contains(where: { $0 == " " || $0 == "\"" || $0 == "=" }) || text.isEmpty
      ? "\"\(text.map { $0 == "\"" ? "'" : String($0) }.joined())\"" : text
  }

  /// RFC 3339 with milliseconds, in UTC.
  static func time(_ wall: WallTime) -> String {
    var seconds = time_t(wall.seconds)
    var parts = tm()
    gmtime_r(&seconds, &parts)
    func two(_ value: Int32) -> String { value < 10 ? "0\(value)" : "\(value)" }
    let millis = Int((wall.nanoseconds - wall.seconds * 1_000_000_000) / 1_000_000)
    let fraction = String(1000 + millis).dropFirst()
    return "\(1900 + parts.tm_year)-\(two(parts.tm_mon + 1))-\(two(parts.tm_mday))T"
      + "\(two(parts.tm_hour)):\(two(parts.tm_min)):\(two(parts.tm_sec)).\(fraction)Z"
  }
}
