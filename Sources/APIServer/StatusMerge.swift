import Base
import ObjectModel
import Wire

/// A stored status with what a node said merged into it. Members that the node did not speak of stay the bytes that they
/// are: a status changes often, and each time little of it.
struct StatusMerge {
  /// The whole new status, encoded.
  let status: Bytes
  /// The members that the node spoke of, as they are now; those that it took away are not among them.
  let changed: Value
  /// The members that the node spoke of.
  let names: [String]

  init(_ fields: Value.Fields, into stored: Bytes?) throws(SkerryError) {
    names = fields.keys
    var before = Value.Fields()
    var kept: [(key: String, bytes: Range<Int>)] = []
    var reader = CBORReader(stored ?? CBOR.encode([:]))
    for _ in 0..<(try reader.map()) {
      let key = try reader.text()
      if fields[key] == nil { kept.append((key, try reader.skip())) } else { before[key] = try reader.value() }
    }
    try reader.finish()
    changed = StatusIntent.merge(.object(fields), into: .object(before)).withoutNulls()
    let new = changed.object ?? [:]
    var writer = CBORWriter(reservingCapacity: (stored?.count ?? 0) + 256)
    writer.map(kept.count + new.count)
    var next = kept[...]
    func write(before key: String?) {
      while let member = next.first, key.map({ Value.Fields.precedes(member.key, $0) }) ?? true {
        writer.text(member.key)
        if let stored { writer.raw(stored[member.bytes]) }
        next.removeFirst()
      }
    }
    for (key, value) in new {
      write(before: key)
      writer.text(key)
      writer.value(value)
    }
    write(before: nil)
    status = writer.bytes
  }
}
