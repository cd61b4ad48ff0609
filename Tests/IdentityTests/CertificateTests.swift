import Base
import Identity
import Testing

let noon = WallTime(seconds: 1_800_000_000)
func seeded() -> SeededRandom { SeededRandom(seed: 7) }
func makeCA(now: WallTime = noon) throws -> CertificateAuthority {
  try .create(commonName: "test-ca", lifetime: .seconds(86_400 * 365), now: now, random: seeded())
}

@Suite struct CertificateTests {
  @Test func aKeyComesBackFromItsPEM() throws {
    let key = try KeyPair.generate()
    #expect(key.pem.hasPrefix("-----BEGIN PRIVATE KEY-----"))
    let again = try KeyPair(pem: key.pem)
    #expect(again.publicKey == key.publicKey)
    #expect(again.publicKey.fingerprint.count == 32)
    #expect(try KeyPair.generate().publicKey != key.publicKey)
  }

  @Test func aSignatureIsOfOneKeyAndOneMessage() throws {
    let key = try KeyPair.generate()
    let signature = try key.sign([1, 2, 3])
    #expect(key.publicKey.verifies(signature, over: [1, 2, 3]))
    #expect(!key.publicKey.verifies(signature, over: [1, 2, 4]))
    #expect(try !KeyPair.generate().publicKey.verifies(signature, over: [1, 2, 3]))
    #expect(!key.publicKey.verifies([], over: [1, 2, 3]))
  }

