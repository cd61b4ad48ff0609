import Base
import Glibc
import Identity
import Testing

@Suite struct ClusterPKITests {
  @Test func itIsMadeOnceAndComesBack() throws {
    let directory = try makeTemporaryDirectory()
    defer { removeTemporaryDirectory(directory) }
    #expect(!ClusterPKI.exists(in: directory))
    let made = try ClusterPKI.create(directory: directory, hosts: ["cloud", "10.1.2.3"], now: noon, random: seeded())
    var loaded = try ClusterPKI.load(directory: directory)
    #expect(loaded.authority.pin == made.authority.pin)
    #expect(loaded.serverCertificatePEM == made.serverCertificatePEM)
    let chain = try Certificate.chain(pem: loaded.serverCertificatePEM)
    #expect(chain.count == 2 && chain[0].isIssued(by: chain[1]) && chain[1] == loaded.authority.certificate)
    #expect(chain[0].dnsNames == ["localhost", "cloud"])
    #expect(chain[0].ipAddresses == ["127.0.0.1", "::1", "10.1.2.3"])
    #expect { try ClusterPKI.create(directory: directory, hosts: [], now: noon, random: seeded()) } throws: {
      ($0 as? SkerryError)?.code == .alreadyExists
    }
    for name in ["ca.key", "server.key", "sealing.keys"] {
      var info = stat()
      #expect(stat("\(directory)/\(name)", &info) == 0 && info.st_mode & 0o777 == 0o600, "\(name)")
    }
    // Renewal: not before its time, for a new name, and near the end.
    #expect(try !loaded.renewServer(adding: ["cloud"], now: noon, random: seeded()))
    #expect(try loaded.renewServer(adding: ["other"], now: noon, random: seeded()))
    #expect(try loaded.renewServer(now: noon + .seconds(350 * 86_400), random: seeded()))
    let renewed = try Certificate(pem: ClusterPKI.load(directory: directory).serverCertificatePEM)
    #expect(renewed.dnsNames == ["localhost", "cloud", "other"])
    #expect(renewed.publicKey != chain[0].publicKey)
  }

  @Test func aClientHasItsRole() throws {
    let directory = try makeTemporaryDirectory()
    defer { removeTemporaryDirectory(directory) }
    let pki = try ClusterPKI.create(directory: directory, hosts: [], now: noon, random: seeded())
    let client = try pki.issueClient(name: "ann", role: "edit", now: noon, random: seeded())
    let certificate = try Certificate(pem: client.certificatePEM)
    #expect(certificate.subject == .client("ann", role: "edit"))
    #expect(certificate.isIssued(by: pki.authority.certificate) && certificate.allows(.client))
    #expect(try KeyPair(pem: client.keyPEM).publicKey == certificate.publicKey)
  }
}
