import Base
import EventLoop
import Glibc
import Logging

/// The containers of one data directory: their records, their start under conmon, their end. What they are made of
/// is the launcher's matter.
@LoopActor final class Supervisor {
  /// How often logs are measured, and processes looked up whose end nobody told.
  static let housekeepingInterval: Duration = .seconds(10)
  /// How long after a process's end its exit file may take.
  static let exitFileGrace: Duration = .seconds(2)
  /// The exit code of a container that could not be started, as containerd gives it.
  static let startErrorCode: Int32 = 128

  let layout: RuntimeLayout
  let launcher: any Launcher
  let tool: Tool
  let scheduler: any Scheduler
  private let random: any RandomSource
  let log: Logger
  let gates = Gates()
  var records = RecordTable<ContainerRecord>()
  /// What a container needs for its start and no file may hold.
  private var configs: [String: ContainerConfig] = [:]
  private var waiters: [String: [CheckedContinuation<Void, Never>]] = [:]
  private var watch: DirectoryWatch?
  private var housekeeping: TimerID?
  var onEvent: (@LoopActor (_ containerID: String) -> Void)?

  init(
    _ layout: RuntimeLayout, launcher: any Launcher, tool: Tool, scheduler: any Scheduler, random: any RandomSource,
    log: Logger
  ) {
    self.layout = layout
    self.launcher = launcher
    self.tool = tool
    self.scheduler = scheduler
    self.random = random
    self.log = log
  }

  var statuses: [ContainerStatus] { records.values.map(\.status).sorted { $0.id < $1.id } }
  func statuses(ofPod uid: String) -> [ContainerStatus] { records[.pod(uid)].map(\.status) }

  func record(_ id: String) throws(SkerryError) -> ContainerRecord {
    guard let record = records[id] else { throw SkerryError(.notFound, "there is no container \(id)") }
    return record
  }

  func running(_ id: String, for what: String) throws(SkerryError) -> ContainerRecord {
    let record = try record(id)
    guard record.phase == .running else {
      throw SkerryError(.conflict, "container \(id) is not running; \(what) needs a running container")
    }
    return record
  }

  /// Watches for exits from now on; the exit directory is there.
  func begin() throws(SkerryError) {
    Descriptors.keepFromChildren()
    watch = try DirectoryWatch(
      layout.exits, onFile: { [weak self] id in self?.exitFileAppeared(id) },
      onGap: { [weak self] in self?.lookForExits() })
    // What ended between the look of the recovery and the watch.
    lookForExits()
    scheduleHousekeeping()
  }

  func end() {
    watch?.stop()
    watch = nil
    if let housekeeping { scheduler.cancel(housekeeping) }
    housekeeping = nil
  }

  // MARK: create, start

  func create(_ config: ContainerConfig, logDirectory: String, stopSignal: Int32, cgroupPath: String?)
    async throws(SkerryError)
  {
    try await gates.with(config.id) { () throws(SkerryError) in
      if records[config.id] != nil { return }
      let directory = "\(logDirectory)/\(config.name)"
      let record = ContainerRecord(
        id: config.id, sandboxID: config.sandboxID, name: config.name, attempt: config.attempt, image: config.image,
        labels: config.labels, logPath: "\(directory)/\(config.attempt).log", cgroupPath: cgroupPath,
        stopSignal: stopSignal, token: random.bytes(16).hex, phase: .created, createdAt: scheduler.wall)
      try await blocking { () throws(SkerryError) in try Files.makeDirectory(directory) }
      try await save(record)
      do throws(SkerryError) {
        try await launcher.prepare(config, record)
      } catch {
        try await forget(config.id)
        throw error
      }
      configs[config.id] = config
    }
  }

  func start(_ id: String) async throws(SkerryError) {
    try await gates.with(id) { () throws(SkerryError) in
      var record = try record(id)
      switch record.phase {
      case .running: return
      case .exited, .unknown:
        throw SkerryError(.conflict, "container \(id) has already run; create another with the next attempt")
      case .created, .starting: break
      }
      guard let config = configs[id] else {
        throw SkerryError(.conflict, "container \(id) lost its configuration; remove it and create it again")
      }
      record.phase = .starting
      try await save(record)
      do throws(SkerryError) {
        try await launch(&record, config)
      } catch {
        // Nothing of a start that failed is left running; the record says that it ended.
        try await launcher.discard(id: id)
        record.phase = .exited
        record.exitCode = Self.startErrorCode
        record.reason = "StartError"
        record.finishedAt = scheduler.wall
        try await save(record)
        throw SkerryError(error.code, "container \(record.name) (\(id)) cannot be started", cause: error)
      }
      configs[id] = nil
    }
  }

