import Base
import Glibc
import ObjectModel
import Sync
import Testing
import Wire

/// The golden vectors of proto-spec/vectors/sync.json: what slices and lanes look like on the wire.
@Suite struct VectorTests {
  private static func load(_ list: String) throws -> [Value] {
    let root = #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
    let path = "/\(root)/proto-spec/vectors/sync.json"
    let file = try #require(fopen(path, "r"), "\(path) cannot be opened")
    defer { fclose(file) }
    var bytes: Bytes = []
    var chunk = Bytes(repeating: 0, count: 65_536)
    while case let count = fread(&chunk, 1, chunk.count, file), count > 0 { bytes += chunk[..<count] }
    let vectors = try #require(try JSON.parse(bytes)[list].array)
    try #require(!vectors.isEmpty)
    return vectors
  }

  private static func payload(_ vector: Value) throws -> Bytes {
    let hex = try #require(vector["payload"].string)
    return try #require(Bytes(hex: hex))
  }

  /// The payload through the type that it is read into.
  private static func reencoded(_ kind: String, _ payload: Bytes) throws -> Bytes {
    switch kind {
    case "slice": return try SliceMessage.decode(payload).encode()
    case "inventory": return SliceInventory.encode(try SliceInventory.decode(payload))
    case "lane": return try LaneMessage.decode(payload).encode()
    case "entry": return try LanePayload.decode(payload).encode()
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
