import Base

/// One option of a scenario: how it is called, what it means, and what it is when it is not given.
struct Option: Sendable {
  enum Kind: Sendable {
    case int(ClosedRange<Int>)
    case rate(ClosedRange<Double>)
    case duration(ClosedRange<Duration>)
    case bytes(ClosedRange<Int>)
    case text
    case flag
  }
  let name: String
  let kind: Kind
  let standard: String
  let help: String

  init(_ name: String, _ kind: Kind, _ standard: String, _ help: String) {
    self.name = name
    self.kind = kind
    self.standard = standard
    self.help = help
  }

  var placeholder: String {
    switch kind {
    case .int: "N"
    case .rate: "PER-SECOND"
    case .duration: "TIME"
    case .bytes: "SIZE"
    case .text: "TEXT"
    case .flag: ""
    }
  }
}

/// The options of one call, checked against their table before anything starts.
struct Options: Sendable {
  private let table: [String: Option]
  private var values: [String: String] = [:]
  /// What is left: the operands.
  private(set) var operands: [String] = []

  /// Takes `--name VALUE`, `--name=VALUE` and `--flag`. Throws with what is wrong and what is known.
  init(_ arguments: [String], _ options: [Option], command: String, operands most: Int = 0) throws(SkerryError) {
    var table: [String: Option] = [:]
    for option in options { table[option.name] = option }
    self.table = table
    var rest = arguments[...]
    while let argument = rest.popFirst() {
      guard argument.hasPrefix("--") else {
        operands.append(argument)
        continue
      }
      let parts = argument.dropFirst(2).split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        .map(String.init)
      guard let name = parts.first, let option = table[name] else {
        throw SkerryError(
          .invalidArgument, "\(command) has no option \(argument); see skerry-bench \(command) --help")
      }
      if case .flag = option.kind {
        values[name] = "true"
        continue
      }
      guard let value = parts.count == 2 ? parts[1] : rest.popFirst() else {
        throw SkerryError(.invalidArgument, "--\(name) needs a value (\(option.placeholder))")
      }
      values[name] = value
      try check(option, value)
    }
    guard operands.count <= most else {
      throw SkerryError(
        .invalidArgument, "\(command) takes no \"\(operands[most])\"; see skerry-bench \(command) --help")
    }
  }

  /// Sets what a caller's own sizes are, unless the user gave it.
  mutating func prefer(_ name: String, _ value: String) {
    if values[name] == nil, table[name] != nil { values[name] = value }
  }

  func has(_ name: String) -> Bool { table[name] != nil }

  private func check(_ option: Option, _ text: String) throws(SkerryError) {
    switch option.kind {
    case .int(let range):
      guard let number = Int(text), range.contains(number) else { throw Self.wrong(option, text, "\(range)") }
    case .bytes(let range):
      guard let number = Self.size(text), range.contains(number) else {
        throw Self.wrong(option, text, "\(range) bytes")
      }
    case .rate(let range):
      guard let number = Double(text), range.contains(number) else { throw Self.wrong(option, text, "\(range)") }
    case .duration(let range):
      guard let time = Self.time(text), range.contains(time) else {
        throw Self.wrong(option, text, "\(range.lowerBound) to \(range.upperBound), as in 500ms, 15s, 10m or 2h")
      }
    case .text, .flag: break
    }
  }

  private static func wrong(_ option: Option, _ text: String, _ range: String) -> SkerryError {
    SkerryError(.invalidArgument, "--\(option.name) cannot be \"\(text)\": it is \(range) (\(option.help))")
  }

  private func text(of name: String) -> String { values[name] ?? table[name]?.standard ?? "" }

  func string(_ name: String) -> String? {
    let text = text(of: name)
    return text.isEmpty ? nil : text
  }
  func flag(_ name: String) -> Bool { text(of: name) == "true" }
  func int(_ name: String) -> Int { Int(text(of: name)) ?? 0 }
  func double(_ name: String) -> Double { Double(text(of: name)) ?? 0 }
  func bytes(_ name: String) -> Int { Self.size(text(of: name)) ?? 0 }
  func duration(_ name: String) -> Duration { Self.time(text(of: name)) ?? .zero }
  /// What was set, for the result's parameters.
  var parameters: [(String, String)] {
    table.values.sorted { $0.name < $1.name }.compactMap { option in
      let text = text(of: option.name)
      return text.isEmpty || text == "false" ? nil : (option.name, text)
    }
  }

  static func size(_ text: String) -> Int? {
    for (unit, factor) in [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("", 1)] where text.hasSuffix(unit) {
      return Int(text.dropLast(unit.count)).flatMap { $0 >= 0 && $0 < 1 << 32 ? $0 * factor : nil }
    }
    return nil
  }

  static func time(_ text: String) -> Duration? {
    let units: [(String, Duration)] = [
      ("ms", .milliseconds(1)), ("us", .microseconds(1)), ("s", .seconds(1)), ("m", .seconds(60)),
      ("h", .seconds(3600)),
    ]
    for (unit, length) in units where text.hasSuffix(unit) {
      if let count = Int(text.dropLast(unit.count)), (0...1_000_000_000).contains(count) { return length * count }
    }
    return nil
  }
}

/// Options that several commands share.
extension Option {
  static let common: [Option] = [
    Option("runs", .int(1...25), "1", "interleaved runs; the figures are their medians, with minimum and maximum"),
    Option("seed", .int(0...Int.max), "1", "of everything that is drawn"),
    Option("json", .text, "", "write the result to this file"),
    Option("report", .text, "", "write one self-contained HTML page with plots to this file"),
    Option("data", .text, "", "where servers keep their data (default: a new directory below $TMPDIR or /tmp)"),
    Option("server", .text, "", "HOST:PORT of a cloudcore that runs; else one is started and ended"),
    Option("server-pid", .int(0...4_194_304), "0", "its process, to read its CPU and memory if it runs here"),
    Option("enrol", .text, "", "join tokens of that server with enough uses, commas between them: hollow nodes join"),
    Option("ca", .text, "", "the CA's certificate of that server"),
    Option("cert", .text, "", "an administrator's certificate of that server"),
    Option("key", .text, "", "its key"),
    Option("program", .text, "", "the cloudcore to start (default: the one beside this program)"),
    Option("accept-rate", .int(1...100_000), "2000", "connections a second that the started cloudcore takes"),
    Option("concurrency", .int(1...2_000), "64", "handshakes at a time, each worker"),
    Option("deadline", .duration(.seconds(1)...(.seconds(86_400))), "300s", "how long any one phase may take"),
    Option("keep", .flag, "false", "keep the data directory"),
  ]
}
