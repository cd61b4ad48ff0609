import API
import Base
import CloudHub
import EdgeAgent
import EventLoop
import Identity
import Logging
import ObjectModel
import Testing
import Transport
import Wire

/// A node away beyond its certificate's life comes back by its recorded key; a revoked one never.
@Suite struct ComebackTests {
  @LoopActor private final class Away {
    let cloud: SyncCloud
    let key: KeyPair
    let paths: CertificateRotation.Paths
    let clock: StandingClock

    /// A node whose certificate has ended `ago`.
    init(_ cloud: SyncCloud, endedAgo ago: Duration) async throws {
      self.cloud = cloud
      key = try KeyPair.generate()
      let base = "\(cloud.directory)/away"
      try Files.makeDirectory(base)
      paths = CertificateRotation.Paths(ca: "\(base)/ca", certificate: "\(base)/crt", key: "\(base)/key")
      let now = cloud.loop.wall
      clock = StandingClock(wall: now)
      let lifetime = Duration.seconds(3_600)
      let start = WallTime(nanoseconds: now.nanoseconds - ago.nanosecondCount - lifetime.nanosecondCount)
      // The authority lived then already.
      let authority = try CertificateAuthority.create(
        commonName: "old", lifetime: .seconds(400 * 86_400),
        now: WallTime(nanoseconds: start.nanoseconds - 1_000_000_000_000), random: SystemRandom())
      let certificate = try authority.issue(
        publicKey: key.publicKey, subject: .node("away"), usage: .client, lifetime: lifetime, now: start,
        random: SystemRandom())
      try Files.write(paths.ca, cloud.authority.certificate.pem)
      try Files.write(paths.certificate, certificate.pem)
      try PrivateFile.write(Bytes(key.pem.utf8), path: paths.key)
      await cloud.identities.adopt(
        node: "away",
        certificate: PeerCertificate(
          commonName: "system:node:away", organizations: ["system:nodes"], serial: "1",
          keyFingerprint: key.publicKey.fingerprint, notBefore: start.seconds, notAfter: certificate.notAfter.seconds))
    }

    func recover() async throws -> Bool {
      let rotation = try CertificateRotation(
        paths, node: "away", scheduler: cloud.loop, logger: Logger(label: "t") { _ in SwiftLogNoOpLogHandler() })
      rotation.dialJoin = { [cloud] () async throws(SkerryError) in
        cloud.connect(nil, alpn: CloudHub.joinProtocol)
      }
      return await rotation.recover(
        from: SkerryError(.unauthenticated, "our certificate has expired in the peer's eyes"), random: SystemRandom())
    }
  }

  @LoopActor private func withCloud(_ body: @LoopActor (SyncCloud) async throws -> Void) async throws {
    let cloud = try await SyncCloud()
    defer { cloud.end() }
    try await body(cloud)
  }

  @Test(.timeLimit(.minutes(1))) func aNodeAwayForLongerThanItsCertificateLivesComesBackByItsKey() async throws {
    try await onLoop {
      try await withCloud { cloud in
        let node = try await Away(cloud, endedAgo: .seconds(10 * 86_400))
        #expect(try await node.recover())
        let fresh = try Certificate(pem: try #require(Files.readText(node.paths.certificate)))
        #expect(fresh.publicKey == node.key.publicKey && fresh.isValid(at: cloud.loop.wall))
        #expect(fresh.isIssued(by: cloud.authority.certificate))
      }
    }
  }

  @Test(.timeLimit(.minutes(1))) func beyondTheWindowOrWithAnotherKeyItDoesNot() async throws {
    try await onLoop {
      try await withCloud { cloud in
        let late = try await Away(cloud, endedAgo: .seconds(31 * 86_400))
        #expect(try await !late.recover())
      }
      try await withCloud { cloud in
        let node = try await Away(cloud, endedAgo: .seconds(86_400))
        let other = try KeyPair.generate()
        let csr = try CertificateSigningRequest.make(key: other, commonName: "system:node:away").pem
        await #expect(throws: CallError.self) {
          _ = try await cloud.identities.renew(node: "away", csrPEM: csr, authenticated: nil, from: "x")
        }
        #expect(try await node.recover())
      }
    }
  }

  @Test(.timeLimit(.minutes(1))) func aRevokedNodeNeverComesBackAlsoNotByAnOldBackupOfTheCloud() async throws {
    try await onLoop {
      try await withCloud { cloud in
        let node = try await Away(cloud, endedAgo: .seconds(86_400))
        try await cloud.identities.revoke("away")
        #expect(try await !node.recover())
        // A directory over a log that knows nothing of the revocation.
        let again = try await SyncCloud()
        defer { again.end() }
        try Files.write("\(again.directory)/revoked", try Files.read("\(cloud.directory)/revoked"))
        try again.identities.load()
        let certificate = SyncNode.certificate("away", node.key)
        #expect(again.identities.refusal(of: certificate) != nil)
        // An administrator may let it in again, for good.
        try await again.identities.approve("away")
        try again.identities.load()
        #expect(again.identities.refusal(of: certificate) == nil)
      }
    }
  }

  @Test(.timeLimit(.minutes(1))) func aRevokedClientIsCutOffAndANewCertificateOfTheNameIsGood() async throws {
    try await onLoop {
      try await withCloud { cloud in
        @LoopActor func client(_ certificate: PeerCertificate) async throws -> Session {
          let session = Session(
            stream: cloud.connect(certificate), role: .client, hello: [:], scheduler: cloud.loop,
            random: SystemRandom())
          session.start()
          try await session.ready()
          return session
        }
        let key = try KeyPair.generate()
        func certificate(_ pem: String) throws -> PeerCertificate {
          let made = try Certificate(pem: pem)
          return PeerCertificate(
            commonName: made.commonName, organizations: made.organizations, serial: made.serial,
            keyFingerprint: made.keyFingerprint, notBefore: made.notBefore.seconds, notAfter: made.notAfter.seconds)
        }
        @LoopActor func issue(_ name: String) throws -> PeerCertificate {
          let csr = try CertificateSigningRequest.make(key: key, commonName: name).pem
          let made = try cloud.identities.issueClient(
            name: name, role: "view", csrPEM: csr, lifetime: .seconds(3_600))
          return try certificate(made["certificate"].string ?? "")
        }
        let (jane, john) = (try issue("jane"), try issue("john"))
        let (janes, johns) = (try await client(jane), try await client(john))
        try await cloud.identities.revokeClient("jane")
        try await until("her session is over") { janes.isClosed }
        #expect(!johns.isClosed && cloud.identities.refusal(of: john) == nil)
        #expect(cloud.identities.refusal(of: jane) != nil)
        await #expect(throws: (any Error).self) { _ = try await client(jane) }
        // At once, and after a restart over the same log.
        #expect(cloud.identities.refusal(of: try issue("jane")) == nil)
        try cloud.identities.load()
        #expect(cloud.identities.refusal(of: jane) != nil)
        johns.close()
      }
    }
  }
}
