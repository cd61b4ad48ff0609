import Base
import Sync
import Testing

@Suite struct MessageTests {
  @Test func uuidsAreBytesOnlyInTheirCanonicalSpelling() {
    let random = SeededRandom(seed: 3)
    for _ in 0..<200 {
      let text = random.uuid()
      let bytes = UUIDText.bytes(text)
      #expect(bytes?.count == 16)
      #expect(bytes.flatMap(UUIDText.text) == text)
      #expect(UUIDText.bytes(String(text.dropLast())) == nil)
      #expect(UUIDText.bytes(text + "0") == nil)
    }
    for text in [
      "", "0F8FAD5B-D9CB-469F-A165-70867728950E", "0f8fad5bd9cb-469f-a165-70867728950e-",
      "0f8fad5b_d9cb-469f-a165-70867728950e",
      "0f8fad5b-d9cb-469f-a165-70867728950g", "0f8fad5-bd9cb-469f-a165-70867728950e",
    ] {
      #expect(UUIDText.bytes(text) == nil)
    }
    #expect(UUIDText.text(Bytes(repeating: 1, count: 15)) == nil)
  }

  private let object = SliceObject(
    key: "pods/a/p", body: [0xa0], status: nil, meta: [0x80], bodyRevision: 7, statusRevision: 0, createRevision: 7,
    sealed: true)

  @Test func everySliceMessageRoundTrips() throws {
    let messages: [SliceMessage] = [
      .resume(log: Bytes(repeating: 1, count: 16), epoch: 1, position: 9),
      .begin(log: Bytes(repeating: 2, count: 16), epoch: 2, position: 1 << 40), .object(object),
      .keep(key: "secrets/a/s", revision: 3), .end(position: 9), .inventory,
      .position(10, [.put(object), .drop(key: "configmaps/a/c")]),
    ]
    for message in messages { #expect(try SliceMessage.decode(message.encode()) == message) }
  }

  @Test func laneMessagesRoundTrip() throws {
    let id = try #require(Incarnation(Bytes(repeating: 5, count: 16)))
    let batch = LaneBatch(
      incarnation: id, after: 1, through: 4, entries: [LaneEntry(number: 3, payload: [1, 2])], closes: true)
    for message in [LaneMessage.cursors([id: 4]), .batch(batch), .applied(id, number: 4, refused: true)] {
      #expect(try LaneMessage.decode(message.encode()) == message)
    }
    let payloads: [LanePayload] = [
      .status(key: "pods/a/p", uid: "u", fields: ["phase": "Running"]), .gone(key: "pods/a/p", uid: "u"),
      .event(namespace: "a", object: ["reason": "Started"]), .dropped(from: 1, to: 9, count: 4),
    ]
    for payload in payloads { #expect(try LanePayload.decode(payload.encode()) == payload) }
  }

  @Test func malformedMessagesAreRefused() throws {
    let id = try #require(Incarnation(Bytes(repeating: 5, count: 16)))
    let backwards = LaneBatch(
      incarnation: id, after: 4, through: 6, entries: [LaneEntry(number: 3, payload: [])], closes: false)
    #expect(throws: (any Error).self) { try LaneMessage.decode(LaneMessage.batch(backwards).encode()) }
    for index in 0..<object.key.utf8.count {
      let cut = Array(SliceMessage.object(object).encode().dropLast(index + 1))
      #expect(throws: (any Error).self) { try SliceMessage.decode(cut) }
    }
    #expect(throws: (any Error).self) { try SliceMessage.decode([0x82, 0x18, 0x63, 0x00]) }
  }
}
