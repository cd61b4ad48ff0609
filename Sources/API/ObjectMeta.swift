import Base
import ObjectModel
import Wire

/// What selectors and indexes need of an object, extracted once at the write and stored beside it, so that no watch
/// and no list decodes a body. proto-spec/objects.md has the layout.
package struct ObjectMeta: Sendable, Hashable {
  package var uid: String = ""
  package var labels: [String: String] = [:]
  /// The kind's selectable fields, without those that are empty.
  package var fields: [String: String] = [:]
  package var owners: [String] = []
  /// The node that the object is placed on.
  package var node: String?
  /// Log keys that it refers to.
  package var references: [String] = []
  /// Whether a deletion is under way.
  package var isBeingDeleted = false
  /// Seconds since 1970.
  package var created: Int64 = 0

  package init() {}

  package init(_ object: Object, kind: Kind) {
    let metadata = object.metadata
    uid = metadata["uid"].string ?? ""
    labels = metadata["labels"].stringMap
    for (name, read) in kind.selectableFields {
      let value = read(object)
      if !value.isEmpty { fields[name] = value }
    }
    if let references = metadata["ownerReferences"].array { owners = references.map { $0["uid"].string ?? "" } }
    node = kind.node(object)
    references = kind.references(object)
    isBeingDeleted = metadata["deletionTimestamp"].string != nil
    created = metadata["creationTimestamp"].string.flatMap { Timestamp.parse($0)?.seconds } ?? 0
  }

  /// Deterministic CBOR of a map with one-letter keys; what is empty is left out.
  package var encoded: Bytes {
    var writer = CBORWriter(reservingCapacity: 128)
    let optional = (isBeingDeleted ? 1 : 0) + (fields.isEmpty ? 0 : 1) + (labels.isEmpty ? 0 : 1)
    writer.map(2 + optional + (node == nil ? 0 : 1) + (owners.isEmpty ? 0 : 1) + (references.isEmpty ? 0 : 1))
    writer.text("c")
    writer.int(created)
    if isBeingDeleted {
      writer.text("d")
      writer.bool(true)
    }
    write("f", fields, &writer)
    write("l", labels, &writer)
    if let node {
      writer.text("n")
      writer.text(node)
    }
    write("o", owners, &writer)
    write("r", references, &writer)
    writer.text("u")
    writer.text(uid)
    return writer.bytes
  }

  private func write(_ name: String, _ texts: [String: String], _ writer: inout CBORWriter) {
    guard !texts.isEmpty else { return }
    writer.text(name)
    writer.value(Value(texts))
  }

  private func write(_ name: String, _ texts: [String], _ writer: inout CBORWriter) {
    guard !texts.isEmpty else { return }
    writer.text(name)
    writer.array(texts.count)
    for text in texts { writer.text(text) }
  }

  /// Members that are not known here are passed over. Read without a tree of values: each write does it several times.
  package init(decoding bytes: Bytes) throws(SkerryError) {
    var reader = CBORReader(bytes)
    for _ in 0..<(try reader.map()) {
      switch try reader.text() {
      case "u": uid = try reader.text()
      case "c": created = try reader.int()
      case "l": labels = try Self.texts(&reader)
      case "f": fields = try Self.texts(&reader)
      case "o": owners = try Self.list(&reader)
      case "n": node = try reader.text()
      case "r": references = try Self.list(&reader)
      case "d": isBeingDeleted = try reader.bool()
      default: _ = try reader.value()
      }
    }
    try reader.finish()
  }

  private static func texts(_ reader: inout CBORReader) throws(SkerryError) -> [String: String] {
    var found: [String: String] = [:]
    for _ in 0..<(try reader.map()) {
      let name = try reader.text()
      found[name] = try reader.text()
    }
    return found
  }

  private static func list(_ reader: inout CBORReader) throws(SkerryError) -> [String] {
    var found: [String] = []
    for _ in 0..<(try reader.array()) { found.append(try reader.text()) }
    return found
  }
}

extension ObjectReference {
  /// The reference that a log key stands for; nil if it is no key of an object.
  package init?(key: String) {
    // By bytes: every change comes through here several times.
    var key = key
    let parts = key.withUTF8 { bytes -> (String, String, String)? in
      let slash = UInt8(ascii: "/")
      guard let first = bytes.firstIndex(of: slash), first > 0,
        let second = bytes[(first + 1)...].firstIndex(of: slash), second + 1 < bytes.count
      else { return nil }
      func text(_ range: Range<Int>) -> String {
        String(decoding: UnsafeBufferPointer(rebasing: bytes[range]), as: UTF8.self)
      }
      return (text(0..<first), text(first + 1..<second), text(second + 1..<bytes.count))
    }
    guard let (resource, namespace, name) = parts else { return nil }
    self.init(resource: resource, namespace: namespace, name: name)
  }
}
