import Base
import EventLoop
import ObjectModel
import Testing

@testable import Bench

/// The tool itself, small: a cloudcore of its own, hollow nodes, watchers and writers, every event checked.
@Suite struct RunTests {
  static func program() throws -> String {
    let bundle = try #require(Files.linkTarget("/proc/self/exe"))
    let slash = try #require(bundle.lastIndex(of: "/"))
    return "\(bundle[..<slash])/skerry-bench"
  }

  static func bench(_ arguments: [String]) async throws -> SubprocessResult {
    let program = try program()
    return try await onLoop { try await Subprocess.run([program] + arguments, deadline: .seconds(120)) }
  }

  @Test(arguments: [
    ["sessions", "--sessions", "30", "--clients", "10", "--idle", "0s"],
    [
      "fanout", "--watchers", "20", "--events", "30", "--writers", "3", "--pace", "1s", "--edges", "10", "--changes",
      "2",
    ],
    ["write", "--clients", "1,4", "--time", "500ms"], ["watch", "--watchers", "10", "--time", "500ms"],
    ["storm", "--nodes", "30", "--spread", "200ms", "--down", "0s"],
    ["upstream", "--nodes", "10", "--statuses", "50", "--readings", "500", "--time", "1s"],
    ["list", "--objects", "300", "--lists", "3"], ["schedule", "--nodes", "10", "--replicas", "50"],
    ["floor", "--sessions", "20", "--events", "15", "--rows", "200", "--pace", "1s"],
    ["wan", "--nodes", "10", "--time", "2s", "--cut", "0.1"],
  ]) func scenariosRunWithoutViolations(arguments: [String]) async throws {
    let json = "/tmp/skerry-bench-test-\(arguments[0])-\(SystemRandom().bytes(6).hex).json"
    defer { try? Files.removeFile(json) }
    let result = try await Self.bench(arguments + ["--json", json])
    #expect(result.status.isSuccess, "\(arguments): \(result.errorText)\n\(result.outputText)")
    #expect(result.outputText.contains("violations 0"))
    let told = try BenchResult(JSON.parse(Files.read(json)))
    let scenario = try #require(told.scenarios.first)
    #expect(scenario.name == arguments[0] && scenario.checked > 0 && !scenario.figures.isEmpty)
  }

  @Test(arguments: [
    ["sessions", "--sessions", "150000"], ["sessions", "--sessions", "0"], ["fanout", "--bytes", "1"],
    ["nonsense"], ["fanout", "--server", "127.0.0.1:1"], ["storm", "--server", "127.0.0.1:1"],
    ["write", "--clients", "none"],
  ]) func whatCannotBeIsRefusedAtOnce(arguments: [String]) async throws {
    let result = try await Self.bench(arguments)
    #expect(result.status == .exited(64), "\(arguments): \(result.status) \(result.outputText)")
    #expect(result.errorText.contains("skerry-bench: ") && result.outputText.isEmpty)
  }
}
