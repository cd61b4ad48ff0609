import API
import Base
import ObjectModel
import Testing
import Wire

#if canImport(Glibc)
  import Glibc
#endif

/// The golden vectors of proto-spec/vectors that say what calls and items look like.
@Suite struct CallVectorTests {
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

  static func payload(_ vector: Value) throws -> Bytes {
    let hex = try #require(vector["payload"].string)
    return try #require(Bytes(hex: hex))
  }

  /// The params through the type that the method reads them into.
  static func reencoded(_ method: String, _ params: Value) throws -> Value {
    switch method {
    case CallMethod.get:
      var params = try CallParams(method, params)
      let reference = try params.reference()
      try params.finish()
      return reference.params
    case CallMethod.list: return try ListOptions(params: params).params
    case CallMethod.watch: return try WatchOptions(params: params).params
    case CallMethod.batch: return BatchMessage.params(try BatchMessage.items(params))
    case CallMethod.connect: return try ConnectMessage(params: params).params
    default:
      let item = try BatchItem(method: method, params: params)
      // In one pass over the bytes it is the same.
      let encoded = try BatchItem(method: method, encoded: CBORItem(CBOR.encode(params)))
      #expect(encoded.params == item.params)
      return item.params
    }
  }

  @Test func paramsDecodeAndEncodeAgain() throws {
    for vector in try Self.load("calls.json", "accept") {
      let params = try CBOR.decode(Self.payload(vector))
      #expect(params == vector["message"])
      #expect(try Self.reencoded(vector["method"].string ?? "", params) == params, "\(vector["name"])")
    }
  }

  @Test func badParamsAreRefused() throws {
    for vector in try Self.load("calls.json", "refuse") {
      let params = try CBOR.decode(Self.payload(vector))
      let method = vector["method"].string ?? ""
      #expect(throws: APIError.self, "\(vector["name"])") { try Self.reencoded(method, params) }
      guard ["create", "update", "patch", "delete"].contains(method) else { continue }
      #expect(throws: APIError.self) { try BatchItem(method: method, encoded: CBORItem(Self.payload(vector))) }
    }
  }

  @Test func itemsDecodeAndEncodeAgain() throws {
    for vector in try Self.load("items.json", "accept") {
      let (payload, message) = (try Self.payload(vector), vector["message"])
      guard message[0].int != 0 else {
        let object = try ItemMessage.object(payload, resource: "pods")
        #expect(ItemMessage.encode(object) == payload)
        #expect(object.reference.name == message[3]["metadata"]["name"].string)
        #expect(try CBOR.decode(object.body) == message[3])
        continue
      }
      let event = try ItemMessage.event(payload, resource: "pods")
      #expect(ItemMessage.encode(event) == payload)
      #expect(Int64(event.kind.rawValue) == message[0].int && Int64(event.position) == message[1].int)
      #expect((event.object?.revision).map { Int64($0) } == (event.kind == .bookmark ? nil : message[2].int))
    }
    for vector in try Self.load("items.json", "refuse") {
      #expect(throws: SkerryError.self, "\(vector["name"])") {
        try ItemMessage.event(Self.payload(vector), resource: "pods")
      }
    }
  }
}
