import Base

/// The payload encoding of everything on the wire and in the store: CBOR (RFC 8949), core deterministic, over exactly
/// JSON's data model. So equal values have equal bytes, and a decoder refuses every other spelling of them.
package enum CBOR {
  /// The one encoding of `value`; `capacity` is what it is expected to take.
  package static func encode(_ value: Value, capacity: Int = 128) -> Bytes {
    var writer = CBORWriter(reservingCapacity: capacity)
    writer.value(value)
    return writer.bytes
  }

  /// The value of exactly one item; throws `invalidArgument` for anything else.
  package static func decode(_ bytes: Bytes, limits: CBORLimits = CBORLimits()) throws(SkerryError) -> Value {
    var reader = CBORReader(bytes, limits: limits)
    let value = try reader.value()
    try reader.finish()
    return value
  }

  /// The index behind the item that starts at `offset`, found without decoding it.
  package static func skip(_ bytes: Bytes, from offset: Int = 0) throws(SkerryError) -> Int {
    var reader = CBORReader(bytes, in: offset..<bytes.count)
    return try reader.skip().upperBound
  }

  /// The encoded member `key` of an encoded map, as it is; nil if there is none or the item is no map.
  package static func member(_ key: String, of bytes: Bytes) throws(SkerryError) -> Bytes? {
    try place(of: key, in: bytes).map { Array(bytes[$0]) }
  }

  /// Where an encoded map's member `key` is; nil if there is none or the item is no map.
  package static func place(of key: String, in bytes: Bytes) throws(SkerryError) -> Range<Int>? {
    var reader = CBORReader(bytes)
    guard reader.next == .map else { return nil }
    for _ in 0..<(try reader.map()) {
      let found = try reader.text()
      let range = try reader.skip()
      if found == key { return range }
    }
    return nil
  }
}

/// An encoded item where it lies in a message, so that it need not be copied out of that.
package struct CBORItem: Sendable, Hashable {
  package let message: Bytes
  package let place: Range<Int>

  package init(_ message: Bytes, in place: Range<Int>) {
    self.message = message
    self.place = place
  }

  /// An item that stands alone.
  package init(_ item: Bytes) { self.init(item, in: item.indices) }

  /// The item's bytes.
  package var bytes: Bytes { place == message.indices ? message : Bytes(message[place]) }

  /// Reads the item.
  package var reader: CBORReader { CBORReader(message, in: place) }

  /// The item's value; throws `invalidArgument` for anything else.
  package func decoded() throws(SkerryError) -> Value {
    var reader = reader
    let value = try reader.value()
    try reader.finish()
    return value
  }

  package static func == (left: CBORItem, right: CBORItem) -> Bool {
    left.message[left.place] == right.message[right.place]
  }

  package func hash(into hasher: inout Hasher) { hasher.combine(message[place]) }
}
