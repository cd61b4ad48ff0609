/// CRC-32C (Castagnoli, RFC 3720 appendix B.4), eight bytes a step.
enum CRC32C {
  private static let polynomial: UInt32 = 0x82f6_3b78
  /// Eight tables of 256 entries, one behind the other.
  private static let tables: [UInt32] = {
    var tables = [UInt32](repeating: 0, count: 8 * 256)
    for index in 0..<256 {
      var value = UInt32(index)
      for _ in 0..<8 { value = value & 1 == 1 ? value >> 1 ^ polynomial : value >> 1 }
      tables[index] = value
    }
    for index in 0..<256 {
      for table in 1..<8 {
        let before = tables[(table - 1) * 256 + index]
        tables[table * 256 + index] = before >> 8 ^ tables[Int(before & 0xff)]
      }
    }
    return tables
  }()

  /// The checksum of `bytes` behind what `start` is the checksum of; 0 at the start.
  static func update(_ start: UInt32, _ bytes: UnsafeRawBufferPointer) -> UInt32 {
    tables.withUnsafeBufferPointer { table in
      var crc = ~start
      var offset = 0
      while offset + 8 <= bytes.count {
        let word = UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self)) ^ UInt64(crc)
        crc =
          table[1792 + Int(word & 0xff)] ^ table[1536 + Int(word >> 8 & 0xff)]
          ^ table[1280 + Int(word >> 16 & 0xff)] ^ table[1024 + Int(word >> 24 & 0xff)]
          ^ table[768 + Int(word >> 32 & 0xff)] ^ table[512 + Int(word >> 40 & 0xff)]
          ^ table[256 + Int(word >> 48 & 0xff)] ^ table[Int(word >> 56)]
        offset += 8
      }
      while offset < bytes.count {
        crc = crc >> 8 ^ table[Int((crc ^ UInt32(bytes[offset])) & 0xff)]
        offset += 1
      }
      return ~crc
    }
  }
}
