import Base
import Testing

@testable import Bench

@Suite struct CommandTests {
  static let table = [
    Option("count", .int(1...10), "3", "how many"), Option("time", .duration(.seconds(1)...(.seconds(10))), "2s", ""),
    Option("bytes", .bytes(1...4_096), "1KiB", ""), Option("fast", .flag, "false", ""), Option("name", .text, "", ""),
  ]

  @Test func optionsHaveDefaultsAndAreTaken() throws {
    let options = try Options(["--count", "7", "--time=5s", "--fast"], Self.table, command: "x")
    #expect(options.int("count") == 7 && options.duration("time") == .seconds(5) && options.flag("fast"))
    #expect(options.bytes("bytes") == 1_024 && options.string("name") == nil)
  }

  @Test(arguments: [
    ["--count", "11"], ["--count", "many"], ["--count"], ["--time", "5"], ["--time", "1h"], ["--bytes", "8KiB"],
    ["--unknown", "1"], ["operand"],
  ]) func wrongCallsAreRefused(arguments: [String]) {
    #expect(throws: SkerryError.self) { try Options(arguments, Self.table, command: "x") }
  }

  @Test func everyScenarioHasWholeHelp() {
    for scenario in Scenario.all + Scenario.peers {
      let text = Help.text(scenario.name, [scenario])
      for option in scenario.options {
        #expect(text.contains("--\(option.name)") && !option.help.isEmpty, "\(scenario.name) --\(option.name)")
      }
      #expect(!scenario.summary.isEmpty && !scenario.discussion.isEmpty)
    }
    #expect(Set(Scenario.all.map(\.name)).count == Scenario.all.count)
  }

  @Test func defaultsAreWithinTheirOwnBounds() throws {
    for scenario in Scenario.all + Scenario.peers {
      for option in scenario.options + Option.common where !option.standard.isEmpty {
        if case .flag = option.kind { continue }
        _ = try Options(["--\(option.name)", option.standard], [option], command: scenario.name)
      }
    }
  }

  @Test(arguments: ["p99", "99=1s", "p0=1s", "p99=0s", "p99=fast", "p101=1s"]) func searchesAreChecked(text: String) {
    #expect(throws: SkerryError.self) { try RateSearch(text) }
  }
}

@Suite struct ReportTests {
  static var result: BenchResult {
    var scenario = ScenarioResult("fanout")
    for value in [3.0, 1, 2] { scenario.add("CPU of a delivery, saturated", value, "µs", bound: 3) }
    scenario.add("deliveries, saturated", 400_000, "/s", .higher)
    var latency = Latency()
    for value in 1...100 { latency.record(UInt64(value) * 1_000_000) }
    scenario.add("latency, paced", latency)
    scenario.checked = 10
    scenario.note("a note with <angle> brackets")
    var nats = ScenarioResult("nats")
    nats.add("CPU of a delivery, saturated", 30, "µs")
    nats.add("deliveries, saturated", 40_000, "/s", .higher)
    var result = BenchResult()
    result.scenarios = [scenario, nats]
    result.machine = ["cores": 2]
    result.commit = "abc"
    return result
  }

  @Test func aResultComesBackFromItsJSON() throws {
    let back = try BenchResult(Self.result.value)
    let scenario = try #require(back.scenarios.first)
    #expect(scenario.median("CPU of a delivery, saturated") == 2)
    #expect(scenario.figures.first?.min == 1 && scenario.figures.first?.max == 3)
    #expect(scenario.latencies.first?.latency.count == 100 && scenario.checked == 10)
    #expect(throws: SkerryError.self) { try BenchResult(["format": 99]) }
  }

  @Test func theTableTellsMediansBoundsAndViolations() {
    let text = TextTable.print(Self.result)
    #expect(text.contains("2.00") && text.contains("ok, at most 3.00") && text.contains("violations 0"))
  }

  @Test func ratiosStandBesideThePeers() throws {
    let rows = Ratios.rows(Self.result.scenarios)
    let deliveries = try #require(rows.first { $0.what == "deliveries, saturated" })
    #expect(deliveries.ratio == 10 && deliveries.peer == "NATS")
  }

  @Test func comparisonsSayWhatIsBetter() throws {
    var other = Self.result
    other.scenarios[0].figures[0].values = [9, 8, 10]
    let text = TextTable.compare(other, Self.result)
    #expect(text.contains("0.22") && text.contains("better"))
  }

  @Test func thePageIsWholeAndEscapes() {
    let page = HTMLReport.page(Self.result, Ratios.rows(Self.result.scenarios))
    #expect(page.hasPrefix("<!DOCTYPE html>") && page.contains("<svg") && page.contains("&lt;angle&gt;"))
    #expect(!page.contains("http://") && !page.contains("https://") && !page.contains("<script"))
  }

  @Test func numbersAreRounded() {
    #expect(Numbers.short(1_234_567) == "1,234,567" && Numbers.short(0.0123) == "0.012")
    #expect(Numbers.fixed(1.005, 1) == "1.0" && Numbers.fixed(-2.5, 0) == "-3" && Numbers.short(99.95) == "100.0")
  }
}
