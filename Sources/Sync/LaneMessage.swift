import Base
import Wire

/// Messages of a lane stream. The first message is the sink's `cursors`; then the node sends `batch`es and the sink
/// answers each with `applied`.
///
/// ```
/// cursors [1, [[incarnation (16 bytes), number] …]]
/// batch   [2, incarnation, after, through, [[number, payload (bytes)] …], closes]
/// applied [3, incarnation, number, refused]        refused: the batch did not start at the cursor, which is `number`
/// ```
package enum LaneMessage: Sendable, Hashable {
  case cursors([Incarnation: UInt64])
  case batch(LaneBatch)
  case applied(Incarnation, number: UInt64, refused: Bool)

  /// Incarnations of one lane that a sink keeps a cursor for; a node that names more is refused.
  package static let maxIncarnations = 64

  package func encode() -> Bytes {
    var writer = CBORWriter()
    switch self {
    case .cursors(let cursors):
      writer.array(2)
      writer.uint(1)
      writer.array(cursors.count)
      for (incarnation, number) in cursors.sorted(by: { $0.key.bytes.lexicographicallyPrecedes($1.key.bytes) }) {
        writer.array(2)
        writer.byteString(incarnation.bytes)
        writer.uint(number)
      }
    case .batch(let batch):
      writer.array(6)
      writer.uint(2)
      writer.byteString(batch.incarnation.bytes)
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
      writer.byteString(incarnation.bytes)
      writer.uint(number)
      writer.bool(refused)
    }
    return writer.bytes
  }

  package static func decode(_ bytes: Bytes) throws(SkerryError) -> LaneMessage {
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
        cursors[try incarnation(&reader)] = try reader.uint()
      }
      message = .cursors(cursors)
    case (2, 6): message = .batch(try batch(&reader))
    case (3, 4):
      message = .applied(try incarnation(&reader), number: try reader.uint(), refused: try reader.bool())
    default:
      throw SkerryError(.protocolViolation, "lane message \(tag) with \(count) elements is not known here")
    }
    try reader.finish()
    return message
  }

  private static func batch(_ reader: inout CBORReader) throws(SkerryError) -> LaneBatch {
    let id = try incarnation(&reader)
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

  private static func incarnation(_ reader: inout CBORReader) throws(SkerryError) -> Incarnation {
    guard let id = Incarnation(try reader.byteString()) else {
      throw SkerryError(.protocolViolation, "an incarnation is 16 bytes")
    }
    return id
  }
}

/// The payload of a status or events lane entry: a map with `k`, the kind of intent.
///
/// ```
/// status  {"k": "status", "key": log key, "uid": uid, "f": {status fields}}
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
    switch self {
    case .status(let key, let uid, let fields):
      CBOR.encode(["k": "status", "key": .string(key), "uid": .string(uid), "f": fields])
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

  package static func decode(_ bytes: Bytes) throws(SkerryError) -> LanePayload {
    let value = try CBOR.decode(bytes)
    func number(_ key: String) -> UInt64 { UInt64(clamping: value[key].int ?? 0) }
    switch value["k"].string {
    case "status":
      return .status(key: value["key"].string ?? "", uid: value["uid"].string ?? "", fields: value["f"])
    case "gone": return .gone(key: value["key"].string ?? "", uid: value["uid"].string ?? "")
    case "event": return .event(namespace: value["ns"].string ?? "", object: value["o"])
    case "dropped": return .dropped(from: number("from"), to: number("to"), count: number("n"))
    default: throw SkerryError(.invalidArgument, "a lane entry of a kind that is not known here")
    }
  }
}

/// One device reading on its way up: `[number, device "namespace/name", property, type, value, quality, time ms]`.
package struct Reading: Sendable, Hashable {
  package var number: UInt64
  package var device: String
  package var property: String
  /// `INT`, `FLOAT`, `BOOLEAN`, `STRING` …: the DeviceModel's type.
  package var type: String
  /// The value as text, as KubeEdge's twins carry it.
  package var value: String
  /// `Good`, or the reason why it is not.
  package var quality: String
  /// Acquisition, milliseconds since 1970 by the node's clock.
  package var time: Int64
  package init(
    number: UInt64, device: String, property: String, type: String, value: String, quality: String, time: Int64
  ) {
    self.number = number
    self.device = device
    self.property = property
    self.type = type
    self.value = value
    self.quality = quality
    self.time = time
  }

  package var encoded: Value {
    [
      .int(Int64(clamping: number)), .string(device), .string(property), .string(type), .string(value),
      .string(quality), .int(time),
    ]
  }

  package init?(_ value: Value) {
    guard let fields = value.array, fields.count == 7, let number = fields[0].int, number >= 0,
      let device = fields[1].string, let property = fields[2].string, let type = fields[3].string,
      let text = fields[4].string, let quality = fields[5].string, let time = fields[6].int
    else { return nil }
    self.init(
      number: UInt64(number), device: device, property: property, type: type, value: text, quality: quality, time: time)
  }
}
