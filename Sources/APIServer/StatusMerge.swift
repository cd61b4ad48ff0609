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

  /// `words` are what the node said, one after the other.
  init(_ words: [Value], into stored: Bytes?) throws(SkerryError) {
    let spoken = Set(words.flatMap { $0.object?.keys ?? [] })
    names = spoken.sorted()
    var before = Value.Fields()
    var kept: [(key: String, bytes: Range<Int>)] = []
    var reader = CBORReader(stored ?? CBOR.encode([:]))
    for _ in 0..<(try reader.map()) {
      let key = try reader.text()
      if spoken.contains(key) { before[key] = try reader.value() } else { kept.append((key, try reader.skip())) }
    }
    try reader.finish()
    changed = words.reduce(.object(before)) { StatusIntent.merge($1, into: $0).withoutNulls() }
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
