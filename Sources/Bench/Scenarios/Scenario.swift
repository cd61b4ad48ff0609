import Base
import EventLoop

/// What a scenario needs of the machine, checked before anything starts.
struct Needs: Sendable {
  /// Connections of clients at a time.
  var connections = 0
  /// Of memory for clients and server, per connection.
  var bytesPerConnection = 80 * 1024
  /// On disk.
  var diskBytes = 256 << 20
  /// A server that the bench starts itself: it is killed, or its process is looked at.
  var ownServer = false
  /// A floor's or another product's server: none of ours.
  var noServer = false
  /// Programs of ours that stand beside this one, besides cloudcore.
  var programs: [String] = []
  /// Another product's server.
  var peer: String?
}

/// One scenario: what it is called with, what it needs, how it runs once.
struct Scenario: Sendable {
  let name: String
  let summary: String
  let discussion: String
  let options: [Option]
  let needs: @Sendable (Options) -> Needs
  /// What is wrong with the options beyond each one's own bounds.
  var flaw: @Sendable (Options) -> String? = { _ in nil }
  let run: @Sendable @LoopActor (BenchContext, Options, Recorder) async throws -> Void

  static let all: [Scenario] = [
    .floor, .sessions, .fanout, .watch, .write, .churn, .storm, .upstream, .list, .schedule, .footprint, .start, .wan,
    .soak,
  ]

  /// Refuses what this machine cannot do, in words that say what would help.
  @LoopActor func check(_ options: Options, _ pool: WorkerPool, directory: String) throws(SkerryError) {
    if let flaw = flaw(options) { throw SkerryError(.invalidArgument, "\(name): \(flaw)") }
    if let find = options.has("find") ? options.string("find") : nil { _ = try RateSearch(find) }
    let needs = needs(options)
    try checkPrograms(needs, options)
    _ = try pool.workers(for: needs.connections)
    let files = Machine.raiseFileLimit()
    if !needs.noServer, options.string("server") == nil, needs.connections + 200 > files {
      throw SkerryError(
        .limitExceeded,
        "\(name): the server that the bench starts could hold \(files - 200) connections, not \(needs.connections), with "
          + "this machine's limit of open files (ulimit -Hn is \(files)): ask for fewer, or raise it")
    }
    let memory = needs.connections * needs.bytesPerConnection
    guard memory < Machine.availableMemory else {
      throw SkerryError(
        .limitExceeded,
        "\(name): \(needs.connections) connections need about \(memory >> 20) MiB and \(Machine.availableMemory >> 20) "
          + "MiB are available: ask for fewer")
    }
    guard needs.noServer || needs.diskBytes < Machine.freeDisk(directory) else {
      throw SkerryError(
        .limitExceeded,
        "\(name): \(needs.diskBytes >> 20) MiB of disk are needed in \(directory); choose --data elsewhere")
    }
    if needs.ownServer, options.string("server") != nil {
      throw SkerryError(.invalidArgument, "\(name) kills and starts its server, so it does not run against a given one")
    }
    if options.string("server") != nil, options.string("enrol") == nil, needsNodes(options) {
      throw SkerryError(
        .invalidArgument,
        "\(name) makes hollow nodes: give a join token with enough uses (--enrol, from: skerry token create)")
    }
  }

  @LoopActor private func checkPrograms(_ needs: Needs, _ options: Options) throws(SkerryError) {
    if !needs.noServer, options.string("server") == nil { _ = try BenchServer.chosen(options) }
    for program in needs.programs { _ = try BenchServer.program(program) }
    if let peer = needs.peer, PeerServer.program(peer) == nil {
      throw SkerryError(
        .invalidArgument, "\(name): \(peer) is not installed: run scripts/install-deps.sh bench (or apt-get install it)"
      )
    }
  }

  private func needsNodes(_ options: Options) -> Bool {
    if name == "fanout" { return options.int("edges") > 0 }
    return ["sessions", "storm", "upstream", "schedule", "wan", "churn", "soak"].contains(name)
  }
}

/// Where a scenario puts what it measures, as it measures it: an interrupted run still has it.
@LoopActor final class Recorder {
  var result: ScenarioResult
  init(_ name: String) { result = ScenarioResult(name) }
}

/// Stops a loop at a deadline or a count: what keeps every phase bounded.
struct Bounds {
  static let maxEvents = 10_000_000
}
