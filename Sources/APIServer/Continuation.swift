import API
import Base
import ObjectModel
import Wire

/// Where a paged list goes on: the revision that all pages are at, and the last key of the page before.
/// Opaque to clients; a forged one selects nothing that the caller could not list anyway.
struct Continuation {
  var revision: UInt64
  var after: String

  init(revision: UInt64, after: String) {
    self.revision = revision
    self.after = after
  }

  /// Where to read; a replica that has nothing yet stands at 0, which is no position to read at.
  var position: UInt64? { revision == 0 ? nil : revision }

  var text: String { CBOR.encode([.int(Int64(revision)), .string(after)]).hex }

  /// Throws for a token that is not ours or not of this listing.
  init(_ text: String, prefix: String) throws(APIError) {
    let value = Bytes(hex: text).flatMap { bytes in try? CBOR.decode(bytes) }
    guard let revision = value?[0].int, revision > 0, let after = value?[1].string, after.hasPrefix(prefix) else {
      throw APIError(.badRequest, "continue key is not valid: it does not belong to this list")
    }
    self.init(revision: UInt64(revision), after: after)
  }
}
