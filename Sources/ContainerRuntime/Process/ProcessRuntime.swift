import Base
import EventLoop
import Glibc
import Logging

/// Runs pods where there are no privileges: each container is a process of this machine in a session of its own,
/// under conmon, which keeps its log and exit code and outlives us.
///
/// It keeps the contract of `ContainerRuntime`, and none of a container's walls:
/// * no image is fetched; a name stands for the machine's own file system, so a pod must name its command;
/// * the network is the machine's; host ports need no mapping, and pods have no address of their own;
/// * a volume is seen at its path on the machine, not at its path in the container;
/// * limits, capabilities and seccomp are not applied; another user than ours is refused;
/// * a process that clears its environment escapes the search by which a container's children are killed.
@LoopActor package final class ProcessRuntime: ContainerRuntime {
  package let name = "process"
  package let layout: RuntimeLayout
  private let launcher: ProcessLauncher
  let supervisor: Supervisor
  private let tool: Tool
  private let scheduler: any Scheduler
  private let log: Logger
  private let lock: DirectoryLock
  private let gates = Gates()
  private var sandboxRecords = RecordTable<SandboxRecord>()
  private var names: Set<String> = []

  package var onEvent: (@LoopActor (_ containerID: String) -> Void)? {
    get { supervisor.onEvent }
    set { supervisor.onEvent = newValue }
  }

  package nonisolated static func missingPrograms() -> [String] {
    ["conmon", "setsid", "env", "mkfifo"].filter { Tool.find($0) == nil }
  }

  /// Takes the data directory; fails if another process has it, or if a program that is needed is missing.
  package init(root: String, scheduler: any Scheduler, random: any RandomSource, log: Logger) throws(SkerryError) {
    let missing = Self.missingPrograms()
    guard missing.isEmpty else {
      throw SkerryError(
        .system, "processes need \(missing.joined(separator: ", ")), which this machine lacks; install them")
    }
    try Files.makeDirectory(root, mode: 0o700)
    layout = RuntimeLayout(root: root, privileged: false)
    lock = try DirectoryLock("\(layout.root)/lock")
    tool = Tool(mark: layout.helperMark)
    launcher = ProcessLauncher(layout, scheduler: scheduler)
    supervisor = Supervisor(
      layout, launcher: launcher, tool: tool, scheduler: scheduler, random: random, log: log)
    self.scheduler = scheduler
    self.log = log
  }

  /// Stops watching and gives the data directory free; processes go on.
  package func close() {
    supervisor.end()
    lock.release()
  }

  package func recover() async throws(SkerryError) {
    let (layout, mark) = (layout, layout.helperMark)
    try await launcher.begin()
    try await Processes.killMarked("\(mark.name)=\(mark.value)", scheduler)
    let found = try await blocking { () throws(SkerryError) -> [SandboxRecord] in
      try Files.makeDirectory(layout.sandboxes)
      return Files.list(layout.sandboxes).compactMap { id in
        (try? Records.read(layout.sandboxRecord(id))).flatMap { try? SandboxRecord($0) }
      }
    }
    for record in found { sandboxRecords[record.id] = record }
    try await supervisor.recover()
    try supervisor.begin()
  }

  // MARK: images

  /// Answers at once: the digest is made from the name, so that pods and status look as they do elsewhere.
  package func pull(_ image: String, policy: PullPolicy, credentials: RegistryCredentials?) async throws(SkerryError)
    -> ImageStatus
  {
    _ = try ImageReference(image)
    if policy == .never && !names.contains(image) {
      throw SkerryError(.notFound, "image \(image) is not on this node and its pull policy is Never")
    }
    names.insert(image)
    return Self.status(image)
  }

  package func images() async throws(SkerryError) -> [ImageStatus] { names.sorted().map { Self.status($0) } }

  package func removeImage(_ digest: String) async throws(SkerryError) {
    if let user = supervisor.records.values.first(where: { $0.image == digest }) {
      throw SkerryError(.conflict, "image \(digest) is used by container \(user.id); remove the container first")
    }
    names = names.filter { Self.status($0).digest != digest }
  }

  private static func status(_ name: String) -> ImageStatus {
    ImageStatus(digest: NameDigest.of(name), references: [name], bytes: 0)
  }

  // MARK: sandboxes

  package func runSandbox(_ config: SandboxConfig) async throws(SkerryError) -> SandboxStatus {
    try RuntimeLayout.check(id: config.id)
    return try await gates.with(config.id) { () throws(SkerryError) in
      if let found = sandboxRecords[config.id], found.phase == .ready { return status(found) }
      var record = SandboxRecord(config, createdAt: sandboxRecords[config.id]?.createdAt ?? scheduler.wall)
      record.hostNetwork = true
      record.phase = .ready
      try await save(record)
      return status(record)
    }
  }

  package func stopSandbox(_ id: String) async throws(SkerryError) {
    let members = supervisor.records[.sandbox(id)].filter { $0.phase == .running }
    for record in members { try await supervisor.stop(record.id, grace: .zero) }
    try await gates.with(id) { () throws(SkerryError) in
      guard var record = sandboxRecords[id], record.phase != .stopped else { return }
      record.phase = .stopped
      try await save(record)
    }
  }

  package func removeSandbox(_ id: String) async throws(SkerryError) {
    try await stopSandbox(id)
    for record in supervisor.records[.sandbox(id)] { try await supervisor.remove(record.id) }
    try await gates.with(id) { () throws(SkerryError) in
      guard let record = sandboxRecords[id] else { return }
      let shared = sandboxRecords.values.contains { $0.id != id && $0.logDirectory == record.logDirectory }
      let (directory, logs) = ("\(layout.sandboxes)/\(id)", shared ? "" : record.logDirectory)
      try await blocking { () throws(SkerryError) in
        if !logs.isEmpty { try Files.removeTree(logs) }
        try Files.removeTree(directory)
      }
      sandboxRecords[id] = nil
    }
  }

  package func sandboxes() async throws(SkerryError) -> [SandboxStatus] {
    sandboxRecords.values.map { status($0) }.sorted { $0.id < $1.id }
  }

  package func sandboxes(ofPod uid: String) async throws(SkerryError) -> [SandboxStatus] {
    sandboxRecords[.pod(uid)].map { status($0) }
  }

  private func status(_ record: SandboxRecord) -> SandboxStatus {
    SandboxStatus(
      id: record.id, podUID: record.podUID, ready: record.phase == .ready, addresses: [], networkNamespace: nil,
      createdAt: record.createdAt, labels: record.labels)
  }

  private func save(_ record: SandboxRecord) async throws(SkerryError) {
    let (path, value) = (layout.sandboxRecord(record.id), record.value)
    try await blocking { () throws(SkerryError) in
      try Files.makeDirectory(path.parentPath)
      try Records.write(path, value)
    }
    sandboxRecords[record.id] = record
  }

  // MARK: containers

  package func createContainer(_ config: ContainerConfig) async throws(SkerryError) {
    try RuntimeLayout.check(id: config.id)
    if supervisor.records[config.id] != nil { return }
    guard let sandbox = sandboxRecords[config.sandboxID] else {
      throw SkerryError(.notFound, "container \(config.id): there is no sandbox \(config.sandboxID)")
    }
    guard names.contains(where: { Self.status($0).digest == config.image }) else {
      throw SkerryError(.notFound, "container \(config.id): image \(config.image) was not pulled")
    }
    guard sandbox.phase == .ready else {
      throw SkerryError(.conflict, "container \(config.id): its sandbox \(sandbox.id) is not ready")
    }
    let wanted = config.security.runAsUser ?? Int64(getuid())
    guard wanted == Int64(getuid()), !(config.security.runAsNonRoot && getuid() == 0) else {
      throw SkerryError(
        .invalidArgument, "container \(config.name): the process runtime runs everything as uid \(getuid())")
    }
    try await supervisor.create(config, logDirectory: sandbox.logDirectory, stopSignal: SIGTERM, cgroupPath: nil)
  }

  package func startContainer(_ id: String) async throws(SkerryError) { try await supervisor.start(id) }

  package func stopContainer(_ id: String, grace: Duration) async throws(SkerryError) {
    try await supervisor.stop(id, grace: grace)
  }

  package func removeContainer(_ id: String) async throws(SkerryError) { try await supervisor.remove(id) }

  package func containers() async throws(SkerryError) -> [ContainerStatus] { supervisor.statuses }

  package func containers(ofPod uid: String) async throws(SkerryError) -> [ContainerStatus] {
    supervisor.statuses(ofPod: uid)
  }

  package func exec(_ id: String, _ request: ExecRequest) async throws(SkerryError) -> any ExecSession {
    let record = try supervisor.running(id, for: "a command")
    guard !request.command.isEmpty else { throw SkerryError(.invalidArgument, "no command to run was given") }
    return try ProcessExecSession.start(
      launcher.execArguments(record, request), request, environment: tool.environment(), directory: "/", pidFile: nil)
  }

  package func stats(_ id: String) async throws(SkerryError) -> ContainerStats {
    let record = try supervisor.running(id, for: "its figures")
    let mark = "\(ProcessLauncher.mark)=\(record.token)"
    return try await blocking { () throws(SkerryError) in Processes.stats(Processes.marked(mark)) }
  }

  /// Ends every process and removes every file that this data directory ever made. Needs no state but the directory.
  package func tearDown() async throws(SkerryError) {
    supervisor.end()
    let layout = layout
    try await Processes.killMarked("\(layout.helperMark.name)=\(layout.helperMark.value)", scheduler)
    let tokens = try await blocking { () throws(SkerryError) -> [String] in
      Files.list(layout.containers).compactMap { (try? Records.read(layout.containerRecord($0)))?["token"].string }
    }
    for token in tokens { try await Processes.killMarked("\(ProcessLauncher.mark)=\(token)", scheduler) }
    try await Processes.killMarked("\(layout.monitorMark.name)=\(layout.monitorMark.value)", scheduler)
    try await blocking { () throws(SkerryError) in
      for path in [layout.volatile, layout.containers, layout.sandboxes, layout.exits] { try Files.removeTree(path) }
    }
    close()
  }
}

/// Stands in for a digest where there is no image: the same name has the same one in every run.
enum NameDigest {
  static func of(_ name: String) -> String {
    var text = ""
    for round in UInt64(1)...4 {
      var hash: UInt64 = 0xcbf2_9ce4_8422_2325 ^ round
      for byte in name.utf8 { hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01b3 }
      var bytes: Bytes = []
      bytes.append(bigEndian: hash)
      text += bytes.hex
    }
    return "sha256:\(text)"
  }
}
