import Base
import ContainerRuntimeConformance
import EventLoop
import EventLoopConformance
import Glibc
import Logging
import Testing

@testable import ContainerRuntime

/// True where containers can run: as root, with the programs. Elsewhere these tests are skipped, in words.
let canRunContainers = getuid() == 0 && OCIRuntime.missingPrograms().isEmpty
let whyNot: Comment = "containers need root and runc, conmon, skopeo, umoci, CNI plugins"

/// A data directory of its own with an OCI runtime in it, torn down at the end.
@LoopActor final class OCIWorld {
  let root: String
  let loop: Loop
  private(set) var runtime: OCIRuntime
  private(set) var digest = ""
  private var number = 0

  private init(_ root: String, _ loop: Loop) throws {
    self.root = root
    self.loop = loop
    runtime = try OCIWorld.make(root, loop)
  }

  static func make(_ root: String, _ loop: Loop) throws -> OCIRuntime {
    var log = Logger(label: "test")
    log.logLevel = .error
    return try OCIRuntime(
      OCIRuntime.Options(root: "\(root)/data"), scheduler: loop, random: SystemRandom(), log: log)
  }

  /// Runs `body` with a recovered runtime; whatever it does, nothing is left afterwards.
  nonisolated static func with(_ body: @escaping @LoopActor (OCIWorld) async throws -> Void) async throws {
    try await onLoop {
      let root = "/tmp/skerry-test-\(SystemRandom().bytes(6).hex)"
      let world = try OCIWorld(root, try #require(LoopActor.executor as? Loop))
      do {
        try await world.runtime.recover()
        try await body(world)
      } catch {
        try? await world.runtime.tearDown()
        try? Files.removeTree(root)
        throw error
      }
      try await world.runtime.tearDown()
      try Files.removeTree(root)
    }
  }

  /// As if the daemon had been killed: another runtime over the same directory.
  func restart() async throws {
    runtime.close()
    runtime = try Self.make(root, loop)
    try await runtime.recover()
  }

  /// The test image, made once by scripts/make-image.sh and kept among the build's products.
  static func image() async throws -> String {
    if let making { return try await making.value }
    let task = spawnThrowing {
      let package = #filePath.parentPath.parentPath.parentPath
      let (script, path) = ("\(package)/scripts/make-image.sh", "\(package)/.build/test-image")
      let made = Files.look("\(path)/index.json")?.modified ?? WallTime(seconds: 0)
      if made < (Files.look(script)?.modified ?? made) {
        let result = try await Subprocess.run([script, path], deadline: .seconds(60))
        try #require(result.status == .exited(0), "\(result.errorText)")
      }
      return "oci:\(path):latest"
    }
    making = task
    return try await task.value
  }
  private static var making: Task<String, any Error>?

  func sandbox(hostNetwork: Bool = false, ports: [PortMapping] = []) async throws -> SandboxStatus {
    number += 1
    return try await runtime.runSandbox(
      SandboxConfig(
        id: "s\(number)", podName: "pod-\(number)", podNamespace: "default", podUID: "uid-\(number)",
        hostname: "pod-\(number)", hostNetwork: hostNetwork, portMappings: ports,
        logDirectory: "\(root)/logs/s\(number)"))
  }

  func create(
    _ script: String, in sandbox: SandboxStatus, _ change: (inout ContainerConfig) -> Void = { _ in }
  ) async throws -> String {
    if digest.isEmpty {
      digest = try await runtime.pull(try await Self.image(), policy: .ifNotPresent, credentials: nil).digest
    }
    number += 1
    var config = ContainerConfig(
      id: "c\(number)", sandboxID: sandbox.id, name: "main\(number)", attempt: 0, image: digest,
      command: ["/bin/sh", "-c", script])
    change(&config)
    try await runtime.createContainer(config)
    return config.id
  }

  func run(
    _ script: String, in sandbox: SandboxStatus, _ change: (inout ContainerConfig) -> Void = { _ in }
  ) async throws -> String {
    let id = try await create(script, in: sandbox, change)
    try await runtime.startContainer(id)
    return id
  }

  func status(_ id: String) async throws -> ContainerStatus {
    try #require(try await runtime.containers().first { $0.id == id })
  }

  func pid(_ id: String) async throws -> Int32 {
    guard case .running(let pid) = try await status(id).state else { return 0 }
    return pid
  }

  func eventually(_ what: String, _ condition: () async throws -> Bool) async throws {
    let end = loop.now + .seconds(60)
    while try await !condition() {
      if loop.now > end { throw SkerryError(.timeout, "\(what) did not come about") }
      try await loop.sleep(for: .milliseconds(10))
    }
  }

  /// Waits for the end; answers the code and what was printed, as `stdout text` lines.
  func end(_ id: String) async throws -> (code: Int32, reason: String, lines: [String]) {
    var found: (Int32, String)?
    try await eventually("the end of \(id)") {
      if case .exited(let code, let reason) = try await status(id).state { found = (code, reason) }
      return found != nil
    }
    let (code, reason) = try #require(found)
    return (code, reason, try Self.lines(try await status(id)))
  }

  /// What a web server answers, head and all.
  func page(_ host: String, _ port: Int, _ path: String) async throws -> String {
    let probe = StreamProbe(try await TCPStream.connect(to: HostPort(host: host, port: port)), on: loop)
    probe.stream.write(Bytes("GET \(path) HTTP/1.0\r\n\r\n".utf8))
    try await probe.wait("the end of the page") { $0.ended || $0.closed }
    probe.stream.close()
    return probe.text
  }

  static func lines(_ status: ContainerStatus) throws -> [String] { CRILog.lines(Files.readText(status.logPath) ?? "") }
}

/// CRI's log format: time, stream, P or F, text. A line that was read in parts has P for all but its last.
enum CRILog {
  static func lines(_ text: String) -> [String] {
    var lines: [String] = []
    var open: [Substring: String] = [:]
    for entry in text.split(separator: "\n") {
      let parts = entry.split(separator: " ", maxSplits: 3, omittingEmptySubsequences: false)
      guard parts.count == 4 else { continue }
      open[parts[1], default: "\(parts[1]) "] += parts[3]
      if parts[2] == "F", let line = open.removeValue(forKey: parts[1]) { lines.append(line) }
    }
    return lines
  }
}
