import Base
import ObjectModel
import Sync
import Testing
import Wire

@Suite struct PackingTests {
  private func check(_ item: Bytes) throws -> Int {
    let packed = Packing.pack(item)
    #expect(packed.count <= item.count)
    #expect(try Packing.unpack(packed) == item)
    return packed.count
  }

  @Test func itemsComeBack() throws {
    let texts = ["", "abc", String(repeating: "ab", count: 3000), "the quick brown fox jumps over the lazy dog again"]
    for text in texts { _ = try check(CBOR.encode(.array([.string(text), .string(text)]))) }
    #expect(PackingDictionary.bytes.count <= 4096, "more cannot be reached")
    #expect(try check(PackingDictionary.bytes) < 400)
    #expect(try check(CBOR.encode(.string(String(repeating: "z", count: 60_000)))) < 300)
    var noise: Bytes = [0x59, 0x04, 0x00]
    for index in 0..<1024 { noise.append(UInt8(truncatingIfNeeded: (index &* 2_654_435_761) >> 13)) }
    _ = try check(noise)
  }

  @Test func aReadinessThatFlipsTakesLittle() throws {
    func condition(_ type: Value) -> Value {
      [
        "type": type, "status": "False", "reason": "ContainersNotReady",
        "message": "containers with unready status: [main]", "lastTransitionTime": "2026-11-23T08:32:10Z",
      ]
    }
    let payload = LanePayload.status(
      key: "pods/default/web-1", uid: "6f1c2d7e-95b1-4c0f-8a53-0d0f9a2b7c41",
      fields: [
        "conditions": [condition("Ready"), condition("ContainersReady")],
        "containerStatuses": [["name": "main", "ready": false]],
      ])
    let bytes = payload.encode()
    #expect(bytes.count < 90, "\(bytes.count) bytes")
    #expect(try LanePayload.decode(bytes) == payload)
  }

  @Test func aUIDThatIsNoUUIDStaysAsItIs() throws {
    for uid in ["u", "6F1C2D7E-95B1-4C0F-8A53-0D0F9A2B7C41", "6f1c2d7e-95b1-4c0f-8a53-0d0f9a2b7c4", ""] {
      let payload = LanePayload.status(key: "pods/a/b", uid: uid, fields: ["phase": "Running"])
      #expect(try LanePayload.decode(payload.encode()) == payload)
    }
  }

  @Test func whatIsNoPackedItemIsRefused() throws {
    let packed = Packing.pack(PackingDictionary.bytes)
    #expect(packed.first == 0)
    for length in 1..<packed.count {
      #expect(throws: SkerryError.self) { try Packing.unpack(Bytes(packed.prefix(length))) }
    }
    // It claims more than is taken, reaches before the dictionary, or says more than it claims.
    #expect(throws: SkerryError.self) { try Packing.unpack([0, 0xff, 0xff, 0xff, 0x7f]) }
    #expect(throws: SkerryError.self) { try Packing.unpack([0, 3, 0x8f, 0xff]) }
    #expect(throws: SkerryError.self) { try Packing.unpack([0, 1, 1, 65, 66]) }
    #expect(throws: SkerryError.self) { try Packing.unpack(packed, limit: 100) }
  }

  @Test func anObjectThatIsSealedIsNotPacked() throws {
    let body = CBOR.encode(["data": .string(String(repeating: "YWFh", count: 100))])
    for sealed in [true, false] {
      let object = SliceObject(
        key: "secrets/default/s", body: body, status: nil, meta: [0x80], bodyRevision: 3, statusRevision: 0,
        createRevision: 3, sealed: sealed)
      let message = SliceMessage.position(3, [.put(object), .told(key: "pods/a/b", statusRevision: 3, check: 77)])
      let bytes = message.encode()
      #expect((bytes.count > body.count) == sealed)
      #expect(try SliceMessage.decode(bytes) == message)
    }
  }
}

@Suite struct StatusDifferenceTests {
  private static func status(_ round: Int) -> Value {
    let because: Value = round % 4 == 1 ? "Because" : .null
    var status: Value = [
      "phase": .string(["Pending", "Running", "Failed"][round % 3]),
      "conditions": [
        [
          "type": "Ready", "status": .string(round.isMultiple(of: 2) ? "True" : "False"), "lastProbeTime": .null,
          "reason": because,
        ],
        ["type": "Initialized", "status": "True"],
      ],
      "containerStatuses": [
        [
          "name": "main", "restartCount": .int(Int64(round / 2)),
          "state": round.isMultiple(of: 3)
            ? ["running": ["startedAt": .string("t\(round)")]] : ["waiting": ["reason": "CrashLoopBackOff"]],
        ]
      ],
    ]
    if round % 4 == 1 { status["message"] = .string("m\(round)") }
    return status
  }

  /// Whichever of the statuses the cloud has, what is told makes the new one of it.
  @Test func aDifferenceLeadsToTheStatusFromEachOfItsStarts() {
    for last in 1..<24 {
      for open in 1...min(4, last) {
        let before = (last - open..<last).map(Self.status)
        let target = Self.status(last)
        let fields = StatusIntent.difference(target, from: before)
        for start in before {
          // The cloud's own condition stays.
          var shown = start.withoutNulls()
          shown["conditions"] = .array((shown["conditions"].array ?? []) + [["type": "Theirs", "status": "True"]])
          let merged = StatusIntent.merge(fields, into: shown).withoutNulls()
          let full = StatusIntent.merge(target, into: shown).withoutNulls()
          #expect(merged["containerStatuses"] == target["containerStatuses"].withoutNulls())
          #expect(merged["phase"] == target["phase"])
          #expect(merged["message"] == target["message"])
          #expect((merged["conditions"].array ?? []).contains { $0["type"] == "Theirs" })
          #expect(merged["conditions"][0]["status"] == full["conditions"][0]["status"])
          #expect(merged["conditions"][0]["reason"] == target["conditions"][0]["reason"], "\(last) \(open)")
        }
      }
    }
  }

  @Test func nothingDiffersFromItself() {
    let status = Self.status(5)
    #expect(StatusIntent.difference(status, from: [status]) == [:])
    let changed = StatusIntent.difference(Self.status(6), from: [Self.status(5)])
    #expect(CBOR.encode(changed).count < CBOR.encode(Self.status(6)).count)
  }
}
