import Base
import ObjectModel
import Wire

/// JSON as manifests and patches bring it, and what works on it. The input is up to three documents, parted by zero
/// bytes: an object, a JSON patch, a merge patch; the first is also read as selectors.
func attack(_ input: Bytes) {
  let parts = input.split(separator: 0, maxSplits: 2, omittingEmptySubsequences: false).map { Bytes($0) }
  readSelectors(String(decoding: parts[0], as: UTF8.self))
  guard let document = try? JSON.parse(parts[0]) else { return }
  precondition((try? JSON.parse(JSON.bytes(document))) == document, "a document does not survive")
  let encoded = CBOR.encode(document)
  if let decoded = try? CBOR.decode(encoded) {
    precondition(CBOR.encode(decoded) == encoded, "a document's CBOR does not survive")
  }
  if parts.count > 1, let patch = try? JSON.parse(parts[1]) { _ = try? JSONPatch.apply(patch, to: document) }
  if parts.count > 2, let patch = try? JSON.parse(parts[2]) { merge(patch, into: document) }
}

/// A merge patch is idempotent, and the difference between two documents leads from one to the other unless nulls
/// stand in the second, which a merge patch cannot say.
private func merge(_ patch: Value, into document: Value) {
  let merged = MergePatch.apply(patch, to: document)
  precondition(MergePatch.apply(patch, to: merged) == merged, "a merge patch is not idempotent")
}

private func readSelectors(_ text: String) {
  _ = try? LabelSelector(parsing: text)
  _ = try? FieldSelector(parsing: text)
}
