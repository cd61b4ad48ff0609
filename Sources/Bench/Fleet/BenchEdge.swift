import Base
import EventLoop
import Glibc
import Identity
import ObjectModel

/// How real containers of a scenario run.
struct EdgeRuntime: Sendable {
  /// `oci` or `process`, as edgecore takes it.
  let name: String
  let image: String
  /// Why it is not `oci`; nil if it is.
  let reason: String?

  /// Options of scenarios that run real pods.
  static let options = [
    Option("runtime", .text, "", "how real pods run: oci or process (default: oci if it can be)"),
    Option("image", .text, "", "of real pods with oci, such as oci:/srv/busybox:1; it needs /bin/sleep"),
  ]

  static func flaw(_ options: Options) -> String? {
    switch options.string("runtime") {
    case nil, "process": nil
    case "oci":
      obstacle(options).map { "--runtime oci cannot be: \($0)" }
    case .some(let other): "--runtime is oci or process, not \(other)"
    }
  }

  /// What keeps containers from being run by runc.
  private static func obstacle(_ options: Options) -> String? {
    if getuid() != 0 { return "it needs root" }
    if !["/usr/bin", "/usr/sbin", "/usr/local/bin"].contains(where: { Files.exists("\($0)/runc") }) {
      return "runc is not installed"
    }
    return options.string("image") == nil ? "no image is named (--image)" : nil
  }

  init(_ options: Options) {
    let asked = options.string("runtime")
    reason = asked == "process" ? "it was asked for" : Self.obstacle(options)
    name = reason == nil ? "oci" : "process"
    image = options.string("image") ?? "none"
  }

  /// For the table: what the figures of real pods mean.
  var note: String {
    "real pods run under conmon "
      + (reason.map { "as processes of this machine, without runc (\($0))" } ?? "with runc, from \(image)")
  }

  /// A pod that does nothing; without a node the scheduler places it.
  func idlePod(_ name: String, namespace: String = BenchServer.namespace, node: String? = nil) -> Value {
    var spec: Value = [
      "terminationGracePeriodSeconds": 0,
      "containers": [["name": "main", "image": .string(image), "command": ["/bin/sleep", "100000"]]],
    ]
    if let node { spec["nodeName"] = .string(node) }
    return ["metadata": ["name": .string(name), "namespace": .string(namespace)], "spec": spec]
  }
}

/// A real node: an edgecore with what it stores and runs, and a devicecore beside it.
@LoopActor final class BenchEdge {
  let node: String
  let context: BenchContext
  private(set) var edge: ProcessProbe
  private(set) var devices: ProcessProbe?
  /// From the start of edgecore until it said that it serves.
  private(set) var start = Duration.zero
  private let directory: String
  private let program: String
  private var children: [Child] = []
  private var cleanup: Int?

  private var config: String { "\(directory)/edgecore.yaml" }

  /// Starts both and waits until they serve.
  static func start(_ context: BenchContext, _ server: BenchServer, _ runtime: EdgeRuntime) async throws -> BenchEdge {
    guard let pki = server.target.pki else {
      throw SkerryError(.invalidArgument, "a real node needs the CA of a server that the bench started itself")
    }
    let edge = BenchEdge(
      context, directory: try context.newDirectory("edge"), program: try BenchServer.program("edgecore"))
    edge.cleanup = context.atEnd { await edge.stop() }
    try edge.configure(server.target.address, try ClusterPKI.load(directory: pki), runtime)
    let began = context.scheduler.now
    edge.edge = try await edge.launch([edge.program, "--config", edge.config], ready: "ready")
    edge.start = context.scheduler.now - began
    let argv = [
      try BenchServer.program("devicecore"), "--data", "\(edge.directory)/devices", "--edge-socket",
      "\(edge.directory)/edge.sock", "--driver-socket", "\(edge.directory)/drivers.sock", "--operations",
      "127.0.0.1:0", "--ready-file", "\(edge.directory)/devices-ready.json",
    ]
    edge.devices = try await edge.launch(argv, ready: "devices-ready")
    return edge
  }

  private init(_ context: BenchContext, directory: String, program: String) {
    self.context = context
    self.directory = directory
    self.program = program
    node = "real-edge"
    edge = ProcessProbe(pid: getpid())
  }

