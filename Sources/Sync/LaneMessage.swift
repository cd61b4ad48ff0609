import Base
import Wire

/// Messages of a lane stream. The first message is the sink's `cursors`; then the node sends `batch`es and the sink
/// answers each with `applied`.
///
/// ```
/// cursors [1, [[incarnation (16 bytes), number] …]]
/// batch   [2, incarnation, after, through, [[number, payload (bytes)] …], closes]
/// applied [3, incarnation, number, refused]        refused: the batch did not start at the cursor, which is `number`
/// packed  [4, incarnation, after, [[series, device, property, type] …], block (bytes)]      a batch of readings
/// one     [5, incarnation, after, payload]         a batch of the one entry after + 1, the usual one
/// ```
///
/// An incarnation that the stream was opened with stands as its place in that list (`names`), any other as its bytes.
package enum LaneMessage: Sendable, Hashable {
  case cursors([Incarnation: UInt64])
  case batch(LaneBatch)
  case applied(Incarnation, number: UInt64, refused: Bool)
  case readings(PackedReadings)

  /// Incarnations of one lane that a sink keeps a cursor for; a node that names more is refused.
  package static let maxIncarnations = 64

  package func encode(_ names: [Incarnation] = []) -> Bytes {
    var writer = CBORWriter()
    func write(_ incarnation: Incarnation) {
      if let place = names.firstIndex(of: incarnation) {
        writer.uint(UInt64(place))
      } else {
        writer.byteString(incarnation.bytes)
      }
    }
    switch self {
    case .cursors(let cursors):
      writer.array(2)
      writer.uint(1)
      writer.array(cursors.count)
      for (incarnation, number) in cursors.sorted(by: { $0.key.bytes.lexicographicallyPrecedes($1.key.bytes) }) {
        writer.array(2)
        write(incarnation)
        writer.uint(number)
      }
    case .batch(let batch) where batch.isOne:
      writer.array(4)
      writer.uint(5)
      write(batch.incarnation)
      writer.uint(batch.after)
      writer.byteString(batch.entries[0].payload)
    case .batch(let batch):
      writer.array(6)
      writer.uint(2)
      write(batch.incarnation)
      writer.uint(batch.after)
      writer.uint(batch.through)
      writer.array(batch.entries.count)
      for entry in batch.entries {
        writer.array(2)
        writer.uint(entry.number)
        writer.byteString(entry.payload)
      }
      writer.bool(batch.closes)
    case .applied(let incarnation, let number, let refused):
      writer.array(4)
      writer.uint(3)
      write(incarnation)
      writer.uint(number)
      writer.bool(refused)
    case .readings(let packed):
      writer.array(5)
      writer.uint(4)
      write(packed.incarnation)
      writer.uint(packed.after)
      writer.array(packed.names.count)
      for name in packed.names {
        writer.array(4)
        writer.uint(name.series)
        writer.text(name.device)
        writer.text(name.property)
        writer.text(name.type)
      }
      writer.byteString(packed.block)
    }
    return writer.bytes
  }

  package static func decode(_ bytes: Bytes, _ names: [Incarnation] = []) throws(SkerryError) -> LaneMessage {
    var reader = CBORReader(bytes)
    let count = try reader.array()
    let tag = try reader.uint()
    let message: LaneMessage
    switch (tag, count) {
    case (1, 2):
      let pairs = try reader.array()
      guard pairs <= maxIncarnations else {
        throw SkerryError(.limitExceeded, "\(pairs) incarnations of one lane; at most \(maxIncarnations) are kept")
      }
      var cursors: [Incarnation: UInt64] = [:]
      for _ in 0..<pairs {
        try reader.array(of: 2)
        cursors[try incarnation(&reader, names)] = try reader.uint()
      }
      message = .cursors(cursors)
    case (2, 6): message = .batch(try batch(&reader, names))
    case (3, 4):
      message = .applied(try incarnation(&reader, names), number: try reader.uint(), refused: try reader.bool())
    case (4, 5): message = .readings(try packed(&reader, names))
    case (5, 4):
      let id = try incarnation(&reader, names)
      let (number, overflow) = try reader.uint().addingReportingOverflow(1)
      guard !overflow else { throw SkerryError(.protocolViolation, "a lane's numbers end below 2^64") }
      let entry = LaneEntry(number: number, payload: try reader.byteString())
      message = .batch(LaneBatch(incarnation: id, after: number - 1, through: number, entries: [entry]))
    default:
      throw SkerryError(.protocolViolation, "lane message \(tag) with \(count) elements is not known here")
    }
    try reader.finish()
    return message
  }

  private static func packed(_ reader: inout CBORReader, _ names: [Incarnation]) throws(SkerryError) -> PackedReadings {
    let id = try incarnation(&reader, names)
    let after = try reader.uint()
    let count = try reader.array()
    guard count <= ReadingBlock.maxRows else {
      throw SkerryError(
        .protocolViolation, "\(count) series are named at once; at most \(ReadingBlock.maxRows) are taken")
    }
    var series: [SeriesName] = []
    for _ in 0..<count {
      try reader.array(of: 4)
      series.append(
        SeriesName(
          series: try reader.uint(), device: try reader.text(), property: try reader.text(), type: try reader.text()))
    }
    return PackedReadings(incarnation: id, after: after, names: series, block: try reader.byteString())
  }

  private static func batch(_ reader: inout CBORReader, _ names: [Incarnation]) throws(SkerryError) -> LaneBatch {
    let id = try incarnation(&reader, names)
    let after = try reader.uint()
    let through = try reader.uint()
    let count = try reader.array()
    guard through >= after, count <= LaneSender.maxBatchEntries else {
      throw SkerryError(.protocolViolation, "a lane batch after \(after) through \(through) with \(count) entries")
    }
    var entries: [LaneEntry] = []
    entries.reserveCapacity(count)
    var last = after
    for _ in 0..<count {
      try reader.array(of: 2)
      let number = try reader.uint()
      guard number > last, number <= through else {
        throw SkerryError(.protocolViolation, "lane entry \(number) is out of order after \(last)")
      }
      last = number
      entries.append(LaneEntry(number: number, payload: try reader.byteString()))
    }
    return LaneBatch(incarnation: id, after: after, through: through, entries: entries, closes: try reader.bool())
  }

  private static func incarnation(
    _ reader: inout CBORReader, _ names: [Incarnation]
  ) throws(SkerryError) -> Incarnation {
    if reader.next == .uint {
      let place = try reader.uint()
      guard place < UInt64(names.count) else {
        throw SkerryError(.protocolViolation, "incarnation \(place) of \(names.count) that the stream was opened with")
      }
      return names[Int(place)]
    }
    guard let id = Incarnation(try reader.byteString()) else {
      throw SkerryError(.protocolViolation, "an incarnation is 16 bytes")
    }
    return id
  }
}

