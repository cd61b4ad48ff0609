import Base
import Glibc
import ObjectModel
import Sync
import Testing
import Wire

/// The golden vectors of proto-spec/vectors/sync.json: what slices and lanes look like on the wire.
@Suite struct VectorTests {
  private static func load(_ list: String, of name: String = "sync.json") throws -> [Value] {
    let vectors = try #require(try JSON.parse(Bytes(text(name).utf8))[list].array)
    try #require(!vectors.isEmpty)
    return vectors
  }

  private static func text(_ name: String) throws -> String {
    let root = #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
    let path = "/\(root)/proto-spec/vectors/\(name)"
    let file = try #require(fopen(path, "r"), "\(path) cannot be opened")
    defer { fclose(file) }
    var bytes: Bytes = []
    var chunk = Bytes(repeating: 0, count: 65_536)
    while case let count = fread(&chunk, 1, chunk.count, file), count > 0 { bytes += chunk[..<count] }
    return String(decoding: bytes, as: UTF8.self)
  }

  private static func payload(_ vector: Value) throws -> Bytes {
    let hex = try #require(vector["payload"].string)
    return try #require(Bytes(hex: hex))
  }

  /// The payload through the type that it is read into.
  private static func reencoded(_ kind: String, _ payload: Bytes) throws -> Bytes {
    switch kind {
    case "slice":
      // Whether an object is packed is the sender's affair.
      let message = try SliceMessage.decode(payload)
      let again = message.encode()
      return try SliceMessage.decode(again) == message ? payload : again
    case "inventory": return SliceInventory.encode(try SliceInventory.decode(payload))
    case "lane": return try LaneMessage.decode(payload).encode()
    case "entry": return try LanePayload.decode(payload).plain
    case "reading":
      let value = try CBOR.decode(payload)
      let reading = try #require(Reading(value))
      return CBOR.encode(reading.encoded)
    default: return CBOR.encode(try CBOR.decode(payload))
    }
  }

  @Test func whatIsAcceptedIsWrittenTheSameWay() throws {
    for vector in try Self.load("accept") {
      let payload = try Self.payload(vector)
      #expect(try Self.reencoded(vector["kind"].string ?? "", payload) == payload, "\(vector["name"])")
    }
  }

  @Test func incarnationsAreNamedByTheirPlaces() throws {
    let names = try [0x00, 0x20].map { first in
      try #require(Incarnation((first..<first + 16).map { UInt8($0) }))
    }
    for vector in try Self.load("named") {
      let payload = try Self.payload(vector)
      #expect(try LaneMessage.decode(payload, names).encode(names) == payload, "\(vector["name"])")
      #expect(throws: SkerryError.self) { try LaneMessage.decode(payload) }
    }
  }

  /// What both sides know before anything is said never changes within a version.
  @Test func theDictionaryIsTheOneOfTheProtocol() throws {
    let hex = PackingDictionary.bytes.hex
    #expect(try Self.text("dictionary.hex").filter { $0 != "\n" } == hex, "HEX:\(hex):")
  }

  @Test func packedItemsAndReadingsAreRead() throws {
    for vector in try Self.load("packed", of: "packed.json") {
      let plain = try #require(Bytes(hex: vector["plain"].string ?? ""))
      #expect(try Packing.unpack(Self.payload(vector)) == plain, "\(vector["name"])")
      #expect(try Packing.unpack(Packing.pack(plain)) == plain)
    }
    for vector in try Self.load("blocks", of: "readings.json") {
      let rows = try #require(vector["rows"].array)
      let decoded = try ReadingBlock.decode(Self.payload(vector))
      #expect(decoded.map(Self.shown) == rows, "\(vector["name"])")
      #expect(try ReadingBlock.decode(ReadingBlock.encode(decoded)) == decoded)
    }
    for vector in try Self.load("refuse", of: "readings.json") {
      #expect(throws: SkerryError.self, "\(vector["name"])") { try ReadingBlock.decode(Self.payload(vector)) }
    }
  }

  private static func shown(_ row: BlockRow) -> Value {
    [.int(Int64(clamping: row.series)), .int(row.time), row.value, .string(row.fault)]
  }

  @Test func whatIsRefusedIsRefused() throws {
    for vector in try Self.load("refuse") {
      #expect(throws: SkerryError.self, "\(vector["name"])") {
        try Self.reencoded(vector["kind"].string ?? "", Self.payload(vector))
      }
    }
  }

  @Test func digestsAreTheSameEverywhere() throws {
    for vector in try Self.load("digests") {
      var digest = SliceDigest()
      for pair in vector["pairs"].array ?? [] {
        let (key, revision) = (try #require(pair[0].string), try #require(pair[1].int))
        digest.add(key: key, revision: UInt64(revision))
      }
      #expect(digest.bytes.hex == vector["digest"].string)
    }
  }
}