  private func launch(_ record: inout ContainerRecord, _ config: ContainerConfig) async throws(SkerryError) {
    let monitor = layout.monitorMark
    var environment = tool.environment([monitor.name: monitor.value, "_OCI_SYNCPIPE": "3"])
    environment[tool.mark.name] = nil
    environment[Self.tokenMark] = record.token
    let pid = try await Conmon.launch(
      Conmon.Request(
        record: record, layout: layout, launcher: launcher, tty: config.tty, stdin: config.stdin,
        environment: environment), scheduler: scheduler)
    record.pid = pid
    record.startTicks = try await blocking { () throws(SkerryError) in Processes.startTicks(pid) }
    // Before it can have started: a short one would seem to end before its start otherwise.
    record.startedAt = scheduler.wall
    try await launcher.start(record)
    record.phase = .running
    try await save(record)
  }

  /// In the environment of a start's conmon and of what it runs until the container's own process is there.
  static let tokenMark = "SKERRY_TOKEN"

  // MARK: stop, remove

  /// The stop signal, SIGKILL after `grace`; answers when it has ended.
  func stop(_ id: String, grace: Duration) async throws(SkerryError) {
    try await gates.with(id) { () throws(SkerryError) in
      guard let record = records[id], record.phase == .running else { return }
      try await launcher.signal(record, grace > .zero ? record.stopSignal : SIGKILL)
    }
    guard grace > .zero else { return try await waitForExit(id, within: Self.killDeadline) }
    let timer = scheduler.schedule(after: grace) { [weak self] in
      spawn { await self?.kill(id) }
    }
    defer { scheduler.cancel(timer) }
    try await waitForExit(id, within: grace + Self.killDeadline)
  }

  /// A process that SIGKILL does not end within this is stuck in the kernel.
  static let killDeadline: Duration = .seconds(20)

  private func kill(_ id: String) async {
    guard let record = records[id], record.phase == .running else { return }
    do throws(SkerryError) { try await launcher.signal(record, SIGKILL) } catch {
      log.error(RuntimeLog.killFailed, "container \(id) could not be killed: \(error)")
    }
  }

  private func waitForExit(_ id: String, within limit: Duration) async throws(SkerryError) {
    guard records[id]?.phase == .running else { return }
    let timer = scheduler.schedule(after: limit) { [weak self] in self?.wake(id) }
    await withCheckedContinuation { waiters[id, default: []].append($0) }
    scheduler.cancel(timer)
    guard records[id]?.phase != .running else {
      throw SkerryError(.timeout, "container \(id) did not end within \(limit), though it was killed")
    }
  }

  private func wake(_ id: String) {
    for waiter in waiters.removeValue(forKey: id) ?? [] { waiter.resume() }
  }

  func remove(_ id: String) async throws(SkerryError) {
    try await gates.with(id) { () throws(SkerryError) in
      guard let record = records[id] else { return }
      guard record.phase != .running else {
        throw SkerryError(.conflict, "container \(id) is running; stop it first")
      }
      try await forget(id)
    }
  }

  /// Takes away all that is of a container, the record last, so that a crash in between leaves something to go by.
  func forget(_ id: String) async throws(SkerryError) {
    try await launcher.discard(id: id)
    let (directory, exit) = ("\(layout.containers)/\(id)", layout.exitFile(id))
    try await blocking { () throws(SkerryError) in
      try Files.removeFile(exit)
      try Files.removeTree(directory)
    }
    configs[id] = nil
    records[id] = nil
    wake(id)
  }

  func save(_ record: ContainerRecord) async throws(SkerryError) {
    let (path, value) = (layout.containerRecord(record.id), record.value)
    try await blocking { () throws(SkerryError) in
      try Files.makeDirectory(path.parentPath, mode: 0o711)
      try Records.write(path, value)
    }
    records[record.id] = record
  }

