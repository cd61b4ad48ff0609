import Base

extension JSON {
  /// The value that a whole text stands for.
  package static func parse(
    _ text: Bytes, maxBytes: Int = JSON.maxBytes, maxDepth: Int = JSON.maxDepth
  ) throws(JSONError) -> Value {
    guard text.count <= maxBytes else {
      throw JSONError(message: "the text has \(text.count) bytes; at most \(maxBytes) are taken", line: 1, column: 1)
    }
    var parser = JSONParser(text: text, maxDepth: maxDepth)
    return try parser.document()
  }

  /// The value that a whole text stands for.
  package static func parse(_ text: String) throws(JSONError) -> Value { try parse(Bytes(text.utf8)) }
}

/// Recursive descent over bytes; the depth is bounded, so the stack is.
private struct JSONParser {
  private let text: Bytes
  private let maxDepth: Int
  private var offset = 0
  private var depth = 0

  init(text: Bytes, maxDepth: Int) {
    self.text = text
    self.maxDepth = maxDepth
  }

  mutating func document() throws(JSONError) -> Value {
    skipSpace()
    let value = try parseValue()
    skipSpace()
    if offset < text.count { throw error("unexpected text after the value") }
    return value
  }

  private func error(_ message: String, at place: Int? = nil) -> JSONError {
    let end = min(place ?? offset, text.count)
    var (line, start) = (1, 0)
    for index in 0..<end where text[index] == 0x0a {
      line += 1
      start = index + 1
    }
    return JSONError(message: message, line: line, column: end - start + 1)
  }

  private mutating func skipSpace() {
    while offset < text.count {
      switch text[offset] {
      case 0x20, 0x0a, 0x0d, 0x09: offset += 1
      default: return
      }
    }
  }

  private mutating func parseValue() throws(JSONError) -> Value {
    guard offset < text.count else { throw error("the text ends where a value should begin") }
    switch text[offset] {
    case UInt8(ascii: "{"): return try parseObject()
    case UInt8(ascii: "["): return try parseArray()
    case UInt8(ascii: "\""): return .string(try parseString())
    case UInt8(ascii: "t"): return try parseWord("true", .bool(true))
    case UInt8(ascii: "f"): return try parseWord("false", .bool(false))
    case UInt8(ascii: "n"): return try parseWord("null", .null)
    case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return try parseNumber()
    default: throw error("a value cannot begin with \(describe(text[offset]))")
    }
  }

  private func describe(_ byte: UInt8) -> String {
    byte > 0x20 && byte < 0x7f ? "'\(Character(Unicode.Scalar(byte)))'" : "byte 0x\([byte].hex)"
  }

  private mutating func parseWord(_ word: StaticString, _ value: Value) throws(JSONError) -> Value {
    let expected = Array("\(word)".utf8)
    guard text.count - offset >= expected.count, text[offset..<offset + expected.count].elementsEqual(expected) else {
      throw error("expected \(word)")
    }
    offset += expected.count
    return value
  }

  private mutating func enter() throws(JSONError) {
    guard depth < maxDepth else { throw error("nested deeper than \(maxDepth) levels") }
    depth += 1
    offset += 1
    skipSpace()
  }

  private mutating func parseArray() throws(JSONError) -> Value {
    try enter()
    var values: [Value] = []
    if take(UInt8(ascii: "]")) {
      depth -= 1
      return .array(values)
    }
    while true {
      values.append(try parseValue())
      skipSpace()
      if take(UInt8(ascii: ",")) {
        skipSpace()
        continue
      }
      guard take(UInt8(ascii: "]")) else { throw error("expected ',' or ']' in an array") }
      depth -= 1
      return .array(values)
    }
  }

  private mutating func take(_ byte: UInt8) -> Bool {
    guard offset < text.count, text[offset] == byte else { return false }
    offset += 1
    return true
  }

  private mutating func parseObject() throws(JSONError) -> Value {
    try enter()
    var members: [(key: String, value: Value, offset: Int)] = []
    if take(UInt8(ascii: "}")) {
      depth -= 1
      return .object(Value.Fields())
    }
    while true {
      let place = offset
      guard offset < text.count, text[offset] == UInt8(ascii: "\"") else {
        throw error("expected a member name in double quotes")
      }
      let key = try parseString()
      skipSpace()
      guard take(UInt8(ascii: ":")) else { throw error("expected ':' after the member name \"\(key)\"") }
      skipSpace()
      members.append((key, try parseValue(), place))
      skipSpace()
      if take(UInt8(ascii: ",")) {
        skipSpace()
        continue
      }
      guard take(UInt8(ascii: "}")) else { throw error("expected ',' or '}' in an object") }
      depth -= 1
      return .object(try fields(members))
    }
  }

