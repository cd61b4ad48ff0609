import Base

/// Appends CBOR items in RFC 8949's core deterministic form (section 4.2.1): shortest heads, definite lengths.
///
/// What it cannot know is the order of map keys: whoever writes a map head then writes keys in order (shorter
/// encoded keys first, then by bytes), as `Value.Fields` keeps them.
package struct CBORWriter: Sendable {
  package private(set) var bytes: Bytes

  package init(reservingCapacity capacity: Int = 0) {
    bytes = []
    bytes.reserveCapacity(capacity)
  }

  /// Major types, in the top three bits of an item's first byte (RFC 8949 section 3.1).
  enum Major {
    static let unsigned: UInt8 = 0x00
    static let negative: UInt8 = 0x20
    static let bytes: UInt8 = 0x40
    static let text: UInt8 = 0x60
    static let array: UInt8 = 0x80
    static let map: UInt8 = 0xa0
    static let tag: UInt8 = 0xc0
    static let simple: UInt8 = 0xe0
  }

  private mutating func head(_ major: UInt8, _ argument: UInt64) {
    switch argument {
    case 0..<24: bytes.append(major | UInt8(argument))
    case ...0xff:
      bytes.append(major | 24)
      bytes.append(UInt8(argument))
    case ...0xffff:
      bytes.append(major | 25)
      bytes.append(bigEndian: UInt16(argument))
    case ...0xffff_ffff:
      bytes.append(major | 26)
      bytes.append(bigEndian: UInt32(argument))
    default:
      bytes.append(major | 27)
      bytes.append(bigEndian: argument)
    }
  }

  package mutating func uint(_ value: UInt64) { head(Major.unsigned, value) }

  package mutating func int(_ value: Int64) {
    if value >= 0 { head(Major.unsigned, UInt64(value)) } else { head(Major.negative, UInt64(bitPattern: ~value)) }
  }

  package mutating func bool(_ value: Bool) { bytes.append(value ? 0xf5 : 0xf4) }
  package mutating func null() { bytes.append(0xf6) }

  /// The shortest of half, single and double precision that is exact. JSON has no NaN and no infinity: they are
  /// written as null, as ECMAScript's JSON.stringify does.
  package mutating func double(_ value: Double) {
    guard value.isFinite else { return null() }
    let half = Float16(value)
    let single = Float(value)
    if Double(half) == value {
      bytes.append(0xf9)
      bytes.append(bigEndian: half.bitPattern)
    } else if Double(single) == value {
      bytes.append(0xfa)
      bytes.append(bigEndian: single.bitPattern)
    } else {
      bytes.append(0xfb)
      bytes.append(bigEndian: value.bitPattern)
    }
  }

  package mutating func text(_ value: String) {
    head(Major.text, UInt64(value.utf8.count))
    bytes.append(contentsOf: value.utf8)
  }

  /// A byte string; for protocol messages only, since JSON's data model has none. The usual case has a form of its own:
  /// other rooms would copy byte by byte through the generic one.
  package mutating func byteString(_ value: Bytes) {
    head(Major.bytes, UInt64(value.count))
    bytes.append(contentsOf: value)
  }

  /// The same of any bytes.
  package mutating func byteString(_ value: some Collection<UInt8>) {
    head(Major.bytes, UInt64(value.count))
    bytes.append(contentsOf: value)
  }

  /// The head of an array; `count` items follow.
  package mutating func array(_ count: Int) { head(Major.array, UInt64(count)) }
  /// The head of a map; `count` pairs of key and value follow, in key order.
  package mutating func map(_ count: Int) { head(Major.map, UInt64(count)) }

  /// An item that is encoded already, as it is.
  package mutating func raw(_ item: Bytes) { bytes.append(contentsOf: item) }

  /// The same of an item among others.
  package mutating func raw(_ message: Bytes, _ place: Range<Int>) { bytes.append(contentsOf: message[place]) }

  /// The same of any bytes.
  package mutating func raw(_ item: some Collection<UInt8>) { bytes.append(contentsOf: item) }

  /// A whole value tree.
  package mutating func value(_ value: Value) {
    switch value {
    case .null: null()
    case .bool(let flag): bool(flag)
    case .int(let number): int(number)
    case .double(let number): double(number)
    case .string(let string): text(string)
    case .array(let items):
      array(items.count)
      for item in items { self.value(item) }
    case .object(let fields):
      map(fields.count)
      for (key, member) in fields {
        text(key)
        self.value(member)
      }
    }
  }
}
