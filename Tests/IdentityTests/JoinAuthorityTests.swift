import Base
import Identity
import Testing

@Suite struct JoinAuthorityTests {
  let authority = JoinAuthority()
  let key: KeyPair
  let csr: CertificateSigningRequest
  let token: JoinToken
  let record: JoinTokenRecord

  init() throws {
    key = try KeyPair.generate()
    csr = try .make(key: key, commonName: "whatever it likes")
    token = JoinToken(pin: Digest.sha256("ca").hex, random: SeededRandom(seed: 3))
    record = try JoinTokenRecord(token: token, created: noon, lifetime: .seconds(600))
  }

  func refusal(_ decision: JoinDecision) -> String? {
    if case .refuse(_, let detail) = decision { detail } else { nil }
  }
  func grant(_ decision: JoinDecision) throws -> JoinGrant {
    guard case .issue(let grant) = decision else { throw SkerryError(.internal, "not granted: \(decision)") }
    return grant
  }
  func join(
    _ record: JoinTokenRecord?, credential: String? = nil, csr: CertificateSigningRequest? = nil, name: String = "n1",
    identity: NodeIdentityRecord? = nil, at now: WallTime = noon
  ) -> JoinDecision {
    authority.decide(
      credential: credential ?? token.credential, token: record, csr: csr ?? self.csr, nodeName: name,
      identity: identity, now: now)
  }

  @Test func aTokenSurvivesItsTextAndItsRecordHoldsNoSecret() throws {
    let again = try JoinToken(token.description)
    #expect(again.description == token.description)
    #expect(JoinToken.id(ofCredential: token.credential) == record.id)
    #expect(try JoinTokenRecord(record.value) == record)
    #expect(!"\(record.value)".contains(token.secret))
    for bad in ["", "a.b.c", token.credential, token.description + "0", "\(token.description).x"] {
      #expect(throws: SkerryError.self) { try JoinToken(bad) }
    }
  }

  @Test func aNewNodeIsNamedByTheTokenAndItsOwnWordNotByTheRequest() throws {
    let grant = try grant(join(record))
    #expect(grant.subject == .node("n1"))
    #expect(grant.publicKey == key.publicKey)
    #expect(grant.token?.usesLeft == 0)
    #expect(grant.identity.keyFingerprint == key.publicKey.fingerprint)
    #expect(try NodeIdentityRecord(grant.identity.value) == grant.identity)
  }

  @Test func everyWrongTokenGetsTheSameAnswer() throws {
    let other = JoinToken(pin: token.pin, random: SeededRandom(seed: 4))
    var named = record
    named.node = "n2"
    var spent = record
    spent.usesLeft = 0
    let wrongSecret = "\(token.id).\(other.secret)"
    let decisions = [
      join(nil), join(record, credential: "garbage"), join(record, credential: wrongSecret),
      join(record, credential: other.credential),
      join(record, at: noon + .seconds(601)), join(named), join(spent),
    ]
    let reasons = decisions.map { decision -> String in
      if case .refuse(let reason, _) = decision { reason } else { "granted" }
    }
    #expect(Set(reasons).count == 1 && reasons[0].contains("not valid"))
    #expect(Set(decisions.map { refusal($0) }).count > 4, "the log tells them apart")
  }

  @Test func aRepeatedRequestIsServedAgainWithoutAnotherUse() throws {
    let first = try grant(join(record))
    let second = try grant(join(first.token, identity: first.identity))
    #expect(second.token == first.token)
    let stranger = try CertificateSigningRequest.make(key: .generate(), commonName: "n2")
    #expect(refusal(join(first.token, csr: stranger, name: "n2"))?.contains("used up") == true)
  }

  @Test func anotherKeyWaitsForApproval() throws {
    let existing = NodeIdentityRecord(node: "n1", keyFingerprint: [1], notAfter: noon)
    guard case .waitForApproval(var waiting, _) = join(record, identity: existing) else {
      Issue.record("a taken name was given away")
      return
    }
    #expect(waiting.keyFingerprint == [1], "the recorded key stays until an administrator speaks")
    #expect(waiting.pending == key.publicKey.fingerprint)
    guard case .waitForApproval(let still, _) = join(record, identity: waiting, at: noon + .seconds(5)) else {
      Issue.record("waiting is no approval")
      return
    }
    #expect(still.pendingSince == noon)
    let approved = waiting.approve()
    #expect(approved)
    let grant = try grant(join(record, identity: waiting))
    #expect(grant.identity.keyFingerprint == key.publicKey.fingerprint)
    #expect(grant.identity.approved == nil && grant.identity.pending == nil)
  }

  @Test func aRevokedNodeStaysOut() throws {
    var identity = try grant(join(record)).identity
    identity.revoked = true
    #expect(refusal(join(record, identity: identity))?.contains("revoked") == true)
    let renewal = authority.decideRenewal(
      csr: csr, identity: identity, authenticated: key.publicKey.fingerprint, now: noon)
    #expect(refusal(renewal)?.contains("revoked") == true)
  }

  @Test func renewalNeedsTheRecordedKey() throws {
    let identity = try grant(join(record)).identity
    let other = try CertificateSigningRequest.make(key: .generate(), commonName: "system:node:n1")
    func renew(_ csr: CertificateSigningRequest, _ proof: Bytes?, _ now: WallTime = noon) -> JoinDecision {
      authority.decideRenewal(csr: csr, identity: identity, authenticated: proof, now: now)
    }
    #expect(try grant(renew(csr, nil)).subject == .node("n1"))
    #expect(refusal(renew(other, nil)) != nil)
    #expect(refusal(renew(csr, [1])) != nil)
    // A live session with the recorded key may change to a new key.
    let rotated = try grant(renew(other, key.publicKey.fingerprint))
    #expect(rotated.identity.keyFingerprint == other.publicKey.fingerprint)
    // After the end of the certificate: within the window only.
    let end = identity.notAfter
    #expect(try grant(renew(csr, nil, end + authority.renewalWindow)).token == nil)
    #expect(refusal(renew(csr, nil, end + authority.renewalWindow + .seconds(1)))?.contains("window") == true)
    let unknown = authority.decideRenewal(csr: csr, identity: nil, authenticated: nil, now: noon)
    #expect(refusal(unknown) != nil)
  }

  @Test(arguments: ["", "N1", "-a", "a-", "a..b", ".a", "a b", "a_b", "ä", String(repeating: "a", count: 53), "a/b"])
  func badNodeNamesAreRefused(name: String) {
    #expect(JoinAuthority.flaw(inNodeName: name) != nil)
    #expect(refusal(join(record, name: name)) != nil)
  }

  @Test(arguments: ["n1", "edge-7.site-3.example", "0", String(repeating: "a", count: 52)])
  func goodNodeNames(name: String) { #expect(JoinAuthority.flaw(inNodeName: name) == nil) }
}
