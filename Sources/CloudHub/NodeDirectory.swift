import Base
import EventLoop
import Identity
import Logging
import ObjectLog
import Wire

/// Who may connect: join tokens, the nodes' keys, and what was revoked. Everything is kept as private keys of the
/// object log, durable before it is answered, and held in memory to be asked at every handshake.
@LoopActor package final class NodeDirectory {
  /// Tokens that may be open at a time.
  package static let maxTokens = 10_000
  /// Nodes with an identity.
  package static let maxNodes = 100_000
  /// Lifetime of a client's certificate unless it is asked for shorter.
  package static let clientLifetime = Duration.seconds(365 * 86_400)
  private static let tokenPrefix = "identity/tokens/"
  private static let nodePrefix = "identity/nodes/"
  private static let clientPrefix = "identity/clients/"
  /// Names of clients that were revoked.
  package static let maxRevokedClients = 10_000

  private let log: any ObjectLog
  private let authority: CertificateAuthority
  private let joining = JoinAuthority()
  private let scheduler: any Scheduler
  private let random: any RandomSource
  private let logger: Logger
  private var tokens: [String: JoinTokenRecord] = [:]
  private var nodes: [String: NodeIdentityRecord] = [:]
  /// Certificates of a client of that name are worth nothing if they begin at that time or before.
  private var revokedClients: [String: WallTime] = [:]
  private let revocations: RevocationList?
  private let refusals: Counter

  /// A node's certificate is no longer good: its live sessions have to end.
  package var onRevoked: ((_ node: String) -> Void)?
  /// The same of a client.
  package var onClientRevoked: ((_ name: String) -> Void)?

  /// `revocations` remembers who was revoked apart from the log, so that no backup of the log lets anybody in again.
  package init(
    log: any ObjectLog, authority: CertificateAuthority, revocations: RevocationList? = nil, scheduler: any Scheduler,
    random: any RandomSource,
    metrics: Metrics, logger: Logger
  ) {
    self.log = log
    self.authority = authority
    self.revocations = revocations
    self.scheduler = scheduler
    self.random = random
    self.logger = logger
    refusals = metrics.counter(
      "skerry_join_refused_total", "Joins, renewals and handshakes of nodes that were refused.")
  }

  package func load() throws(SkerryError) {
    for (_, bytes) in try log.privateValues(prefix: Self.tokenPrefix) {
      let record = try JoinTokenRecord(try CBOR.decode(bytes))
      tokens[record.id] = record
    }
    for (_, bytes) in try log.privateValues(prefix: Self.nodePrefix) {
      let record = try NodeIdentityRecord(try CBOR.decode(bytes))
      nodes[record.node] = record
    }
    for (key, bytes) in try log.privateValues(prefix: Self.clientPrefix) {
      revokedClients[String(key.dropFirst(Self.clientPrefix.count))] = WallTime(
        seconds: try CBOR.decode(bytes)["before"].int ?? 0)
    }
    try recall()
  }

  /// What was revoked after the log was backed up.
  private func recall() throws(SkerryError) {
    for entry in try revocations?.load() ?? [] {
      switch entry {
      case .node(let name, let key):
        var record = nodes[name] ?? NodeIdentityRecord(node: name, keyFingerprint: key, notAfter: scheduler.wall)
        guard record.keyFingerprint == key else { continue }
        record.revoked = true
        nodes[name] = record
      case .client(let name, let before):
        revokedClients[name] = max(revokedClients[name] ?? before, before)
      }
    }
  }

  package var caPEM: String { authority.certificate.pem }
  package var pin: String { authority.pin }

  // MARK: Handshakes

  /// Why a verified certificate is refused all the same; nil when it is good.
  package func refusal(of certificate: PeerCertificate) -> String? {
    guard let node = Self.nodeName(certificate) else {
      guard let before = revokedClients[certificate.commonName], certificate.notBefore <= before.seconds else {
        return nil
      }
      return "the certificates of client \"\(certificate.commonName)\" were revoked"
    }
    guard let record = nodes[node] else { return nil }
    if record.revoked { return "the certificate of node \"\(node)\" is revoked" }
    if record.keyFingerprint != certificate.keyFingerprint {
      return "the certificate of node \"\(node)\" is for a key that was replaced"
    }
    return nil
  }

  /// The node that a certificate names, if it is a node's.
  package static func nodeName(_ certificate: PeerCertificate) -> String? {
    guard certificate.organizations.contains("system:nodes"),
      certificate.commonName.hasPrefix(CertificateSubject.nodePrefix)
    else { return nil }
    return String(certificate.commonName.dropFirst(CertificateSubject.nodePrefix.count))
  }

  /// Notes a node whose certificate was made by the CA's own key elsewhere, at its first session.
  package func adopt(node: String, certificate: PeerCertificate) async {
    guard nodes[node] == nil, nodes.count < Self.maxNodes else { return }
    let record = NodeIdentityRecord(
      node: node, keyFingerprint: certificate.keyFingerprint, notAfter: WallTime(seconds: certificate.notAfter))
    nodes[node] = record
    do throws(SkerryError) {
      try await store([(Self.nodePrefix + node, CBOR.encode(record.value))])
    } catch {
      logger.error(HubLog.directory, "the identity of node \(node) could not be stored: \(error)")
    }
  }

  // MARK: Joining

  /// The answer to a join: `{"state": "issued", "certificate": PEM, "ca": PEM}` or `{"state": "pending", "reason"}`.
  package func join(credential: String, csrPEM: String, node: String, from address: String) async throws(CallError)
    -> Value
  {
    let csr = try request(csrPEM)
    let token = JoinToken.id(ofCredential: credential).flatMap { tokens[$0] }
    let decision = joining.decide(
      credential: credential, token: token, csr: csr, nodeName: node, identity: nodes[node], now: scheduler.wall)
    return try await settle(decision, "\(address) asks to join as \"\(node)\"")
  }

  /// The same for a node that proves its recorded key; `authenticated` is the key of its live session.
  package func renew(node: String, csrPEM: String, authenticated: Bytes?, from address: String) async throws(CallError)
    -> Value
  {
    let csr = try request(csrPEM)
    let decision = joining.decideRenewal(
      csr: csr, identity: nodes[node], authenticated: authenticated, now: scheduler.wall)
    return try await settle(decision, "\(address) asks to renew \"\(node)\"")
  }

  private func request(_ pem: String) throws(CallError) -> CertificateSigningRequest {
    do throws(SkerryError) { return try CertificateSigningRequest(pem: pem) } catch {
      throw CallError(reason: "BadRequest", message: "the certificate request is not good: \(error)")
    }
  }

  private func settle(_ decision: JoinDecision, _ who: String) async throws(CallError) -> Value {
    switch decision {
    case .refuse(let reason, let detail):
      refusals.add()
      logger.warning(HubLog.joinRefused, "\(who): \(detail)")
      throw CallError(reason: "Forbidden", message: reason)
    case .waitForApproval(let record, let reason):
      nodes[record.node] = record
      try await persist([(Self.nodePrefix + record.node, CBOR.encode(record.value))])
      logger.warning(HubLog.joinRefused, "\(who): \(reason)")
      return ["state": "pending", "reason": .string(reason)]
    case .issue(let grant):
      let before = nodes[grant.identity.node]
      nodes[grant.identity.node] = grant.identity
      var values: [(String, Bytes?)] = [(Self.nodePrefix + grant.identity.node, CBOR.encode(grant.identity.value))]
      if let token = grant.token {
        tokens[token.id] = token
        values.append((Self.tokenPrefix + token.id, CBOR.encode(token.value)))
      }
      try await persist(values)
      if let before, before.keyFingerprint != grant.identity.keyFingerprint { onRevoked?(before.node) }
      return try issue(grant)
    }
  }

  private func issue(_ grant: JoinGrant) throws(CallError) -> Value {
    do throws(SkerryError) {
      let certificate = try authority.issue(
        publicKey: grant.publicKey, subject: grant.subject, usage: .client, lifetime: grant.lifetime,
        now: scheduler.wall, random: random)
      return [
        "state": "issued", "certificate": .string(certificate.pem), "ca": .string(authority.certificate.pem),
      ]
    } catch {
      throw CallError(reason: "InternalError", message: "the certificate could not be signed: \(error)")
    }
  }

  // MARK: Administration

  package func createToken(lifetime: Duration, uses: Int64, node: String?) async throws(CallError) -> Value {
    let now = scheduler.wall
    for (id, token) in tokens where token.expires < now { tokens[id] = nil }
    guard tokens.count < Self.maxTokens else {
      throw CallError(reason: "TooManyRequests", message: "\(Self.maxTokens) join tokens are open; delete some first")
    }
    let token = JoinToken(pin: authority.pin, random: random)
    let record: JoinTokenRecord
    do throws(SkerryError) {
      record = try JoinTokenRecord(token: token, created: now, lifetime: lifetime, uses: uses, node: node)
    } catch {
      throw CallError(reason: "BadRequest", message: error.message)
    }
    try await persist([(Self.tokenPrefix + record.id, CBOR.encode(record.value))])
    tokens[record.id] = record
    return ["token": .string(token.description), "id": .string(record.id), "expires": .int(record.expires.seconds)]
  }

  package var tokenRecords: [JoinTokenRecord] { tokens.values.sorted { $0.id < $1.id } }

  package func deleteToken(_ id: String) async throws(CallError) {
    guard tokens[id] != nil else { throw CallError(reason: "NotFound", message: "tokens \"\(id)\" not found") }
    try await persist([(Self.tokenPrefix + id, nil)])
    tokens[id] = nil
  }

  /// From the moment of the answer no session of the node lives and none begins.
  package func revoke(_ node: String) async throws(CallError) {
    guard var record = nodes[node] else {
      throw CallError(reason: "NotFound", message: "no node \"\(node)\" has an identity here")
    }
    record.revoked = true
    record.pending = nil
    record.approved = nil
    nodes[node] = record
    onRevoked?(node)
    try remember(.node(node, key: record.keyFingerprint))
    try await persist([(Self.nodePrefix + node, CBOR.encode(record.value))])
  }

  package func approve(_ node: String) async throws(CallError) {
    guard var record = nodes[node] else {
      throw CallError(reason: "NotFound", message: "no node \"\(node)\" has an identity here")
    }
    let wasRevoked = record.revoked
    guard record.approve() else {
      throw CallError(reason: "Conflict", message: "no key waits for approval as node \"\(node)\"")
    }
    if wasRevoked { try forget(.node(node, key: record.keyFingerprint)) }
    try await persist([(Self.nodePrefix + node, CBOR.encode(record.value))])
    nodes[node] = record
  }

  /// From the moment of the answer every certificate that a client of this name has is worth nothing, and its sessions
  /// are over; one that is made afterwards is good.
  package func revokeClient(_ name: String) async throws(CallError) {
    guard !name.isEmpty, !name.hasPrefix("system:"), !name.contains("/"), !name.contains(" ") else {
      throw CallError(reason: "BadRequest", message: "\"\(name)\" is no client name")
    }
    guard revokedClients[name] != nil || revokedClients.count < Self.maxRevokedClients else {
      throw CallError(reason: "TooManyRequests", message: "\(Self.maxRevokedClients) clients are revoked already")
    }
    let now = scheduler.wall
    revokedClients[name] = now
    onClientRevoked?(name)
    try remember(.client(name, before: now))
    try await persist([(Self.clientPrefix + name, CBOR.encode(["before": .int(now.seconds)]))])
  }

  private func remember(_ entry: RevocationList.Entry) throws(CallError) {
    do throws(SkerryError) { try revocations?.add(entry) } catch {
      throw CallError(reason: "ServiceUnavailable", message: "the revocation holds, but could not be stored: \(error)")
    }
  }

  private func forget(_ entry: RevocationList.Entry) throws(CallError) {
    do throws(SkerryError) { try revocations?.remove(entry) } catch {
      throw CallError(reason: "ServiceUnavailable", message: "nothing could be stored: \(error)")
    }
  }

  /// A client certificate with a role; the names come from the caller of this call, who is an administrator.
  package func issueClient(name: String, role: String, csrPEM: String, lifetime: Duration) throws(CallError) -> Value {
    let csr = try request(csrPEM)
    guard ["admin", "edit", "view"].contains(role) else {
      throw CallError(reason: "BadRequest", message: "role \"\(role)\" is not one of admin, edit, view")
    }
    guard !name.isEmpty, !name.hasPrefix("system:"), name.utf8.count <= CertificateSubject.maxCommonName else {
      throw CallError(reason: "BadRequest", message: "\"\(name)\" is no client name: 1 to 64 bytes, not `system:` …")
    }
    let subject = CertificateSubject(commonName: name, organizations: ["skerry:\(role)"])
    // It must begin behind a revocation of the name, also when that was a moment ago.
    var start = scheduler.wall
    if let before = revokedClients[name] {
      start = max(start, before + CertificateAuthority.backdating + .seconds(1))
    }
    do throws(SkerryError) {
      let certificate = try authority.issue(
        publicKey: csr.publicKey, subject: subject, usage: .client, lifetime: min(lifetime, Self.clientLifetime),
        now: start, random: random)
      return ["certificate": .string(certificate.pem), "ca": .string(authority.certificate.pem)]
    } catch {
      throw CallError(reason: "InternalError", message: "the certificate could not be signed: \(error)")
    }
  }

  // MARK: Storing

  private func persist(_ values: [(String, Bytes?)]) async throws(CallError) {
    do throws(SkerryError) { try await store(values) } catch {
      throw CallError(reason: "ServiceUnavailable", message: "nothing could be stored: \(error)")
    }
  }

  private func store(_ values: [(String, Bytes?)]) async throws(SkerryError) {
    let change = Change(
      key: "identity//", guarding: .any, operation: .privatesOnly, privates: values.map { (key: $0.0, value: $0.1) })
    let results = await withCheckedContinuation { continuation in
      log.append([change]) { continuation.resume(returning: $0) }
    }
    if case .failed(let error)? = results.first { throw error }
  }
}
