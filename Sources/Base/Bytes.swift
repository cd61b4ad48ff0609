import Glibc

/// Bytes are `[UInt8]` everywhere below the command line: immutable when `let`, shared by reference, no `Data`.
package typealias Bytes = [UInt8]

extension Collection where Element == UInt8 {
  /// Lower-case hexadecimal, two digits a byte.
  package var hex: String {
    let digits: [UInt8] = Array("0123456789abcdef".utf8)
    var out: [UInt8] = []
    out.reserveCapacity(count * 2)
    for byte in self {
      out.append(digits[Int(byte >> 4)])
      out.append(digits[Int(byte & 15)])
    }
    return String(decoding: out, as: UTF8.self)
  }
}

extension [UInt8] {
  /// The bytes that a hexadecimal string of even length names, or nil.
  package init?(hex: some StringProtocol) {
    let text = Array(hex.utf8)
    guard text.count.isMultiple(of: 2) else { return nil }
    self = []
    reserveCapacity(text.count / 2)
    for index in stride(from: 0, to: text.count, by: 2) {
      guard let high = Self.nibble(text[index]), let low = Self.nibble(text[index + 1]) else { return nil }
      append(high << 4 | low)
    }
  }

  private static func nibble(_ ascii: UInt8) -> UInt8? {
    switch ascii {
    case 0x30...0x39: ascii - 0x30
    case 0x61...0x66: ascii - 0x61 + 10
    case 0x41...0x46: ascii - 0x41 + 10
    default: nil
    }
  }

  /// Appends an integer in network byte order. Inlinable, as its twin below: other rooms would run the unspecialised form,
  /// which costs a hundred times as much.
  @inlinable
  package mutating func append<I: FixedWidthInteger>(bigEndian value: I) {
    Swift.withUnsafeBytes(of: value.bigEndian) { append(contentsOf: $0) }
  }
}

extension [UInt8] {
  /// The same as `==`, which compares one byte after the other.
  package func hasSameBytes(as other: Bytes) -> Bool {
    guard count == other.count else { return false }
    return withUnsafeBytes { mine in
      other.withUnsafeBytes { theirs in
        guard let first = mine.baseAddress, let second = theirs.baseAddress else { return true }
        return first == second || memcmp(first, second, mine.count) == 0
      }
    }
  }
}

extension String {
  /// Whether all of it is ASCII. Swift takes two spellings of a letter outside of it for equal, and where bytes matter they
  /// are not: such keys belong in no dictionary.
  package var isASCII: Bool {
    utf8.withContiguousStorageIfAvailable { bytes in
      let raw = UnsafeRawBufferPointer(bytes)
      var seen: UInt64 = 0
      var index = 0
      while index + 8 <= raw.count {
        seen |= raw.loadUnaligned(fromByteOffset: index, as: UInt64.self)
        index += 8
      }
      while index < raw.count {
        seen |= UInt64(raw[index])
        index += 1
      }
      return seen & 0x8080_8080_8080_8080 == 0
    } ?? utf8.allSatisfy { $0 < 0x80 }
  }

  /// Whether this byte is in it.
  package func holds(_ byte: UInt8) -> Bool {
    utf8.withContiguousStorageIfAvailable { bytes in
      bytes.baseAddress.map { memchr($0, Int32(byte), bytes.count) != nil } ?? false
    } ?? utf8.contains(byte)
  }
}

extension RandomAccessCollection where Element == UInt8, Index == Int {
  /// The integer in network byte order at `offset` from the start; the caller has checked that it is there.
  @inlinable
  package func bigEndian<I: FixedWidthInteger>(at offset: Int, as: I.Type = I.self) -> I {
    var value: I = 0
    for index in 0..<(I.bitWidth / 8) { value = value << 8 | I(truncatingIfNeeded: self[startIndex + offset + index]) }
    return value
  }
}
