import Base
import Testing

@testable import ObjectModel

@Suite struct JSONTests {
  @Test func keepsIntegersAndDoublesApart() throws {
    #expect(
      try JSON.parse("[1, 1.0, -0, 1e2, 9223372036854775807, 9223372036854775808]")
        == [1, .double(1.0), 0, .double(100), .int(.max), .double(9_223_372_036_854_775_808)])
    #expect(JSON.print([1, .double(1.0), .double(0.1)]) == "[1,1.0,0.1]")
  }

  @Test(arguments: [
    "", "{", "[1,]", "{\"a\":1,}", "01", "1.", ".5", "+1", "nul", "\"a", "\"\u{1}\"", "\"\\x\"", "\"\\ud800\"",
    "\"\\udc00\"", "\"\\u12g4\"", "[1] 2", "{a:1}", "'a'", "NaN", "1e999", "\"\\u+123\"", "{\"a\" 1}", "-", "1e",
  ])
  func refuses(_ text: String) {
    #expect(throws: JSONError.self) { try JSON.parse(text) }
  }

  @Test func placesErrors() {
    #expect(throws: JSONError(message: "duplicate member name \"a\"", line: 2, column: 2)) {
      try JSON.parse("{\"a\": 1,\n \"a\": 2}")
    }
    #expect(throws: JSONError(message: "expected ',' or ']' in an array", line: 1, column: 4)) {
      try JSON.parse("[1 2]")
    }
  }

  @Test func refusesInvalidUTF8AndDepthAndSize() {
    #expect(throws: JSONError.self) { try JSON.parse([0x22, 0xff, 0x22]) }
    #expect(throws: JSONError.self) { try JSON.parse([0x22, 0xed, 0xa0, 0x80, 0x22]) }
    let deep = String(repeating: "[", count: JSON.maxDepth) + String(repeating: "]", count: JSON.maxDepth)
    #expect(throws: Never.self) { try JSON.parse(deep) }
    #expect(throws: JSONError.self) { try JSON.parse("[\(deep)]") }
    #expect(throws: JSONError.self) { try JSON.parse(Array("[1]".utf8), maxBytes: 2) }
  }

  @Test func escapesAndSortsKeys() throws {
    let text = #"{"b":"\u00e9\ud83d\ude00\n\"\\\/","aa":[{}],"a":[]}"#
    let value = try JSON.parse(text)
    #expect(JSON.print(value) == #"{"a":[],"aa":[{}],"b":"é😀\n\"\\/"}"#)
    #expect(
      JSON.print(value, indent: 2) == "{\n  \"a\": [],\n  \"aa\": [\n    {}\n  ],\n  \"b\": \"é😀\\n\\\"\\\\/\"\n}")
    #expect(JSON.print(.string("\u{1}\u{7f}")) == "\"\\u0001\\u007f\"")
  }

  @Test func roundTripsRandomValues() throws {
    let random = SeededRandom(seed: 7)
    for _ in 0..<300 {
      let value = Self.value(random, depth: 0)
      #expect(try JSON.parse(JSON.print(value)) == value)
      #expect(try JSON.parse(JSON.print(value, indent: 4)) == value)
    }
  }

  static func value(_ random: SeededRandom, depth: Int) -> Value {
    switch random.below(depth > 4 ? 5 : 7) {
    case 0: return .null
    case 1: return .bool(random.below(2) == 0)
    case 2: return .int(Int64(bitPattern: random.next()))
    case 3: return .double(Double(Int64(bitPattern: random.next())) / 1e7)
    case 4:
      return .string(
        String((0..<random.below(8)).map { _ in Character(["a", "\n", "é", "\"", "😀"][Int(random.below(5))]) }))
    case 5: return .array((0..<random.below(5)).map { _ in value(random, depth: depth + 1) })
    default:
      return .object(
        Value.Fields((0..<random.below(6)).map { _ in ("k\(random.below(20))", value(random, depth: depth + 1)) }))
    }
  }
}