  // MARK: exits

  private func exitFileAppeared(_ id: String) {
    // conmon writes under a temporary name first; only a container's id is of interest.
    guard records[id] != nil else { return }
    spawn { await self.settle(id) }
  }

  private func lookForExits() {
    for record in records.values where record.phase == .running { exitFileAppeared(record.id) }
  }

  /// Takes over what the exit file says, if it is there.
  private func settle(_ id: String) async {
    do throws(SkerryError) {
      let ended = try await gates.with(id) { () throws(SkerryError) -> Bool in
        guard let record = records[id], record.phase == .running else { return false }
        guard let ended = try await readExit(of: record) else { return false }
        try await save(ended)
        return true
      }
      guard ended else { return }
    } catch {
      log.error(RuntimeLog.exitUnrecorded, "the exit of container \(id) could not be recorded: \(error)")
      return
    }
    wake(id)
    onEvent?(id)
  }

  /// The record as its exit file completes it; nil while there is none.
  func readExit(of record: ContainerRecord) async throws(SkerryError) -> ContainerRecord? {
    let (path, oom) = (layout.exitFile(record.id), "\(layout.containers)/\(record.id)/oom")
    return try await blocking { () throws(SkerryError) in
      guard let found = Files.look(path), let text = Files.readText(path, limit: 64),
        let code = Int32(text.filter { !$0.isWhitespace })
      else { return nil }
      var ended = record
      ended.phase = .exited
      ended.exitCode = code
      ended.finishedAt = found.modified
      // A process may use SIGKILL's code itself, so the code alone does not tell.
      ended.reason = code == 0 ? "Completed" : code == 137 && Files.exists(oom) ? "OOMKilled" : "Error"
      return ended
    }
  }

  // MARK: housekeeping

  private func scheduleHousekeeping() {
    housekeeping = scheduler.schedule(after: Self.housekeepingInterval) { [weak self] in
      guard let self else { return }
      spawn {
        await self.keepHouse()
        if self.housekeeping != nil { self.scheduleHousekeeping() }
      }
    }
  }

  func keepHouse() async {
    let running = records.values.filter { $0.phase == .running }
    guard !running.isEmpty else { return }
    let bundles = running.map { layout.bundle($0.id) }
    // All in one go: an idle node is woken once for them, not once for each.
    let looks = try? await blocking { () throws(SkerryError) in
      zip(running, bundles).map { record, bundle in Self.look(at: record, bundle: bundle) }
    }
    for (record, look) in zip(running, looks ?? []) {
      do throws(SkerryError) {
        if let failure = look.failure { throw failure }
        if look.isGone { try await lookAfter(record) }
      } catch {
        log.warning(RuntimeLog.housekeeping, "housekeeping of container \(record.id): \(error)")
      }
    }
  }

  /// Blocking. Rotates the log if it is time, and tells whether the process has gone.
  private nonisolated static func look(at record: ContainerRecord, bundle: String) -> (
    failure: SkerryError?, isGone: Bool
  ) {
    do throws(SkerryError) {
      _ = try LogRotation.rotateIfLarge(record.logPath, control: "\(bundle)/ctl")
    } catch {
      return (error, false)
    }
    return (nil, record.pid.map { !Processes.isAlive($0, startTicks: record.startTicks) } ?? false)
  }

  /// A process that has gone without an exit file had its conmon killed: nobody will ever tell its code.
  private func lookAfter(_ record: ContainerRecord) async throws(SkerryError) {
    do { try await scheduler.sleep(for: Self.exitFileGrace) } catch { return }
    await settle(record.id)
    let lost = try await gates.with(record.id) { () throws(SkerryError) -> Bool in
      guard var now = records[record.id], now.phase == .running else { return false }
      now.phase = .unknown
      now.finishedAt = scheduler.wall
      try await save(now)
      return true
    }
    guard lost else { return }
    log.warning(
      RuntimeLog.monitorLost, "container \(record.id) has gone and left no exit code; its monitor must have been killed"
    )
    wake(record.id)
    onEvent?(record.id)
  }
}
