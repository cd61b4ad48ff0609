import Base
import EventLoop
import Glibc
import ObjectModel

/// Runs scenarios, several times and interleaved, and tells the result however the run ends.
@LoopActor final class BenchRunner {
  private let command: String
  private let scenarios: [Scenario]
  private let options: [String: Options]
  private let common: Options
  private let context: BenchContext
  private var recorders: [Recorder]
  private var result = BenchResult()
  private var told = false

  /// Checks everything, then runs; answers the exit status.
  static func run(_ command: String, _ scenarios: [Scenario], _ arguments: [String], _ loop: Loop)
    async throws(SkerryError) -> Int32
  {
    // One command line for several scenarios: each option goes to those that have it.
    let table = scenarios.flatMap(\.options) + Option.common
    let all = try Options(arguments, table, command: command)
    var options: [String: Options] = [:]
    for scenario in scenarios {
      let known = Set((scenario.options + Option.common).map(\.name))
      options[scenario.name] = try Options(
        pick(arguments, table, known), scenario.options + Option.common, command: scenario.name)
    }
    let seed = UInt64(all.int("seed"))
    let directory = try makeDirectory(all.string("data"), loop)
    let context = try BenchContext(directory: directory, scheduler: loop, random: SeededRandom(seed: seed))
    do throws(SkerryError) {
      for scenario in scenarios {
        if let own = options[scenario.name] { try scenario.check(own, context.pool, directory: directory) }
      }
      try await BenchServer.checkGiven(context, all)
    } catch {
      try? Files.removeTree(directory)
      throw error
    }
    let runner = BenchRunner(command, scenarios, options, all, context)
    return await runner.run(arguments)
  }

  /// The arguments whose options a scenario knows.
  private static func pick(_ arguments: [String], _ table: [Option], _ known: Set<String>) -> [String] {
    var picked: [String] = []
    var rest = arguments[...]
    while let argument = rest.popFirst() {
      let name = String(argument.drop { $0 == "-" }.prefix { $0 != "=" })
      var words = [argument]
      let isFlag = table.contains { option in
        if option.name == name, case .flag = option.kind { return true }
        return false
      }
      if !argument.contains("="), !isFlag, let value = rest.popFirst() { words.append(value) }
      if known.contains(name) { picked += words }
    }
    return picked
  }

  private static func makeDirectory(_ given: String?, _ loop: Loop) throws(SkerryError) -> String {
    let base = given ?? getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
    let path = "\(base)/sb-\(getpid())"
    try Files.makeDirectory(path, mode: 0o700)
    return path
  }

  private init(
    _ command: String, _ scenarios: [Scenario], _ options: [String: Options], _ common: Options,
    _ context: BenchContext
  ) {
    self.command = command
    self.scenarios = scenarios
    self.options = options
    self.common = common
    self.context = context
    recorders = scenarios.map { Recorder($0.name) }
    for (index, scenario) in scenarios.enumerated() {
      recorders[index].result.parameters = options[scenario.name]?.parameters ?? []
    }
  }

  private func run(_ arguments: [String]) async -> Int32 {
    result.command = ["skerry-bench", command] + Self.withoutSecrets(arguments)
    result.started = Timestamp.format(context.scheduler.wall)
    result.machine = Machine.description
    result.commit = await commit()
    for number in [SIGINT, SIGTERM] { Signals.on(number) { self.interrupt() } }
    var failure: String?
    let runs = common.int("runs")
    outer: for run in 1...runs {
      for (scenario, recorder) in zip(scenarios, recorders) {
        guard let own = options[scenario.name] else { continue }
        context.progress("\(scenario.name)\(runs > 1 ? ", run \(run) of \(runs)" : "")")
        do { try await scenario.run(context, own, recorder) } catch {
          failure = "\(scenario.name): \(error)"
          break outer
        }
      }
    }
    if let failure {
      result.isPartial = true
      tell()
      Daemon.complain("skerry-bench: \(failure)")
      return BenchCommand.failed
    }
    tell()
    return result.violations > 0 ? BenchCommand.violated : 0
  }

  /// A join token is as good as a password.
  private static func withoutSecrets(_ arguments: [String]) -> [String] {
    var out = arguments
    for (index, argument) in arguments.enumerated() {
      if argument == "--enrol", index + 1 < out.count { out[index + 1] = "…" }
      if argument.hasPrefix("--enrol=") { out[index] = "--enrol=…" }
    }
    return out
  }

  private func commit() async -> String {
    guard let own = Files.linkTarget("/proc/self/exe"), let slash = own.lastIndex(of: "/"),
      let found = try? await Subprocess.run(
        ["git", "-C", String(own[..<slash]), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
        deadline: .seconds(5)), found.status.isSuccess
    else { return "unknown" }
    return found.outputText.filter { !$0.isWhitespace }
  }

  private func interrupt() {
    result.isPartial = true
    tell()
    exit(BenchCommand.interrupted)
  }

  /// Ends what was started, prints the table, writes the files. Once.
  private func tell() {
    guard !told else { return }
    told = true
    context.end()
    if !common.flag("keep") { try? Files.removeTree(context.directory) }
    result.scenarios = recorders.map(\.result).filter { !$0.figures.isEmpty || $0.checked > 0 }
    let ratios = Ratios.rows(result.scenarios)
    print(TextTable.print(result), terminator: "")
    if !ratios.isEmpty { print(Ratios.print(ratios)) }
    if result.violations > 0 { print("VIOLATIONS: \(result.violations)") }
    do throws(SkerryError) {
      if let path = common.string("json") { try Files.write(path, JSON.print(result.value, indent: 1) + "\n") }
      if let path = common.string("report") { try Files.write(path, HTMLReport.page(result, ratios)) }
    } catch {
      Daemon.complain("skerry-bench: \(error)")
    }
  }
}