/// The payload of a status or events lane entry: a map with `k`, the kind of intent; of a status, which is frequent, an
/// array. Either may be packed (`Packing`).
///
/// ```
/// status  [log key, uid, {status fields}]           the uid as its 16 bytes where it is a UUID, else as text
/// gone    {"k": "gone", "key": log key, "uid": uid}
/// event   {"k": "event", "ns": namespace, "o": event object}
/// dropped {"k": "dropped", "from": number, "to": number, "n": count}     what a bound of the node let go
/// ```
package enum LanePayload: Sendable, Hashable {
  case status(key: String, uid: String, fields: Value)
  case gone(key: String, uid: String)
  case event(namespace: String, object: Value)
  case dropped(from: UInt64, to: UInt64, count: UInt64)

  package func encode() -> Bytes {
    if case .dropped = self { return plain }
    return Packing.pack(plain)
  }

  /// The entry as CBOR, not packed.
  package var plain: Bytes {
    switch self {
    case .status(let key, let uid, let fields): Self.status(key, uid, fields)
    case .gone(let key, let uid): CBOR.encode(["k": "gone", "key": .string(key), "uid": .string(uid)])
    case .event(let namespace, let object):
      CBOR.encode(["k": "event", "ns": .string(namespace), "o": object])
    case .dropped(let from, let to, let count):
      CBOR.encode([
        "k": "dropped", "from": .int(Int64(clamping: from)), "to": .int(Int64(clamping: to)),
        "n": .int(Int64(clamping: count)),
      ])
    }
  }

  private static func status(_ key: String, _ uid: String, _ fields: Value) -> Bytes {
    var writer = CBORWriter()
    writer.array(3)
    writer.text(key)
    if let bytes = UUIDText.bytes(uid) { writer.byteString(bytes) } else { writer.text(uid) }
    writer.value(fields)
    return writer.bytes
  }

  package static func decode(_ item: Bytes) throws(SkerryError) -> LanePayload {
    let bytes = try Packing.unpack(item)
    if let first = bytes.first, first & 0xe0 == 0x80 {
      var reader = CBORReader(bytes)
      try reader.array(of: 3)
      let key = try reader.text()
      let uid: String
      if reader.next == .bytes {
        guard let text = UUIDText.text(try reader.byteString()) else {
          throw SkerryError(.invalidArgument, "a uid of bytes has 16 of them")
        }
        uid = text
      } else {
        uid = try reader.text()
      }
      let fields = try reader.value()
      try reader.finish()
      return .status(key: key, uid: uid, fields: fields)
    }
    let value = try CBOR.decode(bytes)
    func number(_ key: String) -> UInt64 { UInt64(clamping: value[key].int ?? 0) }
    switch value["k"].string {
    case "gone": return .gone(key: value["key"].string ?? "", uid: value["uid"].string ?? "")
    case "event": return .event(namespace: value["ns"].string ?? "", object: value["o"])
    case "dropped": return .dropped(from: number("from"), to: number("to"), count: number("n"))
    default: throw SkerryError(.invalidArgument, "a lane entry of a kind that is not known here")
    }
  }
}

