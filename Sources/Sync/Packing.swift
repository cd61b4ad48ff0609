import Base

/// Shortens small CBOR items against a dictionary that both sides know (`PackingDictionary`): what a status or an event
/// says is mostly what others said before it.
///
/// A packed item is a zero byte, the length of what it holds as a LEB128 number, and tokens:
///
/// ```
/// 0LLLLLLL                     L + 1 bytes follow as they are
/// 1LLLDDDD DDDDDDDD            L + 3 bytes again from D + 1 bytes back
/// 1111DDDD DDDDDDDD N … N      10 + N + … bytes again; N goes on while it is 255
/// ```
///
/// What lies back is first what was unpacked so far, and before it the dictionary. No CBOR array, map or byte string
/// begins with a zero byte, so packed and plain items are told apart by their first byte. Nothing that is sealed is ever
/// packed.
package enum Packing {
  static let mark: UInt8 = 0
  private static let shortest = 3
  private static let longestShort = 9
  private static let reach = 4096
  /// Below it packing does not pay.
  private static let smallest = 24
  /// Longer items are passed on as they are: packing takes the loop's time.
  package static let largest = 64 << 10

  /// The shorter of the item and its packed form.
  package static func pack(_ item: Bytes) -> Bytes {
    guard item.count >= smallest, item.count <= largest else { return item }
    let packed = encode(item)
    return packed.count < item.count ? packed : item
  }

  /// The item as it was; one that is not packed is passed on. Throws if it would be longer than `limit`.
  package static func unpack(_ bytes: Bytes, limit: Int = Packing.largest) throws(SkerryError) -> Bytes {
    guard bytes.first == mark else { return bytes }
    var at = 1
    var count = 0
    var shift = 0
    while true {
      guard at < bytes.count, shift < 28 else { throw corrupt("its length cannot be read") }
      count |= Int(bytes[at] & 0x7f) << shift
      shift += 7
      at += 1
      if bytes[at - 1] < 0x80 { break }
    }
    guard count <= limit else { throw corrupt("it claims \(count) bytes; at most \(limit) are taken") }
    var out: Bytes = []
    out.reserveCapacity(count)
    while at < bytes.count {
      let token = bytes[at]
      at += 1
      if token < 0x80 {
        let length = Int(token) + 1
        guard at + length <= bytes.count, out.count + length <= count else { throw corrupt("its end comes too soon") }
        out.append(contentsOf: bytes[at..<at + length])
        at += length
      } else {
        try copy(token, bytes, &at, &out, count)
      }
    }
    guard out.count == count else { throw corrupt("it holds \(out.count) bytes and claims \(count)") }
    return out
  }

  private static func corrupt(_ why: String) -> SkerryError { SkerryError(.protocolViolation, "a packed item: \(why)") }

  private static func copy(
    _ token: UInt8, _ bytes: Bytes, _ at: inout Int, _ out: inout Bytes, _ count: Int
  ) throws(SkerryError) {
    guard at < bytes.count else { throw corrupt("its end comes too soon") }
    let distance = (Int(token & 0x0f) << 8 | Int(bytes[at])) + 1
    at += 1
    var length = Int(token >> 4 & 7) + shortest
    if length > longestShort {
      while true {
        guard at < bytes.count, length <= count else { throw corrupt("its end comes too soon") }
        length += Int(bytes[at])
        at += 1
        if bytes[at - 1] < 255 { break }
      }
    }
    let dictionary = PackingDictionary.bytes
    guard distance <= out.count + dictionary.count, out.count + length <= count else {
      throw corrupt("it reaches too far")
    }
    for _ in 0..<length {
      let source = out.count - distance
      out.append(source >= 0 ? out[source] : dictionary[dictionary.count + source])
    }
  }

  // MARK: Packing

  /// Newest place of each three bytes, and for each place the one before it with the same hash.
  private struct Places: Sendable {
    private var newest = [Int32](repeating: -1, count: 4096)
    private var before: [Int32] = []

    static func hash(_ bytes: Bytes, _ at: Int) -> Int {
      let three = UInt32(bytes[at]) << 16 | UInt32(bytes[at + 1]) << 8 | UInt32(bytes[at + 2])
      return Int((three &* 2_654_435_761) >> 20)
    }

    mutating func add(_ bytes: Bytes, _ at: Int) {
      let hash = Self.hash(bytes, at)
      before.append(newest[hash])
      newest[hash] = Int32(at)
    }

    /// The longest match for what begins at `at`, looking at a few candidates.
    func best(_ bytes: Bytes, _ at: Int) -> (length: Int, distance: Int) {
      var best = (length: 0, distance: 0)
      guard at + 3 <= bytes.count else { return best }
      var place = Int(newest[Self.hash(bytes, at)])
      var tries = 32
      while place >= 0, at - place <= Packing.reach, tries > 0 {
        var length = 0
        while at + length < bytes.count, bytes[place + length] == bytes[at + length] { length += 1 }
        if length > best.length { best = (length, at - place) }
        place = Int(before[place])
        tries -= 1
      }
      return best.length >= Packing.shortest ? best : (0, 0)
    }
  }

  private static let dictionaryPlaces: Places = {
    var places = Places()
    let dictionary = PackingDictionary.bytes
    for at in 0..<dictionary.count - 2 { places.add(dictionary, at) }
    return places
  }()

  private static func encode(_ item: Bytes) -> Bytes {
    let bytes = PackingDictionary.bytes + item
    var places = dictionaryPlaces
    let start = PackingDictionary.bytes.count
    var known = start - 2
    var out: Bytes = [mark]
    var length = item.count
    while length >= 0x80 {
      out.append(UInt8(length & 0x7f | 0x80))
      length >>= 7
    }
    out.append(UInt8(length))
    var literal = start
    var at = start
    func learn(_ end: Int) {
      while known < min(end, bytes.count - 2) {
        places.add(bytes, known)
        known += 1
      }
    }
    while at < bytes.count {
      learn(at)
      var match = places.best(bytes, at)
      if match.length > 0, at + 1 < bytes.count {
        // One byte later a longer match may begin.
        learn(at + 1)
        let next = places.best(bytes, at + 1)
        if next.length > match.length + 1 {
          at += 1
          match = next
        }
      }
      guard match.length > 0 else {
        at += 1
        continue
      }
      append(literals: bytes[literal..<at], &out)
      append(match, &out)
      at += match.length
      literal = at
    }
    append(literals: bytes[literal...], &out)
    return out
  }

  private static func append(literals: ArraySlice<UInt8>, _ out: inout Bytes) {
    var rest = literals
    while !rest.isEmpty {
      let piece = rest.prefix(128)
      out.append(UInt8(piece.count - 1))
      out.append(contentsOf: piece)
      rest = rest.dropFirst(piece.count)
    }
  }

  private static func append(_ match: (length: Int, distance: Int), _ out: inout Bytes) {
    let short = min(match.length, longestShort + 1) - shortest
    out.append(0x80 | UInt8(short) << 4 | UInt8((match.distance - 1) >> 8))
    out.append(UInt8((match.distance - 1) & 0xff))
    guard match.length > longestShort else { return }
    var rest = match.length - longestShort - 1
    while rest >= 255 {
      out.append(255)
      rest -= 255
    }
    out.append(UInt8(rest))
  }
}
