import Base
import COpenSSL

/// Signs certificates. Every name comes from the caller, never from a request, and the time from the caller's clock.
package struct CertificateAuthority: Sendable {
  /// How far before `now` a certificate starts, so that a peer whose clock lags a little takes it.
  package static let backdating = Duration.seconds(300)
  /// Names and addresses a server certificate may carry; keeps one within a TLS record.
  package static let maxAlternativeNames = 100

  package let certificate: Certificate
  private let key: KeyPair

  /// SHA-256 of the CA's public key in hexadecimal: what a joining node checks before it has any certificate.
  package var pin: String { certificate.keyFingerprint.hex }
  package var keyPEM: String { key.pem }

  /// A CA from what was stored; throws if the two do not belong together.
  package init(certificate: Certificate, key: KeyPair) throws(SkerryError) {
    guard certificate.isAuthority else {
      throw SkerryError(.invalidArgument, "\"\(certificate.commonName)\" is no CA certificate")
    }
    guard certificate.publicKey == key.publicKey else {
      throw SkerryError(
        .invalidArgument, "the CA key does not belong to the CA certificate \"\(certificate.commonName)\"")
    }
    self.certificate = certificate
    self.key = key
  }

  /// A new self-signed CA that may sign leaves only (path length 0).
  package static func create(
    commonName: String, lifetime: Duration, now: WallTime, random: any RandomSource
  ) throws(SkerryError) -> CertificateAuthority {
    let key = try KeyPair.generate()
    let draft = try CertificateDraft(
      subject: CertificateSubject(commonName: commonName, organizations: ["skerry"]), key: key.publicKey,
      from: now - backdating, to: now + lifetime, random: random)
    try draft.setIssuer(nil)
    try draft.add(NID_basic_constraints, "critical,CA:TRUE,pathlen:0", issuer: nil)
    try draft.add(NID_key_usage, "critical,keyCertSign,cRLSign", issuer: nil)
    try draft.add(NID_subject_key_identifier, "hash", issuer: nil)
    return try CertificateAuthority(certificate: draft.sign(key), key: key)
  }

  /// Signs a leaf. It ends with the CA at the latest, and is refused when the CA itself is not valid at `now`.
  package func issue(
    publicKey: PublicKey, subject: CertificateSubject, dnsNames: [String] = [], ipAddresses: [String] = [],
    usage: CertificateUsage, lifetime: Duration, now: WallTime, random: any RandomSource
  ) throws(SkerryError) -> Certificate {
    guard certificate.isValid(at: now) else {
      throw SkerryError(
        .unavailable, "the CA \"\(certificate.commonName)\" is not valid now; check the clock or make a new CA")
    }
    let draft = try CertificateDraft(
      subject: subject, key: publicKey, from: now - Self.backdating, to: min(now + lifetime, certificate.notAfter),
      random: random)
    try draft.setIssuer(certificate)
    try draft.add(NID_basic_constraints, "critical,CA:FALSE", issuer: certificate)
    try draft.add(NID_key_usage, "critical,digitalSignature", issuer: certificate)
    try draft.add(NID_ext_key_usage, usage.rawValue, issuer: certificate)
    try draft.add(NID_subject_key_identifier, "hash", issuer: certificate)
    try draft.add(NID_authority_key_identifier, "keyid:always", issuer: certificate)
    try draft.addAlternativeNames(dns: dnsNames, ip: ipAddresses)
    return try draft.sign(key)
  }
}

extension WallTime {
  fileprivate static func - (a: WallTime, b: Duration) -> WallTime {
    WallTime(nanoseconds: a.nanoseconds - b.nanosecondCount)
  }
}

/// A certificate in the making.
private struct CertificateDraft {
  let owned: Owned
  var pointer: OpaquePointer { owned.pointer }

