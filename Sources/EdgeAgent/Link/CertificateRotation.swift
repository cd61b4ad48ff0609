import Base
import EventLoop
import Identity
import Logging
import Transport
import Wire

/// Keeps the node's certificate fresh: two thirds into its life it asks for the next one over the live session, stores
/// it, and has the link make a new connection with it before the session that asked ends.
@LoopActor package final class CertificateRotation {
  /// Where the node's identity is kept.
  package struct Paths: Sendable {
    package var ca: String
    package var certificate: String
    package var key: String
    package init(ca: String, certificate: String, key: String) {
      self.ca = ca
      self.certificate = certificate
      self.key = key
    }
  }
  static let retry = Duration.seconds(600)
  /// Between two tries to come back with a certificate that ended.
  static let recoveryPause = Duration.seconds(30)
  static let callDeadline = Duration.seconds(30)

  /// The ALPN protocol of joining, over which a node without a good certificate asks for one.
  package static let joinProtocol = "skerry-join/1"
  /// The cloud's authority.
  package let caPEM: String
  /// The context that the link dials with.
  package let context: TLSContext
  private let paths: Paths
  private let node: String
  private let key: KeyPair
  private let scheduler: any Scheduler
  private let logger: Logger
  private var certificate: Certificate
  private var timer: TimerID?
  private weak var session: Session?
  private var nextRecovery: Instant?
  /// Opens a connection for joining: the cloud is known by its CA, this node by nothing yet.
  package var dialJoin: (@LoopActor () async throws(SkerryError) -> any ByteStream)?

  /// A new certificate is in use for new connections.
  package var onRenewed: (() -> Void)?

  package init(_ paths: Paths, node: String, scheduler: any Scheduler, logger: Logger) throws(SkerryError) {
    self.paths = paths
    self.node = node
    self.scheduler = scheduler
    self.logger = logger
    func text(_ path: String) throws(SkerryError) -> String {
      String(decoding: try Files.read(path, limit: Certificate.maxBytes), as: UTF8.self)
    }
    let (keyPEM, certificatePEM) = (try text(paths.key), try text(paths.certificate))
    key = try KeyPair(pem: keyPEM)
    certificate = try Certificate(pem: certificatePEM)
    guard certificate.subject == .node(node) else {
      throw SkerryError(
        .invalidArgument,
        "\(paths.certificate) is for \"\(certificate.commonName)\", not for node \"\(node)\"; join again")
    }
    caPEM = try text(paths.ca)
    context = try TLSContext.client(
      credentials: TLSCredentials(certificatePEM: certificatePEM, keyPEM: keyPEM), trust: .authority(caPEM),
      alpn: ["skerry/1"])
  }

  /// A session is ready: renew over it when it is time.
  package func sessionReady(_ session: Session) {
    self.session = session
    schedule()
  }

  /// The moment from which a new certificate is asked for. Pure.
  package nonisolated static func due(notBefore: WallTime, notAfter: WallTime) -> WallTime {
    notBefore + (notAfter - notBefore) * 2 / 3
  }

  private func schedule(after delay: Duration? = nil) {
    if let timer { scheduler.cancel(timer) }
    let due = Self.due(notBefore: certificate.notBefore, notAfter: certificate.notAfter)
    let wait = delay ?? max(.seconds(1), due - scheduler.wall)
    timer = scheduler.schedule(after: wait) { [weak self] in
      guard let self else { return }
      spawn { await self.renew() }
    }
  }

  private func renew() async {
    guard let session, session.isReady else { return }
    do {
      let csr = try CertificateSigningRequest.make(
        key: key, commonName: CertificateSubject.node(node).commonName)
      let answer = try await session.call(
        method: "renew", params: ["csr": .string(csr.pem)], deadline: Self.callDeadline)
      try take(answer)
      logger.info("the node's certificate was renewed", metadata: ["until": "\(certificate.notAfter.seconds)"])
      schedule()
      onRenewed?()
    } catch {
      logger.error(EdgeLog.rotation, "the node's certificate could not be renewed: \(error)")
      schedule(after: Self.retry)
    }
  }

  /// The cloud refused the node. If that is since its certificate has ended (it was away for longer than that lives), it
  /// asks for a new one by the key that the cloud has recorded; the cloud grants that within its window, and never to a
  /// revoked node. True if there is a new certificate.
  package func recover(from error: SkerryError, random: any RandomSource) async -> Bool {
    let now = scheduler.now
    let isOver = certificate.notAfter < scheduler.wall || error.description.contains("certificate has expired")
    guard isOver, nextRecovery.map({ now >= $0 }) ?? true, let dialJoin else { return false }
    nextRecovery = now + Self.recoveryPause
    do {
      let stream = try await dialJoin()
      let session = Session(
        stream: stream, role: .client, hello: ["role": "node", "node": .string(node)], scheduler: scheduler,
        random: random)
      session.start()
      defer { session.close() }
      try await session.ready()
      let csr = try CertificateSigningRequest.make(key: key, commonName: CertificateSubject.node(node).commonName)
      let answer = try await session.call(
        method: "renew", params: ["node": .string(node), "csr": .string(csr.pem)], deadline: Self.callDeadline)
      try take(answer)
      logger.info(
        "the node's certificate had ended; a new one was granted for its recorded key",
        metadata: ["until": "\(certificate.notAfter.seconds)"])
      return true
    } catch {
      logger.error(EdgeLog.rotation, "the certificate has ended and no new one was granted: \(error)")
      return false
    }
  }

  /// Whether the cloud's authority signed a serving certificate.
  package func isFromOurAuthority(_ certificate: Certificate) -> Bool {
    guard let authorities = try? Certificate.chain(pem: caPEM) else { return false }
    return certificate.allows(.server) && authorities.contains { certificate.isIssued(by: $0) }
  }

  private func take(_ answer: Value) throws(SkerryError) {
    guard let pem = answer["certificate"].string else {
      throw SkerryError(.protocolViolation, "the cloud's answer holds no certificate")
    }
    let fresh = try Certificate(pem: pem)
    guard fresh.subject == .node(node), fresh.publicKey == key.publicKey else {
      throw SkerryError(.protocolViolation, "the cloud's answer is no certificate for this node and key")
    }
    try Files.writeDurably(paths.certificate, Bytes(pem.utf8), mode: 0o644)
    try context.reload(TLSCredentials(certificatePEM: pem, keyPEM: key.pem))
    certificate = fresh
  }
}
