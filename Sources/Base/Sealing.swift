/// Seals and opens stored values. The object log asks for it and `Identity.Sealer` does it; neither knows the other.
package protocol Sealing: Sendable {
  /// AES-256-GCM under the newest key, with the key's id in front of the result. `context` is authenticated.
  func seal(_ plain: Bytes, context: Bytes) throws(SkerryError) -> Bytes
  /// Throws if the bytes are not what was sealed under this context, or if the key is not there.
  func open(_ sealed: Bytes, context: Bytes) throws(SkerryError) -> Bytes
}
