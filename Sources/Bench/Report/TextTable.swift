import Base

/// The result as a table for a terminal.
enum TextTable {
  static func print(_ result: BenchResult) -> String {
    var out = ""
    for scenario in result.scenarios { out += Self.print(scenario) + "\n" }
    if result.isPartial { out += "The run was interrupted: these are the figures so far.\n" }
    return out
  }

  static func print(_ scenario: ScenarioResult) -> String {
    let runs = scenario.figures.map(\.values.count).max() ?? 0
    var rows = [["", "median", runs > 1 ? "min" : "", runs > 1 ? "max" : "", "", ""]]
    for figure in scenario.figures {
      let verdict = figure.bound.map { bound -> String in
        let holds = figure.better == .higher ? figure.median >= bound : figure.median <= bound
        return
          "\(holds ? "ok" : "MISSED"), \(figure.better == .higher ? "at least" : "at most") \(Numbers.short(bound))"
      }
      rows.append([
        figure.name, Numbers.short(figure.median), runs > 1 ? Numbers.short(figure.min) : "",
        runs > 1 ? Numbers.short(figure.max) : "", figure.unit, verdict ?? "",
      ])
    }
    var out = "\(scenario.name)\n" + (scenario.figures.isEmpty ? "" : columns(rows))
    out += "  \(Numbers.short(Double(scenario.checked))) events checked, violations \(scenario.violations)\n"
    if scenario.peerViolations > 0 {
      out += "  events that other servers dropped or repeated: \(scenario.peerViolations)\n"
    }
    for note in scenario.notes { out += "  \(note)\n" }
    for failure in scenario.failures { out += "  FAILED, \(failure)\n" }
    return out
  }

  /// The first column to the left, numbers to the right, the rest to the left.
  static func columns(_ rows: [[String]], right: ClosedRange<Int>? = 1...3) -> String {
    let count = rows.map(\.count).max() ?? 0
    let widths = (0..<count).map { column in rows.map { column < $0.count ? $0[column].count : 0 }.max() ?? 0 }
    return rows.map { row in
      var line = " "
      for (column, cell) in row.enumerated() {
        let space = String(repeating: " ", count: widths[column] - cell.count)
        line += right?.contains(column) == true ? " \(space)\(cell)" : " \(cell)\(space)"
      }
      while line.last == " " { line.removeLast() }
      return line + "\n"
    }.joined()
  }

  /// The figures of two results side by side, as ratios of B to A.
  static func compare(_ a: BenchResult, _ b: BenchResult) -> String {
    var out = "A: \(a.commit) \(a.started)\nB: \(b.commit) \(b.started)\n\n"
    for scenario in b.scenarios {
      guard let other = a.scenarios.first(where: { $0.name == scenario.name }) else {
        out += "\(scenario.name): not in A\n"
        continue
      }
      var rows = [["", "A", "B", "B/A", "", ""]]
      for figure in scenario.figures {
        guard let before = other.figures.first(where: { $0.name == figure.name }) else { continue }
        let ratio = before.median == 0 ? Double.nan : figure.median / before.median
        rows.append([
          figure.name, Numbers.short(before.median), Numbers.short(figure.median), Numbers.fixed(ratio, 2), figure.unit,
          verdict(figure, before, ratio),
        ])
      }
      out += "\(scenario.name)\n" + columns(rows) + "\n"
    }
    return out
  }

  /// Whether the difference is more than the runs' own spread.
  private static func verdict(_ figure: Figure, _ before: Figure, _ ratio: Double) -> String {
    guard figure.better != .neither, ratio.isFinite else { return "" }
    if figure.min <= before.max, before.min <= figure.max { return "within the spread" }
    return (ratio < 1) == (figure.better == .lower) ? "better" : "worse"
  }
}
