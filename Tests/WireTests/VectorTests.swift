import Base
import ObjectModel
import Testing
import Wire

#if canImport(Glibc)
  import Glibc
#endif

/// The golden vectors of proto-spec/vectors, decoded and encoded again.
@Suite struct VectorTests {
  /// A vector file, found from this file's own place in the tree.
  static func load(_ name: String, _ list: String) throws -> [Value] {
    let root = #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
    let path = "/\(root)/proto-spec/vectors/\(name)"
    let file = try #require(fopen(path, "r"), "\(path) cannot be opened")
    defer { fclose(file) }
    var bytes: Bytes = []
    var chunk = Bytes(repeating: 0, count: 65_536)
    while case let count = fread(&chunk, 1, chunk.count, file), count > 0 { bytes += chunk[..<count] }
    let vectors = try #require(try JSON.parse(bytes)[list].array)
    try #require(!vectors.isEmpty)
    return vectors
  }

  static func bytes(_ vector: Value, _ key: String) throws -> Bytes {
    let hex = try #require(vector[key].string)
    return try #require(Bytes(hex: hex))
  }

  @Test func rfc8949ValuesDecodeAndEncodeAgain() throws {
    for vector in try Self.load("rfc8949.json", "accept") {
      let bytes = try Self.bytes(vector, "hex")
      #expect(try CBOR.decode(bytes) == vector["value"])
      #expect(CBOR.encode(vector["value"]) == bytes)
    }
    for vector in try Self.load("rfc8949.json", "refuse") {
      #expect(throws: SkerryError.self, "\(vector)") { try CBOR.decode(Self.bytes(vector, "hex")) }
    }
  }

  @Test func framesDecodeAndEncodeAgain() throws {
    for vector in try Self.load("frames.json", "accept") {
      let bytes = try Self.bytes(vector, "frame")
      var decoder = FrameDecoder()
      var frames: [Frame] = []
      try decoder.decode(bytes, into: &frames)
      let frame = try #require(frames.first)
      #expect(frames.count == 1 && decoder.isIdle)
      #expect(Int64(frame.type.rawValue) == vector["type"].int && Int64(frame.flags.rawValue) == vector["flags"].int)
      #expect(Int64(frame.stream) == vector["stream"].int && frame.payload.hex == vector["payload"].string)
      #expect(frame.encoded == bytes)
      guard vector["rule"].string != nil else { continue }
      #expect(try CBOR.decode(frame.payload) == vector["message"])
      #expect(try Self.reencoded(frame) == frame.payload, "\(vector["name"])")
    }
    for vector in try Self.load("frames.json", "refuseFrames") {
      var decoder = FrameDecoder()
      var frames: [Frame] = []
      #expect(throws: SkerryError.self, "\(vector)") { try decoder.decode(Self.bytes(vector, "frame"), into: &frames) }
    }
  }

  @Test func brokenPayloadsAreRefused() throws {
    for vector in try Self.load("frames.json", "refuse") {
      let number = try #require(vector["type"].int)
      let type = FrameType(rawValue: UInt8(number))
      let frame = Frame(type, stream: type.rawValue < 16 ? 0 : 1, payload: try Self.bytes(vector, "payload"))
      #expect(throws: SkerryError.self, "\(vector)") { try Self.reencoded(frame) }
    }
  }

  /// The payload through the type that the frame's kind is read into.
  static func reencoded(_ frame: Frame) throws -> Bytes {
    switch frame.type {
    case .hello: return try Hello(frame.payload).encoded
    case .welcome: return try Welcome(frame.payload).encoded
    case .goAway: return try GoAway(frame.payload).encoded
    case .open: return try OpenMessage(frame.payload).encoded
    case .end: return try EndMessage(frame.payload).encoded
    case .reset: return CBOR.encode(CallError(try CBOR.decode(frame.payload)).value)
    default:
      var reader = CBORReader(frame.payload)
      let position = try reader.uint()
      try reader.finish()
      var writer = CBORWriter()
      writer.uint(position)
      return writer.bytes
    }
  }
}
