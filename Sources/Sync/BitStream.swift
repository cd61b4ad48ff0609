import Base

/// Writes bits, the most significant first; the last byte is filled up with zeros.
package struct BitWriter: Sendable {
  private var out: Bytes = []
  private var accumulator: UInt64 = 0
  private var filled = 0

  package init() {}

  /// The bits so far.
  package var bitCount: Int { out.count * 8 + filled }

  /// The low `count` bits of `value`, 0 to 64 of them.
  package mutating func bits(_ value: UInt64, _ count: Int) {
    guard count > 0 else { return }
    if count > 32 {
      bits(value >> 32, count - 32)
      return bits(value & 0xffff_ffff, 32)
    }
    accumulator = accumulator << UInt64(count) | value & (1 << UInt64(count) - 1)
    filled += count
    while filled >= 8 {
      filled -= 8
      out.append(UInt8(truncatingIfNeeded: accumulator >> UInt64(filled)))
    }
  }

  package mutating func flag(_ value: Bool) { bits(value ? 1 : 0, 1) }

  /// A number in the prefix code of order `k`: its low `k` bits stand as they are; of the rest, the number of its bits
  /// in unary (so many ones and, below 64, a zero), then those bits without the leading one.
  package mutating func number(_ value: UInt64, order k: Int) {
    let high = k == 64 ? 0 : value >> UInt64(k)
    let width = 64 - high.leadingZeroBitCount
    bits(.max, width)
    if width < 64 { bits(0, 1) }
    if width > 1 { bits(high, width - 1) }
    bits(value, k)
  }

  /// How many bits `number` takes.
  static func cost(_ value: UInt64, order k: Int) -> Int {
    let width = 64 - (value >> UInt64(k)).leadingZeroBitCount
    return width + (width < 64 ? 1 : 0) + max(0, width - 1) + k
  }

  /// A signed number, zigzag: 0, -1, 1, -2 … as 0, 1, 2, 3 …
  package mutating func signed(_ value: Int64, order k: Int) { number(ZigZag.encode(value), order: k) }

  /// A text: its length in bytes and the bytes.
  package mutating func text(_ text: String) { blob(Bytes(text.utf8)) }

  package mutating func blob(_ bytes: Bytes) {
    number(UInt64(bytes.count), order: 4)
    for byte in bytes { bits(UInt64(byte), 8) }
  }

  package var bytes: Bytes {
    guard filled > 0 else { return out }
    return out + [UInt8(truncatingIfNeeded: accumulator << UInt64(8 - filled))]
  }
}

/// Reads what `BitWriter` wrote. Every read is checked: bytes from outside end in an error, not in a trap.
package struct BitReader: Sendable {
  private let input: Bytes
  /// The next byte of `input` to take.
  private var next = 0
  /// Bits that were taken and not read, from the most significant; zeros behind them.
  private var window: UInt64 = 0
  private var held = 0

  package init(_ input: Bytes) { self.input = input }

  static func corrupt(_ what: String) -> SkerryError { SkerryError(.protocolViolation, "packed readings: \(what)") }

  package var bitsLeft: Int { held + (input.count - next) * 8 }

  /// Fills the window: with 57 bits at least, as long as there are so many.
  private mutating func fill() {
    while held <= 56, next < input.count {
      window |= UInt64(input[next]) &<< UInt64(56 - held)
      held += 8
      next += 1
    }
  }

  /// The next bits, 1 to 57 that the window is known to hold.
  private mutating func take(_ count: Int) -> UInt64 {
    let value = window &>> UInt64(64 - count)
    window &<<= UInt64(count)
    held -= count
    return value
  }

  package mutating func bits(_ count: Int) throws(SkerryError) -> UInt64 {
    guard count > 0 else { return 0 }
    if count > 32 {
      let high = try bits(count - 32)
      return high << 32 | (try bits(32))
    }
    if held < count { fill() }
    guard held >= count else { throw Self.corrupt("the end comes too soon") }
    return take(count)
  }

  package mutating func flag() throws(SkerryError) -> Bool { try bits(1) == 1 }

  package mutating func number(order k: Int) throws(SkerryError) -> UInt64 {
    var width = 0
    while true {
      fill()
      let ones = min((~window).leadingZeroBitCount, held, 64 - width)
      width += ones
      window = ones < 64 ? window &<< UInt64(ones) : 0
      held -= ones
      if width == 64 { break }
      if held > 0 {
        // The zero behind the ones.
        _ = take(1)
        break
      }
      guard next < input.count else { throw Self.corrupt("the end comes too soon") }
    }
    guard width + k <= 64 else { throw Self.corrupt("a number of more than 64 bits") }
    var high: UInt64 = 0
    if width > 0 { high = try bits(width - 1) | (1 << UInt64(width - 1)) }
    let low = try bits(k)
    return (k == 64 ? 0 : high << UInt64(k)) | low
  }

  package mutating func signed(order k: Int) throws(SkerryError) -> Int64 { ZigZag.decode(try number(order: k)) }

  /// A number that counts something: at most `limit`.
  package mutating func count(order k: Int, limit: Int, _ what: String) throws(SkerryError) -> Int {
    let value = try number(order: k)
    guard value <= UInt64(limit) else { throw Self.corrupt("\(value) \(what); at most \(limit) are taken") }
    return Int(value)
  }

  package mutating func text(limit: Int) throws(SkerryError) -> String {
    let bytes = try blob(limit: limit)
    guard let text = String(validating: bytes, as: UTF8.self) else { throw Self.corrupt("a text that is not UTF-8") }
    return text
  }

  package mutating func blob(limit: Int) throws(SkerryError) -> Bytes {
    let count = try count(order: 4, limit: limit, "bytes of a text")
    guard count * 8 <= bitsLeft else { throw Self.corrupt("the end comes too soon") }
    var bytes: Bytes = []
    bytes.reserveCapacity(count)
    for _ in 0..<count { bytes.append(UInt8(try bits(8))) }
    return bytes
  }

  /// Nothing but the zeros that fill the last byte is left.
  package mutating func finish() throws(SkerryError) {
    guard bitsLeft < 8, try bits(bitsLeft) == 0 else { throw Self.corrupt("bytes behind the end") }
  }
}

/// Signed numbers as unsigned ones, small for small amounts of either sign.
package enum ZigZag {
  package static func encode(_ value: Int64) -> UInt64 { UInt64(bitPattern: value << 1 ^ value >> 63) }
  package static func decode(_ value: UInt64) -> Int64 { Int64(bitPattern: value >> 1) ^ -Int64(bitPattern: value & 1) }
}
