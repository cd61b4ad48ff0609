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

  /// `metadata` alone, without decoding the rest; for those who watch many kinds and need owners and finalizers only.
  package func decodedMetadata() throws(SkerryError) -> Value {
    guard let bytes = try CBOR.member("metadata", of: body) else { return [:] }
    return try CBOR.decode(bytes)
  }
}
