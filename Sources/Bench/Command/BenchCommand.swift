import Base
import EventLoop
import Glibc
import ObjectModel

/// `skerry-bench`: what is asked for, checked before anything starts, run, and told.
package enum BenchCommand {
  /// Exit statuses beside 0: a wrong call, a run that failed, a violation, an interruption.
  static let wrongCall: Int32 = 64
  static let failed: Int32 = 1
  static let violated: Int32 = 2
  static let interrupted: Int32 = 130

  package static func main(_ arguments: [String]) -> Never {
    var arguments = Array(arguments.dropFirst())
    if arguments.first == "floor-server" { floorServer(arguments) }
    let loop = Loop.installAsMain()
    spawn {
      do throws(SkerryError) {
        if arguments.first == "worker" {
          try await worker(arguments, loop)
        } else {
          let status = try await dispatch(&arguments, loop)
          exit(status)
        }
      } catch {
        Daemon.complain("skerry-bench: \(error)")
        exit(error.code == .invalidArgument || error.code == .limitExceeded ? wrongCall : failed)
      }
    }
    loop.run()
    exit(0)
  }

  private static func floorServer(_ arguments: [String]) -> Never {
    do throws(SkerryError) {
      let options = try Options(
        Array(arguments.dropFirst()), [Option("pki", .text, "", "")], command: "floor-server")
      try FloorProgram.run(pki: options.string("pki") ?? "")
      exit(0)
    } catch {
      Daemon.complain("skerry-bench floor-server: \(error)")
      exit(failed)
    }
  }

  @LoopActor private static func worker(_ arguments: [String], _ loop: Loop) async throws(SkerryError) {
    let options = try Options(
      Array(arguments.dropFirst()),
      [Option("socket", .text, "", ""), Option("number", .int(0...WorkerPool.maxWorkers), "0", "")], command: "worker")
    try await Worker.run(socket: options.string("socket") ?? "", number: options.int("number"), loop: loop)
  }

  @LoopActor private static func dispatch(_ arguments: inout [String], _ loop: Loop) async throws(SkerryError) -> Int32
  {
    guard let command = arguments.first, !["help", "--help", "-h"].contains(command) else {
      print(Help.overview)
      return arguments.isEmpty ? wrongCall : 0
    }
    arguments.removeFirst()
    if command == "--version" {
      print("skerry-bench \(Version.current)")
      return 0
    }
    if command == "--compare" || command == "compare" { return try compare(arguments) }
    let asksHelp = arguments.contains("--help") || arguments.contains("-h")
    if command == "micro" {
      return asksHelp ? Help.show(MicroCommand.help) : try await MicroCommand.run(arguments, loop)
    }
    let chosen = try scenarios(command)
    if asksHelp { return Help.show(Help.text(command, chosen)) }
    return try await BenchRunner.run(command, chosen, arguments, loop)
  }

  /// The scenarios behind a word.
  static func scenarios(_ command: String) throws(SkerryError) -> [Scenario] {
    let words = command.split(separator: ",").map(String.init)
    guard words.count <= 1 else {
      var chosen: [Scenario] = []
      for word in words {
        for scenario in try scenarios(word) where !chosen.contains(where: { $0.name == scenario.name }) {
          chosen.append(scenario)
        }
      }
      return chosen
    }
    if command == "all" { return Scenario.all.filter { $0.name != "soak" } }
    if command == "peers" { return [.floor, .sessions, .fanout, .watch, .write, .upstream] + Scenario.peers }
    guard let scenario = (Scenario.all + Scenario.peers).first(where: { $0.name == command }) else {
      throw SkerryError(
        .invalidArgument,
        "\"\(command)\" is no command; there are \(Scenario.all.map(\.name).joined(separator: ", ")), all, peers, micro, "
          + "compare; see skerry-bench --help")
    }
    return [scenario]
  }

  @LoopActor private static func compare(_ arguments: [String]) throws(SkerryError) -> Int32 {
    guard arguments.count == 2 else {
      throw SkerryError(.invalidArgument, "--compare takes two results: skerry-bench --compare A.json B.json")
    }
    print(TextTable.compare(try read(arguments[0]), try read(arguments[1])), terminator: "")
    return 0
  }

  private static func read(_ path: String) throws(SkerryError) -> BenchResult {
    let bytes = try Files.read(path)
    let value: Value
    do throws(JSONError) { value = try JSON.parse(bytes) } catch {
      throw SkerryError(.invalidArgument, "\(path) is not JSON: \(error)")
    }
    do throws(SkerryError) { return try BenchResult(value) } catch {
      throw SkerryError(.invalidArgument, path, cause: error)
    }
  }
}

/// The texts of `--help`.
enum Help {
  static func show(_ text: String) -> Int32 {
    print(text)
    return 0
  }

  static var overview: String {
    var out = """
      skerry-bench loads a cloudcore with thousands of hollow edge nodes and watchers and tells what it costs.

      usage: skerry-bench COMMAND [OPTIONS]


      """
    let rows =
      Scenario.all.map { [$0.name, $0.summary] } + [
        ["all", "all of these but soak"],
        ["peers", "floor, Skerry, and etcd, NATS and Mosquitto beside it, as ratios"],
        ["micro", "instructions and allocations of the hot paths"],
        ["compare A B", "two results side by side (also: --compare A.json B.json)"],
      ]
    out += TextTable.columns(rows, right: nil)
    out += """

      Every receiver checks every event: its number without gap or repeat, its CRC-32C, the order of revisions. A run
      with a violation ends with status \(BenchCommand.violated). A scenario that fails is told in its place and the others go on; the
      status is then \(BenchCommand.failed). Ctrl-C prints what there is so far. Several scenarios are joined by commas (write,watch), and each
      option goes to those that have it. skerry-bench COMMAND --help tells the options of each.
      """
    return out
  }

  static func text(_ command: String, _ scenarios: [Scenario]) -> String {
    var out = "usage: skerry-bench \(command) [OPTIONS]\n\n"
    if scenarios.count == 1 { out += "\(scenarios[0].summary)\n\n\(scenarios[0].discussion)\n\n" }
    for scenario in scenarios {
      if scenarios.count > 1 { out += "\(scenario.name): \(scenario.summary)\n" }
      out += options(scenario.options) + "\n"
    }
    return out + "common options\n" + options(Option.common)
  }

  private static func options(_ options: [Option]) -> String {
    options.map { option in
      let standard = option.standard.isEmpty || option.standard == "false" ? "" : " (default \(option.standard))"
      let head = "  --\(option.name) \(option.placeholder)"
      let space = String(repeating: " ", count: max(1, 28 - head.count))
      return "\(head)\(space)\(option.help)\(standard)\n"
    }.joined()
  }
}
