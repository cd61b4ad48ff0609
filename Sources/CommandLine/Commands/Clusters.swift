import API
import ArgumentParser
import Base
import EventLoop
import Glibc
import Identity
import ObjectModel

/// `90s`, `30m`, `24h`, `7d`.
struct TimeSpan: ExpressibleByArgument, Sendable {
  let seconds: Int64
  init?(argument: String) {
    let units: [Character: Int64] = ["s": 1, "m": 60, "h": 3_600, "d": 86_400]
    guard let unit = argument.last.flatMap({ units[$0] }), let count = Int64(argument.dropLast()), count > 0,
      count < 1_000_000
    else { return nil }
    seconds = count * unit
  }
  init(hours: Int64) { seconds = hours * 3_600 }
  var defaultValueDescription: String { seconds % 86_400 == 0 ? "\(seconds / 86_400)d" : "\(seconds / 3_600)h" }
}

struct TokenCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "token", abstract: "Tokens with which nodes join.",
    subcommands: [CreateToken.self, ListTokens.self, DeleteToken.self])

  struct CreateToken: ClusterCommand {
    static let configuration = CommandConfiguration(
      commandName: "create", abstract: "Make a token; prints it, and on stderr how to use it.")
    @OptionGroup var globals: GlobalOptions
    @Option(name: .long, help: "How long it is good: 90s, 30m, 24h, 7d.") var ttl = TimeSpan(hours: 24)
    @Option(name: .long, help: "How many nodes may use it.") var uses: Int64 = 1
    @Option(name: .long, help: "Only for the node of this name.") var node: String?

    func execute(_ environment: Environment) async throws {
      var options: Value = ["lifetimeSeconds": .int(ttl.seconds), "uses": .int(uses)]
      if let node { options["node"] = .string(node) }
      let result = try await environment.connect("tokens", "", "create", options)
      guard let token = result["token"].string else {
        throw SkerryError(.protocolViolation, "the server's answer holds no token")
      }
      environment.console.print(token)
      let server = (try? environment.server()) ?? "HOST:PORT"
      let name = node.map { " --node \($0)" } ?? ""
      environment.console.note("On the node, run: skerry edge join \(server)\(name) --token \(token)")
    }
  }

  struct ListTokens: ClusterCommand {
    static let configuration = CommandConfiguration(commandName: "list", abstract: "Print the tokens, without secrets.")
    @OptionGroup var globals: GlobalOptions
    func execute(_ environment: Environment) async throws {
      let items = try await environment.connect("tokens", "", "list")["items"].array ?? []
      guard !items.isEmpty else { return environment.console.note("No join tokens") }
      var table = Table(["ID", "Expires", "Uses left", "Node"])
      table.rows = items.map { item in
        [
          item["id"].string ?? "", TokenCommand.time(item["expires"]), String(item["usesLeft"].int ?? 0),
          item["node"].string ?? "<any>",
        ]
      }
      environment.console.printText(table.text())
    }
  }

  struct DeleteToken: ClusterCommand {
    static let configuration = CommandConfiguration(commandName: "delete", abstract: "Make tokens worthless.")
    @OptionGroup var globals: GlobalOptions
    @Argument(help: "The ids.") var ids: [String]
    func execute(_ environment: Environment) async throws {
      for id in ids {
        _ = try await environment.connect("tokens", id, "delete")
        environment.console.print("token \(id) deleted")
      }
    }
  }

  /// RFC 3339 text, or seconds since 1970.
  static func time(_ value: Value) -> String {
    value.string ?? value.int.map { Timestamp.format(WallTime(seconds: $0)) } ?? "<unknown>"
  }
}

