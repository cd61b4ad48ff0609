import Base

/// One measured quantity over the runs.
struct Figure: Sendable {
  /// What is better, for ratios.
  enum Better: String, Sendable { case lower, higher, neither }
  var name: String
  var unit: String
  var better: Better
  var values: [Double] = []
  /// What the product promises, if it does.
  var bound: Double?

  var median: Double {
    let sorted = values.sorted()
    guard !sorted.isEmpty else { return 0 }
    let middle = sorted.count / 2
    return sorted.count.isMultiple(of: 2) ? (sorted[middle - 1] + sorted[middle]) / 2 : sorted[middle]
  }
  var min: Double { values.min() ?? 0 }
  var max: Double { values.max() ?? 0 }

  init(_ name: String, _ unit: String, _ better: Better, bound: Double? = nil) {
    self.name = name
    self.unit = unit
    self.better = better
    self.bound = bound
  }

  var value: Value {
    var value: Value = [
      "name": .string(name), "unit": .string(unit), "better": .string(better.rawValue), "median": .double(median),
      "min": .double(min), "max": .double(max), "values": .array(values.map { .double($0) }),
    ]
    if let bound { value["bound"] = .double(bound) }
    return value
  }

  init(_ value: Value) {
    name = value["name"].string ?? ""
    unit = value["unit"].string ?? ""
    better = Better(rawValue: value["better"].string ?? "") ?? .neither
    values = (value["values"].array ?? []).compactMap(\.double)
    bound = value["bound"].double
  }
}

/// What one scenario measured.
struct ScenarioResult: Sendable {
  var name: String
  var parameters: [(String, String)] = []
  var figures: [Figure] = []
  /// By name, the latencies of all runs together.
  var latencies: [(name: String, latency: Latency)] = []
  /// Events that receivers checked, and what was wrong with them. Only our own count against a run.
  var checked: UInt64 = 0
  var violations: UInt64 = 0
  /// Of another product's server: it may drop what it likes.
  var peerViolations: UInt64 = 0
  var notes: [String] = []
  /// Why a run of it did not come to its end, one text a run. Figures that were measured before that stand.
  var failures: [String] = []

  init(_ name: String) { self.name = name }

  /// Adds one run's figure.
  mutating func add(
    _ name: String, _ value: Double, _ unit: String, _ better: Figure.Better = .lower, bound: Double? = nil
  ) {
    if let index = figures.firstIndex(where: { $0.name == name }) {
      figures[index].values.append(value)
    } else {
      var figure = Figure(name, unit, better, bound: bound)
      figure.values = [value]
      figures.append(figure)
    }
  }

  /// Adds a run's latencies, and its percentiles as figures.
  mutating func add(_ name: String, _ latency: Latency) {
    guard latency.count > 0 else { return }
    for (label, percentile) in [("p50", 50.0), ("p90", 90), ("p99", 99), ("p99.9", 99.9)] {
      add("\(name) \(label)", latency.percentile(percentile).seconds * 1e3, "ms")
    }
    if let index = latencies.firstIndex(where: { $0.name == name }) {
      latencies[index].latency.add(latency)
    } else {
      latencies.append((name, latency))
    }
  }

  mutating func note(_ text: String) { if !notes.contains(text) { notes.append(text) } }

  mutating func check(_ tally: Tally) {
    checked += tally.deliveries
    violations += tally.violations
  }

  /// A fleet of nodes: every event, and that each node that stands is in sync, whether or not anything changed for it.
  mutating func check(_ report: FleetReport) {
    check(report.tally)
    checked += UInt64(report.standing)
  }

  func median(_ name: String) -> Double? { figures.first { $0.name == name }?.median }

  var value: Value {
    [
      "name": .string(name),
      "parameters": .object(Value.Fields(parameters.map { ($0.0, .string($0.1)) })),
      "figures": .array(figures.map(\.value)),
      "latencies": .object(Value.Fields(latencies.map { ($0.name, $0.latency.value) })),
      "checked": .int(Int64(clamping: checked)), "violations": .int(Int64(clamping: violations)),
      "peerViolations": .int(Int64(clamping: peerViolations)), "notes": .array(notes.map { .string($0) }),
      "failures": .array(failures.map { .string($0) }),
    ]
  }

  init(_ value: Value) {
    name = value["name"].string ?? ""
    parameters = (value["parameters"].object ?? [:]).map { ($0.key, $0.value.string ?? "") }
    figures = (value["figures"].array ?? []).map { Figure($0) }
    latencies = (value["latencies"].object ?? [:]).map { ($0.key, Latency($0.value)) }
    checked = UInt64(clamping: value["checked"].int ?? 0)
    violations = UInt64(clamping: value["violations"].int ?? 0)
    peerViolations = UInt64(clamping: value["peerViolations"].int ?? 0)
    notes = (value["notes"].array ?? []).compactMap(\.string)
    failures = (value["failures"].array ?? []).compactMap(\.string)
  }
}

/// A whole run of the bench.
struct BenchResult: Sendable {
  static let format: Int64 = 1
  var command: [String] = []
  var commit = ""
  var started = ""
  var machine: Value = [:]
  /// Interrupted, so that scenarios or runs are missing.
  var isPartial = false
  var scenarios: [ScenarioResult] = []

  init() {}

  var violations: UInt64 { scenarios.reduce(0) { $0 + $1.violations } }
  /// Runs of scenarios that did not come to their end.
  var failures: Int { scenarios.reduce(0) { $0 + $1.failures.count } }

  var value: Value {
    [
      "format": .int(Self.format), "command": .array(command.map { .string($0) }), "commit": .string(commit),
      "version": .string(Version.current), "started": .string(started), "machine": machine,
      "partial": .bool(isPartial), "violations": .int(Int64(clamping: violations)),
      "failures": .int(Int64(failures)),
      "scenarios": .array(scenarios.map(\.value)),
    ]
  }

  init(_ value: Value) throws(SkerryError) {
    guard value["format"].int == Self.format, let scenarios = value["scenarios"].array else {
      throw SkerryError(.invalidArgument, "this is no result of skerry-bench in the format \(Self.format)")
    }
    command = (value["command"].array ?? []).compactMap(\.string)
    commit = value["commit"].string ?? ""
    started = value["started"].string ?? ""
    machine = value["machine"]
    isPartial = value["partial"].bool ?? false
    self.scenarios = scenarios.map { ScenarioResult($0) }
  }
}
