import Base

/// A map's key where it lies in the input: it is compared with the names that are known, and becomes a `String` only for
/// who keeps it. Its bytes were checked to be UTF-8.
package struct CBORKey: Sendable {
  private let bytes: Bytes
  private let place: Range<Int>

  init(_ bytes: Bytes, _ place: Range<Int>) {
    self.bytes = bytes
    self.place = place
  }

  /// True for the key of these bytes.
  package static func ~= (name: StaticString, key: CBORKey) -> Bool { key.is(name) }

  package func `is`(_ name: StaticString) -> Bool {
    guard name.utf8CodeUnitCount == place.count else { return false }
    return name.withUTF8Buffer { name in
      unsafe bytes.withUnsafeBufferPointer { all in
        unsafe UnsafeBufferPointer(rebasing: all[place]).elementsEqual(name)
      }
    }
  }

  /// True if this key sorts strictly before another one of the same input in deterministic CBOR order.
  package func precedes(_ other: CBORKey) -> Bool {
    guard place.count == other.place.count else { return place.count < other.place.count }
    return unsafe bytes.withUnsafeBufferPointer { all in
      unsafe UnsafeBufferPointer(rebasing: all[place]).lexicographicallyPrecedes(
        UnsafeBufferPointer(rebasing: all[other.place]))
    }
  }

  package var text: String { String(decoding: bytes[place], as: UTF8.self) }
}
