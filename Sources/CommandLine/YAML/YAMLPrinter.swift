import Base

/// Prints values as `kubectl -o yaml` does: block style, keys in alphabetical order, lists not indented.
enum YAMLPrinter {
  static func print(_ value: Value) -> String {
    var out = ""
    switch value {
    case .object(let fields) where !fields.isEmpty: write(fields, 0, &out)
    case .array(let values) where !values.isEmpty: write(values, 0, &out)
    default: out = scalar(value, 0) + "\n"
    }
    return out
  }

  private static func write(_ fields: Value.Fields, _ indent: Int, _ out: inout String, firstInline: Bool = false) {
    var inline = firstInline
    for (key, value) in fields.sorted(by: { $0.key < $1.key }) {
      if !inline { out += String(repeating: " ", count: indent) }
      inline = false
      out += "\(string(key)):"
      switch value {
      case .object(let inner) where !inner.isEmpty:
        out += "\n"
        write(inner, indent + 2, &out)
      case .array(let values) where !values.isEmpty:
        out += "\n"
        write(values, indent, &out)
      default: out += " \(scalar(value, indent + 2))\n"
      }
    }
  }

  private static func write(_ values: [Value], _ indent: Int, _ out: inout String, firstInline: Bool = false) {
    var inline = firstInline
    for value in values {
      if !inline { out += String(repeating: " ", count: indent) }
      inline = false
      out += "- "
      switch value {
      case .object(let inner) where !inner.isEmpty: write(inner, indent + 2, &out, firstInline: true)
      case .array(let inner) where !inner.isEmpty: write(inner, indent + 2, &out, firstInline: true)
      default: out += "\(scalar(value, indent + 2))\n"
      }
    }
  }

  private static func scalar(_ value: Value, _ indent: Int) -> String {
    switch value {
    case .null: "null"
    case .bool(let flag): flag ? "true" : "false"
    case .int(let number): String(number)
    case .double(let number): number.description
    case .string(let text): block(text, indent) ?? string(text)
    case .array: "[]"
    case .object: "{}"
    }
  }

  /// Text of several lines as a literal block; nil where a block could not hold it exactly.
  private static func block(_ text: String, _ indent: Int) -> String? {
    guard text.contains("\n"), let first = text.first, !first.isWhitespace else { return nil }
    var lines = text.split(separator: "\n", omittingEmptySubsequences: false)
    let printable = text.unicodeScalars.allSatisfy {
      $0 == "\n" || $0 == "\t" || ($0.value >= 0x20 && $0.value != 0x7f)
    }
    guard printable, !lines.contains(where: { $0.last?.isWhitespace == true || $0.contains("\u{85}") }) else {
      return nil
    }
    var mark = "|-"
    if lines.last?.isEmpty == true {
      lines.removeLast()
      mark = lines.last?.isEmpty == true ? "|+" : "|"
    }
    let margin = String(repeating: " ", count: indent)
    return mark + "\n" + lines.map { $0.isEmpty ? "" : margin + $0 }.joined(separator: "\n")
  }

  /// A string on one line: plain where it reads back as the same string, else in double quotes.
  static func string(_ text: String) -> String { isPlain(text) ? text : quoted(text) }

  private static let words: Set<String> = [
    "y", "Y", "yes", "Yes", "YES", "n", "N", "no", "No", "NO", "on", "On", "ON", "off", "Off", "OFF", "=", "<<",
  ]

  private static func isPlain(_ text: String) -> Bool {
    guard let first = text.unicodeScalars.first, let last = text.unicodeScalars.last else { return false }
    guard !words.contains(text), YAMLScalar.resolve(text) == .string(text) else { return false }
    func safe(_ scalar: Unicode.Scalar) -> Bool {
      scalar.isASCII
        ? scalar.properties.isAlphabetic || (0x30...0x39).contains(scalar.value)
          || " -_./:@+=~%,*&!|>()[]{}<^$;'\"?#`\\".unicodeScalars.contains(scalar)
        : scalar.properties.isAlphabetic
    }
    guard text.unicodeScalars.allSatisfy(safe), last != " ", last != ":" else { return false }
    guard first.properties.isAlphabetic || (0x30...0x39).contains(first.value) || "/._$(".unicodeScalars.contains(first)
    else { return false }
    if text.contains(": ") || text.contains(" #") { return false }
    // What other readers take for a time or a number in base 60.
    return
      !((0x30...0x39).contains(first.value)
      && text.utf8.allSatisfy { (0x30...0x3a).contains($0) || [0x2d, 0x2e, 0x54, 0x5a, 0x2b, 0x20, 0x5f].contains($0) }
      && text.utf8.contains { $0 == 0x3a || $0 == 0x2d || $0 == 0x5f })
  }

  private static func quoted(_ text: String) -> String {
    var out = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": out += "\\\""
      case "\\": out += "\\\\"
      case "\n": out += "\\n"
      case "\t": out += "\\t"
      case "\r": out += "\\r"
      case _ where scalar.value < 0x20 || scalar.value == 0x7f: out += "\\x\([UInt8(scalar.value)].hex)"
      case "\u{85}", "\u{a0}", "\u{2028}", "\u{2029}", "\u{feff}":
        let digits = String(scalar.value, radix: 16)
        out += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
      default: out.unicodeScalars.append(scalar)
      }
    }
    return out + "\""
  }
}
