import Base
import ObjectModel

/// The sum over seeds, as it is printed and as one worker process tells it another.
package struct Report: Sendable {
  package private(set) var runs = 0
  package private(set) var steps: UInt64 = 0
  package private(set) var virtualSeconds = 0.0
  package private(set) var faults: [String: UInt64] = [:]
  package private(set) var checks: [String: UInt64] = [:]
  package private(set) var transitions: [String: UInt64] = [:]
  package private(set) var counts: [String: UInt64] = [:]
  private var edges: [Int] = []
  private var seconds: [Double] = []
  private var faultsOfRun: [Int] = []
  package private(set) var violations: [(seed: UInt64, promise: String, text: String)] = []

  package init() {}

  package mutating func add(_ result: RunResult) {
    runs += 1
    steps += result.steps
    virtualSeconds += result.virtualSeconds
    edges.append(result.edges)
    seconds.append(result.virtualSeconds)
    faultsOfRun.append(Int(result.faults.values.reduce(0, +)))
    faults.merge(result.faults, uniquingKeysWith: +)
    checks.merge(result.checks, uniquingKeysWith: +)
    transitions.merge(result.transitions, uniquingKeysWith: +)
    counts.merge(result.counts, uniquingKeysWith: +)
    for violation in result.violations { violations.append((result.seed, violation.promise.rawValue, violation.text)) }
  }

  /// One line of JSON, from a worker to whoever started it.
  package static func line(_ result: RunResult) -> String {
    func map(_ values: [String: UInt64]) -> Value {
      var fields = Value.Fields()
      for (name, count) in values { fields[name] = .int(Int64(clamping: count)) }
      return .object(fields)
    }
    return JSON.print([
      "seed": .string(String(result.seed)), "edges": .int(Int64(result.edges)), "steps": .int(Int64(result.steps)),
      "virtual": .double(result.virtualSeconds), "faults": map(result.faults), "checks": map(result.checks),
      "transitions": map(result.transitions), "counts": map(result.counts),
      "digest": .string(String(result.digest, radix: 16)),
      "violations": .array(
        result.violations.map { ["promise": .string($0.promise.rawValue), "text": .string($0.text)] }),
    ])
  }

  package static func result(fromLine line: String) -> RunResult? {
    guard let value = try? JSON.parse(Bytes(line.utf8)), let seed = value["seed"].string.flatMap({ UInt64($0) }) else {
      return nil
    }
    func map(_ key: String) -> [String: UInt64] {
      var found: [String: UInt64] = [:]
      for (name, count) in value[key].object ?? [:] { found[name] = UInt64(clamping: count.int ?? 0) }
      return found
    }
    var result = RunResult(seed: seed, edges: Int(value["edges"].int ?? 0))
    result.steps = UInt64(clamping: value["steps"].int ?? 0)
    result.virtualSeconds = value["virtual"].double ?? 0
    (result.faults, result.checks) = (map("faults"), map("checks"))
    (result.transitions, result.counts) = (map("transitions"), map("counts"))
    result.digest = UInt64(value["digest"].string ?? "", radix: 16) ?? 0
    for item in value["violations"].array ?? [] {
      guard let promise = Promise(rawValue: item["promise"].string ?? "") else { continue }
      result.violations.append(Violation(promise: promise, text: item["text"].string ?? "", at: 0))
    }
    return result
  }

  // MARK: Coverage

  /// From so many seeds on a run is held to what the seeds have to cover.
  package static let fullRun = 2000
  /// How often each kind of fault comes in a full run, at least.
  static let leastOfKind: UInt64 = 200
  /// Power cuts in the middle of a write in a full run, over the three programs.
  static let leastWriteCuts: UInt64 = 1000

  private static let programs = ["cloudcore", "edgecore", "devicecore"]

  /// What the seeds have to cover, and whether they did; in a smaller run kinds of faults count in proportion.
  package var coverage: [(line: String, holds: Bool)] {
    let large = edges.filter { $0 >= 100 }.count
    let (middle, hours) = (Self.median(edges), Self.median(seconds) / 3600)
    let least = Self.leastOfKind * UInt64(runs) / UInt64(Self.fullRun)
    let kinds = FaultKind.allCases.map { (kind: $0.rawValue, count: faults[$0.rawValue] ?? 0) }
    let rarest = kinds.min { $0.count < $1.count } ?? ("", 0)
    let rare = kinds.filter { $0.count < least }.map(\.kind)
    let never = Transition.allCases.map(\.rawValue).filter { transitions[$0] ?? 0 == 0 }
    let inWrites = Self.programs.reduce(0) { $0 + (counts["power cut in a write of \($1)"] ?? 0) }
    let leastInWrites = Self.leastWriteCuts * UInt64(runs) / UInt64(Self.fullRun)
    return [
      ("edges of a seed: median \(middle), most \(edges.max() ?? 0); at least 10 wanted", middle >= 10),
      ("seeds with 100 edges or more: \(large) of \(runs); a tenth wanted", large * 10 >= runs),
      ("virtual hours of a seed: median \(Self.hundredths(hours)); at least 1 wanted", hours >= 1),
      (
        "faults of a seed: least \(faultsOfRun.min() ?? 0), median \(Self.median(faultsOfRun)); at least 10 wanted",
        faultsOfRun.min() ?? 0 >= 10
      ),
      (
        "each kind of fault: at least \(rarest.count) times (\(rarest.kind)); \(least) wanted"
          + (rare.isEmpty ? "" : ", which these lack: \(rare.joined(separator: ", "))"), rare.isEmpty
      ),
      ("power cuts at a write point: \(inWrites); \(leastInWrites) wanted", inWrites >= leastInWrites),
      (
        "transitions taken: \(Transition.allCases.count - never.count) of \(Transition.allCases.count)"
          + (never.isEmpty ? "" : "; never: \(never.joined(separator: "; "))"), never.isEmpty
      ),
    ]
  }

  /// A full run that did not cover what it has to is no proof.
  package var isCovered: Bool { runs < Self.fullRun || coverage.allSatisfy(\.holds) }

  private static func hundredths(_ value: Double) -> String {
    let count = Int(value * 100)
    return "\(count / 100).\(String(100 + count % 100).dropFirst())"
  }

  // MARK: In words

  package var description: String {
    var lines = ["\(runs) seeds, \(steps) steps, \(Int(virtualSeconds / 3600)) virtual hours"]
    lines.append("faults by kind:")
    lines += Self.table(faults, FaultKind.allCases.map(\.rawValue))
    lines.append("checks by promise:")
    lines += Self.table(checks, Promise.allCases.map(\.rawValue))
    lines.append("transitions taken:")
    lines += Self.table(transitions, Transition.allCases.map(\.rawValue))
    let cut = Self.programs.map { "\($0) \(counts["power cut in a write of \($0)"] ?? 0)" }
    lines.append("power cuts at a write point: \(cut.joined(separator: ", "))")
    lines.append("besides:")
    lines += Self.table(counts, counts.keys.sorted())
    lines.append("coverage:")
    lines += coverage.map { "  \($0.holds ? "held  " : "MISSED") \($0.line)" }
    if !isCovered { lines.append("the run does not cover what \(Self.fullRun) seeds have to") }
    lines.append("violations: \(violations.count)")
    for violation in violations.prefix(50) {
      lines.append("  seed \(violation.seed): \(violation.promise): \(violation.text)")
    }
    return lines.joined(separator: "\n")
  }

  private static func table(_ values: [String: UInt64], _ names: [String]) -> [String] {
    let width = (names.map(\.count).max() ?? 0) + 2
    return names.map { "  " + $0 + String(repeating: " ", count: width - $0.count) + String(values[$0] ?? 0) }
  }

  private static func median<T: Comparable & ExpressibleByIntegerLiteral>(_ values: [T]) -> T {
    values.isEmpty ? 0 : values.sorted()[values.count / 2]
  }
}
