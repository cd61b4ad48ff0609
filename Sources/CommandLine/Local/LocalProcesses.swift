import Base
import EventLoop
import Glibc
import ObjectModel

/// The daemons of a local cluster as processes: started in order, noted in `run.json`, ended in reverse.
@LoopActor final class LocalProcesses {
  /// How long a daemon gets to end in order before it is killed.
  static let grace = Duration.seconds(10)

  private let cluster: LocalCluster
  private let files: LocalFiles
  private let scheduler: any Scheduler
  private var started: [(daemon: LocalDaemon, pid: Int32)] = []

  init(cluster: LocalCluster, files: LocalFiles, scheduler: any Scheduler) {
    self.cluster = cluster
    self.files = files
    self.scheduler = scheduler
  }

  /// Starts everything and waits until each has said that it serves.
  func start(patience: Duration) async throws {
    for daemon in try files.daemons() {
      if let ready = daemon.readyFile { try Files.removeFile(ready) }
      let log = "\(cluster.logs)/\(daemon.name.replacingSlash).log"
      let pid = try launch(daemon, log: log)
      started.append((daemon, pid))
      try note()
      try await waitUntilReady(daemon, pid: pid, log: log, patience: patience)
    }
  }

  private func launch(_ daemon: LocalDaemon, log: String) throws(SkerryError) -> Int32 {
    let file = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
    guard file >= 0 else { throw Files.failure("open", log) }
    defer { close(file) }
    // A session of its own: Ctrl-C reaches us alone, and we end the daemons in order.
    let child = try Subprocess.spawn(
      daemon.argv, stdout: .fd(file), stderr: .fd(file), detached: true, onExit: { _ in })
    return child.pid
  }

  private func waitUntilReady(_ daemon: LocalDaemon, pid: Int32, log: String, patience: Duration) async throws {
    guard let ready = daemon.readyFile else { return }
    let deadline = scheduler.now + patience
    while !Files.exists(ready) {
      guard Self.isAlive(pid) else {
        let text = Files.readText(log) ?? ""
        let last = text.split(separator: "\n").last ?? "it said nothing"
        throw SkerryError(.unavailable, "\(daemon.name) ended at once: \(last) (see \(log))")
      }
      guard scheduler.now < deadline else {
        throw SkerryError(.timeout, "\(daemon.name) does not serve after \(patience); see \(log)")
      }
      try await scheduler.sleep(for: .milliseconds(20))
    }
  }

  /// What `--ready-file` says.
  func description(api: String) -> Value {
    var value: Value = ["config": .string(cluster.config), "api": .string(api)]
    var (metrics, pids, commands, nodes): (Value, Value, Value, Value) = ([:], [:], [:], [:])
    for (daemon, pid) in started {
      if let url = daemon.metrics { metrics[daemon.name] = .string(url) }
      pids[daemon.name] = .int(Int64(pid))
      commands[daemon.name] = .array(daemon.argv.map { .string($0) })
    }
    for node in cluster.nodes {
      nodes[node] = [
        "key": .string("\(cluster.node(node))/node.key"), "cert": .string("\(cluster.node(node))/node.crt"),
      ]
    }
    value["metrics"] = metrics
    value["pids"] = pids
    value["commands"] = commands
    value["nodes"] = nodes
    return value
  }

  // MARK: Ending

  /// Ends the daemons in reverse order, then everything that the nodes' runtimes made.
  func stop() async {
    let pids = Self.processes(of: cluster.directory)
    // The agents last but the cloud: what they run is torn down below, whatever they still manage to do.
    for pid in pids { kill(pid, SIGTERM) }
    await waitForEnd(pids)
    for pid in pids where Self.isAlive(pid) { kill(pid, SIGKILL) }
    await waitForEnd(pids)
    for node in cluster.nodes {
      await tearDown(node)
      try? Files.removeTree(files.volatile(node))
    }
    try? Files.removeFile(cluster.runFile)
  }

  private func tearDown(_ node: String) async {
    guard let program = try? LocalCluster.program("edgecore") else { return }
    _ = try? await Subprocess.run(
      [program, "--config", cluster.edgeConfig(node), "--tear-down"], deadline: .seconds(60))
  }

  private func waitForEnd(_ pids: [Int32]) async {
    let deadline = scheduler.now + Self.grace
    while scheduler.now < deadline, pids.contains(where: { Self.isAlive($0) }) {
      try? await scheduler.sleep(for: .milliseconds(20))
    }
  }

  /// Throws when daemons of this cluster run: they keep its data open, and they are not ours to end.
  func refuseOthers() throws(SkerryError) {
    let pids = Self.processes(of: cluster.directory)
    guard !pids.isEmpty else { return }
    throw SkerryError(
      .unavailable,
      "daemons of \(cluster.directory) are running (pids \(pids.map(String.init).joined(separator: ", "))); "
        + "end them with: skerry down --data \(cluster.directory)")
  }

  /// Daemons of this cluster, whoever started them: their arguments name its directory.
  static func processes(of directory: String) -> [Int32] {
    let names: Set<String> = ["cloudcore", "edgecore", "devicecore", "device-modbus", "modbus-simulator"]
    return Files.list("/proc").compactMap { Int32($0) }.filter { pid in
      guard let text = Files.readText("/proc/\(pid)/cmdline") else { return false }
      let argv = text.split(separator: "\0").map(String.init)
      guard let program = argv.first?.split(separator: "/").last, names.contains(String(program)) else { return false }
      return argv.contains { $0.hasPrefix("\(directory)/") } || belongs(argv, directory)
    }
  }

  /// device-modbus names only a socket, whose directory the cluster's hash gives.
  private static func belongs(_ argv: [String], _ directory: String) -> Bool {
    Files.list("\(directory)/nodes").contains { node in
      guard let text = Files.readText("\(directory)/nodes/\(node)/edgecore.yaml") else { return false }
      let volatile = text.split(separator: "\n").first { $0.hasPrefix("volatile: ") }?.dropFirst(11).dropLast()
      guard let volatile else { return false }
      return argv.contains { $0.hasPrefix("\(volatile)/") }
    }
  }

  static func isAlive(_ pid: Int32) -> Bool {
    guard kill(pid, 0) == 0 else { return false }
    // A child that ended and was not yet reaped is not alive.
    let status = Files.readText("/proc/\(pid)/stat") ?? ""
    return !status.contains(") Z ")
  }

  private func note() throws(SkerryError) {
    var pids: Value = [:]
    for (daemon, pid) in started { pids[daemon.name] = .int(Int64(pid)) }
    try Files.writeDurably(cluster.runFile, Bytes(JSON.print(pids).utf8), mode: 0o600)
  }
}

extension String {
  /// `edgecore/n1` as a file name.
  fileprivate var replacingSlash: String { String(map { $0 == "/" ? "-" : $0 }) }
}
