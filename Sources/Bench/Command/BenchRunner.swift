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
  private var interrupted = false

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
    try checkFiles(all)
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

  /// Nobody wants to learn after a long run that its result cannot be written.
  private static func checkFiles(_ options: Options) throws(SkerryError) {
    for name in ["json", "report"] {
      guard let path = options.string(name) else { continue }
      let slash = path.lastIndex(of: "/")
      let directory = slash.map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
      guard Files.isWritable(directory), !Files.isDirectory(path) else {
        throw SkerryError(.invalidArgument, "--\(name) \(path) cannot be written: is \(directory) there, and yours?")
      }
    }
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
    do throws(SkerryError) { try Files.makeDirectory(path, mode: 0o700) } catch {
      throw SkerryError(
        .invalidArgument, "nothing can be kept in \(base); choose another place with --data", cause: error)
    }
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
    let runs = common.int("runs")
    for run in 1...runs {
      for (scenario, recorder) in zip(scenarios, recorders) {
        guard let own = options[scenario.name] else { continue }
        context.progress("\(scenario.name)\(runs > 1 ? ", run \(run) of \(runs)" : "")")
        do { try await scenario.run(context, own, recorder) } catch {
          if !interrupted { await failed("run \(run): \(error)", recorder) }
        }
        if interrupted { await theEnd() }
      }
    }
    tell()
    await end()
    return result.violations > 0 ? BenchCommand.violated : result.failures > 0 ? BenchCommand.failed : 0
  }

  /// The others go on, and so does the next run of the same scenario: what one could not measure takes nothing from
  /// them.
  private func failed(_ failure: String, _ recorder: Recorder) async {
    recorder.result.failures.append(failure)
    context.progress("\(recorder.result.name) FAILED, \(failure)")
    await context.clear()
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

  /// Tells what there is at once, then cleans up; a second signal does not wait for that.
  private func interrupt() {
    if interrupted { exit(BenchCommand.interrupted) }
    interrupted = true
    result.isPartial = !told
    tell()
    spawn {
      await self.end()
      exit(BenchCommand.interrupted)
    }
  }

  /// For the scenario that was interrupted, whose process ends soon.
  private func theEnd() async {
    while true { try? await context.scheduler.sleep(for: .seconds(60)) }
  }

  /// Ends what was started.
  private func end() async {
    await context.end()
    if !common.flag("keep") { try? Files.removeTree(context.directory) }
  }

  /// Prints the table, writes the files. Once.
  private func tell() {
    guard !told else { return }
    told = true
    result.scenarios = recorders.map(\.result).filter {
      !$0.figures.isEmpty || $0.checked > 0 || !$0.failures.isEmpty
    }
    let ratios = Ratios.rows(result.scenarios)
    print(TextTable.print(result), terminator: "")
    if !ratios.isEmpty { print(Ratios.print(ratios)) }
    if result.violations > 0 { print("VIOLATIONS: \(result.violations)") }
    if result.failures > 0 { print("RUNS THAT FAILED: \(result.failures)") }
    fflush(nil)
    do throws(SkerryError) {
      if let path = common.string("json") { try Files.write(path, JSON.print(result.value, indent: 1) + "\n") }
      if let path = common.string("report") { try Files.write(path, HTMLReport.page(result, ratios)) }
    } catch {
      Daemon.complain("skerry-bench: \(error)")
    }
  }
}
