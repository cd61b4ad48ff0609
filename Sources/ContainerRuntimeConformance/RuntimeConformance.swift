import Base
import ContainerRuntime

/// What every `ContainerRuntime` must do, fakes included, so that a fake cannot drift. A case makes its own sandbox
/// and throws what it found wrong.
@LoopActor package final class RuntimeConformance {
  /// What containers do in these cases. A runtime that runs programs takes `command`; one that does not looks its
  /// behaviour up by it.
  package enum Program: CaseIterable, Sendable {
    /// Prints `one` to stdout and `two` to stderr, and exits 7.
    case printsAndFails
    case succeeds
    /// Runs until its stop signal, then exits 3.
    case obeysStop
    case ignoresStop
    /// Exits 5 when the file `release` in its volume appears; a runtime without files ends it when told to.
    case waitsForRelease
    case isMissing

    package var command: [String] {
      switch self {
      case .printsAndFails: Self.shell("echo one; echo two >&2; exit 7")
      case .succeeds: Self.shell("exit 0")
      case .obeysStop: Self.shell("trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done")
      case .ignoresStop: Self.shell("trap '' TERM; echo ready; while :; do sleep 0.05; done")
      case .waitsForRelease: Self.shell("while [ ! -e \"$RELEASE\" ]; do sleep 0.05; done; echo released; exit 5")
      case .isMissing: ["/no/such/program"]
      }
    }
    private static func shell(_ script: String) -> [String] { ["/bin/sh", "-c", script] }
  }

  /// A runtime with what surrounds it.
  package struct World {
    package var runtime: any ContainerRuntime
    package var scheduler: any Scheduler
    /// An image that can be pulled and has /bin/sh.
    package var image: String
    /// Where a sandbox's logs go.
    package var logDirectory: String
    /// The lines of a container's log, `stdout one` each.
    package var log: @LoopActor (ContainerStatus) throws -> [String]
    /// The runtime's user dies and comes back: another runtime over the same world, recovered.
    package var restart: @LoopActor (any ContainerRuntime) async throws -> any ContainerRuntime
    /// What a container of `waitsForRelease` needs: its mounts and environment, and how to release it.
    package var releaseMounts: [Mount]
    package var releaseEnvironment: [(key: String, value: String)]
    package var release: @LoopActor (_ containerID: String) throws -> Void

    package init(
      runtime: any ContainerRuntime, scheduler: any Scheduler, image: String, logDirectory: String,
      log: @escaping @LoopActor (ContainerStatus) throws -> [String],
      restart: @escaping @LoopActor (any ContainerRuntime) async throws -> any ContainerRuntime,
      releaseMounts: [Mount] = [], releaseEnvironment: [(key: String, value: String)] = [],
      release: @escaping @LoopActor (_ containerID: String) throws -> Void
    ) {
      self.runtime = runtime
      self.scheduler = scheduler
      self.image = image
      self.logDirectory = logDirectory
      self.log = log
      self.restart = restart
      self.releaseMounts = releaseMounts
      self.releaseEnvironment = releaseEnvironment
      self.release = release
    }
  }

  let world: World
  package private(set) var runtime: any ContainerRuntime
  private var digest = ""
  private var events: [String] = []
  private var number = 0

  package init(_ world: World) {
    self.world = world
    runtime = world.runtime
    listen()
  }

  /// All cases, one after the other. `runtime` is recovered already.
  package func runAll() async throws {
    try await pullsAnImageOnce()
    try await runsToAnEnd()
    try await tellsOfAStartThatFailed()
    try await repeatsAreHarmless()
    try await stopsWithGrace()
    try await refusesWhatCannotBe()
    try await runsCommands()
    try await removesWhatASandboxHolds()
    try await findsWhatAPodHas()
    try await outlivesItsUser()
    try await noticesExitsWhileAway()
  }

  func restart() async throws {
    runtime = try await world.restart(runtime)
    listen()
  }

  private func listen() { runtime.onEvent = { [weak self] id in self?.events.append(id) } }

  // MARK: tools of the cases

  func require(_ condition: Bool, _ what: String, line: UInt = #line) throws(SkerryError) {
    if !condition { throw SkerryError(.internal, "runtime conformance (\(runtime.name)): \(what)", line: line) }
  }

  func refused<R>(
    _ codes: SkerryError.Code..., what: String, line: UInt = #line, _ body: () async throws(SkerryError) -> R
  ) async throws(SkerryError) {
    do throws(SkerryError) {
      _ = try await body()
    } catch {
      return try require(codes.contains(error.code), "\(what) was refused as \(error.code): \(error)", line: line)
    }
    try require(false, "\(what) was not refused", line: line)
  }

  /// A name that no other case has used.
  func fresh(_ prefix: String) -> String {
    number += 1
    return "\(prefix)-\(number)"
  }

  func sandbox() async throws(SkerryError) -> SandboxConfig {
    let id = fresh("sandbox")
    let config = SandboxConfig(
      id: id, podName: id, podNamespace: "default", podUID: "uid-\(id)", hostname: id,
      logDirectory: "\(world.logDirectory)/\(id)", labels: ["app": "conformance"])
    let status = try await runtime.runSandbox(config)
    try require(status.ready && status.id == id, "a sandbox that was run is not ready")
    return config
  }

  func container(_ program: Program, in sandbox: SandboxConfig) async throws(SkerryError) -> ContainerConfig {
    if digest.isEmpty {
      digest = try await runtime.pull(world.image, policy: .ifNotPresent, credentials: nil).digest
    }
    let config = ContainerConfig(
      id: fresh("container"), sandboxID: sandbox.id, name: fresh("main"), attempt: 0, image: digest,
      command: program.command, environment: world.releaseEnvironment, mounts: world.releaseMounts,
      labels: ["app": "conformance", RuntimeLabels.podUID: sandbox.podUID])
    try await runtime.createContainer(config)
    return config
  }

  func started(_ program: Program, in sandbox: SandboxConfig) async throws(SkerryError) -> ContainerConfig {
    let config = try await container(program, in: sandbox)
    try await runtime.startContainer(config.id)
    return config
  }

  func status(_ id: String) async throws(SkerryError) -> ContainerStatus {
    guard let found = try await runtime.containers().first(where: { $0.id == id }) else {
      throw SkerryError(.internal, "runtime conformance (\(runtime.name)): container \(id) is not listed")
    }
    return found
  }

  func pid(_ id: String) async throws(SkerryError) -> Int32 {
    guard case .running(let pid) = try await status(id).state else {
      throw SkerryError(.internal, "runtime conformance (\(runtime.name)): container \(id) does not run")
    }
    return pid
  }

  /// Waits for `condition`, which an event or a line of output brings about.
  func eventually(_ what: String, line: UInt = #line, _ condition: () async throws -> Bool) async throws {
    let end = world.scheduler.now + .seconds(60)
    while try await !condition() {
      try require(world.scheduler.now < end, "\(what) did not come about", line: line)
      try await world.scheduler.sleep(for: .milliseconds(10))
    }
  }

  func waitForEvent(_ id: String) async throws {
    try await eventually("an event of \(id)") { events.contains(id) }
  }

  func waitForOutput(_ id: String) async throws {
    try await eventually("output of \(id)") { try await !world.log(status(id)).isEmpty }
  }
}
