import Base

/// What an operator hands to a new node: `ID.SECRET.PIN`.
///
/// The id names the record in the cloud, the secret is known to nobody but the token's holder (the cloud keeps its
/// hash), and the pin is the SHA-256 of the CA's public key, by which the node knows the right cloud before it has
/// any certificate.
package struct JoinToken: Sendable, CustomStringConvertible {
  /// Longest text that is parsed.
  package static let maxLength = 200
  static let idBytes = 5
  static let secretBytes = 20

  package let id: String
  package let secret: String
  /// 64 hexadecimal digits.
  package let pin: String

  /// Draws a token for the cloud whose CA has this pin.
  package init(pin: String, random: any RandomSource) {
    id = random.bytes(Self.idBytes).hex
    secret = random.bytes(Self.secretBytes).hex
    self.pin = pin
  }

  package init(_ text: String) throws(SkerryError) {
    let parts = text.utf8.count <= Self.maxLength ? text.split(separator: ".", omittingEmptySubsequences: false) : []
    guard parts.count == 3, let id = Bytes(hex: parts[0]), id.count == Self.idBytes,
      let secret = Bytes(hex: parts[1]), secret.count == Self.secretBytes,
      let pin = Bytes(hex: parts[2]), pin.count == Digest.sha256Length
    else {
      throw SkerryError(
        .invalidArgument, "this is no join token (`ID.SECRET.PIN`, as `skerry token create` prints it, in one piece)")
    }
    self.id = id.hex
    self.secret = secret.hex
    self.pin = pin.hex
  }

  package var description: String { "\(id).\(secret).\(pin)" }
  /// What goes over the wire: without the pin, which the node has checked itself.
  package var credential: String { "\(id).\(secret)" }
  /// What the cloud stores. 160 random bits need no slow hash.
  package var hash: Bytes { Self.hash(id: id, secret: secret) }

  static func hash(id: String, secret: String) -> Bytes { Digest.sha256("skerry join token \(id).\(secret)") }

  /// The id in a credential as it arrives, for looking up its record; nil if it has not the form of one.
  package static func id(ofCredential credential: String) -> String? {
    guard let (id, _) = split(credential) else { return nil }
    return id
  }

  static func split(_ credential: String) -> (id: String, secret: String)? {
    guard credential.utf8.count <= maxLength else { return nil }
    let parts = credential.split(separator: ".", omittingEmptySubsequences: false)
    guard parts.count == 2, let id = Bytes(hex: parts[0]), id.count == idBytes, let secret = Bytes(hex: parts[1]),
      secret.count == secretBytes
    else { return nil }
    return (id.hex, secret.hex)
  }
}

/// A join token as the cloud keeps it.
package struct JoinTokenRecord: Sendable, Hashable {
  /// Uses one token may have: bounds `usedBy`, and with it the record.
  package static let maxUses: Int64 = 1_000

  package var id: String
  /// `JoinToken.hash`.
  package var hash: Bytes
  package var created: WallTime
  package var expires: WallTime
  package var usesLeft: Int64
  /// Only a node of this name may use it.
  package var node: String?
  /// Fingerprints of the keys that it was used for: who repeats a request whose answer was lost is served again.
  package var usedBy: [Bytes]

  package init(
    token: JoinToken, created: WallTime, lifetime: Duration, uses: Int64 = 1, node: String? = nil
  ) throws(SkerryError) {
    guard (1...Self.maxUses).contains(uses) else {
      throw SkerryError(.invalidArgument, "a join token has 1 to \(Self.maxUses) uses, not \(uses)")
    }
    id = token.id
    hash = token.hash
    self.created = created
    expires = created + lifetime
    usesLeft = uses
    self.node = node
    usedBy = []
  }

  /// The record as it is stored: no secret in it.
  package var value: Value {
    var out: Value = [
      "id": .string(id), "hash": .string(hash.hex), "created": .int(created.seconds), "expires": .int(expires.seconds),
      "usesLeft": .int(usesLeft), "usedBy": .array(usedBy.map { .string($0.hex) }),
    ]
    if let node { out["node"] = .string(node) }
    return out
  }

  package init(_ value: Value) throws(SkerryError) {
    guard let id = value["id"].string, let hash = Bytes(hex: value["hash"].string ?? "-"),
      let created = value["created"].int, let expires = value["expires"].int, let uses = value["usesLeft"].int
    else { throw SkerryError(.corrupt, "a stored join token lacks id, hash, created, expires or usesLeft") }
    self.id = id
    self.hash = hash
    self.created = WallTime(seconds: created)
    self.expires = WallTime(seconds: expires)
    usesLeft = uses
    node = value["node"].string
    usedBy = (value["usedBy"].array ?? []).compactMap { $0.string.flatMap { Bytes(hex: $0) } }
  }
}
