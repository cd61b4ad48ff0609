import Base

/// What the cloud knows of a node's key.
package struct NodeIdentityRecord: Sendable, Hashable {
  package var node: String
  /// `PublicKey.fingerprint` of the key that the node's certificate is for.
  package var keyFingerprint: Bytes
  /// End of the newest certificate that was issued.
  package var notAfter: WallTime
  package var revoked: Bool
  /// A key that asks to take the name over; its fingerprint and when it asked.
  package var pending: Bytes?
  package var pendingSince: WallTime?
  /// A key that an administrator let take the name over; used up by the next request with it.
  package var approved: Bytes?

  package init(node: String, keyFingerprint: Bytes, notAfter: WallTime) {
    self.node = node
    self.keyFingerprint = keyFingerprint
    self.notAfter = notAfter
    revoked = false
  }

  /// An administrator lets the waiting key take the name over, also of a node that was revoked. False if no key waits
  /// and the node was not revoked.
  package mutating func approve() -> Bool {
    guard pending != nil || revoked else { return false }
    approved = pending ?? approved
    pending = nil
    pendingSince = nil
    revoked = false
    return true
  }

  package var value: Value {
    var out: Value = [
      "node": .string(node), "keyFingerprint": .string(keyFingerprint.hex), "notAfter": .int(notAfter.seconds),
      "revoked": .bool(revoked),
    ]
    if let pending { out["pending"] = .string(pending.hex) }
    if let pendingSince { out["pendingSince"] = .int(pendingSince.seconds) }
    if let approved { out["approved"] = .string(approved.hex) }
    return out
  }

  package init(_ value: Value) throws(SkerryError) {
    guard let node = value["node"].string, let key = Bytes(hex: value["keyFingerprint"].string ?? "-"),
      let notAfter = value["notAfter"].int
    else { throw SkerryError(.corrupt, "a stored node identity lacks node, keyFingerprint or notAfter") }
    self.node = node
    keyFingerprint = key
    self.notAfter = WallTime(seconds: notAfter)
    revoked = value["revoked"].bool ?? false
    pending = value["pending"].string.flatMap { Bytes(hex: $0) }
    pendingSince = value["pendingSince"].int.map { WallTime(seconds: $0) }
    approved = value["approved"].string.flatMap { Bytes(hex: $0) }
  }
}

/// A certificate that may be signed, and the records that must be stored before it is handed out.
package struct JoinGrant: Sendable {
  package let subject: CertificateSubject
  package let publicKey: PublicKey
  package let lifetime: Duration
  /// The node's record as it is from now on.
  package let identity: NodeIdentityRecord
  /// The token's record as it is from now on; nil for a renewal, which needs no token.
  package let token: JoinTokenRecord?
}

package enum JoinDecision: Sendable {
  case issue(JoinGrant)
  /// Store this record (it names the waiting key); the node asks again later.
  case waitForApproval(NodeIdentityRecord, reason: String)
  /// `reason` is for the stranger who asked; `detail` for the log.
  case refuse(reason: String, detail: String)
}

