import Base
import ObjectModel
import Wire

extension APIObject {
  /// The whole object as a client sees it: the body, with `status` and `metadata.resourceVersion` filled in.
  /// Throws when the bytes are not the deterministic CBOR that they claim to be.
  package func decoded() throws(SkerryError) -> Object {
    var value = try CBOR.decode(body)
    value["metadata"]["resourceVersion"] = .string(String(revision))
    if let status { value["status"] = try CBOR.decode(status) }
    return Object(value)
  }

  /// The object with only some members of its status, and without `metadata.resourceVersion`: the rest of the status is
  /// stepped over. For who follows many objects and looks at little of them.
  package func decoded(status members: [String]) throws(SkerryError) -> Object {
    var value = try CBOR.decode(body)
    guard let status else { return Object(value) }
    var reader = CBORReader(status)
    var kept = Value.Fields()
    for _ in 0..<(try reader.map()) {
      let key = try reader.text()
      if members.contains(key) { kept[key] = try reader.value() } else { try reader.skip() }
    }
    try reader.finish()
    value["status"] = .object(kept)
    return Object(value)
  }

  /// Tells one body, and the members of the status that are named, from others: equal marks mean equal bytes, as far as
  /// a hash under a key of this process can say. For who follows objects that change often where it does not look.
  package func mark(status members: [String] = []) throws(SkerryError) -> Int {
    var hasher = Hasher()
    body.withUnsafeBytes { hasher.combine(bytes: $0) }
    guard !members.isEmpty, let status else { return hasher.finalize() }
    var reader = CBORReader(status)
    for _ in 0..<(try reader.map()) {
      let key = try reader.text()
      let place = try reader.skip()
      guard members.contains(key) else { continue }
      hasher.combine(key)
      status[place].withUnsafeBytes { hasher.combine(bytes: $0) }
    }
    try reader.finish()
    return hasher.finalize()
  }

  /// Tells one `metadata` from others, as `mark` does a body.
  package func metadataMark() throws(SkerryError) -> Int {
    var hasher = Hasher()
    if let place = try CBOR.place(of: "metadata", in: body) {
      body.withUnsafeBytes { hasher.combine(bytes: UnsafeRawBufferPointer(rebasing: $0[place])) }
    }
    return hasher.finalize()
  }

  /// `metadata` alone, without decoding the rest; for those who watch many kinds and need owners and finalizers only.
  package func decodedMetadata() throws(SkerryError) -> Value {
    guard let bytes = try CBOR.member("metadata", of: body) else { return [:] }
    return try CBOR.decode(bytes)
  }
}
