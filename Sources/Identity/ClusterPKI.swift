import Base
import Glibc

/// The directory with a cluster's keys: the CA, the cloud's serving certificate and the sealing keys.
///
/// ```
/// ca.crt  ca.key  server.crt  server.key  sealing.keys
/// ```
/// `server.crt` is the leaf and then the CA, so that a joining node can check the CA's pin. Keys have mode 0600.
package struct ClusterPKI: Sendable {
  package static let authorityLifetime = Duration.seconds(3_650 * 86_400)
  package static let serverLifetime = Duration.seconds(397 * 86_400)
  package static let clientLifetime = Duration.seconds(365 * 86_400)
  /// A serving certificate with less left than this is made anew by `renewServer`.
  package static let renewBefore = Duration.seconds(60 * 86_400)

  package let directory: String
  package let authority: CertificateAuthority
  /// Leaf and CA.
  package private(set) var serverCertificatePEM: String
  package private(set) var serverKeyPEM: String

  private static func path(_ directory: String, _ name: String) -> String { "\(directory)/\(name)" }
  package static func sealingKeys(in directory: String) -> String { path(directory, "sealing.keys") }
  package static func exists(in directory: String) -> Bool { access(path(directory, "ca.key"), F_OK) == 0 }

  /// Makes everything in a directory that is there and holds no CA yet. `hosts` are the names and addresses by which
  /// the cloud is reached.
  package static func create(
    directory: String, hosts: [String], now: WallTime, random: any RandomSource
  ) throws(SkerryError) -> ClusterPKI {
    guard !exists(in: directory) else {
      throw SkerryError(
        .alreadyExists, "\(directory) holds a CA already; it is not overwritten, since every node and client trusts it")
    }
    let authority = try CertificateAuthority.create(
      commonName: "skerry-ca", lifetime: authorityLifetime, now: now, random: random)
    let server = try issueServer(authority, hosts: hosts, now: now, random: random)
    try write(directory, "ca.crt", authority.certificate.pem, mode: 0o644)
    try write(directory, "server.crt", server.certificate, mode: 0o644)
    try write(directory, "server.key", server.key)
    _ = try KeyRing.loadOrCreate(path: sealingKeys(in: directory), random: random)
    // Last: with the CA's key the directory counts as complete.
    try write(directory, "ca.key", authority.keyPEM)
    return ClusterPKI(
      directory: directory, authority: authority, serverCertificatePEM: server.certificate, serverKeyPEM: server.key)
  }

  package static func load(directory: String) throws(SkerryError) -> ClusterPKI {
    let limit = Certificate.maxBytes
    func text(_ name: String) throws(SkerryError) -> String {
      let isSecret = name.hasSuffix(".key")
      return String(
        decoding: try PrivateFile.read(path: path(directory, name), limit: limit, secret: isSecret), as: UTF8.self)
    }
    let authority = try CertificateAuthority(
      certificate: Certificate(pem: text("ca.crt")), key: KeyPair(pem: text("ca.key")))
    return ClusterPKI(
      directory: directory, authority: authority, serverCertificatePEM: try text("server.crt"),
      serverKeyPEM: try text("server.key"))
  }

  /// Makes the serving certificate anew, with the names it has and those in `adding`, if it ends soon or lacks one.
  /// Answers whether it did.
  package mutating func renewServer(
    adding hosts: [String] = [], now: WallTime, random: any RandomSource
  ) throws(SkerryError) -> Bool {
    let current = try Certificate(pem: serverCertificatePEM)
    let names = current.dnsNames + current.ipAddresses
    let missing = hosts.filter { !names.contains($0) }
    guard current.notAfter < now + Self.renewBefore || !missing.isEmpty else { return false }
    let server = try Self.issueServer(authority, hosts: names + missing, now: now, random: random)
    try Self.write(directory, "server.key", server.key)
    try Self.write(directory, "server.crt", server.certificate, mode: 0o644)
    (serverCertificatePEM, serverKeyPEM) = server
    return true
  }

  /// A client's certificate and new key, for whoever holds the CA's key.
  package func issueClient(
    name: String, role: String, lifetime: Duration = clientLifetime, now: WallTime, random: any RandomSource
  ) throws(SkerryError) -> (certificatePEM: String, keyPEM: String) {
    let key = try KeyPair.generate()
    let certificate = try authority.issue(
      publicKey: key.publicKey, subject: .client(name, role: role), usage: .client, lifetime: lifetime, now: now,
      random: random)
    return (certificate.pem, key.pem)
  }

  private static func issueServer(
    _ authority: CertificateAuthority, hosts: [String], now: WallTime, random: any RandomSource
  ) throws(SkerryError) -> (certificate: String, key: String) {
    let key = try KeyPair.generate()
    var (dns, ip): ([String], [String]) = ([], [])
    for host in ["localhost", "127.0.0.1", "::1"] + hosts {
      if IPAddress.bytes(host) != nil {
        if !ip.contains(host) { ip.append(host) }
      } else if !dns.contains(host) {
        dns.append(host)
      }
    }
    let leaf = try authority.issue(
      publicKey: key.publicKey, subject: CertificateSubject(commonName: "skerry-cloud", organizations: ["skerry"]),
      dnsNames: dns, ipAddresses: ip, usage: .server, lifetime: serverLifetime, now: now, random: random)
    return (leaf.pem + authority.certificate.pem, key.pem)
  }

  private static func write(_ directory: String, _ name: String, _ text: String, mode: mode_t = 0o600)
    throws(SkerryError)
  {
    try PrivateFile.write(Bytes(text.utf8), path: path(directory, name), mode: mode)
  }
}