/// UUIDs as 16 bytes. Only the canonical spelling, in lower case, has them: so that the text comes back as it was.
package enum UUIDText {
  /// Where dashes stand behind so many bytes.
  private static func hasDash(behind count: Int) -> Bool { count == 4 || count == 6 || count == 8 || count == 10 }
  private static let dash = UInt8(ascii: "-")

  package static func bytes(_ text: String) -> Bytes? {
    let ascii = Bytes(text.utf8)
    guard ascii.count == 36 else { return nil }
    var bytes: Bytes = []
    bytes.reserveCapacity(16)
    var at = 0
    while bytes.count < 16 {
      if hasDash(behind: bytes.count) {
        guard ascii[at] == dash else { return nil }
        at += 1
      }
      guard let high = digit(ascii[at]), let low = digit(ascii[at + 1]) else { return nil }
      bytes.append(high << 4 | low)
      at += 2
    }
    return bytes
  }

  package static func text(_ bytes: Bytes) -> String? {
    guard bytes.count == 16 else { return nil }
    var text: Bytes = []
    text.reserveCapacity(36)
    for (count, byte) in bytes.enumerated() {
      if hasDash(behind: count) { text.append(dash) }
      text.append(letter(byte >> 4))
      text.append(letter(byte & 15))
    }
    return String(decoding: text, as: UTF8.self)
  }

  private static func digit(_ letter: UInt8) -> UInt8? {
    switch letter {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): letter - UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): letter - UInt8(ascii: "a") + 10
    default: nil
    }
  }

  private static func letter(_ digit: UInt8) -> UInt8 {
    digit < 10 ? UInt8(ascii: "0") + digit : UInt8(ascii: "a") + digit - 10
  }
}
