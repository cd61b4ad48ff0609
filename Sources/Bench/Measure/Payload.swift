import Base
import Glibc

/// The text that every event carries: who wrote it, its number there, when it was due, and a CRC-32C over all of it, so
/// that each receiver can tell whether something is missing, repeated, out of order or damaged. Printable, since it goes
/// into ConfigMaps, NATS messages and etcd values alike.
///
/// ```
/// SKB1 writer (8 hex) sequence (16 hex) time in ns (16 hex) crc (8 hex) filler
/// ```
struct Payload {
  static let headerBytes = 52
  private static let crcOffset = 44

  var writer: UInt32
  var sequence: UInt64
  var time: UInt64

  /// The bytes, `count` of them and at least a header's.
  func bytes(_ count: Int) -> Bytes {
    var out = Bytes(repeating: UInt8(ascii: "x"), count: max(count, Self.headerBytes))
    out.withUnsafeMutableBytes { write(to: UnsafeMutableRawBufferPointer(rebasing: $0[...])) }
    return out
  }

  /// Writes header and checksum over the start of a buffer whose filler is already there.
  func write(to buffer: UnsafeMutableRawBufferPointer) {
    for (index, byte) in "SKB1".utf8.enumerated() { buffer[index] = byte }
    Self.hex(UInt64(writer), 8, buffer, 4)
    Self.hex(sequence, 16, buffer, 12)
    Self.hex(time, 16, buffer, 28)
    Self.hex(UInt64(Self.checksum(UnsafeRawBufferPointer(buffer))), 8, buffer, Self.crcOffset)
  }

  /// The payload at the start of `bytes`; nil if it is none or damaged.
  init?(_ bytes: UnsafeRawBufferPointer) {
    guard bytes.count >= Self.headerBytes, let writer = Self.number(bytes, 4, 8),
      let sequence = Self.number(bytes, 12, 16), let time = Self.number(bytes, 28, 16),
      let crc = Self.number(bytes, Self.crcOffset, 8), UInt64(Self.checksum(bytes)) == crc
    else { return nil }
    self.init(writer: UInt32(truncatingIfNeeded: writer), sequence: sequence, time: time)
  }

  init(writer: UInt32, sequence: UInt64, time: UInt64) {
    self.writer = writer
    self.sequence = sequence
    self.time = time
  }

  private static func checksum(_ bytes: UnsafeRawBufferPointer) -> UInt32 {
    let head = CRC32C.update(0, UnsafeRawBufferPointer(rebasing: bytes[..<crcOffset]))
    return CRC32C.update(head, UnsafeRawBufferPointer(rebasing: bytes[headerBytes...]))
  }

  /// Where a payload of `length` bytes lies within a message; nil if there is none.
  static func find(in bytes: UnsafeRawBufferPointer, length: Int) -> UnsafeRawBufferPointer? {
    guard let base = bytes.baseAddress, bytes.count >= length else { return nil }
    var offset = 0
    while offset + length <= bytes.count {
      guard let found = memchr(base + offset, 0x53, bytes.count - length - offset + 1) else { return nil }
      offset = UnsafeRawPointer(found) - base
      if bytes[offset + 1] == 0x4b, bytes[offset + 2] == 0x42, bytes[offset + 3] == 0x31 {
        return UnsafeRawBufferPointer(rebasing: bytes[offset..<(offset + length)])
      }
      offset += 1
    }
    return nil
  }

  private static func hex(_ value: UInt64, _ digits: Int, _ buffer: UnsafeMutableRawBufferPointer, _ offset: Int) {
    for index in 0..<digits {
      let nibble = UInt8(truncatingIfNeeded: value >> UInt64((digits - 1 - index) * 4)) & 15
      buffer[offset + index] = nibble < 10 ? 48 + nibble : 87 + nibble
    }
  }

  private static func number(_ bytes: UnsafeRawBufferPointer, _ offset: Int, _ digits: Int) -> UInt64? {
    var value: UInt64 = 0
    for index in offset..<(offset + digits) {
      let byte = bytes[index]
      switch byte {
      case 48...57: value = value << 4 | UInt64(byte - 48)
      case 97...102: value = value << 4 | UInt64(byte - 87)
      default: return nil
      }
    }
    return value
  }
}
