import Base
import Testing
import Wire

/// RFC 8949, Appendix A: every example that is in JSON's data model and deterministic. The integer and string keyed
/// examples outside it stand in `refused`.
@Suite struct CBORTests {
  static let valid: [(String, Value)] = [
    ("00", 0), ("01", 1), ("0a", 10), ("17", 23), ("1818", 24), ("1819", 25), ("1864", 100), ("1903e8", 1000),
    ("1a000f4240", 1_000_000), ("1b000000e8d4a51000", 1_000_000_000_000),
    ("1b7fffffffffffffff", .int(.max)), ("3b7fffffffffffffff", .int(.min)),
    ("20", -1), ("29", -10), ("3863", -100), ("3903e7", -1000),
    ("f90000", 0.0), ("f98000", -0.0), ("f93c00", 1.0), ("fb3ff199999999999a", 1.1), ("f93e00", 1.5),
    ("f97bff", 65504.0), ("fa47c35000", 100000.0), ("fa7f7fffff", 3.4028234663852886e+38),
    ("fb7e37e43c8800759c", 1.0e+300), ("f90001", 5.960464477539063e-8), ("f90400", 0.00006103515625),
    ("f9c400", -4.0), ("fbc010666666666666", -4.1),
    ("f4", false), ("f5", true), ("f6", .null),
    ("60", ""), ("6161", "a"), ("6449455446", "IETF"), ("62225c", "\"\\"), ("62c3bc", "\u{fc}"),
    ("63e6b0b4", "\u{6c34}"), ("64f0908591", "\u{10151}"),
    ("80", []), ("83010203", [1, 2, 3]), ("8301820203820405", [1, [2, 3], [4, 5]]),
    ("98190102030405060708090a0b0c0d0e0f101112131415161718181819", .array((1...25).map { .int($0) })),
    ("a0", [:]), ("a26161016162820203", ["a": 1, "b": [2, 3]]), ("826161a161626163", ["a", ["b": "c"]]),
    ("a56161614161626142616361436164614461656145", ["a": "A", "b": "B", "c": "C", "d": "D", "e": "E"]),
  ]

  @Test(arguments: valid) func appendixADecodesAndEncodesAgain(_ hex: String, _ value: Value) throws {
    let bytes = try #require(Bytes(hex: hex))
    #expect(try CBOR.decode(bytes) == value)
    #expect(CBOR.encode(value).hex == hex)
    #expect(try CBOR.skip(bytes) == bytes.count)
  }

  /// Appendix A's examples outside JSON's data model or outside the deterministic form, and other malformed input.
  static let refused: [(String, String)] = [
    ("1bffffffffffffffff", "64 signed bits"), ("3bffffffffffffffff", "64 signed bits"),
    ("c249010000000000000000", "tags"), ("c11a514b67b0", "tags"), ("d818456449455446", "tags"),
    ("f97c00", "infinity"), ("f97e00", "NaN"), ("f9fc00", "infinity"), ("fa7f800000", "infinity"),
    ("fb7ff8000000000000", "NaN"), ("f7", "simple"), ("f0", "simple"), ("f8ff", "simple"),
    ("40", "byte string"), ("4401020304", "byte string"), ("a201020304", "expected a text"),
    ("5f42010243030405ff", "byte string"), ("7f657374726561646d696e67ff", "indefinite"), ("9fff", "indefinite"),
    ("83018202039f0405ff", "indefinite"), ("bf61610161629f0203ffff", "indefinite"),
    ("1817", "shortest"), ("190018", "shortest"), ("1a0000ffff", "shortest"), ("1b00000000ffffffff", "shortest"),
    ("7801", "shortest"), ("fa3fc00000", "shortest"), ("fb3ff8000000000000", "shortest"),
    ("a2616201616101", "out of order"), ("a2616101616102", "repeated"), ("a262616101616201", "out of order"),
    ("62c328", "UTF-8"), ("63eda080", "UTF-8"), ("", "ends"), ("18", "ends"), ("6261", "ends"), ("8201", "ends"),
    ("9bffffffffffffffff", "ends"), ("bb7fffffffffffffff", "ends"), ("7b7fffffffffffffff", "ends"),
    ("0000", "unexpected bytes"), ("1c", "reserved"), ("ff", "simple"),
  ]

