import ArgumentParser
import Base
import EventLoop
import Glibc
import Identity
import ObjectModel

struct CloudCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "cloud", abstract: "The cloud side of a cluster.", subcommands: [Init.self])

  struct Init: ClusterCommand {
    static let configuration = CommandConfiguration(
      abstract: "Make a cluster's CA, serving certificate, sealing keys, configuration and first administrator.",
      discussion: """
        Writes DIR/pki, DIR/cloudcore.yaml and DIR/config.yaml. Keep a copy of DIR/pki/ca.key and DIR/pki/sealing.keys
        somewhere safe, away from backups of the data.
        """)
    @OptionGroup var globals: GlobalOptions
    @Option(name: .long, help: "Where the files go.") var dir = "/etc/skerry"
    @Option(name: .long, help: "A name or address by which nodes and clients reach the cloud; repeat it.")
    var host: [String] = []
    @Option(name: .long, help: "The port to listen on.") var port: UInt16 = 6443
    @Option(name: .long, help: "Where cloudcore keeps its data.") var data = "/var/lib/skerry/cloud"
    @Option(name: .long, help: "The first administrator's name.") var admin = "admin"

    func execute(_ environment: Environment) async throws {
      let pkiDirectory = "\(dir)/pki"
      try Files.makeDirectory(dir)
      try Files.makeDirectory(pkiDirectory, mode: 0o700)
      let pki = try ClusterPKI.create(
        directory: pkiDirectory, hosts: host, now: environment.now, random: environment.random)
      let client = try pki.issueClient(name: admin, role: "admin", now: environment.now, random: environment.random)
      try PrivateFile.write(Bytes(client.keyPEM.utf8), path: "\(pkiDirectory)/\(admin).key")
      try PrivateFile.write(Bytes(client.certificatePEM.utf8), path: "\(pkiDirectory)/\(admin).crt", mode: 0o644)
      let server = HostPort(host: host.first ?? "127.0.0.1", port: Int(port)).description
      let settings: Value = [
        "listen": .string("[::]:\(port)"), "data": .string(data), "pki": .string(try Files.absolute(pkiDirectory)),
      ]
      try PrivateFile.write(
        Bytes(YAMLPrinter.print(settings).utf8), path: "\(dir)/cloudcore.yaml", mode: 0o644)
      var configuration = ClientConfiguration()
      configuration.set(
        .init(
          name: "cloud", server: server, ca: "pki/ca.crt", cert: "pki/\(admin).crt", key: "pki/\(admin).key"))
      try configuration.save("\(dir)/config.yaml")
      environment.console.print("cluster made in \(dir); its CA has the pin \(pki.authority.pin)")
      environment.console.print("  start:  cloudcore --config \(dir)/cloudcore.yaml")
      environment.console.print("  use:    export SKERRY_CONFIG=\(dir)/config.yaml")
      environment.console.print("  nodes:  skerry token create")
    }
  }
}

