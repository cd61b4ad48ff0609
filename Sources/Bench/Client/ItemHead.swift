import Base

/// The head of an item on the wire, `[kind, position, revision, body, status]`, read in place.
struct ItemHead {
  var kind: UInt64
  var position: UInt64
  var revision: UInt64
  static let bookmark: UInt64 = 4
  static let deleted: UInt64 = 3

  init?(_ bytes: UnsafeRawBufferPointer) {
    guard bytes.count > 4, bytes[0] == 0x85 else { return nil }
    var offset = 1
    guard let kind = Self.uint(bytes, &offset), let position = Self.uint(bytes, &offset),
      let revision = Self.uint(bytes, &offset)
    else { return nil }
    self.kind = kind
    self.position = position
    self.revision = revision
  }

  private static func uint(_ bytes: UnsafeRawBufferPointer, _ offset: inout Int) -> UInt64? {
    guard offset < bytes.count else { return nil }
    let head = bytes[offset]
    guard head >= 24 else {
      offset += 1
      return UInt64(head)
    }
    guard head <= 27 else { return nil }
    let width = 1 << Int(head - 24)
    guard offset + width < bytes.count else { return nil }
    var value: UInt64 = 0
    for index in 1...width { value = value << 8 | UInt64(bytes[offset + index]) }
    offset += 1 + width
    return value
  }
}
