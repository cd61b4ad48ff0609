import Base

/// The `pod-template-hash` of a deployment's replica set: a name for a template, the same on every machine.
package enum TemplateHash {
  package static let label = "pod-template-hash"
  /// No vowels and none of 0, 1 and 3, so that no words come out (Kubernetes' alphabet of generated names).
  private static let alphabet = Array("bcdfghjklmnpqrstvwxz2456789".utf8)

  /// FNV-1a over the template in its deterministic order of members, and over the count of collisions so far.
  package static func of(_ template: Value, collisions: Int64) -> String {
    var hash = FNV32()
    hash.add(template)
    if collisions > 0 { hash.add(integer: UInt64(bitPattern: collisions)) }
    let encoded = String(hash.value).utf8.map { alphabet[Int($0) % alphabet.count] }
    return String(decoding: encoded, as: UTF8.self)
  }

  /// The template without the label that names it.
  package static func stripped(_ template: Value) -> Value {
    guard template["metadata"]["labels"].object?[label] != nil else { return template }
    var stripped = template
    stripped["metadata"]["labels"].remove(label)
    return stripped
  }
}

private struct FNV32 {
  var value: UInt32 = 2_166_136_261

  mutating func add(byte: UInt8) {
    value ^= UInt32(byte)
    value = value &* 16_777_619
  }
  mutating func add(integer: UInt64) {
    for shift in stride(from: 0, to: 64, by: 8) { add(byte: UInt8(truncatingIfNeeded: integer >> UInt64(shift))) }
  }
  mutating func add(text: String) {
    add(integer: UInt64(text.utf8.count))
    for byte in text.utf8 { add(byte: byte) }
  }

  /// A byte for the type comes before each value, a length before what varies, so that no two trees read alike.
  mutating func add(_ value: Value) {
    switch value {
    case .null: add(byte: 0)
    case .bool(let flag): add(byte: flag ? 2 : 1)
    case .int(let number):
      add(byte: 3)
      add(integer: UInt64(bitPattern: number))
    case .double(let number):
      add(byte: 4)
      add(integer: number.bitPattern)
    case .string(let text):
      add(byte: 5)
      add(text: text)
    case .array(let elements):
      add(byte: 6)
      add(integer: UInt64(elements.count))
      for element in elements { add(element) }
    case .object(let fields):
      add(byte: 7)
      add(integer: UInt64(fields.count))
      for (key, member) in fields {
        add(text: key)
        add(member)
      }
    }
  }
}
