import Base
import EventLoop
import Glibc
import Logging

/// Containers by an OCI runtime directly: runc under conmon, images by skopeo and umoci, networks by the CNI plugins.
/// Needs root. Everything it makes carries a name that derives from its data directory (`RuntimeLayout`).
@LoopActor package final class OCIRuntime: ContainerRuntime {
  package struct Options: Sendable {
    /// The data directory; made if it is not there.
    package var root: String
    /// The pods' network, such as `10.42.1.0/24`; nil: a free one is chosen once and kept.
    package var podSubnet: String?
    /// The OCI runtime program.
    package var program: String
    package init(root: String, podSubnet: String? = nil, program: String = "runc") {
      self.root = root
      self.podSubnet = podSubnet
      self.program = program
    }
  }

  package let name = "oci"
  package let layout: RuntimeLayout
  let images: ImageStore
  let sandboxStore: Sandboxes
  let supervisor: Supervisor
  let network: PodNetwork
  let tool: Tool
  let log: Logger
  private let lock: DirectoryLock
  let scheduler: any Scheduler
  private let random: any RandomSource

  package var onEvent: (@LoopActor (_ containerID: String) -> Void)? {
    get { supervisor.onEvent }
    set { supervisor.onEvent = newValue }
  }
  /// Called while an image is fetched, with its name and the bytes that have arrived.
  package var onPullProgress: (@LoopActor (_ image: String, _ bytes: Int64) -> Void)? {
    get { images.onProgress }
    set { images.onProgress = newValue }
  }

  /// Takes the data directory; fails if another process has it, or if a program that is needed is missing.
  package init(_ options: Options, scheduler: any Scheduler, random: any RandomSource, log: Logger) throws(SkerryError)
  {
    let missing = Self.missingPrograms(program: options.program)
    guard missing.isEmpty else {
      throw SkerryError(
        .system, "containers need \(missing.joined(separator: ", ")), which this machine lacks; install them")
    }
    guard !options.root.contains(where: { ":,\\\n".contains($0) }) else {
      throw SkerryError(
        .invalidArgument, "the data directory \(options.root) has a character (: , \\) that overlay mounts cannot take")
    }
    try Files.makeDirectory(options.root, mode: 0o711)
    layout = RuntimeLayout(root: options.root)
    lock = try DirectoryLock("\(layout.root)/lock")
    tool = Tool(mark: layout.helperMark)
    network = PodNetwork(layout, tool: tool, subnet: options.podSubnet)
    images = ImageStore(layout, tool: tool, random: random, scheduler: scheduler)
    sandboxStore = Sandboxes(layout, tool: tool, network: network, scheduler: scheduler, log: log)
    let runc = Tool.find(options.program) ?? options.program
    supervisor = Supervisor(
      layout, launcher: RuncLauncher(layout, tool: tool, images: images, sandboxes: sandboxStore, runc: runc),
      tool: tool, scheduler: scheduler, random: random, log: log)
    self.log = log
    self.random = random
    self.scheduler = scheduler
  }

  /// The programs that are needed and not found, so that a daemon can say so, or choose the process runtime.
  package nonisolated static func missingPrograms(program: String = "runc") -> [String] {
    let needed = [program, "conmon", "skopeo", "umoci", "unshare", "ip", "iptables", "sha256sum"]
    var missing = needed.filter { !$0.hasPrefix("/") && Tool.find($0) == nil }
    if program.hasPrefix("/") && !Files.exists(program) { missing.append(program) }
    if !PodNetwork.pluginDirectories.contains(where: { Files.exists("\($0)/bridge") }) { missing.append("CNI plugins") }
    return missing
  }

  /// Stops watching and gives the data directory free; containers go on. For a clean end of the daemon, and for tests.
  package func close() {
    supervisor.end()
    lock.release()
  }

  package func recover() async throws(SkerryError) {
    let (layout, mark) = (layout, layout.helperMark)
    // Helpers of a run that was killed go first: a plugin that still works would undo what follows.
    try await Processes.killMarked("\(mark.name)=\(mark.value)", scheduler)
    try await blocking { () throws(SkerryError) in
      try Files.makeDirectory(layout.volatile, mode: 0o711)
      if !Mounts.isMountPoint(layout.volatile) { try Mounts.tmpfs(at: layout.volatile, options: "mode=0711") }
    }
    try await images.recover()
    try await network.prepare()
    try await supervisor.recover()
    try await sandboxStore.recover()
    try supervisor.begin()
  }

  // MARK: images

  package func pull(_ image: String, policy: PullPolicy, credentials: RegistryCredentials?) async throws(SkerryError)
    -> ImageStatus
  {
    try await images.pull(image, policy, credentials)
  }

  package func images() async throws(SkerryError) -> [ImageStatus] { images.list }

  package func removeImage(_ digest: String) async throws(SkerryError) {
    if let user = supervisor.records.values.first(where: { $0.image == digest }) {
      throw SkerryError(.conflict, "image \(digest) is used by container \(user.id); remove the container first")
    }
    try await images.remove(digest)
  }

  // MARK: sandboxes

  package func runSandbox(_ config: SandboxConfig) async throws(SkerryError) -> SandboxStatus {
    try await sandboxStore.run(config)
  }

  package func stopSandbox(_ id: String) async throws(SkerryError) {
    let members = supervisor.records[.sandbox(id)].filter { $0.phase == .running }
    for record in members { try await supervisor.stop(record.id, grace: .zero) }
    try await sandboxStore.stop(id)
  }

  package func removeSandbox(_ id: String) async throws(SkerryError) {
    try await stopSandbox(id)
    for record in supervisor.records[.sandbox(id)] { try await supervisor.remove(record.id) }
    try await sandboxStore.remove(id)
  }

  package func sandboxes() async throws(SkerryError) -> [SandboxStatus] { sandboxStore.statuses }

  package func sandboxes(ofPod uid: String) async throws(SkerryError) -> [SandboxStatus] {
    sandboxStore.statuses(ofPod: uid)
  }

  // MARK: containers

  package func createContainer(_ config: ContainerConfig) async throws(SkerryError) {
    try RuntimeLayout.check(id: config.id)
    if supervisor.records[config.id] != nil { return }
    let sandbox = try sandboxStore.record(config.sandboxID)
    let image = try images.config(config.image)
    guard sandbox.phase == .ready else {
      throw SkerryError(.conflict, "container \(config.id): its sandbox \(sandbox.id) is not ready")
    }
    try await supervisor.create(
      config, logDirectory: sandbox.logDirectory, stopSignal: image.stopSignalNumber,
      cgroupPath: layout.cgroup(sandbox: sandbox.id, container: config.id))
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
    let pidFile = "\(layout.bundle(id))/exec-\(random.bytes(8).hex)"
    var argv = supervisor.launcher.execArguments(record, request)
    if let position = argv.firstIndex(of: "exec") {
      argv.insert(contentsOf: ["--pid-file", pidFile], at: position + 1)
    }
    return try ProcessExecSession.start(
      argv, request, environment: tool.environment(), directory: "/", pidFile: pidFile)
  }

  package func stats(_ id: String) async throws(SkerryError) -> ContainerStats {
    let record = try supervisor.running(id, for: "its figures")
    let path = record.cgroupPath ?? layout.cgroup(sandbox: record.sandboxID, container: id)
    return try await blocking { () throws(SkerryError) in try CgroupReader.machine().stats(path) }
  }
}

/// One process at a time for a data directory (flock(2): gone with the process, however it ends).
@LoopActor final class DirectoryLock {
  private var file: Int32

  init(_ path: String) throws(SkerryError) {
    file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
    guard file >= 0 else { throw Files.failure("open", path) }
    guard flock(file, LOCK_EX | LOCK_NB) == 0 else {
      Glibc.close(file)
      throw SkerryError(.conflict, "\(path) is held by another process: this data directory is in use")
    }
  }

  func release() {
    if file >= 0 { Glibc.close(file) }
    file = -1
  }

  isolated deinit { if file >= 0 { Glibc.close(file) } }
}
