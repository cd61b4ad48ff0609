import API
import APIFace
import ArgumentParser
import Base
import EventLoop
import Foundation
import Identity
import ObjectModel
import Testing
import Transport
import Wire

@testable import CommandLine

@Suite(.timeLimit(.minutes(1))) struct ConfigurationTests {
  @Test func globalOptionsMayComeFirst() {
    #expect(GlobalOptions.reordered(["--config", "f", "get", "pods"]) == ["get", "pods", "--config", "f"])
    #expect(
      GlobalOptions.reordered(["-n", "x", "--context=c", "exec", "p", "--", "ls", "-n"])
        == ["exec", "p", "-n", "x", "--context=c", "--", "ls", "-n"])
    #expect(GlobalOptions.reordered(["get", "--config", "f"]) == ["get", "--config", "f"])
    #expect(GlobalOptions.reordered([]) == [])
  }

  @Test func whereTheFileIs() {
    let home = ["HOME": "/h"]
    #expect(ClientConfiguration.path(option: "o", environment: ["SKERRY_CONFIG": "e"]) == "o")
    #expect(ClientConfiguration.path(option: nil, environment: ["SKERRY_CONFIG": "e", "HOME": "/h"]) == "e")
    #expect(ClientConfiguration.path(option: nil, environment: home) == "/h/.config/skerry/config.yaml")
  }

  @Test func contexts() async throws {
    try await CLI.with { cli in
      let path = "\(cli.directory)/config.yaml"
      var configuration = try ClientConfiguration.load(path)
      _ = try cli.write("ca.crt", "")
      configuration.set(.init(name: "other", server: "h:1", ca: "ca.crt", namespace: "team"))
      try configuration.save(path)
      #expect(try ClientConfiguration.load(path) == configuration)
      #expect(try await cli.run("config", "current-context") == "other\n")
      #expect(try await cli.run("config", "get-contexts").contains("*         other   h:1        team"))
      try await cli.run("config", "use-context", "test")
      #expect(try await cli.run("config", "current-context") == "test\n")
      #expect(await cli.failure("config", "use-context", "x").contains("there is: test, other"))
      #expect(try await cli.run("config", "view").contains("current-context: test"))
      try await cli.run("get", "pods", "--context", "other")
      #expect(cli.errors == "No resources found in team namespace.\n")
    }
  }

  @Test func mistakesInTheFile() async throws {
    try await CLI.with { cli in
      _ = try cli.write("config.yaml", "contexts:\n- name: a\n")
      #expect(await cli.failure("get", "pods").contains("contexts[0] needs a name and a server"))
      _ = try cli.write("config.yaml", "a: [\n")
      #expect(await cli.failure("get", "pods").contains("config.yaml:2:"))
      _ = try cli.write("config.yaml", "contexts: []\n")
      #expect(await cli.failure("get", "pods").contains("no current context"))
      try FileManager.default.removeItem(atPath: "\(cli.directory)/config.yaml")
      #expect(await cli.failure("get", "pods").contains("there is no configuration at"))
    }
  }

  @Test(arguments: [CompletionShell.bash, .zsh, .fish]) func completion(shell: CompletionShell) {
    let script = SkerryCommand.completionScript(for: shell)
    for word in ["rollout", "readings", "apply"] { #expect(script.contains(word)) }
  }

  @Test func timeSpans() {
    #expect(TimeSpan(argument: "30m")?.seconds == 1800 && TimeSpan(argument: "7d")?.seconds == 604_800)
    for bad in ["", "5", "m", "-1h", "1x", "99999999999999999999s"] { #expect(TimeSpan(argument: bad) == nil) }
  }

  @Test func theExamplesAreManifests() throws {
    let examples = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent().appendingPathComponent("examples").path
    let reader = ManifestReader(registry: .standard) { [] }
    #expect(try reader.read([examples]).map(\.kind.kind).contains("Deployment"))
  }
}

/// A cloud's front door, without a cloud behind it: TLS, joins, and an API in memory.
@LoopActor final class FrontDoor {
  let pki: ClusterPKI
  let api: AdminAPI
  private var listener: TLSListener?
  private var sessions: [Session] = []
  private let service: APIService
  var join: (Value) throws -> Value = { _ in [:] }
  var address: String { "127.0.0.1:\(listener?.boundPort ?? 0)" }

  init(directory: String) async throws {
    let loop = Loop.startShared()
    pki = try ClusterPKI.create(directory: directory, hosts: [], now: loop.wall, random: SystemRandom())
    api = try await AdminAPI()
    service = APIService(api: api, scheduler: loop)
    let context = try TLSContext.server(
      credentials: TLSCredentials(certificatePEM: pki.serverCertificatePEM, keyPEM: pki.serverKeyPEM),
      clientAuthorities: pki.authority.certificate.pem,
      protocols: [
        TLSProtocol("skerry/1"), TLSProtocol("skerry-join/1", requiresClientCertificate: false, presentsRoot: true),
      ])
    listener = try TLSListener(host: "127.0.0.1", port: 0, context: context, scheduler: loop) { [weak self] stream in
      self?.took(stream)
    }
  }

  private func took(_ stream: TLSStream) {
    let session = Session(
      stream: stream, role: .server, hello: [:], scheduler: Loop.startShared(), random: SystemRandom())
    sessions.append(session)
    if stream.peer.applicationProtocol == "skerry-join/1" {
      session.onStream = { [weak self] stream in
        do { stream.finish(try self?.join(stream.params) ?? .null) } catch {
          stream.fail(CallError(reason: "Forbidden", message: "\(error)"))
        }
      }
    } else {
      service.attach(session, caller: api.admin)
    }
    session.start()
  }

  func close() {
    listener?.closeAll()
    listener?.close()
  }
}

@Suite(.timeLimit(.minutes(1))) struct ClusterCommandTests {
  @Test func cloudInitMakesWhatACloudAndAClientNeed() async throws {
    try await CLI.with { cli in
      let directory = "\(cli.directory)/cluster"
      let printed = try await cli.run("cloud", "init", "--dir", directory, "--host", "cloud.example", "--port", "7000")
      let pki = try ClusterPKI.load(directory: "\(directory)/pki")
      #expect(printed.contains(pki.authority.pin))
      let configuration = try ClientConfiguration.load("\(directory)/config.yaml")
      let context = try configuration.context(nil, path: "")
      #expect(context.server == "cloud.example:7000")
      let endpoint = try ClusterEndpoint(context, directory: directory)
      let certificate = try Certificate(pem: endpoint.certificatePEM ?? "")
      #expect(certificate.subject == .client("admin", role: "admin"))
      #expect(certificate.isIssued(by: try Certificate(pem: endpoint.caPEM ?? "")))
      let settings = try YAMLReader.documents(
        Files.text("\(directory)/cloudcore.yaml"))[0].value
      #expect(settings["listen"] == "[::]:7000")
      #expect(await cli.failure("cloud", "init", "--dir", directory).contains("holds a CA already"))
      // A client without the server.
      try await cli.run(
        "client", "create", "ann", "--role", "view", "--pki", "\(directory)/pki", "--server", "h:1", "--dir",
        "\(cli.directory)/ann")
      let ann = try ClientConfiguration.load("\(cli.directory)/ann/ann.yaml").context(nil, path: "")
      let hers = try ClusterEndpoint(ann, directory: "\(cli.directory)/ann")
      #expect(try Certificate(pem: hers.certificatePEM ?? "").organizations == ["skerry:view"])
      #expect(await cli.failure("client", "create", "x", "--role", "king").contains("--role is"))
    }
  }

  @Test func aClientOverTLS() async throws {
    try await CLI.with { cli in
      let pki = "\(cli.directory)/pki"
      try FileManager.default.createDirectory(atPath: pki, withIntermediateDirectories: true)
      let door = try await FrontDoor(directory: pki)
      defer { door.close() }
      let loop = Loop.startShared()
      let client = try door.pki.issueClient(name: "a", role: "admin", now: loop.wall, random: SystemRandom())
      var endpoint = ClusterEndpoint(
        server: door.address, caPEM: door.pki.authority.certificate.pem, certificatePEM: client.certificatePEM,
        keyPEM: client.keyPEM)
      let api = try await Connection.open(endpoint, scheduler: loop, random: SystemRandom())
      let namespaces = try await api.list(ListOptions(resource: "namespaces"), caller: door.api.admin)
      #expect(namespaces.items.contains { $0.reference.name == "default" })
      // A server that is not there, and one with another CA, are told with their address and a remedy.
      let other = try CertificateAuthority.create(
        commonName: "other", lifetime: .seconds(3_600), now: loop.wall, random: SystemRandom())
      endpoint.caPEM = other.certificate.pem
      await #expect { _ = try await Connection.open(endpoint, scheduler: loop, random: SystemRandom()) } throws: {
        "\($0)".contains(endpoint.server) && "\($0)".contains("cannot be reached")
      }
      endpoint.server = "127.0.0.1:1"
      await #expect { _ = try await Connection.open(endpoint, scheduler: loop, random: SystemRandom()) } throws: {
        "\($0)".contains("127.0.0.1:1 cannot be reached: check that cloudcore runs there")
      }
      endpoint.keyPEM = nil
      await #expect { _ = try await Connection.open(endpoint, scheduler: loop, random: SystemRandom()) } throws: {
        "\($0)".contains("needs ca, cert and key")
      }
    }
  }

  @Test func edgeJoin() async throws {
    try await CLI.with { cli in
      let pki = "\(cli.directory)/pki"
      try FileManager.default.createDirectory(atPath: pki, withIntermediateDirectories: true)
      let door = try await FrontDoor(directory: pki)
      defer { door.close() }
      let (loop, authority) = (Loop.startShared(), door.pki.authority)
      let token = JoinToken(pin: authority.pin, random: SystemRandom())
      let record = try JoinTokenRecord(token: token, created: loop.wall, lifetime: .seconds(60))
      door.join = { parameters in
        let csr = try CertificateSigningRequest(pem: parameters["csr"].string ?? "")
        let decision = JoinAuthority().decide(
          credential: parameters["token"].string ?? "", token: record, csr: csr,
          nodeName: parameters["node"].string ?? "", identity: nil, now: loop.wall)
        switch decision {
        case .issue(let grant):
          let certificate = try authority.issue(
            publicKey: grant.publicKey, subject: grant.subject, usage: .client, lifetime: grant.lifetime,
            now: loop.wall, random: SystemRandom())
          return [
            "state": "issued", "certificate": .string(certificate.pem), "ca": .string(authority.certificate.pem),
          ]
        case .waitForApproval(_, let reason): return ["state": "pending", "reason": .string(reason)]
        case .refuse(let reason, _): throw SkerryError(.forbidden, reason)
        }
      }
      let edge = "\(cli.directory)/edge"
      let arguments = ["edge", "join", door.address, "--node", "n7", "--dir", edge, "--token"]
      #expect(try await cli.run(arguments + [token.description]).contains("node \"n7\" joined"))
      let settings = try YAMLReader.documents(Files.text("\(edge)/edgecore.yaml"))[0]
        .value
      #expect(settings["node"] == "n7" && settings["cloud"] == [.string(door.address)])
      let certificate = try Certificate(pem: Files.text(settings["cert"].string ?? ""))
      #expect(certificate.subject == .node("n7"))
      let key = try Files.text("\(edge)/node.key")
      #expect(try KeyPair(pem: key).publicKey == certificate.publicKey)
      // Again: the same key.
      try await cli.run(arguments + [token.description])
      #expect(try Files.text("\(edge)/node.key") == key)
      // A token of another cloud: nothing is sent. A wrong secret: refused. A bad name: told before.
      let foreign = JoinToken(pin: Digest.sha256("other").hex, random: SystemRandom())
      var asked = false
      let honest = door.join
      door.join = {
        asked = true; return try honest($0)
      }
      let message = await cli.failure(
        "edge", "join", door.address, "--node", "n7", "--dir", edge, "--token", foreign.description)
      #expect(message.contains("cannot be reached") && !asked, "\(message)")
      let wrong = JoinToken(pin: authority.pin, random: SystemRandom())
      let refused = await cli.failure(
        "edge", "join", door.address, "--node", "n7", "--dir", edge, "--token", wrong.description)
      #expect(refused.contains("the join token is not valid"), "\(refused)")
      #expect(await cli.failure("edge", "join", "h:1", "--token", "x").contains("this is no join token"))
      #expect(
        await cli.failure("edge", "join", "h:1", "--node", "N", "--token", token.description).contains("--node"))
      // Waiting.
      door.join = { _ in ["state": "pending", "reason": "somebody has to approve"] }
      let pending = await cli.failure(
        "edge", "join", door.address, "--node", "n7", "--dir", edge, "--no-wait", "--token", token.description)
      #expect(pending.contains("somebody has to approve"))
    }
  }
}