  private func configure(_ cloud: HostPort, _ pki: ClusterPKI, _ runtime: EdgeRuntime) throws(SkerryError) {
    try Files.makeDirectory("\(directory)/devices", mode: 0o700)
    let key = try KeyPair.generate()
    let certificate = try pki.authority.issue(
      publicKey: key.publicKey, subject: .node(node), usage: .client, lifetime: .seconds(86_400),
      now: context.scheduler.wall, random: context.random)
    try Files.write("\(directory)/node.crt", certificate.pem, mode: 0o600)
    try Files.write("\(directory)/node.key", key.pem, mode: 0o600)
    try Files.write("\(directory)/ca.crt", pki.authority.certificate.pem, mode: 0o600)
    let settings = [
      ("node", node), ("cloud", cloud.description), ("data", "\(directory)/data"),
      ("ca", "\(directory)/ca.crt"), ("cert", "\(directory)/node.crt"), ("key", "\(directory)/node.key"),
      ("sealing-keys", "\(directory)/sealing.keys"), ("volatile", "\(directory)/volatile"),
      ("socket", "\(directory)/edge.sock"), ("runtime", runtime.name), ("operations", "127.0.0.1:0"),
      ("api", "127.0.0.1:0"), ("ready-file", "\(directory)/ready.json"), ("log-level", "error"),
    ]
    try Files.write(config, settings.map { "\($0.0): \"\($0.1)\"\n" }.joined(), mode: 0o600)
  }

  private func launch(_ argv: [String], ready: String) async throws -> ProcessProbe {
    let log = "\(directory)/\(ready).log"
    let output = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
    guard output >= 0 else { throw Files.failure("open", log) }
    defer { Glibc.close(output) }
    let child = try Subprocess.spawn(
      argv, stdout: .fd(output), stderr: .fd(output), detached: true, onExit: { _ in })
    context.own(child)
    children.append(child)
    let serves = try await Objects.wait(context, .seconds(30), each: .milliseconds(2)) {
      Files.exists("\(directory)/\(ready).json") || child.exitStatus != nil
    }
    guard serves, child.exitStatus == nil else {
      let last = (Files.readText(log) ?? "").split(separator: "\n").last ?? "it said nothing"
      throw SkerryError(.unavailable, "\(argv[0]) does not come up: \(last)")
    }
    return ProcessProbe(pid: child.pid)
  }

  /// What edgecore's allocator has given out, in bytes.
  func allocated() async -> Double? {
    guard let told = try? JSON.parse(Bytes((Files.readText("\(directory)/ready.json") ?? "").utf8)),
      let url = told["metrics"].string
    else { return nil }
    return await MetricsReader.value(of: ProcessMemory.metric, at: url, context.scheduler)
  }

  /// The processes of its containers' conmons: each names a directory of this node.
  var monitors: [ProcessProbe] {
    Files.list("/proc").compactMap { Int32($0) }.filter { pid in
      guard (Files.readText("/proc/\(pid)/comm") ?? "").hasPrefix("conmon") else { return false }
      return (Files.readText("/proc/\(pid)/cmdline") ?? "").contains("\(directory)/")
    }.map { ProcessProbe(pid: $0) }
  }

  /// Ends both, and everything that they run.
  func stop() async {
    if let cleanup { context.forget(cleanup) }
    cleanup = nil
    for child in children.reversed() { child.kill(SIGTERM) }
    let deadline = context.scheduler.now + .seconds(10)
    while children.contains(where: { $0.exitStatus == nil }), context.scheduler.now < deadline {
      try? await context.scheduler.sleep(for: .milliseconds(5))
    }
    for child in children {
      child.kill(SIGKILL)
      context.disown(child)
    }
    children = []
    _ = try? await Subprocess.run([program, "--config", config, "--tear-down"], deadline: .seconds(60))
    try? Files.removeTree(directory)
  }
}

/// Counts the times that processes ask the kernel to bring files to the disk. Only tracing can tell that from outside.
@LoopActor enum SyncCount {
  /// For so long; nil where it cannot be counted.
  static func count(_ probes: [ProcessProbe], for time: Duration) async -> Int? {
    let pids = probes.map { String($0.pid) }.joined(separator: ",")
    let events = ["fsync", "fdatasync", "sync_file_range", "sync", "syncfs"].map { "syscalls:sys_enter_\($0)" }
    let seconds = "\(time.milliseconds / 1_000).\(String(time.milliseconds % 1_000 + 1_000).dropFirst())"
    guard
      let found = try? await Subprocess.run(
        ["perf", "stat", "-x", ",", "-e", events.joined(separator: ","), "-p", pids, "--", "sleep", seconds],
        deadline: time + .seconds(30)), found.status.isSuccess
    else { return nil }
    return parse(found.errorText, events: events.count)
  }

  /// `perf stat -x ,`: the count is the first of a line's fields; a process that never ran has none.
  nonisolated static func parse(_ text: String, events: Int) -> Int? {
    let lines = text.split(separator: "\n").filter { $0.contains("syscalls:sys_enter_") }
    guard lines.count == events else { return nil }
    var sum = 0
    for line in lines {
      let field = line.prefix { $0 != "," }
      if field == "<not counted>" { continue }
      guard let count = Int(field) else { return nil }
      sum += count
    }
    return sum
  }
}