  init(subject: CertificateSubject, key: PublicKey, from: WallTime, to: WallTime, random: any RandomSource)
    throws(SkerryError)
  {
    ERR_clear_error()
    guard let certificate = X509_new() else { throw opensslFailure(.system, "cannot make a certificate") }
    owned = .certificate(certificate)
    guard subject.commonName.utf8.count <= CertificateSubject.maxCommonName, !subject.commonName.isEmpty else {
      throw SkerryError(
        .invalidArgument,
        "the name \"\(subject.commonName)\" must have 1 to \(CertificateSubject.maxCommonName) bytes in a certificate")
    }
    guard X509_set_version(certificate, 2) == 1, Self.setSerial(certificate, random),
      ASN1_TIME_set(X509_getm_notBefore(certificate), time_t(from.seconds)) != nil,
      ASN1_TIME_set(X509_getm_notAfter(certificate), time_t(to.seconds)) != nil,
      X509_set_pubkey(certificate, key.handle.pointer) == 1
    else { throw opensslFailure(.system, "cannot make a certificate") }
    let name = X509_get_subject_name(certificate)
    for organization in subject.organizations { try addNameEntry(name, NID_organizationName, organization) }
    try addNameEntry(name, NID_commonName, subject.commonName)
  }

  /// 16 bytes with the top bits `01`: positive, of constant length, 126 of them random (RFC 5280, 4.1.2.2).
  private static func setSerial(_ certificate: OpaquePointer, _ random: any RandomSource) -> Bool {
    var serial = random.bytes(16)
    serial[0] = serial[0] & 0x3f | 0x40
    guard let number = BN_bin2bn(serial, Int32(serial.count), nil) else { return false }
    defer { BN_free(number) }
    return BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate)) != nil
  }

  func setIssuer(_ issuer: Certificate?) throws(SkerryError) {
    guard X509_set_issuer_name(pointer, X509_get_subject_name(issuer?.handle.pointer ?? pointer)) == 1 else {
      throw opensslFailure(.system, "cannot make a certificate")
    }
  }

  func add(_ nid: Int32, _ value: String, issuer: Certificate?) throws(SkerryError) {
    guard skerry_add_extension(pointer, issuer?.handle.pointer ?? pointer, nid, value) == 1 else {
      throw opensslFailure(.system, "cannot add the certificate extension \"\(value)\"")
    }
  }

  func addAlternativeNames(dns: [String], ip: [String]) throws(SkerryError) {
    guard !(dns.isEmpty && ip.isEmpty) else { return }
    guard dns.count + ip.count <= CertificateAuthority.maxAlternativeNames, let names = skerry_names_new() else {
      throw SkerryError(
        .limitExceeded, "a certificate carries at most \(CertificateAuthority.maxAlternativeNames) names and addresses")
    }
    defer { skerry_names_free(names) }
    var ok = true
    for name in dns {
      let bytes = Bytes(name.utf8)
      guard !bytes.isEmpty, bytes.count <= 253, bytes.allSatisfy({ $0 > 0x20 && $0 < 0x7f }) else {
        throw SkerryError(.invalidArgument, "\"\(name)\" is no DNS name")
      }
      ok = ok && skerry_names_add(names, GEN_DNS, bytes, Int32(bytes.count)) == 1
    }
    for address in ip {
      guard let bytes = IPAddress.bytes(address) else {
        throw SkerryError(.invalidArgument, "\"\(address)\" is no IP address")
      }
      ok = ok && skerry_names_add(names, GEN_IPADD, bytes, Int32(bytes.count)) == 1
    }
    guard ok, X509_add1_ext_i2d(pointer, NID_subject_alt_name, UnsafeMutableRawPointer(names), 0, 0) == 1 else {
      throw opensslFailure(.system, "cannot add the alternative names")
    }
  }

  func sign(_ key: KeyPair) throws(SkerryError) -> Certificate {
    guard X509_sign(pointer, key.handle.pointer, EVP_sha256()) > 0 else {
      throw opensslFailure(.system, "cannot sign the certificate")
    }
    // Parsed again from its bytes: what is handed out is what a peer will see, and nothing changes it any more.
    return try Certificate(der: derBytes { i2d_X509(pointer, $0) })
  }
}
