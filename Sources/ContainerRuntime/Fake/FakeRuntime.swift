import Base

/// A runtime in memory, for the simulator and the agent's tests: nothing runs, but every rule of `ContainerRuntime`
/// holds (the conformance suite runs over it), and what containers do is settable.
///
/// The world survives its user: `onEvent` is the only thing that a caller leaves behind, so a simulated crash of the
/// agent is a new agent over the same `FakeRuntime`, and a reboot of the machine is `reboot()`.
@LoopActor package final class FakeRuntime: ContainerRuntime {
  package enum Operation: String, Sendable, Hashable, CaseIterable {
    case recover, pull, removeImage, runSandbox, stopSandbox, removeSandbox
    case createContainer, startContainer, stopContainer, removeContainer, exec, stats
  }

  /// What a container does from its start on.
  package struct Behavior: Sendable, Hashable {
    /// It ends by itself after `exitAfter` with this code; nil: it runs until it is stopped.
    package var exitCode: Int32?
    package var exitAfter: Duration
    package var exitReason: String?
    /// Lines that it prints at its start, each with 1 for stdout or 2 for stderr.
    package var output: [Line]
    /// How long it takes to end after the stop signal; nil: it ignores the signal, and the grace time runs out.
    package var stopsAfter: Duration?
    package var stopCode: Int32
    /// Its start fails with this message (a program that the image does not have).
    package var startError: String?

    package struct Line: Sendable, Hashable {
      package var stream: Int
      package var text: String
      package init(_ text: String, stream: Int = 1) {
        self.stream = stream
        self.text = text
      }
    }

    package init(
      exitCode: Int32? = nil, exitAfter: Duration = .zero, exitReason: String? = nil, output: [Line] = [],
      stopsAfter: Duration? = .milliseconds(10), stopCode: Int32 = 143, startError: String? = nil
    ) {
      self.exitCode = exitCode
      self.exitAfter = exitAfter
      self.exitReason = exitReason
      self.output = output
      self.stopsAfter = stopsAfter
      self.stopCode = stopCode
      self.startError = startError
    }
  }

  /// What a command in a container does: it prints `output`, then echoes its input if `echoes`, then exits.
  package struct ExecBehavior: Sendable, Hashable {
    package var output: [Behavior.Line]
    package var echoes: Bool
    package var exitCode: Int32
    package init(output: [Behavior.Line] = [], echoes: Bool = false, exitCode: Int32 = 0) {
      self.output = output
      self.echoes = echoes
      self.exitCode = exitCode
    }
  }

  package let name = "fake"
  package var onEvent: (@LoopActor (_ containerID: String) -> Void)?

  /// Asked at each start of a container. The default runs until it is stopped.
  package var behavior: @LoopActor (ContainerConfig) -> Behavior = { _ in Behavior() }
  package var execBehavior: @LoopActor (ContainerConfig, ExecRequest) -> ExecBehavior = { _, _ in ExecBehavior() }
  /// How long each call takes.
  package var delays: [Operation: Duration] = [:]
  /// Names that no registry knows.
  package var missingImages: Set<String> = []
  /// Every call that was made, oldest first: `createContainer web-1`. At most `maxCalls` are kept.
  package private(set) var calls: [String] = []
  package static let maxCalls = 10_000

  /// Listings of everything, which cost what the whole node has.
  package private(set) var listings = 0
  /// How often each pod's containers were asked for, by its uid.
  package private(set) var looks: [String: Int] = [:]

  private let scheduler: any Scheduler
  private var failures: [Operation: [SkerryError]] = [:]
  var sandboxTable = RecordTable<FakeSandbox>()
  var containerTable = RecordTable<FakeContainer>()
  private var imageTable: [String: ImageStatus] = [:]
  private var nextPID: Int32 = 1000
  private var nextAddress = 2

  package init(scheduler: any Scheduler) { self.scheduler = scheduler }

  // MARK: what a test turns

  /// The next call of that kind throws this; several queue up.
  package func failNext(_ operation: Operation, _ error: SkerryError) { failures[operation, default: []].append(error) }

  /// The container ends now, as if its process had.
  package func exit(_ id: String, code: Int32, reason: String? = nil) { finish(id, code: code, reason: reason) }

  /// The container prints a line now.
  package func print(_ id: String, _ text: String, stream: Int = 1) {
    containerTable[id]?.output.append(Behavior.Line(text, stream: stream))
  }

  /// What the container has printed so far.
  package func log(_ id: String) -> [Behavior.Line] { containerTable[id]?.output ?? [] }

  /// All containers as they are now, by id.
  package var statuses: [ContainerStatus] { containerTable.values.map(\.status).sorted { $0.id < $1.id } }

  /// The machine was switched off and on: nothing runs, records are still there, networks are gone.
  package func reboot() {
    for id in containerTable.keys {
      if case .running = containerTable[id]?.status.state { containerTable[id]?.status.state = .unknown }
      containerTable[id]?.life &+= 1
    }
    for id in sandboxTable.keys {
      sandboxTable[id]?.status.ready = false
      sandboxTable[id]?.status.addresses = []
    }
  }

  // MARK: images

  package func recover() async throws(SkerryError) { try await begin(.recover, "") }

  package func pull(_ image: String, policy: PullPolicy, credentials: RegistryCredentials?) async throws(SkerryError)
    -> ImageStatus
  {
    try await begin(.pull, image)
    if policy != .always, let found = imageTable.values.first(where: { $0.references.contains(image) }) {
      return found
    }
    if policy == .never {
      throw SkerryError(.notFound, "image \(image) is not on this node and its pull policy is Never")
    }
    guard !missingImages.contains(image) else {
      throw SkerryError(.notFound, "image \(image) is not known to its registry; check the name and tag")
    }
    let digest = NameDigest.of(image)
    var status = imageTable[digest] ?? ImageStatus(digest: digest, references: [], bytes: 1 << 20)
    if !status.references.contains(image) { status.references.append(image) }
    imageTable[digest] = status
    return status
  }

  package func images() async throws(SkerryError) -> [ImageStatus] {
    imageTable.values.sorted { $0.digest < $1.digest }
  }

  package func removeImage(_ digest: String) async throws(SkerryError) {
    try await begin(.removeImage, digest)
    if let user = containerTable.values.first(where: { $0.config.image == digest }) {
      throw SkerryError(.conflict, "image \(digest) is used by container \(user.config.id); remove the container first")
    }
    imageTable[digest] = nil
  }

  // MARK: sandboxes

  package func runSandbox(_ config: SandboxConfig) async throws(SkerryError) -> SandboxStatus {
    try await begin(.runSandbox, config.id)
    if let found = sandboxTable[config.id], found.status.ready { return found.status }
    let address = "10.88.\(nextAddress / 254).\(nextAddress % 254 + 1)"
    nextAddress += 1
    let status = SandboxStatus(
      id: config.id, podUID: config.podUID, ready: true, addresses: config.hostNetwork ? [] : [address],
      networkNamespace: config.hostNetwork ? nil : "/fake/netns/\(config.id)",
      createdAt: sandboxTable[config.id]?.status.createdAt ?? scheduler.wall, labels: config.labels)
    sandboxTable[config.id] = FakeSandbox(config: config, status: status)
    return status
  }

  package func stopSandbox(_ id: String) async throws(SkerryError) {
    try await begin(.stopSandbox, id)
    stopNow(sandbox: id)
  }

  package func removeSandbox(_ id: String) async throws(SkerryError) {
    try await begin(.removeSandbox, id)
    stopNow(sandbox: id)
    for container in containerTable.values where container.config.sandboxID == id {
      containerTable[container.config.id] = nil
    }
    sandboxTable[id] = nil
  }

  package func sandboxes() async throws(SkerryError) -> [SandboxStatus] {
    listings += 1
    return sandboxTable.values.map(\.status).sorted { $0.id < $1.id }
  }

  package func sandboxes(ofPod uid: String) async throws(SkerryError) -> [SandboxStatus] {
    sandboxTable[.pod(uid)].map(\.status)
  }

  private func stopNow(sandbox id: String) {
    for container in containerTable.values where container.config.sandboxID == id {
      finish(container.config.id, code: 137, reason: nil)
    }
    sandboxTable[id]?.status.ready = false
    sandboxTable[id]?.status.addresses = []
  }

  // MARK: containers

  package func createContainer(_ config: ContainerConfig) async throws(SkerryError) {
    try await begin(.createContainer, config.id)
    if containerTable[config.id] != nil { return }
    guard let sandbox = sandboxTable[config.sandboxID] else {
      throw SkerryError(.notFound, "container \(config.id): there is no sandbox \(config.sandboxID)")
    }
    guard imageTable[config.image] != nil else {
      throw SkerryError(.notFound, "container \(config.id): image \(config.image) is not unpacked; pull it first")
    }
    let status = ContainerStatus(
      id: config.id, sandboxID: config.sandboxID, name: config.name, attempt: config.attempt, image: config.image,
      state: .created, createdAt: scheduler.wall, startedAt: nil, finishedAt: nil,
      logPath: "\(sandbox.config.logDirectory)/\(config.name)/\(config.attempt).log",
      cgroupPath: "/fake/\(config.id)", labels: config.labels)
    containerTable[config.id] = FakeContainer(config: config, status: status)
  }

  package func startContainer(_ id: String) async throws(SkerryError) {
    try await begin(.startContainer, id)
    guard let container = containerTable[id] else { throw Self.noContainer(id) }
    switch container.status.state {
    case .running: return
    case .exited, .unknown:
      throw SkerryError(.conflict, "container \(id) has already run; create another with the next attempt")
    case .created: break
    }
    guard sandboxTable[container.config.sandboxID]?.status.ready == true else {
      throw SkerryError(.conflict, "container \(id): its sandbox \(container.config.sandboxID) is not ready")
    }
    let behavior = behavior(container.config)
    if let message = behavior.startError {
      containerTable[id]?.status.state = .exited(code: 128, reason: "StartError")
      containerTable[id]?.status.finishedAt = scheduler.wall
      throw SkerryError(.system, "container \(id) cannot be started: \(message)")
    }
    nextPID += 1
    containerTable[id]?.behavior = behavior
    containerTable[id]?.status.state = .running(pid: nextPID)
    containerTable[id]?.status.startedAt = scheduler.wall
    containerTable[id]?.output += behavior.output
    if let code = behavior.exitCode {
      let life = container.life
      scheduler.schedule(after: behavior.exitAfter) { [weak self] in
        guard self?.containerTable[id]?.life == life else { return }
        self?.finish(id, code: code, reason: behavior.exitReason)
      }
    }
  }

  package func stopContainer(_ id: String, grace: Duration) async throws(SkerryError) {
    try await begin(.stopContainer, id)
    guard let container = containerTable[id], case .running = container.status.state else { return }
    let ends = container.behavior.stopsAfter.map { min($0, grace) } ?? grace
    let obeys = container.behavior.stopsAfter.map { $0 <= grace } ?? false
    try await pause(ends)
    guard containerTable[id]?.life == container.life else { return }
    finish(id, code: obeys ? container.behavior.stopCode : 137, reason: nil)
  }

  package func removeContainer(_ id: String) async throws(SkerryError) {
    try await begin(.removeContainer, id)
    if case .running = containerTable[id]?.status.state {
      throw SkerryError(.conflict, "container \(id) is running; stop it first")
    }
    containerTable[id] = nil
  }

  package func containers() async throws(SkerryError) -> [ContainerStatus] {
    listings += 1
    return containerTable.values.map(\.status).sorted { $0.id < $1.id }
  }

  package func containers(ofPod uid: String) async throws(SkerryError) -> [ContainerStatus] {
    looks[uid, default: 0] += 1
    return containerTable[.pod(uid)].map(\.status)
  }

  package func exec(_ id: String, _ request: ExecRequest) async throws(SkerryError) -> any ExecSession {
    try await begin(.exec, id)
    guard let container = containerTable[id] else { throw Self.noContainer(id) }
    guard case .running = container.status.state else {
      throw SkerryError(.conflict, "container \(id) is not running; a command needs a running container")
    }
    return FakeExecSession(execBehavior(container.config, request), request)
  }

  package func stats(_ id: String) async throws(SkerryError) -> ContainerStats {
    try await begin(.stats, id)
    guard let container = containerTable[id] else { throw Self.noContainer(id) }
    guard case .running = container.status.state, let started = container.status.startedAt else {
      throw SkerryError(.conflict, "container \(id) is not running; only a running container has figures")
    }
    // A hundredth of a core since its start.
    let ran = max(0, (scheduler.wall - started).nanosecondCount)
    return ContainerStats(cpuNanoseconds: UInt64(ran / 100), memoryBytes: 1 << 20)
  }

  // MARK: inside

  private func finish(_ id: String, code: Int32, reason: String?) {
    guard case .running = containerTable[id]?.status.state else { return }
    containerTable[id]?.status.state = .exited(code: code, reason: reason ?? (code == 0 ? "Completed" : "Error"))
    containerTable[id]?.status.finishedAt = scheduler.wall
    onEvent?(id)
  }

  private func begin(_ operation: Operation, _ id: String) async throws(SkerryError) {
    if calls.count < Self.maxCalls { calls.append(id.isEmpty ? operation.rawValue : "\(operation.rawValue) \(id)") }
    if let delay = delays[operation] { try await pause(delay) }
    if let first = failures[operation]?.first {
      failures[operation]?.removeFirst()
      throw first
    }
  }

  private func pause(_ duration: Duration) async throws(SkerryError) {
    guard duration > .zero else { return }
    do { try await scheduler.sleep(for: duration) } catch {
      throw SkerryError(.cancelled, "the call to the container runtime was cancelled", cause: error)
    }
  }

  private static func noContainer(_ id: String) -> SkerryError {
    SkerryError(.notFound, "there is no container \(id)")
  }
}

struct FakeSandbox: GroupedRecord {
  var config: SandboxConfig
  var status: SandboxStatus
  var groups: [RecordGroup] { [.pod(config.podUID)] }
}

struct FakeContainer: GroupedRecord {
  var config: ContainerConfig
  var status: ContainerStatus
  var behavior = FakeRuntime.Behavior()
  var output: [FakeRuntime.Behavior.Line] = []
  var groups: [RecordGroup] {
    [.sandbox(config.sandboxID)] + (config.labels[RuntimeLabels.podUID].map { [.pod($0)] } ?? [])
  }
  /// Rises when what was scheduled for this container no longer holds (a reboot).
  var life: UInt64 = 0
}
