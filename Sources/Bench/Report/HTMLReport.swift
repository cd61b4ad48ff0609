import Base

/// The result as one HTML page that needs nothing else: tables, a bar with its spread for each figure, and a curve for
/// each set of latencies, as SVG.
enum HTMLReport {
  static func page(_ result: BenchResult, _ ratios: [Ratios.Row]) -> String {
    var body = "<h1>skerry-bench</h1>\n<table>\n"
    body += row("command", result.command.joined(separator: " "))
    body += row("commit", result.commit) + row("started", result.started)
    for (key, value) in result.machine.object ?? [:] {
      body += row(key, value.string ?? value.int.map { String($0) } ?? "")
    }
    body += row("violations", String(result.violations))
    body += row("runs that failed", String(result.failures)) + "</table>\n"
    if result.isPartial { body += "<p><b>The run was interrupted: these are the figures so far.</b></p>\n" }
    if !ratios.isEmpty { body += ratioTable(ratios) }
    for scenario in result.scenarios { body += section(scenario) }
    return """
      <!DOCTYPE html>
      <html lang="en"><head><meta charset="utf-8"><title>skerry-bench</title>
      <style>
      body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:62rem;color:#222;padding:0 1rem}
      table{border-collapse:collapse;margin:.6rem 0}td,th{padding:.15rem .7rem;border-bottom:1px solid #ddd;text-align:left}
      td.n{text-align:right;font-variant-numeric:tabular-nums}.ok{color:#17692c}.missed{color:#a3190f;font-weight:600}
      svg{display:block;margin:.4rem 0;max-width:100%}svg text{font:12px system-ui,sans-serif;fill:#333}
      </style></head><body>
      \(body)</body></html>

      """
  }

  static func escape(_ text: String) -> String {
    var out = ""
    for character in text {
      switch character {
      case "<": out += "&lt;"
      case ">": out += "&gt;"
      case "&": out += "&amp;"
      case "\"": out += "&quot;"
      default: out.append(character)
      }
    }
    return out
  }

  private static func row(_ name: String, _ value: String) -> String {
    "<tr><th>\(escape(name))</th><td>\(escape(value))</td></tr>\n"
  }

  private static func ratioTable(_ rows: [Ratios.Row]) -> String {
    var out = "<h2>Beside the floor and the peers</h2>\n<table><tr><th></th><th>Skerry</th><th>other</th><th></th>"
    out += "<th>ratio</th><th>whose</th><th>promised</th></tr>\n"
    for row in rows {
      out += "<tr><td>\(escape(row.what))</td><td class=n>\(Numbers.short(row.own))</td>"
      out += "<td class=n>\(Numbers.short(row.other))</td><td>\(escape(row.unit))</td>"
      out += "<td class=n>\(Numbers.fixed(row.ratio, 2))</td><td>\(escape(row.peer))</td>"
      out += "<td>\(escape(row.promise))</td></tr>\n"
    }
    return out + "</table>\n"
  }

  private static func section(_ scenario: ScenarioResult) -> String {
    var out = "<h2>\(escape(scenario.name))</h2>\n"
    let parameters = scenario.parameters.map { "\($0.0) \($0.1)" }.joined(separator: ", ")
    out += "<p>\(escape(parameters))</p>\n<table><tr><th></th><th>median</th><th>min</th><th>max</th><th></th>"
    out += "<th></th></tr>\n"
    for figure in scenario.figures {
      var verdict = ""
      if let bound = figure.bound {
        let holds = figure.better == .higher ? figure.median >= bound : figure.median <= bound
        verdict =
          "<span class=\(holds ? "ok" : "missed")>\(figure.better == .higher ? "≥" : "≤") "
          + "\(Numbers.short(bound))</span>"
      }
      out += "<tr><td>\(escape(figure.name))</td><td class=n>\(Numbers.short(figure.median))</td>"
      out += "<td class=n>\(Numbers.short(figure.min))</td><td class=n>\(Numbers.short(figure.max))</td>"
      out += "<td>\(escape(figure.unit))</td><td>\(verdict)</td></tr>\n"
    }
    out += "</table>\n<p>\(scenario.checked) events checked, violations \(scenario.violations)"
    out += "\(scenario.notes.map { "<br>" + escape($0) }.joined())</p>\n"
    for failure in scenario.failures { out += "<p class=missed>failed, \(escape(failure))</p>\n" }
    for unit in ["µs", "/s"] {
      let figures = scenario.figures.filter { $0.unit == unit && $0.better != .neither }
      if figures.count > 1 { out += bars(figures, unit) }
    }
    if !scenario.latencies.isEmpty { out += curves(scenario.latencies) }
    return out
  }

