import Base
import Testing

@Suite struct ValueTests {
  @Test func membersSortShorterFirstThenByBytes() {
    let value: Value = ["bb": 1, "a": 2, "ab": 3]
    #expect(value.object?.keys == ["a", "ab", "bb"])
  }

  /// Keys that share length and first bytes, that a rank cuts off, and that are one under Unicode's equality.
  @Test(arguments: 1...4 as ClosedRange<UInt64>) func membersAreADictionaryInOrder(seed: UInt64) {
    let random = SeededRandom(seed: seed)
    let letters = ["a", "b", "\u{e9}", "e\u{301}"]
    func key() -> String {
      let stem = ["", "metadat", "kubernetes.io/", String(repeating: "x", count: 250)][Int(random.below(4))]
      return stem + (0..<random.below(7)).map { _ in letters[Int(random.below(4))] }.joined()
    }
    var (fields, reference) = (Value.Fields(), [Bytes: Int64]())
    for step in 0..<600 {
      let name = key()
      if random.below(3) == 0 {
        fields[name] = nil
        reference[Bytes(name.utf8)] = nil
      } else {
        fields[name] = .int(Int64(step))
        reference[Bytes(name.utf8)] = Int64(step)
      }
      #expect(fields.contains(name) == (reference[Bytes(name.utf8)] != nil))
    }
    let sorted = reference.keys.sorted { $0.count != $1.count ? $0.count < $1.count : $0.lexicographicallyPrecedes($1) }
    #expect(fields.keys.map { Bytes($0.utf8) } == sorted)
    for name in fields.keys { #expect(fields[name]?.int == reference[Bytes(name.utf8)]) }
    for (a, b) in zip(fields.keys, fields.keys.dropFirst()) {
      #expect(Value.Fields.precedes(a, b) && !Value.Fields.precedes(b, a) && !Value.Fields.precedes(a, a))
    }
    var copy = Value.Fields()
    for (name, value) in fields { #expect(copy.appendLast(name, value) && !copy.appendLast(name, value)) }
    #expect(copy == fields)
  }

  @Test(arguments: 1...4 as ClosedRange<UInt64>) func someMembersAreTakenFromAnother(seed: UInt64) {
    let random = SeededRandom(seed: seed)
    func fields() -> Value.Fields {
      var fields = Value.Fields()
      for _ in 0..<random.below(12) {
        fields["key\(String(repeating: "-", count: Int(random.below(6))))\(random.below(9))"] = .int(
          Int64(random.below(99)))
      }
      return fields
    }
    for _ in 0..<200 {
      let (own, other, keys) = (fields(), fields(), fields())
      var expected = own
      for key in keys.keys { expected[key] = other[key] }
      #expect(own.taking(keys, from: other) == expected)
    }
  }

  @Test func depthAndNullsAreFoundAtAnyPlace() {
    let value: Value = ["a": [["b": 1]]]
    #expect(value.isDeeper(than: 2) && !value.isDeeper(than: 3) && !Value.int(1).isDeeper(than: 0))
    #expect(!value.hasNull && Value.null.hasNull && Value.array([["b": .null]]).hasNull)
  }

  @Test func nestedAssignmentMakesObjectsOnTheWay() {
    var value: Value = .null
    value["spec"]["template"]["name"] = "web"
    #expect(value == ["spec": ["template": ["name": "web"]]])
    value["spec"].remove("template")
    #expect(value == ["spec": [:]])
  }

  @Test func hexRoundTrips() {
    let bytes: Bytes = [0, 1, 0xab, 0xff]
    #expect(bytes.hex == "0001abff")
    #expect(Bytes(hex: "0001ABff") == bytes)
    #expect(Bytes(hex: "abc") == nil)
  }
}
