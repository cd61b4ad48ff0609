/// A daemon's configuration file: a flat map in YAML's plain style, read without a YAML library so that daemons stay
/// small. Every key that nobody asked for is an error, so that a misspelt limit is not silently the default.
///
/// ```
/// # a comment
/// listen: "[::]:6443"
/// ping-interval: 15s
/// cloud: [a.example:6443, b.example:6443]
/// cloud:
///   - a.example:6443
/// ```
package struct Settings: Sendable {
  /// Lines of a file.
  package static let maxLines = 10_000

  private enum Entry: Sendable {
    case scalar(String)
    case list([String])
  }
  private let source: String
  private var entries: [String: (entry: Entry, line: Int)] = [:]
  private var asked: Set<String> = []

  /// `source` names the file in messages.
  package init(text: String, source: String) throws(SkerryError) {
    self.source = source
    let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
    guard lines.count <= Self.maxLines else {
      throw SkerryError(.limitExceeded, "\(source) has \(lines.count) lines; at most \(Self.maxLines) are read")
    }
    var open: String?
    for (index, raw) in lines.enumerated() {
      let line = Self.withoutComment(raw)
      let trimmed = Self.trim(line)
      if trimmed.isEmpty || trimmed == "---" { continue }
      if trimmed.hasPrefix("- "), let key = open {
        append(try scalar(trimmed.dropFirst(2), index), to: key, line: index + 1)
      } else {
        open = try take(line, index)
      }
    }
  }

  private mutating func append(_ item: String, to key: String, line: Int) {
    var items: [String] = []
    if case .list(let known)? = entries[key]?.entry { items = known }
    entries[key] = (.list(items + [item]), line)
  }

  /// Takes `key: value`; answers the key if its list follows.
  private mutating func take(_ line: Substring, _ index: Int) throws(SkerryError) -> String? {
    guard line.first != " ", line.first != "\t", let colon = line.firstIndex(of: ":") else {
      throw failure(index, "expected KEY: VALUE at the start of the line")
    }
    let key = String(Self.trim(line[..<colon]))
    let rest = Self.trim(line[line.index(after: colon)...])
    guard entries[key] == nil else { throw failure(index, "\(key) is set twice") }
    if rest.isEmpty {
      entries[key] = (.list([]), index + 1)
      return key
    }
    if rest.hasPrefix("["), rest.hasSuffix("]") {
      let inner = rest.dropFirst().dropLast()
      var items: [String] = []
      if !Self.trim(inner).isEmpty {
        for item in inner.split(separator: ",") { items.append(try scalar(item, index)) }
      }
      entries[key] = (.list(items), index + 1)
    } else {
      entries[key] = (.scalar(try scalar(rest, index)), index + 1)
    }
    return nil
  }

  private func scalar(_ text: some StringProtocol, _ index: Int) throws(SkerryError) -> String {
    let trimmed = Self.trim(Substring(text))
    guard let quote = trimmed.first, quote == "\"" || quote == "'" else { return String(trimmed) }
    guard trimmed.count >= 2, trimmed.last == quote else { throw failure(index, "a quotation mark is not closed") }
    return String(trimmed.dropFirst().dropLast())
  }

  private func failure(_ index: Int, _ message: String) -> SkerryError {
    SkerryError(.invalidArgument, "\(source), line \(index + 1): \(message)")
  }

  /// A comment starts with `#` at the line's start or after white space, outside quotation marks.
  private static func withoutComment(_ line: Substring) -> Substring {
    var quote: Character?
    var previous: Character = " "
    for index in line.indices {
      let character = line[index]
      if let open = quote {
        if character == open { quote = nil }
      } else if character == "\"" || character == "'" {
        quote = character
      } else if character == "#", previous == " " || previous == "\t" {
        return line[..<index]
      }
      previous = character
    }
    return line
  }

  private static func trim(_ text: Substring) -> Substring {
    var text = text
    while let first = text.first, first == " " || first == "\t" || first == "\r" { text = text.dropFirst() }
    while let last = text.last, last == " " || last == "\t" || last == "\r" { text = text.dropLast() }
    return text
  }

  // MARK: Asking

  /// Sets a value from elsewhere (a command line), over what the file says.
  package mutating func override(_ key: String, _ value: String) { entries[key] = (.scalar(value), 0) }

  private func place(_ key: String) -> String {
    let line = entries[key]?.line ?? 0
    return line > 0 ? "\(source), line \(line): \(key)" : key
  }

  package mutating func string(_ key: String) throws(SkerryError) -> String? {
    asked.insert(key)
    switch entries[key]?.entry {
    case nil: return nil
    case .scalar(let text)?: return text
    case .list?: throw SkerryError(.invalidArgument, "\(place(key)) is a list; one value is expected")
    }
  }

  package mutating func string(_ key: String, or standard: String) throws(SkerryError) -> String {
    try string(key) ?? standard
  }

  package mutating func required(_ key: String) throws(SkerryError) -> String {
    guard let text = try string(key), !text.isEmpty else {
      throw SkerryError(.invalidArgument, "\(source) lacks \(key)")
    }
    return text
  }

  /// A list, or one value as a list of one.
  package mutating func list(_ key: String) throws(SkerryError) -> [String] {
    asked.insert(key)
    switch entries[key]?.entry {
    case nil: return []
    case .scalar(let text)?: return [text]
    case .list(let items)?: return items
    }
  }

  package mutating func int(_ key: String, or standard: Int, in range: ClosedRange<Int>) throws(SkerryError) -> Int {
    guard let text = try string(key) else { return standard }
    guard let value = Int(text), range.contains(value) else {
      throw SkerryError(
        .invalidArgument,
        "\(place(key)): \"\(text)\" is not a whole number from \(range.lowerBound) to \(range.upperBound)")
    }
    return value
  }

  package mutating func bool(_ key: String, or standard: Bool) throws(SkerryError) -> Bool {
    guard let text = try string(key) else { return standard }
    guard text == "true" || text == "false" else {
      throw SkerryError(.invalidArgument, "\(place(key)): \"\(text)\" is neither true nor false")
    }
    return text == "true"
  }

  /// `500ms`, `15s`, `10m`, `36h`.
  package mutating func duration(_ key: String, or standard: Duration) throws(SkerryError) -> Duration {
    guard let text = try string(key) else { return standard }
    guard let duration = Self.duration(text) else {
      throw SkerryError(
        .invalidArgument, "\(place(key)): \"\(text)\" is not a duration like 500ms, 15s, 10m or 36h")
    }
    return duration
  }

  /// The duration that a text says; nil if it says none.
  package static func duration(_ text: String) -> Duration? {
    let units: [(String, Duration)] = [
      ("ms", .milliseconds(1)), ("s", .seconds(1)), ("m", .seconds(60)), ("h", .seconds(3600)),
    ]
    for (unit, length) in units where text.hasSuffix(unit) {
      if let count = Int(text.dropLast(unit.count)), (0...1_000_000_000).contains(count) { return length * count }
    }
    return nil
  }

  /// `4096`, `64KiB`, `10MiB`, `1GiB`.
  package mutating func bytes(_ key: String, or standard: Int64) throws(SkerryError) -> Int64 {
    guard let text = try string(key) else { return standard }
    guard let size = Self.bytes(text) else {
      throw SkerryError(.invalidArgument, "\(place(key)): \"\(text)\" is not a size like 4096, 64KiB, 10MiB or 1GiB")
    }
    return size
  }

  /// The size that a text says; nil if it says none.
  package static func bytes(_ text: String) -> Int64? {
    let units: [(String, Int64)] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("", 1)]
    for (unit, factor) in units where text.hasSuffix(unit) {
      if let count = Int64(text.dropLast(unit.count)), (0...(Int64.max >> 30)).contains(count) { return count * factor }
    }
    return nil
  }

  /// Refuses what nobody asked for.
  package func finish() throws(SkerryError) {
    guard let unknown = entries.keys.filter({ !asked.contains($0) }).min() else { return }
    throw SkerryError(
      .invalidArgument, "\(place(unknown)) is not known; known are: \(asked.sorted().joined(separator: ", "))")
  }
}
