import Base
import EventLoop
import Identity
import Transport

/// What the edge API is known by and knows its callers by: files of this node alone, made at the first start.
///
/// * `ca.crt`, `server.crt`, `server.key`: the identity of the TLS port. The authority signs this one certificate and its
///   key is thrown away. Validity reaches from 1970 on, so that a node whose clock is wrong can still be asked.
/// * `operator.token`: whoever can read it (root) is the node's operator.
/// * `pods.key`: from it a pod's token is derived; it is as good as long as the pod is on the node.
package struct EdgeCredentials: Sendable {
  package static let operatorPrefix = "skerry-node."
  package static let podPrefix = "skerry-pod."
  private static let maxFile = 1 << 16
  /// Certificates of the port begin on the second day of 1970 and live as long as their form allows.
  private static let born = WallTime(seconds: 86_400)
  private static let lifetime = Duration.seconds(190 * 365 * 86_400)

  package let caPEM: String
  package let server: TLSCredentials
  package let operatorToken: String
  private let podKey: Bytes

  /// Reads the directory, and makes what is missing or cannot be used: nothing here is worth not starting for.
  package static func open(_ directory: String, random: any RandomSource) throws(SkerryError) -> EdgeCredentials {
    try Files.makeDirectory(directory, mode: 0o700)
    let token = try secret("\(directory)/operator.token") { operatorPrefix + random.bytes(32).hex }
    let key = try secret("\(directory)/pods.key") { random.bytes(32).hex }
    let (ca, server) = try identity(directory, random)
    return EdgeCredentials(
      caPEM: ca, server: server, operatorToken: token, podKey: Bytes(hex: key) ?? Bytes(key.utf8))
  }

  private init(caPEM: String, server: TLSCredentials, operatorToken: String, podKey: Bytes) {
    self.caPEM = caPEM
    self.server = server
    self.operatorToken = operatorToken
    self.podKey = podKey
  }

  private static func secret(_ path: String, _ make: () -> String) throws(SkerryError) -> String {
    if let bytes = try? PrivateFile.read(path: path, limit: maxFile) {
      let text = String(decoding: bytes, as: UTF8.self).filter { !$0.isWhitespace }
      if text.utf8.count >= 32 { return text }
    }
    let text = make()
    try PrivateFile.write(Bytes("\(text)\n".utf8), path: path)
    return text
  }

  private static func identity(_ directory: String, _ random: any RandomSource) throws(SkerryError)
    -> (ca: String, TLSCredentials)
  {
    let (caPath, certificatePath, keyPath) = (
      "\(directory)/ca.crt", "\(directory)/server.crt", "\(directory)/server.key"
    )
    if let ca = Files.readText(caPath, limit: maxFile),
      let certificate = Files.readText(certificatePath, limit: maxFile),
      let key = try? PrivateFile.read(path: keyPath, limit: maxFile)
    {
      let credentials = TLSCredentials(certificatePEM: certificate, keyPEM: String(decoding: key, as: UTF8.self))
      if isGood(ca, credentials) { return (ca, credentials) }
    }
    let authority = try CertificateAuthority.create(
      commonName: "skerry edge API", lifetime: lifetime, now: born, random: random)
    let key = try KeyPair.generate()
    let certificate = try authority.issue(
      publicKey: key.publicKey, subject: CertificateSubject(commonName: "edge", organizations: ["skerry"]),
      dnsNames: ["localhost"], ipAddresses: ["127.0.0.1", "::1"], usage: .server, lifetime: lifetime,
      now: born + .seconds(600), random: random)
    let credentials = TLSCredentials(certificatePEM: certificate.pem, keyPEM: key.pem)
    try PrivateFile.write(Bytes(key.pem.utf8), path: keyPath)
    try PrivateFile.write(Bytes(certificate.pem.utf8), path: certificatePath, mode: 0o644)
    try PrivateFile.write(Bytes(authority.certificate.pem.utf8), path: caPath, mode: 0o644)
    return (authority.certificate.pem, credentials)
  }

  /// That the three files belong together; a crash between two of them makes them anew.
  private static func isGood(_ ca: String, _ server: TLSCredentials) -> Bool {
    guard let authority = try? Certificate(pem: ca), let leaf = try? Certificate(pem: server.certificatePEM),
      let key = try? KeyPair(pem: server.keyPEM)
    else { return false }
    return leaf.publicKey == key.publicKey && leaf.isIssued(by: authority)
  }

  // MARK: Tokens

  /// The token of a pod: nobody can make one without `pods.key`, and none has to be stored.
  package func podToken(uid: String) -> String { "\(Self.podPrefix)\(uid).\(mac(uid).hex)" }

  private func mac(_ uid: String) -> Bytes { Digest.hmacSHA256(key: podKey, Bytes("pod \(uid)".utf8)) }

  package enum Bearer: Sendable, Hashable {
    case nodeOperator
    case pod(uid: String)
  }

  /// Whose token it is; nil for one that is nobody's. Takes the same time wherever a wrong one differs.
  package func bearer(of token: String) -> Bearer? {
    guard token.utf8.count <= 512 else { return nil }
    if Digest.constantTimeEqual(Bytes(token.utf8), Bytes(operatorToken.utf8)) { return .nodeOperator }
    guard token.hasPrefix(Self.podPrefix), let dot = token.lastIndex(of: ".") else { return nil }
    let start = token.index(token.startIndex, offsetBy: Self.podPrefix.count)
    guard start < dot, let given = Bytes(hex: String(token[token.index(after: dot)...])) else { return nil }
    let uid = String(token[start..<dot])
    return Digest.constantTimeEqual(given, mac(uid)) ? .pod(uid: uid) : nil
  }
}
