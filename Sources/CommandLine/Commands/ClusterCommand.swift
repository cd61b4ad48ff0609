import API
import ArgumentParser
import Base
import EventLoop
import Foundation
import Glibc

/// Options that every command takes, before or after its name.
package struct GlobalOptions: ParsableArguments, Sendable {
  @Option(name: .long, help: ArgumentHelp("The configuration file; else $SKERRY_CONFIG.", valueName: "file"))
  package var config: String?
  @Option(name: .long, help: ArgumentHelp("The context to use instead of the current one.", valueName: "name"))
  package var context: String?
  @Option(
    name: .long,
    help: ArgumentHelp(
      "A node's own API instead of the cloud's; without a value $SKERRY_EDGE, or /var/lib/skerry/edge.sock.",
      valueName: "socket|host:port"))
  package var edge: String?
  @Option(name: .long, help: ArgumentHelp("With --edge: the token, if the door asks for one.", valueName: "file"))
  package var edgeToken: String?
  @Option(name: .long, help: ArgumentHelp("With --edge HOST:PORT: the node's ca.crt.", valueName: "file"))
  package var edgeCa: String?
  @Option(name: [.customShort("n"), .long], help: ArgumentHelp("The namespace to work in.", valueName: "name"))
  package var namespace: String?
  package init() {}

  /// Moves global options that stand before the command's name behind it, where the parser knows them:
  /// `skerry --config F get pods` is `skerry get pods --config F`.
  static func reordered(_ arguments: [String]) -> [String] {
    let names: Set<String> = [
      "--config", "--context", "--namespace", "-n", "--edge", "--edge-token", "--edge-ca",
    ]
    var moved: [String] = []
    let arguments = EdgeTarget.completed(arguments)
    var rest = arguments[...]
    while let first = rest.first {
      if names.contains(first), rest.count > 1 {
        moved += rest.prefix(2)
        rest = rest.dropFirst(2)
      } else if names.contains(where: { first.hasPrefix("\($0)=") }) {
        moved.append(first)
        rest = rest.dropFirst()
      } else {
        break
      }
    }
    guard !moved.isEmpty else { return arguments }
    let end = rest.firstIndex(of: "--") ?? rest.endIndex
    return Array(rest[..<end]) + moved + Array(rest[end...])
  }
}

/// A command whose work is done on the loop, with what `Environment` gives.
protocol ClusterCommand: AsyncParsableCommand, Sendable {
  var globals: GlobalOptions { get }
  @LoopActor func execute(_ environment: Environment) async throws
}

extension ClusterCommand {
  mutating func run() async throws {
    let command = self
    try await CommandRunner.run { try await command.execute(.ofProcess(command.globals)) }
  }
}

/// How a command of the process ends: errors are printed once, and become exit codes.
enum CommandRunner {
  static func run(_ body: @escaping @LoopActor () async throws -> Void) async throws {
    do {
      try await onLoop(body)
    } catch let code as ExitCode {
      throw code
    } catch {
      let line = message(of: error) + "\n"
      FileHandle.standardError.write(Data(line.utf8))
      throw ExitCode(1)
    }
  }

  static func message(of error: any Error) -> String {
    switch error {
    case let error as APIError: "Error from server (\(error.reason.rawValue)): \(error.message)"
    case let error as SkerryError: "error: \(error)"
    case let error as ValidationError: "error: \(error.message)"
    default: "error: \(error)"
    }
  }
}

extension Environment {
  /// The environment of the process: its terminal, its loop's clock, the kernel's randomness.
  static func ofProcess(_ globals: GlobalOptions) -> Environment {
    let loop = Loop.startShared()
    let random = SystemRandom()
    return Environment(
      console: ProcessConsole(), scheduler: loop, random: random, globals: globals,
      variables: ProcessInfo.processInfo.environment,
      connector: { try await Connection.open($0, scheduler: loop, random: random) })
  }
}

/// Every command of the program.
package struct SkerryCommand: AsyncParsableCommand {
  package static let version = "0.1.0"
  package static let configuration = CommandConfiguration(
    commandName: "skerry", abstract: "Containers and devices across cloud and edge.", version: version,
    groupedSubcommands: [
      CommandGroup(
        name: "Objects",
        subcommands: [
          Get.self, Describe.self, Apply.self, Create.self, Delete.self, Patch.self, Label.self, Annotate.self,
          Watch.self,
        ]),
      CommandGroup(name: "Workloads", subcommands: [Logs.self, Exec.self, Scale.self, Rollout.self]),
      CommandGroup(name: "Devices", subcommands: [Readings.self, DeviceCommand.self]),
      CommandGroup(name: "Nodes", subcommands: [Cordon.self, Uncordon.self, Drain.self, NodeCommand.self]),
      CommandGroup(
        name: "Clusters",
        subcommands: [
          Up.self, Down.self, CloudCommand.self, EdgeCommand.self, TokenCommand.self, ClientCommand.self,
          ConfigCommand.self,
        ]),
      CommandGroup(name: "This program", subcommands: [Completion.self, Version.self]),
    ])
  package init() {}

  /// The program: parses, runs and ends the process.
  package static func start() async {
    // A reader that goes away is an error of the write, not a signal that kills without a word.
    signal(SIGPIPE, SIG_IGN)
    await main(GlobalOptions.reordered(Array(CommandLine.arguments.dropFirst())))
  }
}

struct Version: AsyncParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Print the version.")
  mutating func run() async throws { print("skerry \(SkerryCommand.version)") }
}

struct Completion: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Print a completion script.",
    discussion: """
      bash:  source <(skerry completion bash)
      zsh:   skerry completion zsh > "${fpath[1]}/_skerry"
      fish:  skerry completion fish > ~/.config/fish/completions/skerry.fish
      """)
  @Argument(help: "bash, zsh or fish.") var shell: String
  mutating func run() async throws {
    guard let shell = CompletionShell(rawValue: shell) else {
      throw ValidationError("there is a script for bash, zsh and fish, not for \"\(shell)\"")
    }
    print(SkerryCommand.completionScript(for: shell))
  }
}
