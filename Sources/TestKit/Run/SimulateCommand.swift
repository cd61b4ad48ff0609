import Base
import EventLoop
import Glibc

/// `skerry-simulate`: runs seeds and prints what they led to. Its exit status is 0 without a violation, 1 with one or
/// when a full run did not cover what it has to, and 2 when it could not run.
package enum SimulateCommand {
  struct Options {
    var first: UInt64 = 1
    var seeds: UInt64 = 1
    var jobs = 1
    var traces = false
    var defect: String?
    var lines = false
    var small = false
    var scenario: Scenario?
    var defects = false
  }

  static let usage = """
    usage: skerry-simulate [--first SEED] [--seeds COUNT] [--jobs N] [--trace] [--small]
                           [--defect NAME | --defects | --list-defects | --scenario NAME]
      --first SEED      the first seed (1)
      --seeds COUNT     how many seeds, one after the other (1)
      --jobs N          worker processes (1)
      --trace           print everything that happens, as it happens
      --defect NAME     plant a defect, and end at the first seed that finds it by the promise that it breaks
      --defects         each defect in turn, within so many seeds; a table
      --list-defects    the names of the defects and the promises that they break
      --small           few nodes and little time
      --scenario NAME   hour-cut: a link that is cut for an hour under 1,000 readings a second; prints figures
    """

  package static func main() -> Never {
    guard let options = parse(Array(CommandLine.arguments.dropFirst())) else {
      complain(usage)
      exit(2)
    }
    if getenv("SWIFT_DETERMINISTIC_HASHING") == nil { restart() }
    do throws(SkerryError) {
      if let scenario = options.scenario {
        let planted = options.defect.flatMap(Defect.named)
        exit(try scenario.run(planted: planted, isSmall: options.small, prints: options.traces) ? 0 : 1)
      }
      if options.defects { exit(try DefectTable(options).run()) }
      let isLong = options.seeds > Workers.maxRange && !options.lines && !options.traces && options.defect == nil
      exit(try options.jobs > 1 || isLong ? Workers(options).run() : run(options))
    } catch {
      complain("skerry-simulate: \(error)")
      exit(2)
    }
  }

  static func say(_ text: String, to descriptor: Int32 = 1) {
    var bytes = Bytes(text.utf8)
    bytes.append(0x0a)
    // Who reads has gone: there is nobody left to tell.
    _ = bytes.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
  }

  private static func complain(_ text: String) { say(text, to: 2) }

  private static func parse(_ arguments: [String]) -> Options? {
    var options = Options()
    var index = 0
    func number() -> UInt64? {
      index += 1
      return index < arguments.count ? UInt64(arguments[index]) : nil
    }
    while index < arguments.count {
      switch arguments[index] {
      case "--first":
        guard let value = number() else { return nil }
        options.first = value
      case "--seeds":
        guard let value = number(), value > 0 else { return nil }
        options.seeds = value
      case "--jobs":
        guard let value = number(), (1...64).contains(value) else { return nil }
        options.jobs = Int(value)
      case "--defect":
        index += 1
        guard index < arguments.count, Defect.named(arguments[index]) != nil else { return nil }
        options.defect = arguments[index]
      case "--list-defects":
        for defect in Defect.all { say("\(defect.name)  breaks \(defect.breaks.rawValue): \(defect.story)") }
        exit(0)
      case "--trace": options.traces = true
      case "--lines": options.lines = true
      case "--scenario":
        index += 1
        guard index < arguments.count, let scenario = Scenario(rawValue: arguments[index]) else { return nil }
        options.scenario = scenario
      case "--small": options.small = true
      case "--defects": options.defects = true
      default: return nil
      }
      index += 1
    }
    return options
  }

  /// The same program again, with hashing that is the same in every run: it is read before `main`.
  private static func restart() -> Never {
    setenv("SWIFT_DETERMINISTIC_HASHING", "1", 1)
    var words: [UnsafeMutablePointer<CChar>?] = CommandLine.arguments.map { strdup($0) }
    words.append(nil)
    execv("/proc/self/exe", words)
    complain("skerry-simulate: cannot start itself again: \(String(cString: strerror(errno)))")
    exit(2)
  }

  /// Where the few real files of a run go: on memory where there is such a place.
  static func scratch() -> String {
    let root = Files.isDirectory("/dev/shm") ? "/dev/shm" : "/tmp"
    return "\(root)/skerry-simulate-\(getpid())"
  }

  private static func run(_ options: Options) throws(SkerryError) -> Int32 {
    let directory = scratch()
    defer { try? Files.removeTree(directory) }
    let simulation = try Simulation(directory: directory)
    let defect = options.defect.flatMap(Defect.named)
    var report = Report()
    for seed in options.first..<(options.first + options.seeds) {
      let result = simulation.run(seed: seed, planted: defect, isSmall: options.small, prints: options.traces)
      report.add(result)
      if options.lines {
        say(Report.line(result))
      } else {
        tell(result, options)
      }
      if let defect, result.finds(defect) { break }
    }
    if options.lines { return 0 }
    if defect == nil { say(report.description) }
    return report.violations.isEmpty && report.isCovered ? 0 : 1
  }

  static func tell(_ result: RunResult, _ options: Options) {
    if result.violations.isEmpty, options.seeds > 1, options.defect == nil { return }
    say(
      "seed \(result.seed): \(result.edges) edges, \(result.steps) steps, \(Int(result.virtualSeconds)) virtual s, "
        + "digest \(String(result.digest, radix: 16)), \(result.violations.count) violations")
    for violation in result.violations { say("  \(violation.promise.rawValue): \(violation.text)") }
    guard !result.violations.isEmpty else { return }
    say("  replay: make simulate SEED=\(result.seed) TRACE=1\(options.defect.map { " DEFECT=\($0)" } ?? "")")
  }
}