  @Test func whatIsNoKeyIsRefused() {
    #expect(throws: SkerryError.self) { try KeyPair(pem: "") }
    #expect(throws: SkerryError.self) {
      try KeyPair(pem: "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----")
    }
    let huge = String(repeating: "A", count: KeyPair.maxPEMBytes + 1)
    #expect { try KeyPair(pem: huge) } throws: { ($0 as? SkerryError)?.code == .limitExceeded }
  }

  @Test func anIssuedCertificateHoldsWhatTheSignerSaid() throws {
    let ca = try makeCA()
    let key = try KeyPair.generate()
    let certificate = try ca.issue(
      publicKey: key.publicKey, subject: CertificateSubject(commonName: "cloud", organizations: ["a", "b"]),
      dnsNames: ["localhost", "cloud.example"], ipAddresses: ["127.0.0.1", "fe80::1"], usage: .server,
      lifetime: .seconds(3_600), now: noon, random: seeded())
    let parsed = try Certificate(pem: certificate.pem)
    #expect(parsed == certificate)
    #expect(parsed.commonName == "cloud")
    #expect(parsed.organizations == ["a", "b"])
    #expect(parsed.dnsNames == ["localhost", "cloud.example"])
    #expect(parsed.ipAddresses == ["127.0.0.1", "fe80::1"])
    #expect(parsed.issuerCommonName == "test-ca")
    #expect(parsed.serial.count == 32)
    #expect(parsed.publicKey == key.publicKey)
    #expect(parsed.notBefore == noon + .seconds(-300))
    #expect(parsed.notAfter == noon + .seconds(3_600))
    #expect(parsed.allows(.server) && !parsed.allows(.client))
    #expect(!parsed.isAuthority && ca.certificate.isAuthority)
    #expect(parsed.isIssued(by: ca.certificate))
    #expect(try !parsed.isIssued(by: makeCA().certificate), "another CA of the same name")
    #expect(parsed.isValid(at: noon))
    #expect(!parsed.isValid(at: noon + .seconds(3_601)) && !parsed.isValid(at: noon + .seconds(-301)))
  }

  @Test func aLeafEndsWithItsCA() throws {
    let ca = try makeCA()
    let key = try KeyPair.generate()
    let leaf = try ca.issue(
      publicKey: key.publicKey, subject: .client("x", role: "view"), usage: .client, lifetime: .seconds(86_400 * 9_999),
      now: noon, random: seeded())
    #expect(leaf.notAfter == ca.certificate.notAfter)
    #expect(leaf.subject == CertificateSubject(commonName: "x", organizations: ["skerry:view"]))
    #expect(throws: SkerryError.self) {
      try ca.issue(
        publicKey: key.publicKey, subject: .node("n1"), usage: .client, lifetime: .seconds(60),
        now: noon + .seconds(86_400 * 366), random: seeded())
    }
    #expect(throws: SkerryError.self, "a leaf signs nothing") { try CertificateAuthority(certificate: leaf, key: key) }
  }

  @Test(arguments: [
    ("", ["localhost"], []), (String(repeating: "x", count: 65), [], []), ("x", ["a b"], []), ("x", [], ["1.2.3"]),
    ("x", [""], []), ("x", ["a\0b"], []),
  ])
  func badNamesAreRefused(commonName: String, dns: [String], ip: [String]) throws {
    let ca = try makeCA()
    let key = try KeyPair.generate()
    #expect(throws: SkerryError.self) {
      try ca.issue(
        publicKey: key.publicKey, subject: CertificateSubject(commonName: commonName), dnsNames: dns, ipAddresses: ip,
        usage: .server, lifetime: .seconds(60), now: noon, random: seeded())
    }
  }

  @Test func aCAComesBackFromWhatWasStored() throws {
    let ca = try makeCA()
    let again = try CertificateAuthority(
      certificate: Certificate(pem: ca.certificate.pem), key: KeyPair(pem: ca.keyPEM))
    #expect(again.pin == ca.pin)
    #expect(ca.pin == ca.certificate.keyFingerprint.hex)
    #expect(throws: SkerryError.self) {
      try CertificateAuthority(certificate: ca.certificate, key: KeyPair.generate())
    }
  }

  @Test func aRequestProvesItsKey() throws {
    let key = try KeyPair.generate()
    let request = try CertificateSigningRequest.make(key: key, commonName: "system:node:n1")
    let parsed = try CertificateSigningRequest(der: request.der)
    #expect(parsed.publicKey == key.publicKey)
    #expect(parsed.requestedCommonName == "system:node:n1")
    #expect(try CertificateSigningRequest(pem: request.pem).der == request.der)
    // A flipped bit anywhere is a parse error or a proof that fails; never accepted.
    for index in stride(from: 0, to: request.der.count, by: 3) {
      var bad = request.der
      bad[index] ^= 1
      #expect(throws: SkerryError.self, "bit 0 of byte \(index)") { try CertificateSigningRequest(der: bad) }
    }
    #expect(throws: SkerryError.self) { try CertificateSigningRequest(der: request.der + [0]) }
    #expect(throws: SkerryError.self) { try CertificateSigningRequest(der: []) }
    #expect(throws: SkerryError.self) { try CertificateSigningRequest(pem: "nothing") }
  }

  @Test func truncatedCertificatesAreRefused() throws {
    let der = try makeCA().certificate.der
    for length in stride(from: 0, to: der.count, by: 7) {
      #expect(throws: SkerryError.self) { try Certificate(der: Bytes(der[0..<length])) }
    }
    #expect(throws: SkerryError.self) { try Certificate(der: der + [0]) }
  }
}

@Suite struct DigestTests {
  @Test func knownAnswers() {
    // FIPS 180-4's example and RFC 4231, test case 2.
    #expect(
      Digest.sha256("abc").hex == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    #expect(
      Digest.hmacSHA256(key: Bytes("Jefe".utf8), Bytes("what do ya want for nothing?".utf8)).hex
        == "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843")
    let stream = SHA256Stream()
    for piece in ["a", "", "bc"] { Bytes(piece.utf8).withUnsafeBytes { stream.update($0) } }
    #expect(stream.finish() == Digest.sha256("abc"))
    #expect(Digest.constantTimeEqual([1, 2], [1, 2]))
    #expect(!Digest.constantTimeEqual([1, 2], [1, 3]) && !Digest.constantTimeEqual([1], [1, 3]))
    #expect(Digest.constantTimeEqual([], []))
  }
}
