import Base
import COpenSSL
import Glibc

/// What a certificate's holder may use it for (extended key usage, RFC 5280, 4.2.1.12).
package enum CertificateUsage: String, Sendable {
  case server = "serverAuth"
  case client = "clientAuth"
}

/// The names in a certificate's subject.
package struct CertificateSubject: Sendable, Hashable {
  /// Longest common name: ub-common-name of RFC 5280, appendix A.1.
  package static let maxCommonName = 64
  /// What a node's common name starts with; the rest is the node's name.
  package static let nodePrefix = "system:node:"
  package static let nodesOrganization = "system:nodes"

  package var commonName: String
  package var organizations: [String]
  package init(commonName: String, organizations: [String] = []) {
    self.commonName = commonName
    self.organizations = organizations
  }

  package static func node(_ name: String) -> CertificateSubject {
    CertificateSubject(commonName: nodePrefix + name, organizations: [nodesOrganization])
  }
  /// A person or a program with one role: `admin`, `edit` or `view`.
  package static func client(_ name: String, role: String) -> CertificateSubject {
    CertificateSubject(commonName: name, organizations: ["skerry:\(role)"])
  }
}

/// An X.509 certificate (RFC 5280), parsed once.
package struct Certificate: Sendable, Hashable {
  /// Longest certificate that is parsed, in bytes.
  package static let maxBytes = 65_536
  /// Most certificates that are read from one file.
  package static let maxChain = 64

  let handle: Owned
  package let der: Bytes
  package let commonName: String
  package let organizations: [String]
  package let issuerCommonName: String
  /// Lower-case hexadecimal.
  package let serial: String
  package let dnsNames: [String]
  /// In the text form of inet_ntop.
  package let ipAddresses: [String]
  package let notBefore: WallTime
  package let notAfter: WallTime
  package let publicKey: PublicKey
  package let isAuthority: Bool

  package init(der bytes: Bytes) throws(SkerryError) {
    guard bytes.count <= Self.maxBytes else {
      throw SkerryError(.limitExceeded, "the certificate has \(bytes.count) bytes; at most \(Self.maxBytes) are read")
    }
    ERR_clear_error()
    let parsed: OpaquePointer? = bytes.withUnsafeBufferPointer { buffer in
      var cursor = buffer.baseAddress
      let certificate = d2i_X509(nil, &cursor, buffer.count)
      guard let certificate, let start = buffer.baseAddress, let end = cursor, end - start == buffer.count else {
        X509_free(certificate)
        return nil
      }
      return certificate
    }
    guard let parsed else { throw opensslFailure(.invalidArgument, "this is no X.509 certificate") }
    try self.init(Owned.certificate(parsed))
  }

  /// The first certificate of a PEM text.
  package init(pem: String) throws(SkerryError) {
    let all = try Self.chain(pem: pem)
    self = all[0]
  }

  /// Every certificate of a PEM text, in order; throws if there is none.
  package static func chain(pem: String) throws(SkerryError) -> [Certificate] {
    let bytes = Bytes(pem.utf8)
    guard bytes.count <= maxBytes * 4 else {
      throw SkerryError(.limitExceeded, "the certificate file has \(bytes.count) bytes; that is too much")
    }
    let chain = try withReader(bytes) { bio throws(SkerryError) in
      var chain: [Certificate] = []
      while chain.count < maxChain, let next = PEM_read_bio_X509(bio, nil, nil, nil) {
        chain.append(try Certificate(Owned.certificate(next)))
      }
      return chain
    }
    guard let chain, !chain.isEmpty else {
      throw opensslFailure(.invalidArgument, "there is no certificate in PEM form")
    }
    ERR_clear_error()  // the end of the file is an error to OpenSSL
    return chain
  }

  init(_ owned: Owned) throws(SkerryError) {
    let pointer = owned.pointer
    guard let key = X509_get_pubkey(pointer) else {
      throw opensslFailure(.invalidArgument, "the certificate has no public key that can be read")
    }
    handle = owned
    // The bytes as they stand in the certificate: encoding the key anew would cost a tenth of a handshake.
    publicKey = PublicKey(.key(key), der: derBytes { i2d_X509_PUBKEY(X509_get_X509_PUBKEY(pointer), $0) })
    der = derBytes { i2d_X509(pointer, $0) }
    commonName = nameEntries(X509_get_subject_name(pointer), NID_commonName).first ?? ""
    organizations = nameEntries(X509_get_subject_name(pointer), NID_organizationName)
    issuerCommonName = nameEntries(X509_get_issuer_name(pointer), NID_commonName).first ?? ""
    serial = asn1Bytes(X509_get0_serialNumber(pointer)).hex
    guard let start = Self.time(X509_get0_notBefore(pointer)), let end = Self.time(X509_get0_notAfter(pointer)) else {
      throw opensslFailure(.invalidArgument, "the certificate's validity cannot be read")
    }
    notBefore = start
    notAfter = end
    isAuthority = X509_check_ca(pointer) == 1
    (dnsNames, ipAddresses) = Self.alternativeNames(pointer)
  }

  private static func time(_ time: UnsafePointer<ASN1_TIME>?) -> WallTime? {
    var parts = tm()
    guard ASN1_TIME_to_tm(time, &parts) == 1 else { return nil }
    return WallTime(seconds: Int64(timegm(&parts)))
  }

  private static func alternativeNames(_ certificate: OpaquePointer) -> (dns: [String], ip: [String]) {
    guard let raw = X509_get_ext_d2i(certificate, NID_subject_alt_name, nil, nil) else { return ([], []) }
    let names = OpaquePointer(raw)
    defer { skerry_names_free(names) }
    var dns: [String] = []
    var ip: [String] = []
    for index in 0..<skerry_names_count(names) {
      var (type, length): (Int32, Int32) = (0, 0)
      guard let data = skerry_names_get(names, index, &type, &length) else { continue }
      let bytes = Bytes(UnsafeBufferPointer(start: data, count: Int(length)))
      if type == GEN_DNS {
        dns.append(String(decoding: bytes, as: UTF8.self))
      } else if let text = IPAddress.text(bytes) {
        ip.append(text)
      }
    }
    return (dns, ip)
  }

  package var pem: String {
    guard let bytes = written({ PEM_write_bio_X509($0, handle.pointer) }) else {
      preconditionFailure("a certificate that was parsed can always be written")
    }
    return String(decoding: bytes, as: UTF8.self)
  }

  /// SHA-256 of the whole certificate.
  package var fingerprint: Bytes { Digest.sha256(der) }
  /// SHA-256 of the key's SubjectPublicKeyInfo; of a CA, its pin.
  package var keyFingerprint: Bytes { publicKey.fingerprint }
  package var subject: CertificateSubject {
    CertificateSubject(commonName: commonName, organizations: organizations)
  }

  /// True if `issuer` is a CA whose name and key signed this certificate.
  package func isIssued(by issuer: Certificate) -> Bool {
    defer { ERR_clear_error() }
    return issuer.isAuthority && X509_check_issued(issuer.handle.pointer, handle.pointer) == X509_V_OK
      && X509_verify(handle.pointer, issuer.publicKey.handle.pointer) == 1
  }

  package func isValid(at now: WallTime) -> Bool { notBefore <= now && now <= notAfter }

  /// True if the extended key usage allows it (a certificate without one allows nothing here).
  package func allows(_ usage: CertificateUsage) -> Bool {
    let flags = X509_get_extended_key_usage(handle.pointer)
    guard flags != UInt32.max else { return false }
    return flags & UInt32(usage == .server ? XKU_SSL_SERVER : XKU_SSL_CLIENT) != 0
  }

  package static func == (a: Certificate, b: Certificate) -> Bool { a.der == b.der }
  package func hash(into hasher: inout Hasher) { hasher.combine(der) }
}

/// IP addresses between their text and the bytes that a certificate holds.
package enum IPAddress {
  /// 4 or 16 bytes, or nil if the text is no address.
  package static func bytes(_ text: String) -> Bytes? {
    var four = in_addr()
    if inet_pton(AF_INET, text, &four) == 1 { return withUnsafeBytes(of: four) { Bytes($0) } }
    var sixteen = in6_addr()
    if inet_pton(AF_INET6, text, &sixteen) == 1 { return withUnsafeBytes(of: sixteen) { Bytes($0) } }
    return nil
  }

  package static func text(_ bytes: Bytes) -> String? {
    guard bytes.count == 4 || bytes.count == 16 else { return nil }
    var out = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
    guard inet_ntop(bytes.count == 4 ? AF_INET : AF_INET6, bytes, &out, socklen_t(out.count)) != nil else { return nil }
    return String(decoding: out.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
}
