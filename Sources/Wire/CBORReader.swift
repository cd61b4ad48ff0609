import Base

/// Bounds of what a decoder takes from an outsider.
package struct CBORLimits: Sendable {
  /// Nesting; stops a recursion that ends the stack.
  package var maxDepth = 64
  /// Items in one decoded value; a one-byte item becomes 24 bytes of memory, so bytes alone bound too little.
  package var maxItems = 500_000
  package init() {}
}

/// Reads CBOR items one after another, and takes none but RFC 8949's core deterministic form.
///
/// Every length is checked against the bytes that are there before anything is allocated. Errors have the code
/// `invalidArgument` and name the byte at which the input went wrong.
package struct CBORReader: Sendable {
  package let bytes: Bytes
  /// Index of the next byte to read.
  package private(set) var offset: Int
  private let end: Int
  private let limits: CBORLimits
  private var items = 0

  package init(_ bytes: Bytes, limits: CBORLimits = CBORLimits()) {
    self.init(bytes, in: 0..<bytes.count, limits: limits)
  }

  package init(_ bytes: Bytes, in range: Range<Int>, limits: CBORLimits = CBORLimits()) {
    self.bytes = bytes
    self.offset = range.lowerBound
    self.end = min(range.upperBound, bytes.count)
    self.limits = limits
  }

  package var isAtEnd: Bool { offset >= end }

  /// Throws unless everything was read.
  package func finish() throws(SkerryError) {
    guard isAtEnd else { throw error("unexpected bytes after the item") }
  }

  /// What kind of item comes next; nil at the end.
  package enum Kind: Sendable, Hashable {
    case uint, negative, bytes, text, array, map, tag, bool, null, float, other
  }
  package var next: Kind? {
    guard offset < end else { return nil }
    let byte = bytes[offset]
    switch byte & 0xe0 {
    case CBORWriter.Major.unsigned: return .uint
    case CBORWriter.Major.negative: return .negative
    case CBORWriter.Major.bytes: return .bytes
    case CBORWriter.Major.text: return .text
    case CBORWriter.Major.array: return .array
    case CBORWriter.Major.map: return .map
    case CBORWriter.Major.tag: return .tag
    default: break
    }
    switch byte {
    case 0xf4, 0xf5: return .bool
    case 0xf6: return .null
    case 0xf9, 0xfa, 0xfb: return .float
    default: return .other
    }
  }

  func error(_ message: String, at position: Int? = nil) -> SkerryError {
    SkerryError(.invalidArgument, "CBOR byte \(position ?? offset): \(message)")
  }

  // MARK: heads

  private mutating func head() throws(SkerryError) -> (major: UInt8, argument: UInt64) {
    guard offset < end else { throw error("the input ends inside an item") }
    let byte = bytes[offset]
    let (major, short) = (byte & 0xe0, byte & 0x1f)
    guard short >= 24 else {
      offset += 1
      return (major, UInt64(short))
    }
    guard short <= 27 else { throw error("indefinite lengths and reserved heads are not allowed") }
    let width = 1 << Int(short - 24)
    guard end - offset > width else { throw error("the input ends inside a head") }
    let argument: UInt64 =
      switch width {
      case 1: UInt64(bytes[offset + 1])
      case 2: UInt64(bytes.bigEndian(at: offset + 1, as: UInt16.self))
      case 4: UInt64(bytes.bigEndian(at: offset + 1, as: UInt32.self))
      default: bytes.bigEndian(at: offset + 1)
      }
    // Major 7 holds floats, whose shortest form is checked where their value is known.
    if major != CBORWriter.Major.simple {
      let least: UInt64 = width == 1 ? 24 : 1 << UInt64(width * 4)
      guard argument >= least else { throw error("not the shortest form") }
    }
    offset += 1 + width
    return (major, argument)
  }

  private mutating func head(_ major: UInt8, _ expected: String) throws(SkerryError) -> UInt64 {
    let start = offset
    // Most arguments are short.
    if offset < end, case let short = bytes[offset] ^ major, short < 24 {
      offset += 1
      return UInt64(short)
    }
    let head = try head()
    guard head.major == major else {
      offset = start
      throw error("expected \(expected)")
    }
    return head.argument
  }

  // MARK: single items

  package mutating func uint() throws(SkerryError) -> UInt64 {
    try head(CBORWriter.Major.unsigned, "an unsigned integer")
  }

  /// An unsigned integer no greater than `limit`.
  package mutating func uint(upTo limit: UInt64) throws(SkerryError) -> UInt64 {
    let start = offset
    let value = try uint()
    guard value <= limit else { throw error("\(value) is above the limit \(limit)", at: start) }
    return value
  }

  package mutating func int() throws(SkerryError) -> Int64 {
    let start = offset
    let (major, argument) = try head()
    guard major <= CBORWriter.Major.negative else { throw error("expected an integer", at: start) }
    guard let value = Int64(exactly: argument) else {
      throw error("the integer does not fit 64 signed bits", at: start)
    }
    return major == CBORWriter.Major.unsigned ? value : ~value
  }

  package mutating func bool() throws(SkerryError) -> Bool {
    guard next == .bool else { throw error("expected a boolean") }
    offset += 1
    return bytes[offset - 1] == 0xf5
  }

  /// Takes a null if one is next.
  package mutating func null() -> Bool {
    guard next == .null else { return false }
    offset += 1
    return true
  }

  package mutating func double() throws(SkerryError) -> Double {
    let start = offset
    guard next == .float else { throw error("expected a float") }
    let first = bytes[offset]
    let argument = try head().argument
    let value: Double
    let shortest: Bool
    switch first {
    case 0xf9:
      value = Double(Float16(bitPattern: UInt16(argument)))
      shortest = true
    case 0xfa:
      let single = Float(bitPattern: UInt32(argument))
      value = Double(single)
      shortest = Float(Float16(single)) != single
    default:
      value = Double(bitPattern: argument)
      shortest = Double(Float(value)) != value
    }
    guard value.isFinite else { throw error("JSON has no NaN and no infinity", at: start) }
    guard shortest else { throw error("not the shortest form", at: start) }
    return value
  }

  package mutating func text() throws(SkerryError) -> String {
    let start = offset
    let range = try string(CBORWriter.Major.text, "a text")
    let text: String? = unsafe bytes.withUnsafeBufferPointer { all in
      let part = unsafe UnsafeBufferPointer(rebasing: all[range])
      // ASCII is nearly everything, and needs no validation of its own.
      if unsafe Self.isASCII(part) { return unsafe String(decoding: part, as: UTF8.self) }
      return unsafe String(validating: part, as: UTF8.self)
    }
    guard let text else { throw error("the text is not UTF-8", at: start) }
    return text
  }

  /// A text that is a map's key, without a copy.
  package mutating func key() throws(SkerryError) -> CBORKey {
    let start = offset
    let place = try string(CBORWriter.Major.text, "a text")
    let isText = unsafe bytes.withUnsafeBufferPointer { all in
      let part = unsafe UnsafeBufferPointer(rebasing: all[place])
      return unsafe Self.isASCII(part) || String(validating: part, as: UTF8.self) != nil
    }
    guard isText else { throw error("the text is not UTF-8", at: start) }
    return CBORKey(bytes, place)
  }

  private static func isASCII(_ bytes: UnsafeBufferPointer<UInt8>) -> Bool {
    let raw = UnsafeRawBufferPointer(bytes)
    var offset = 0
    while offset + 32 <= raw.count {
      let words = unsafe raw.loadUnaligned(fromByteOffset: offset, as: SIMD4<UInt64>.self)
      guard words & SIMD4(repeating: 0x8080_8080_8080_8080) == .zero else { return false }
      offset += 32
    }
    while offset + 8 <= raw.count {
      guard unsafe raw.loadUnaligned(fromByteOffset: offset, as: UInt64.self) & 0x8080_8080_8080_8080 == 0 else {
        return false
      }
      offset += 8
    }
    while offset < raw.count {
      guard unsafe raw[offset] < 0x80 else { return false }
      offset += 1
    }
    return true
  }

  package mutating func byteString() throws(SkerryError) -> Bytes {
    Array(bytes[try string(CBORWriter.Major.bytes, "a byte string")])
  }

  /// The place of a byte string's content, without a copy.
  package mutating func byteStringRange() throws(SkerryError) -> Range<Int> {
    try string(CBORWriter.Major.bytes, "a byte string")
  }

  private mutating func string(_ major: UInt8, _ expected: String) throws(SkerryError) -> Range<Int> {
    let start = offset
    let length = try head(major, expected)
    guard length <= UInt64(end - offset) else { throw error("the input ends inside a string", at: start) }
    let range = offset..<(offset + Int(length))
    offset = range.upperBound
    return range
  }

  /// The number of items that follow as an array's.
  package mutating func array() throws(SkerryError) -> Int {
    let start = offset
    let count = try head(CBORWriter.Major.array, "an array")
    guard count <= UInt64(end - offset) else { throw error("the input ends inside an array", at: start) }
    return Int(count)
  }

  /// Throws unless an array of exactly `count` items is next.
  package mutating func array(of count: Int) throws(SkerryError) {
    let start = offset
    let found = try array()
    guard found == count else { throw error("expected an array of \(count), found \(found) items", at: start) }
  }

  /// The number of pairs that follow as a map's.
  package mutating func map() throws(SkerryError) -> Int {
    let start = offset
    let count = try head(CBORWriter.Major.map, "a map")
    guard count <= UInt64(end - offset) / 2 else { throw error("the input ends inside a map", at: start) }
    return Int(count)
  }

  // MARK: whole items

  /// The next item as a value tree.
  package mutating func value() throws(SkerryError) -> Value { try value(depth: 0) }

  private mutating func value(depth: Int) throws(SkerryError) -> Value {
    items += 1
    guard items <= limits.maxItems else { throw error("more than \(limits.maxItems) items") }
    switch next {
    case .uint, .negative: return .int(try int())
    case .text: return .string(try text())
    case .array: return .array(try arrayValue(depth: try deeper(depth)))
    case .map: return .object(try mapValue(depth: try deeper(depth)))
    case .bool: return .bool(try bool())
    case .float: return .double(try double())
    case .null:
      offset += 1
      return .null
    case .bytes: throw error("a byte string has no place in JSON's data model")
    case .tag: throw error("tags are not allowed")
    case .other: throw error("this simple value is not allowed")
    case nil: throw error("the input ends where an item is expected")
    }
  }

  private func deeper(_ depth: Int) throws(SkerryError) -> Int {
    guard depth < limits.maxDepth else { throw error("nested deeper than \(limits.maxDepth)") }
    return depth + 1
  }

  private mutating func arrayValue(depth: Int) throws(SkerryError) -> [Value] {
    let count = try array()
    var values: [Value] = []
    values.reserveCapacity(min(count, limits.maxItems))
    for _ in 0..<count { values.append(try value(depth: depth)) }
    return values
  }

  private mutating func mapValue(depth: Int) throws(SkerryError) -> Value.Fields {
    let count = try map()
    var fields = Value.Fields()
    fields.reserveCapacity(min(count, limits.maxItems))
    for _ in 0..<count {
      let start = offset
      let key = try text()
      guard fields.appendLast(key, try value(depth: depth)) else {
        throw error("the key \"\(key)\" is repeated or out of order", at: start)
      }
    }
    return fields
  }

  /// Steps over the next item, whatever it is, and answers where it lies. Checks its structure (lengths, shortest
  /// heads, nesting), not key order and not UTF-8: whoever decodes the item later does.
  @discardableResult
  package mutating func skip() throws(SkerryError) -> Range<Int> {
    let start = offset
    try skipItems(1, depth: 0)
    return start..<offset
  }

  private mutating func skipItems(_ count: UInt64, depth: Int) throws(SkerryError) {
    guard depth <= limits.maxDepth else { throw error("nested deeper than \(limits.maxDepth)") }
    for _ in 0..<count {
      let inside = try skipOne()
      if inside > 0 { try skipItems(inside, depth: depth + 1) }
    }
  }

  /// Steps over one head, with its content if that is a string; answers how many items are inside.
  private mutating func skipOne() throws(SkerryError) -> UInt64 {
    switch next {
    case .text: _ = try string(CBORWriter.Major.text, "a text")
    case .bytes: _ = try string(CBORWriter.Major.bytes, "a byte string")
    case .array: return UInt64(try array())
    case .map: return UInt64(try map()) * 2
    case .uint, .negative: _ = try head()
    case .float: _ = try double()
    case .bool, .null: offset += 1
    case .tag, .other: throw error("tags and other simple values are not allowed")
    case nil: throw error("the input ends where an item is expected")
    }
    return 0
  }

  /// The next item as it is encoded.
  package mutating func raw() throws(SkerryError) -> Bytes { Array(bytes[try skip()]) }
}