/// Decides who becomes a node. Pure: records in, decisions out; whoever calls it reads and stores the records in one
/// transaction, signs and answers.
package struct JoinAuthority: Sendable {
  /// Longest node name: with `system:node:` in front it must fit a certificate's common name.
  package static let maxNodeName = CertificateSubject.maxCommonName - CertificateSubject.nodePrefix.utf8.count

  /// Lifetime of a node's certificate.
  package var certificateLifetime: Duration = .seconds(7 * 86_400)
  /// How long after its certificate's end a node may still renew by proof of its recorded key.
  package var renewalWindow: Duration = .seconds(30 * 86_400)

  package init() {}

  /// A node that has a token. `token` is the record that `JoinToken.id(ofCredential:)` names, or nil; `identity` the
  /// record of the node name that it asks for, or nil.
  package func decide(
    credential: String, token: JoinTokenRecord?, csr: CertificateSigningRequest, nodeName: String,
    identity: NodeIdentityRecord?, now: WallTime
  ) -> JoinDecision {
    if let flaw = Self.flaw(inNodeName: nodeName) { return .refuse(reason: flaw, detail: flaw) }
    let key = csr.publicKey.fingerprint
    let record: JoinTokenRecord
    switch check(credential, token, nodeName, key, now) {
    case .success(let found): record = found
    case .failure(let refusal): return .refuse(reason: refusal.reason, detail: refusal.detail)
    }
    if let identity {
      if identity.revoked {
        return .refuse(
          reason: "node \"\(nodeName)\" is revoked; an administrator has to delete or approve it first",
          detail: "revoked node \"\(nodeName)\" tried to join with key \(key.hex)")
      }
      if identity.keyFingerprint != key && identity.approved != key {
        var waiting = identity
        if waiting.pending != key {
          waiting.pending = key
          waiting.pendingSince = now
        }
        return .waitForApproval(
          waiting,
          reason: "node \"\(nodeName)\" exists with another key; an administrator has to approve the new one: "
            + "skerry node approve \(nodeName)")
      }
    }
    return .issue(grant(csr.publicKey, node: nodeName, identity: identity, token: record, now: now))
  }

  /// A node that proves its recorded key instead of a token: `authenticated` is the key of its live, verified
  /// session, or nil when its certificate has expired and only the request itself proves a key.
  package func decideRenewal(
    csr: CertificateSigningRequest, identity: NodeIdentityRecord?, authenticated: Bytes?, now: WallTime
  ) -> JoinDecision {
    guard let identity else {
      return .refuse(reason: "this node is not known here; join with a token", detail: "renewal by an unknown node")
    }
    guard !identity.revoked else {
      return .refuse(
        reason: "node \"\(identity.node)\" is revoked", detail: "renewal by revoked node \"\(identity.node)\"")
    }
    let proven = authenticated ?? csr.publicKey.fingerprint
    guard proven == identity.keyFingerprint else {
      return .refuse(
        reason: "the key is not the one recorded for node \"\(identity.node)\"; join with a token",
        detail: "renewal of \"\(identity.node)\" with key \(proven.hex)")
    }
    guard authenticated != nil || now <= identity.notAfter + renewalWindow else {
      return .refuse(
        reason: "the certificate of node \"\(identity.node)\" ended too long ago; join with a token",
        detail: "renewal of \"\(identity.node)\" past the window")
    }
    return .issue(grant(csr.publicKey, node: identity.node, identity: identity, token: nil, now: now))
  }

  private func grant(
    _ key: PublicKey, node: String, identity: NodeIdentityRecord?, token: JoinTokenRecord?, now: WallTime
  ) -> JoinGrant {
    let notAfter = now + certificateLifetime
    var record =
      identity ?? NodeIdentityRecord(node: node, keyFingerprint: key.fingerprint, notAfter: notAfter)
    record.keyFingerprint = key.fingerprint
    record.notAfter = notAfter
    record.approved = nil
    if record.pending == key.fingerprint {
      record.pending = nil
      record.pendingSince = nil
    }
    var spent = token
    if var used = token, !used.usedBy.contains(key.fingerprint) {
      used.usesLeft -= 1
      used.usedBy.append(key.fingerprint)
      spent = used
    }
    return JoinGrant(
      subject: .node(node), publicKey: key, lifetime: certificateLifetime, identity: record, token: spent)
  }

  private struct Refusal: Error {
    let reason: String
    let detail: String
  }

  private func check(
    _ credential: String, _ token: JoinTokenRecord?, _ nodeName: String, _ key: Bytes, _ now: WallTime
  ) -> Result<JoinTokenRecord, Refusal> {
    // One sentence for every way in which a token is wrong: a stranger learns nothing from the difference.
    func refuse(_ detail: String) -> Result<JoinTokenRecord, Refusal> {
      .failure(
        Refusal(
          reason: "the join token is not valid; ask for a new one: skerry token create", detail: "join: \(detail)"))
    }
    guard let (id, secret) = JoinToken.split(credential) else { return refuse("malformed token") }
    guard let token, token.id == id else { return refuse("unknown token \(id)") }
    guard Digest.constantTimeEqual(token.hash, JoinToken.hash(id: id, secret: secret)) else {
      return refuse("wrong secret for token \(id)")
    }
    guard now <= token.expires else { return refuse("token \(id) has expired") }
    guard token.usesLeft > 0 || token.usedBy.contains(key) else { return refuse("token \(id) is used up") }
    guard token.node == nil || token.node == nodeName else {
      return refuse("token \(id) is for node \"\(token.node ?? "")\", not \"\(nodeName)\"")
    }
    return .success(token)
  }

  /// What is wrong with a node name (a DNS-1123 subdomain that fits a certificate), or nil.
  package static func flaw(inNodeName name: String) -> String? {
    let bytes = Bytes(name.utf8)
    func alphanumeric(_ byte: UInt8) -> Bool { (0x61...0x7a).contains(byte) || (0x30...0x39).contains(byte) }
    let wellFormed =
      !bytes.isEmpty
      && bytes.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false).allSatisfy { label in
        guard let first = label.first, let last = label.last else { return false }
        return alphanumeric(first) && alphanumeric(last)
          && label.allSatisfy { alphanumeric($0) || $0 == UInt8(ascii: "-") }
      }
    guard wellFormed else {
      return "\"\(name.prefix(80))\" is no node name: lower-case letters, digits, `-` and `.`, "
        + "each label starting and ending with a letter or digit"
    }
    guard bytes.count <= maxNodeName else {
      return "the node name \"\(name.prefix(80))\" has \(bytes.count) characters; at most \(maxNodeName) fit"
    }
    return nil
  }
}
