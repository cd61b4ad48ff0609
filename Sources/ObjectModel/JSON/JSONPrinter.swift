import Base

extension JSON {
  /// JSON text with keys in alphabetical (byte) order: compact, or pretty with `indent` spaces a level.
  ///
  /// Doubles keep a point or exponent, so that they read back as doubles. What JSON cannot say (infinities, NaN)
  /// becomes null.
  package static func print(_ value: Value, indent: Int? = nil) -> String {
    String(decoding: bytes(value, indent: indent), as: UTF8.self)
  }

  /// The same as UTF-8.
  package static func bytes(_ value: Value, indent: Int? = nil) -> Bytes {
    var printer = JSONPrinter(indent: indent)
    printer.write(value, level: 0)
    return printer.out
  }
}

private struct JSONPrinter {
  var out: Bytes = []
  let indent: Int?

  init(indent: Int?) { self.indent = indent }

  mutating func write(_ value: Value, level: Int) {
    switch value {
    case .null: out.append(contentsOf: "null".utf8)
    case .bool(let flag): out.append(contentsOf: (flag ? "true" : "false").utf8)
    case .int(let number): out.append(contentsOf: String(number).utf8)
    case .double(let number): out.append(contentsOf: (number.isFinite ? number.description : "null").utf8)
    case .string(let text): write(text)
    case .array(let values): write(values, level: level)
    case .object(let fields): write(fields, level: level)
    }
  }

  private mutating func write(_ values: [Value], level: Int) {
    out.append(UInt8(ascii: "["))
    for (index, value) in values.enumerated() {
      if index > 0 { out.append(UInt8(ascii: ",")) }
      newLine(level + 1)
      write(value, level: level + 1)
    }
    if !values.isEmpty { newLine(level) }
    out.append(UInt8(ascii: "]"))
  }

  private mutating func write(_ fields: Value.Fields, level: Int) {
    out.append(UInt8(ascii: "{"))
    let sorted = fields.sorted { $0.key.utf8.lexicographicallyPrecedes($1.key.utf8) }
    for (index, member) in sorted.enumerated() {
      if index > 0 { out.append(UInt8(ascii: ",")) }
      newLine(level + 1)
      write(member.key)
      out.append(UInt8(ascii: ":"))
      if indent != nil { out.append(UInt8(ascii: " ")) }
      write(member.value, level: level + 1)
    }
    if !sorted.isEmpty { newLine(level) }
    out.append(UInt8(ascii: "}"))
  }

  private mutating func newLine(_ level: Int) {
    guard let indent else { return }
    out.append(0x0a)
    out.append(contentsOf: repeatElement(0x20, count: indent * level))
  }

  private mutating func write(_ text: String) {
    out.append(UInt8(ascii: "\""))
    for byte in text.utf8 {
      switch byte {
      case UInt8(ascii: "\""), UInt8(ascii: "\\"):
        out.append(UInt8(ascii: "\\"))
        out.append(byte)
      case 0x0a: out.append(contentsOf: "\\n".utf8)
      case 0x0d: out.append(contentsOf: "\\r".utf8)
      case 0x09: out.append(contentsOf: "\\t".utf8)
      case 0..<0x20, 0x7f: out.append(contentsOf: "\\u00\([byte].hex)".utf8)
      default: out.append(byte)
      }
    }
    out.append(UInt8(ascii: "\""))
  }
}