struct EdgeCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "edge", abstract: "The edge side of a cluster.", subcommands: [Join.self])

  struct Join: ClusterCommand {
    static let configuration = CommandConfiguration(
      abstract: "Make this machine a node: makes its key and has the cloud sign its certificate.",
      discussion: """
        The cloud is known by the pin in the token before anything is sent. Writes DIR/node.key, node.crt, ca.crt and
        edgecore.yaml; then start edgecore --config DIR/edgecore.yaml. Asking again with the same DIR keeps the key.
        """)
    @OptionGroup var globals: GlobalOptions
    @Option(name: .long, help: "As `skerry token create` printed it.") var token: String
    @Option(name: .long, help: "The node's name; else this machine's.") var node: String?
    @Option(name: .long, help: "Where the files go.") var dir = "/etc/skerry/edge"
    @Option(name: .long, help: "Where edgecore keeps its data.") var data = "/var/lib/skerry/edge"
    @Flag(inversion: .prefixedNo, help: "Wait while an administrator has to approve the key.") var wait = true
    @Argument(help: "HOST:PORT of the cloud.") var server: String

    /// How often a node that waits for approval asks again.
    static let interval = Duration.seconds(5)

    func execute(_ environment: Environment) async throws {
      let token = try JoinToken(token)
      guard let pin = Bytes(hex: token.pin) else { throw SkerryError(.invalidArgument, "the token holds no pin") }
      let address = try HostPort(server)
      let name = node ?? Self.hostName()
      if let flaw = JoinAuthority.flaw(inNodeName: name) {
        throw SkerryError(.invalidArgument, "\(flaw); choose one with --node")
      }
      try Files.makeDirectory(dir, mode: 0o700)
      let key = try loadOrMakeKey()
      let csr = try CertificateSigningRequest.make(key: key, commonName: CertificateSubject.node(name).commonName)
      var hasToldWhy = false
      while true {
        let answer = try await Connection.join(
          address, pin: pin, method: "join",
          parameters: ["token": .string(token.credential), "csr": .string(csr.pem), "node": .string(name)],
          scheduler: environment.scheduler, random: environment.random)
        if answer["state"].string == "pending" {
          let reason = answer["reason"].string ?? "an administrator has to approve this key"
          guard wait else { throw SkerryError(.unavailable, reason) }
          if !hasToldWhy { environment.console.note("waiting: \(reason)") }
          hasToldWhy = true
          try await environment.scheduler.sleep(for: Self.interval)
          continue
        }
        try store(answer, key: key, pin: pin, name: name, address: address)
        environment.console.print("node \"\(name)\" joined; start: edgecore --config \(dir)/edgecore.yaml")
        return
      }
    }

    private func loadOrMakeKey() throws(SkerryError) -> KeyPair {
      let path = "\(dir)/node.key"
      if Files.exists(path) {
        return try KeyPair(
          pem: String(decoding: try PrivateFile.read(path: path, limit: KeyPair.maxPEMBytes), as: UTF8.self))
      }
      let key = try KeyPair.generate()
      try PrivateFile.write(Bytes(key.pem.utf8), path: path, replacing: false)
      return key
    }

    /// Believes the answer only if it is what the token's pin and our key say it must be.
    private func store(_ answer: Value, key: KeyPair, pin: Bytes, name: String, address: HostPort) throws(SkerryError) {
      guard let certificatePEM = answer["certificate"].string, let caPEM = answer["ca"].string else {
        throw SkerryError(.protocolViolation, "the cloud's answer holds no certificate")
      }
      let (certificate, ca) = (try Certificate(pem: certificatePEM), try Certificate(pem: caPEM))
      guard ca.keyFingerprint == pin else {
        throw SkerryError(.unauthenticated, "the cloud's CA is not the one that the token names")
      }
      guard certificate.isIssued(by: ca), certificate.publicKey == key.publicKey,
        certificate.subject == .node(name)
      else { throw SkerryError(.protocolViolation, "the cloud's answer is no certificate for this node and key") }
      try PrivateFile.write(Bytes(ca.pem.utf8), path: "\(dir)/ca.crt", mode: 0o644)
      try PrivateFile.write(Bytes(certificate.pem.utf8), path: "\(dir)/node.crt", mode: 0o644)
      let directory = try Files.absolute(dir)
      let settings: Value = [
        "node": .string(name), "cloud": [.string(address.description)], "data": .string(data),
        "ca": .string("\(directory)/ca.crt"), "cert": .string("\(directory)/node.crt"),
        "key": .string("\(directory)/node.key"),
      ]
      try PrivateFile.write(Bytes(YAMLPrinter.print(settings).utf8), path: "\(dir)/edgecore.yaml", mode: 0o644)
    }

    static func hostName() -> String {
      var name = [CChar](repeating: 0, count: 256)
      gethostname(&name, name.count - 1)
      return String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self).lowercased()
    }
  }
}
