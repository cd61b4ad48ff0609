import Base

/// What a plain scalar means.
enum YAMLScalar {
  /// The value; nil for numbers that JSON cannot hold (infinities, NaN, integers beyond 64 bits).
  static func resolve(_ text: String) -> Value? {
    switch text {
    case "", "~", "null", "Null", "NULL": return .null
    case "true", "True", "TRUE": return .bool(true)
    case "false", "False", "FALSE": return .bool(false)
    case ".inf", ".Inf", ".INF", "+.inf", "-.inf", "-.Inf", "-.INF", ".nan", ".NaN", ".NAN": return nil
    default: break
    }
    guard let first = text.utf8.first, isDigit(first) || first == plus || first == minus || first == dot else {
      return .string(text)
    }
    if let integer = integer(text) { return integer.map(Value.int) }
    if isFloat(text) { return Double(text).flatMap { $0.isFinite ? .double($0) : nil } }
    return .string(text)
  }

  private static let plus = UInt8(ascii: "+")
  private static let minus = UInt8(ascii: "-")
  private static let dot = UInt8(ascii: ".")
  private static func isDigit(_ byte: UInt8) -> Bool { (0x30...0x39).contains(byte) }

  /// The outer nil: no integer; the inner: one that does not fit.
  private static func integer(_ text: String) -> Int64?? {
    var digits = Substring(text)
    let negative = digits.first == "-"
    if negative || digits.first == "+" { digits.removeFirst() }
    var radix = 10
    if digits.hasPrefix("0x") {
      (radix, digits) = (16, digits.dropFirst(2))
    } else if digits.hasPrefix("0o") {
      (radix, digits) = (8, digits.dropFirst(2))
    } else if digits.count > 1, digits.hasPrefix("0"), digits.utf8.allSatisfy({ (0x30...0x37).contains($0) }) {
      (radix, digits) = (8, digits.dropFirst())
    }
    guard !digits.isEmpty, digits.allSatisfy({ $0.isASCII && $0.isHexDigit }) else { return nil }
    guard radix == 16 || digits.utf8.allSatisfy(isDigit) else { return nil }
    guard radix != 8 || digits.utf8.allSatisfy({ $0 < 0x38 }) else { return nil }
    return .some(Int64((negative ? "-" : "") + digits, radix: radix))
  }

  /// `[-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )?`
  private static func isFloat(_ text: String) -> Bool {
    var rest = text.utf8[...]
    func takeDigits() -> Int {
      let digits = rest.prefix { isDigit($0) }.count
      rest = rest.dropFirst(digits)
      return digits
    }
    if rest.first == plus || rest.first == minus { rest = rest.dropFirst() }
    let whole = takeDigits()
    var fraction = 0
    if rest.first == dot {
      rest = rest.dropFirst()
      fraction = takeDigits()
    }
    guard whole + fraction > 0 else { return false }
    if rest.first == UInt8(ascii: "e") || rest.first == UInt8(ascii: "E") {
      rest = rest.dropFirst()
      if rest.first == plus || rest.first == minus { rest = rest.dropFirst() }
      guard takeDigits() > 0 else { return false }
    }
    return rest.isEmpty
  }
}