  /// Sorts once instead of inserting one by one: a hostile object of many members costs n log n.
  private func fields(_ members: [(key: String, value: Value, offset: Int)]) throws(JSONError) -> Value.Fields {
    var fields = Value.Fields()
    fields.reserveCapacity(members.count)
    for member in members.sorted(by: { Value.Fields.precedes($0.key, $1.key) }) {
      guard fields.appendLast(member.key, member.value) else {
        let last = members.last(where: { $0.key == member.key })
        throw error("duplicate member name \"\(member.key)\"", at: last?.offset)
      }
    }
    return fields
  }

  // MARK: Strings

  private mutating func parseString() throws(JSONError) -> String {
    let opening = offset
    offset += 1
    let start = offset
    while offset < text.count {
      switch text[offset] {
      case UInt8(ascii: "\""):
        let string = try validated(text[start..<offset], at: start)
        offset += 1
        return string
      case UInt8(ascii: "\\"): return try parseEscaped(from: start, opening: opening)
      case 0..<0x20: throw error("a control character in a string must be escaped")
      default: offset += 1
      }
    }
    throw error("the string does not end", at: opening)
  }

  private func validated(_ bytes: some Collection<UInt8>, at place: Int) throws(JSONError) -> String {
    guard let string = String(validating: bytes, as: UTF8.self) else {
      throw error("the string is not valid UTF-8", at: place)
    }
    return string
  }

  private mutating func parseEscaped(from start: Int, opening: Int) throws(JSONError) -> String {
    var out = Bytes(text[start..<offset])
    while offset < text.count {
      let byte = text[offset]
      switch byte {
      case UInt8(ascii: "\""):
        offset += 1
        return try validated(out, at: start)
      case UInt8(ascii: "\\"):
        offset += 1
        try parseEscape(into: &out)
      case 0..<0x20: throw error("a control character in a string must be escaped")
      default:
        out.append(byte)
        offset += 1
      }
    }
    throw error("the string does not end", at: opening)
  }

  private mutating func parseEscape(into out: inout Bytes) throws(JSONError) {
    guard offset < text.count else { throw error("the string does not end") }
    let byte = text[offset]
    offset += 1
    switch byte {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): out.append(byte)
    case UInt8(ascii: "b"): out.append(0x08)
    case UInt8(ascii: "f"): out.append(0x0c)
    case UInt8(ascii: "n"): out.append(0x0a)
    case UInt8(ascii: "r"): out.append(0x0d)
    case UInt8(ascii: "t"): out.append(0x09)
    case UInt8(ascii: "u"): try parseUnicode(into: &out)
    default: throw error("unknown escape \\\(Character(Unicode.Scalar(byte)))", at: offset - 1)
    }
  }

  private mutating func parseUnicode(into out: inout Bytes) throws(JSONError) {
    let place = offset - 2
    var code = UInt32(try hex4())
    if (0xd800..<0xdc00).contains(code) {
      guard take(UInt8(ascii: "\\")), take(UInt8(ascii: "u")) else {
        throw error("a high surrogate without its low one", at: place)
      }
      let low = UInt32(try hex4())
      guard (0xdc00..<0xe000).contains(low) else { throw error("a high surrogate without its low one", at: place) }
      code = 0x10000 + (code - 0xd800) << 10 + (low - 0xdc00)
    }
    guard let scalar = Unicode.Scalar(code) else { throw error("a low surrogate without its high one", at: place) }
    out.append(contentsOf: UTF8.encode(scalar) ?? UTF8.encodedReplacementCharacter)
  }

  private mutating func hex4() throws(JSONError) -> UInt16 {
    guard text.count - offset >= 4,
      let digits = String(validating: text[offset..<offset + 4], as: UTF8.self), !digits.hasPrefix("+"),
      !digits.hasPrefix("-"), let code = UInt16(digits, radix: 16)
    else { throw error("\\u needs four hexadecimal digits") }
    offset += 4
    return code
  }

  // MARK: Numbers

  private mutating func digits() -> Int {
    let start = offset
    while offset < text.count, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(text[offset]) { offset += 1 }
    return offset - start
  }

  private mutating func parseNumber() throws(JSONError) -> Value {
    let start = offset
    _ = take(UInt8(ascii: "-"))
    let first = offset
    let whole = digits()
    guard whole > 0 else { throw error("a number needs digits") }
    if whole > 1, text[first] == UInt8(ascii: "0") { throw error("a number cannot begin with 0", at: first) }
    var integral = true
    if take(UInt8(ascii: ".")) {
      integral = false
      guard digits() > 0 else { throw error("a number needs digits after its point") }
    }
    if take(UInt8(ascii: "e")) || take(UInt8(ascii: "E")) {
      integral = false
      if !take(UInt8(ascii: "+")) { _ = take(UInt8(ascii: "-")) }
      guard digits() > 0 else { throw error("a number needs digits in its exponent") }
    }
    let literal = String(decoding: text[start..<offset], as: UTF8.self)
    if integral, let value = Int64(literal) { return .int(value) }
    guard let value = Double(literal), value.isFinite else { throw error("the number is out of range", at: start) }
    return .double(value)
  }
}