  // MARK: plots

  private static func bars(_ figures: [Figure], _ unit: String) -> String {
    let (left, width, step) = (330.0, 420.0, 24.0)
    let most = figures.map(\.max).max() ?? 1
    guard most > 0 else { return "" }
    var out = "<svg width=\"900\" height=\"\(Int(step) * figures.count + 10)\" role=\"img\">\n"
    for (index, figure) in figures.enumerated() {
      let y = Double(index) * step + 6
      let scale = width / most
      out += text(left - 8, y + 12, figure.name, anchor: "end")
      out +=
        "<rect x=\"\(n(left))\" y=\"\(n(y))\" width=\"\(n(figure.median * scale))\" height=\"15\" fill=\"#4a7ebb\"/>"
      out +=
        "<path d=\"M\(n(left + figure.min * scale)) \(n(y + 7.5))H\(n(left + figure.max * scale))\" stroke=\"#222\"/>"
      out += text(left + figure.max * scale + 8, y + 12, "\(Numbers.short(figure.median)) \(unit)")
    }
    return out + "</svg>\n"
  }

  private static let colours = ["#4a7ebb", "#c0504d", "#6a9a3a", "#7d60a0", "#d08a2e", "#3a9a97"]

  /// Percentiles on a scale of nines, latencies on a logarithmic one.
  private static func curves(_ latencies: [(name: String, latency: Latency)]) -> String {
    let (left, top, width, height) = (70.0, 12.0, 620.0, 240.0)
    let curves = latencies.map { ($0.name, $0.latency.curve) }.filter { !$0.1.isEmpty }
    let values = curves.flatMap { $0.1.map { max(Double($0.nanoseconds), 1_000) } }
    guard let least = values.min(), let most = values.max() else { return "" }
    let low = Double(Int(Numbers.log(least)))
    let high = max(low + 1, Double(Int(Numbers.log(most))) + 1)
    func x(_ percentile: Double) -> Double {
      left + width * min(1, -Numbers.log(max(1 - percentile / 100, 1e-4)) / 4)
    }
    func y(_ value: Double) -> Double { top + height * (high - Numbers.log(max(value, 1_000))) / (high - low) }
    var out = "<svg width=\"900\" height=\"\(Int(top + height) + 30)\" role=\"img\">\n"
    for power in Int(low)...Int(high) {
      let value = Numbers.power(power)
      out += "<path d=\"M\(n(left)) \(n(y(value)))H\(n(left + width))\" stroke=\"#ddd\"/>"
      out += text(left - 8, y(value) + 4, "\(Numbers.short(value / 1e6)) ms", anchor: "end")
    }
    for percentile in [50.0, 90, 99, 99.9] {
      out += "<path d=\"M\(n(x(percentile))) \(n(top))V\(n(top + height))\" stroke=\"#ddd\"/>"
      out += text(x(percentile), top + height + 16, "p\(Numbers.short(percentile))", anchor: "middle")
    }
    for (index, (name, points)) in curves.enumerated() {
      let colour = colours[index % colours.count]
      let path = points.map { "\(n(x($0.percentile))) \(n(y(Double($0.nanoseconds))))" }.joined(separator: " L")
      out += "<path d=\"M\(path)\" fill=\"none\" stroke=\"\(colour)\" stroke-width=\"2\"/>"
      out += "<rect x=\"\(n(left + width + 12))\" y=\"\(n(top + Double(index) * 20))\" width=\"12\" height=\"12\" "
      out += "fill=\"\(colour)\"/>" + text(left + width + 30, top + Double(index) * 20 + 11, name)
    }
    return out + "</svg>\n"
  }

  private static func text(_ x: Double, _ y: Double, _ text: String, anchor: String = "start") -> String {
    "<text x=\"\(n(x))\" y=\"\(n(y))\" text-anchor=\"\(anchor)\">\(escape(text))</text>\n"
  }
  private static func n(_ value: Double) -> String { Numbers.fixed(value, 1) }
}