struct ClientCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "client", abstract: "People and programs that may use a cluster.",
    subcommands: [CreateClient.self, RevokeClient.self])

  struct RevokeClient: ClusterCommand {
    static let configuration = CommandConfiguration(
      commandName: "revoke",
      abstract: "Make every certificate that a client of this name has worthless, and end its sessions at once.")
    @OptionGroup var globals: GlobalOptions
    @Argument(help: "The client.") var name: String
    func execute(_ environment: Environment) async throws {
      _ = try await environment.connect("clients", name, "revoke")
      environment.console.print("client \"\(name)\" revoked")
    }
  }

  struct CreateClient: ClusterCommand {
    static let configuration = CommandConfiguration(
      commandName: "create", abstract: "Make a key and have its certificate signed for a role.",
      discussion: """
        Writes NAME.key, NAME.crt, ca.crt and NAME.yaml, a configuration for `skerry --config`. The key is made here; an
        administrator's context signs through the server, or --pki DIR does on the machine that holds the CA.
        """)
    @OptionGroup var globals: GlobalOptions
    @Option(name: .long, help: "admin, edit or view.") var role: String
    @Option(name: .long, help: "How long it is good: 24h, 90d.") var ttl = TimeSpan(hours: 24 * 365)
    @Option(name: .long, help: "Where the files go.") var dir = "."
    @Option(name: .long, help: "Sign with the CA in this directory, without the server.") var pki: String?
    @Option(name: .long, help: "With --pki: the server's HOST:PORT for the configuration.") var server: String?
    @Argument(help: "Who it is for.") var name: String

    func execute(_ environment: Environment) async throws {
      guard ["admin", "edit", "view"].contains(role) else {
        throw SkerryError(.invalidArgument, "--role is admin, edit or view, not \"\(role)\"")
      }
      guard !name.isEmpty, !name.contains("/"), !name.hasPrefix("system:") else {
        throw SkerryError(.invalidArgument, "\"\(name)\" cannot be a client's name")
      }
      let address: String
      let (certificate, key, ca): (String, String, String)
      if let pki {
        let cluster = try ClusterPKI.load(directory: pki)
        (certificate, key) = try cluster.issueClient(
          name: name, role: role, lifetime: .seconds(ttl.seconds), now: environment.now, random: environment.random)
        ca = cluster.authority.certificate.pem
        address = try server ?? environment.server()
      } else {
        (certificate, key, ca) = try await signed(environment)
        address = try environment.server()
      }
      try write(address, certificate, key, ca)
      environment.console.print("client \"\(name)\" (\(role)) created: skerry --config \(dir)/\(name).yaml get pods")
    }

    @LoopActor private func signed(_ environment: Environment) async throws -> (String, String, String) {
      let key = try KeyPair.generate()
      let csr = try CertificateSigningRequest.make(key: key, commonName: name)
      let result = try await environment.connect(
        "clients", name, "create",
        ["csr": .string(csr.pem), "role": .string(role), "lifetimeSeconds": .int(ttl.seconds)])
      guard let certificate = result["certificate"].string, let ca = result["ca"].string,
        try Certificate(pem: certificate).publicKey == key.publicKey
      else { throw SkerryError(.protocolViolation, "the server's answer is no certificate for this key") }
      return (certificate, key.pem, ca)
    }

    private func write(_ server: String, _ certificate: String, _ key: String, _ ca: String) throws(SkerryError) {
      try Files.makeDirectory(dir)
      try PrivateFile.write(Bytes(key.utf8), path: "\(dir)/\(name).key")
      try PrivateFile.write(Bytes(certificate.utf8), path: "\(dir)/\(name).crt", mode: 0o644)
      try PrivateFile.write(Bytes(ca.utf8), path: "\(dir)/ca.crt", mode: 0o644)
      var configuration = ClientConfiguration()
      configuration.set(.init(name: name, server: server, ca: "ca.crt", cert: "\(name).crt", key: "\(name).key"))
      try configuration.save("\(dir)/\(name).yaml")
    }
  }
}

extension Environment {
  /// The address of the chosen context.
  func server() throws(SkerryError) -> String {
    try configuration().context(globals.context, path: configurationPath).server
  }
}

struct ConfigCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "config", abstract: "The contexts of this program's configuration file.",
    subcommands: [GetContexts.self, UseContext.self, CurrentContext.self, View.self])

  struct GetContexts: ClusterCommand {
    static let configuration = CommandConfiguration(abstract: "Print the contexts.")
    @OptionGroup var globals: GlobalOptions
    func execute(_ environment: Environment) async throws {
      let configuration = try environment.configuration()
      var table = Table(["Current", "Name", "Server", "Namespace"])
      table.rows = configuration.contexts.map {
        [$0.name == configuration.current ? "*" : "", $0.name, $0.server, $0.namespace ?? "default"]
      }
      environment.console.printText(table.text())
    }
  }

  struct UseContext: ClusterCommand {
    static let configuration = CommandConfiguration(abstract: "Make a context the current one.")
    @OptionGroup var globals: GlobalOptions
    @Argument(help: "The context.") var name: String
    func execute(_ environment: Environment) async throws {
      var configuration = try environment.configuration()
      let path = environment.configurationPath
      configuration.current = try configuration.context(name, path: path).name
      try configuration.save(path)
      environment.console.print("Switched to context \"\(name)\".")
    }
  }

  struct CurrentContext: ClusterCommand {
    static let configuration = CommandConfiguration(abstract: "Print the current context's name.")
    @OptionGroup var globals: GlobalOptions
    func execute(_ environment: Environment) async throws {
      let configuration = try environment.configuration()
      environment.console.print(try configuration.context(nil, path: environment.configurationPath).name)
    }
  }

  struct View: ClusterCommand {
    static let configuration = CommandConfiguration(abstract: "Print the configuration.")
    @OptionGroup var globals: GlobalOptions
    func execute(_ environment: Environment) async throws {
      environment.console.note("# \(environment.configurationPath)")
      environment.console.printText(YAMLPrinter.print(try environment.configuration().value))
    }
  }
}
