import Base
import EventLoop
import Glibc
import ObjectModel
import Testing

@testable import Bench

/// What a child prints.
@LoopActor private final class Heard: ByteStreamDelegate {
  private var bytes: Bytes = []
  private(set) var isOver = false
  private let stream: (any ByteStream)?
  var text: String { String(decoding: bytes, as: UTF8.self) }

  init(_ stream: (any ByteStream)?) {
    self.stream = stream
    stream?.delegate = self
    stream?.resumeReading()
  }

  func stream(_ stream: any ByteStream, received bytes: UnsafeRawBufferPointer) { self.bytes += Bytes(bytes) }
  func streamDidDrain(_ stream: any ByteStream) {}
  func streamReceivedEnd(_ stream: any ByteStream) { stream.close() }
  func streamDidClose(_ stream: any ByteStream, error: SkerryError?) { isOver = true }
}

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
    ["list", "--objects", "300", "--lists", "3"],
    ["schedule", "--nodes", "10", "--replicas", "50", "--alone-nodes", "20", "--alone-pods", "200"],
    ["footprint", "--nodes", "5", "--pods", "20", "--idle", "1s", "--edge-idle", "1s", "--runtime", "process"],
    [
      "churn", "--sessions", "5,10", "--objects", "50,100", "--changes", "20", "--idle", "500ms", "--rejoin", "5",
      "--time", "1s",
    ],
    ["soak", "--nodes", "5", "--watchers", "5", "--time", "5s", "--every", "200ms", "--statuses", "5"],
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
    ["write", "--clients", "none"], ["write", "--program", "/nowhere/cloudcore"],
    ["write", "--program", "/etc/passwd"], ["write", "--json", "/nowhere/result.json"],
    ["write,nonsense", "--time", "1s"], ["write", "--data", "/proc/nowhere"],
  ]) func whatCannotBeIsRefusedAtOnce(arguments: [String]) async throws {
    let result = try await Self.bench(arguments)
    #expect(result.status == .exited(64), "\(arguments): \(result.status) \(result.outputText)")
    #expect(result.errorText.contains("skerry-bench: ") && result.outputText.isEmpty)
    #expect(result.errorText.split(separator: "\n").count == 1, "one message: \(result.errorText)")
  }

  @Test func tooFewFileHandlesAreOneMessage() async throws {
    let program = try Self.program()
    let result = try await onLoop {
      try await Subprocess.run(
        ["/bin/sh", "-c", "ulimit -n 600 && exec \"$0\" sessions --sessions 1000", program], deadline: .seconds(60))
    }
    #expect(result.status == .exited(64), "\(result.status)")
    #expect(result.errorText.contains("ulimit -Hn") && result.outputText.isEmpty, "\(result.errorText)")
  }

  /// A cloudcore that ends at once fails `write`, twice; `floor` needs none and runs both times.
  @Test func aScenarioThatFailsTakesNothingFromTheOthers() async throws {
    let place = "/tmp/skerry-bench-test-\(SystemRandom().bytes(6).hex)"
    try Files.makeDirectory(place, mode: 0o700)
    defer { try? Files.removeTree(place) }
    let result = try await Self.bench([
      "write,floor", "--program", "/bin/false", "--runs", "2", "--sessions", "10", "--events", "15", "--rows", "200",
      "--pace", "1s", "--json", "\(place)/it.json", "--report", "\(place)/it.html", "--data", place,
    ])
    #expect(result.status == .exited(1), "\(result.status) \(result.errorText)")
    #expect(result.outputText.contains("FAILED, run 2: ") && result.outputText.contains("RUNS THAT FAILED: 2"))
    let told = try BenchResult(JSON.parse(Files.read("\(place)/it.json")))
    #expect(told.scenarios.map(\.name) == ["write", "floor"] && told.failures == 2 && !told.isPartial)
    #expect(told.scenarios[0].failures.allSatisfy { $0.contains("ended at once") })
    #expect(told.scenarios[1].failures.isEmpty && told.scenarios[1].figures[0].values.count == 2)
    #expect(try #require(Files.readText("\(place)/it.html")).contains("class=missed>failed, run 1: "))
    #expect(Files.list(place).sorted() == ["it.html", "it.json"], "what the bench made is gone")
  }

  @Test(arguments: [SIGINT, SIGTERM]) func anInterruptedRunTellsWhatItHas(signal: Int32) async throws {
    let program = try Self.program()
    let place = "/tmp/skerry-bench-test-\(SystemRandom().bytes(6).hex)"
    try Files.makeDirectory(place, mode: 0o700)
    defer { try? Files.removeTree(place) }
    // The signal comes as the second measurement begins.
    let argv = [
      program, "write", "--clients", "1,2", "--time", "3s", "--json", "\(place)/it.json", "--data", place,
    ]
    let (status, output) = try await onLoop { try await Self.interrupted(argv, at: "write: 2 clients", by: signal) }
    #expect(status == .exited(130), "\(status): \(output)")
    #expect(output.contains("durable writes, 1 clients") && output.contains("interrupted"), "\(output)")
    let told = try BenchResult(JSON.parse(Files.read("\(place)/it.json")))
    #expect(told.isPartial && told.failures == 0 && told.scenarios.first?.median("durable writes, 1 clients") != nil)
    #expect(Files.list(place) == ["it.json"], "what the bench made is gone")
  }

  /// Runs a program and sends it a signal once its stderr says `mark`; answers how it ended and what it printed.
  @LoopActor static func interrupted(_ argv: [String], at mark: String, by signal: Int32) async throws
    -> (EventLoop.ExitStatus, String)
  {
    let loop = Loop.startShared()
    let child = try Subprocess.spawn(argv, stdout: .pipe, stderr: .pipe, detached: true, onExit: { _ in })
    let (output, errors) = (Heard(child.stdout), Heard(child.stderr))
    let deadline = loop.now + .seconds(100)
    while !errors.text.contains(mark), child.exitStatus == nil, loop.now < deadline {
      try await loop.sleep(for: .milliseconds(5))
    }
    child.kill(signal)
    while child.exitStatus == nil, loop.now < deadline { try await loop.sleep(for: .milliseconds(5)) }
    let status = child.exitStatus
    child.kill(SIGKILL)
    while !output.isOver, loop.now < deadline { try await loop.sleep(for: .milliseconds(5)) }
    guard let status else { throw SkerryError(.timeout, "it does not end; it said \(errors.text)") }
    return (status, output.text)
  }
}
