import Base
import Testing

@Suite struct ValueTests {
  @Test func membersSortShorterFirstThenByBytes() {
    let value: Value = ["bb": 1, "a": 2, "ab": 3]
    #expect(value.object?.keys == ["a", "ab", "bb"])
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