  @Test(arguments: refused) func otherSpellingsAreRefusedWithTheReason(_ hex: String, _ reason: String) throws {
    let bytes = try #require(Bytes(hex: hex))
    let error = try #require(throws: SkerryError.self) { try CBOR.decode(bytes) }
    #expect(error.code == .invalidArgument)
    #expect(error.message.contains(reason), "\(error.message)")
  }

  @Test func nestingAndItemsAreBounded() throws {
    let deep = Bytes(repeating: 0x81, count: 64) + [0x01]
    #expect(throws: Never.self) { try CBOR.decode(deep) }
    #expect(throws: SkerryError.self) { try CBOR.decode([0x81] + deep) }
    #expect(throws: SkerryError.self) { try CBOR.skip(Bytes(repeating: 0x81, count: 100_000) + [0x01]) }
    var limits = CBORLimits()
    limits.maxItems = 3
    #expect(throws: Never.self) { try CBOR.decode([0x82, 1, 2], limits: limits) }
    #expect(throws: SkerryError.self) { try CBOR.decode([0x83, 1, 2, 3], limits: limits) }
  }

  @Test func whatJSONCannotSayIsWrittenAsNull() {
    #expect(CBOR.encode([.double(.nan), .double(.infinity)]).hex == "82f6f6")
  }

  @Test func aMemberIsFoundWithoutDecodingTheRest() throws {
    let bytes = CBOR.encode(["kind": "Pod", "spec": ["nodeName": "n1"], "status": ["phase": "Running"]])
    #expect(try CBOR.member("status", of: bytes) == CBOR.encode(["phase": "Running"]))
    #expect(try CBOR.member("data", of: bytes) == nil)
  }

  @Test func protocolMessagesReadFieldByField() throws {
    var writer = CBORWriter()
    writer.array(5)
    writer.uint(.max)
    writer.byteString([1, 2])
    writer.raw(CBOR.encode(["a": [1, 2]]))
    writer.null()
    writer.bool(true)
    var reader = CBORReader(writer.bytes)
    try reader.array(of: 5)
    #expect(try reader.uint() == .max)
    #expect(try reader.byteString() == [1, 2])
    #expect(try reader.raw() == CBOR.encode(["a": [1, 2]]))
    let isNull = reader.null()
    #expect(isNull)
    #expect(try reader.bool())
    try reader.finish()
  }

  /// Keys that are compared where they lie are in the same order, and have the same names, as their texts.
  @Test func keysAreComparedInPlace() throws {
    let names = ["", "a", "b", "uid", "name", "na\u{ef}ve", "metadata", "metadatb", "creationTimestamp"]
    for left in names {
      for right in names {
        var reader = CBORReader(CBOR.encode([.string(left), .string(right)]))
        try reader.array(of: 2)
        let (first, second) = (try reader.key(), try reader.key())
        #expect(first.text == left && second.text == right)
        #expect(first.precedes(second) == Value.Fields.precedes(left, right), "\(left), \(right)")
      }
    }
    var reader = CBORReader(CBOR.encode(["metadata"]))
    try reader.array(of: 1)
    let key = try reader.key()
    #expect(key.is("metadata") && !key.is("metadatb") && !key.is("meta") && !key.is(""))
    // Not UTF-8, and cut off.
    #expect(throws: SkerryError.self) {
      var reader = CBORReader([0x62, 0xc3, 0x28]); _ = try reader.key()
    }
    #expect(throws: SkerryError.self) {
      var reader = CBORReader([0x62, 0x61]); _ = try reader.key()
    }
  }
}
