import Base
import Glibc

/// The keys that seal stored values: the newest seals, any opens.
///
/// The key file lies outside the data directory and outside every backup, with mode 0600. It is text: one key a
/// line, oldest first, `ID HEX` with a decimal id (1 to 4294967295, used once) and 32 bytes in hexadecimal; lines
/// that start with `#` and empty lines are skipped. Rotating a key appends a line; a key may be taken out only when
/// no stored value names its id any more.
package struct KeyRing: Sendable {
  /// Keys a ring may hold.
  package static let maxKeys = 64
  package static let keyLength = 32

  /// One key of AES-256.
  package struct Key: Sendable {
    package let id: UInt32
    let bytes: Bytes
  }
  package private(set) var keys: [Key]
  /// The key that seals.
  package var newest: Key { keys[keys.count - 1] }

  /// A ring of one new key.
  package init(random: any RandomSource) {
    keys = [Key(id: 1, bytes: random.bytes(Self.keyLength))]
  }

  /// Parses the key file's text.
  package init(text: String) throws(SkerryError) {
    keys = []
    for (number, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
      let fields = line.split(whereSeparator: { $0 == " " || $0 == "\t" })
      if fields.isEmpty || fields[0].hasPrefix("#") { continue }
      guard fields.count == 2, let id = UInt32(fields[0]), id > 0, let bytes = Bytes(hex: fields[1]),
        bytes.count == Self.keyLength
      else {
        throw SkerryError(
          .invalidArgument, "line \(number + 1) of the key file is not `ID HEX` with 64 hexadecimal digits")
      }
      guard !keys.contains(where: { $0.id == id }) else {
        throw SkerryError(.invalidArgument, "line \(number + 1) of the key file repeats the key id \(id)")
      }
      keys.append(Key(id: id, bytes: bytes))
    }
    guard !keys.isEmpty, keys.count <= Self.maxKeys else {
      throw SkerryError(.invalidArgument, "a key file holds 1 to \(Self.maxKeys) keys; this one holds \(keys.count)")
    }
  }

  package subscript(id: UInt32) -> Key? { keys.first { $0.id == id } }

  /// Adds a new key, which seals from now on. Values under older keys stay readable.
  package mutating func rotate(random: any RandomSource) throws(SkerryError) {
    guard keys.count < Self.maxKeys, let last = keys.map(\.id).max(), last < .max else {
      throw SkerryError(.limitExceeded, "the key ring is full (\(Self.maxKeys) keys); take out keys that nothing uses")
    }
    keys.append(Key(id: last + 1, bytes: random.bytes(Self.keyLength)))
  }

  /// The key file's text.
  package var text: String {
    "# Sealing keys of a Skerry store: keep this file out of backups of the data directory.\n"
      + keys.map { "\($0.id) \($0.bytes.hex)\n" }.joined()
  }

  /// Reads a key file; refuses one that others than its owner may read.
  package static func load(path: String) throws(SkerryError) -> KeyRing {
    let text = try PrivateFile.read(path: path, limit: 65_536)
    do {
      return try KeyRing(text: String(decoding: text, as: UTF8.self))
    } catch {
      throw SkerryError(error.code, "key file \(path)", cause: error)
    }
  }

  /// Reads the key file, or makes it with one new key where there is none.
  package static func loadOrCreate(path: String, random: any RandomSource) throws(SkerryError) -> KeyRing {
    if access(path, F_OK) == 0 { return try load(path: path) }
    let ring = KeyRing(random: random)
    try PrivateFile.write(Bytes(ring.text.utf8), path: path, replacing: false)
    return ring
  }
}
