import Base

/// XXH64 (https://github.com/Cyan4973/xxHash, doc/xxhash_spec.md) with seed 0, over values given one after another.
///
/// For damage on disk, not against an attacker. Each value is mixed in with its length, so that bytes cannot move
/// between neighbours unnoticed.
package struct Checksum {
  private var state: UInt64 = 0

  package init() {}

  package mutating func add(_ value: UInt64) { mix(value) }

  package mutating func add(_ bytes: Bytes?) {
    guard let bytes else { return mix(.max) }
    mix(UInt64(bytes.count))
    mix(bytes.withUnsafeBytes { Self.xxh64($0) })
  }

  package mutating func add(_ text: String) {
    var text = text
    mix(text.withUTF8 { Self.xxh64(UnsafeRawBufferPointer($0)) })
  }

  package var value: UInt64 { Self.avalanche(state) }

  private mutating func mix(_ value: UInt64) {
    state ^= Self.round(0, value)
    state = Self.rotate(state, 27) &* Self.prime1 &+ Self.prime4
  }

  private static let prime1: UInt64 = 0x9E37_79B1_85EB_CA87
  private static let prime2: UInt64 = 0xC2B2_AE3D_27D4_EB4F
  private static let prime3: UInt64 = 0x1656_67B1_9E37_79F9
  private static let prime4: UInt64 = 0x85EB_CA77_C2B2_AE63
  private static let prime5: UInt64 = 0x27D4_EB2F_1656_67C5

  @inline(__always)
  private static func rotate(_ value: UInt64, _ count: UInt64) -> UInt64 {
    value &<< count | value &>> (64 &- count)
  }

  @inline(__always)
  private static func round(_ accumulator: UInt64, _ input: UInt64) -> UInt64 {
    rotate(accumulator &+ input &* prime2, 31) &* prime1
  }

  private static func avalanche(_ value: UInt64) -> UInt64 {
    var hash = value
    hash = (hash ^ hash &>> 33) &* prime2
    hash = (hash ^ hash &>> 29) &* prime3
    return hash ^ hash &>> 32
  }

  /// The plain hash of one buffer.
  package static func xxh64(_ bytes: UnsafeRawBufferPointer) -> UInt64 {
    func word(_ offset: Int) -> UInt64 {
      UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
    }
    let count = bytes.count
    var offset = 0
    var hash: UInt64 = prime5
    if count >= 32 {
      var lanes: (UInt64, UInt64, UInt64, UInt64) = (prime1 &+ prime2, prime2, 0, 0 &- prime1)
      while offset + 32 <= count {
        lanes.0 = round(lanes.0, word(offset))
        lanes.1 = round(lanes.1, word(offset + 8))
        lanes.2 = round(lanes.2, word(offset + 16))
        lanes.3 = round(lanes.3, word(offset + 24))
        offset += 32
      }
      hash = rotate(lanes.0, 1) &+ rotate(lanes.1, 7) &+ rotate(lanes.2, 12) &+ rotate(lanes.3, 18)
      for lane in [lanes.0, lanes.1, lanes.2, lanes.3] { hash = (hash ^ round(0, lane)) &* prime1 &+ prime4 }
    }
    hash = hash &+ UInt64(count)
    while offset + 8 <= count {
      hash = rotate(hash ^ round(0, word(offset)), 27) &* prime1 &+ prime4
      offset += 8
    }
    if offset + 4 <= count {
      let half = UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
      hash = rotate(hash ^ UInt64(half) &* prime1, 23) &* prime2 &+ prime3
      offset += 4
    }
    while offset < count {
      hash = rotate(hash ^ UInt64(bytes[offset]) &* prime5, 11) &* prime1
      offset += 1
    }
    return avalanche(hash)
  }
}
