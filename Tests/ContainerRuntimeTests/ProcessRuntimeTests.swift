import Base
import ContainerRuntimeConformance
import EventLoop
import Glibc
import Logging
import Testing

@testable import ContainerRuntime

@Suite(.enabled(if: ProcessRuntime.missingPrograms().isEmpty, "the process runtime needs conmon"))
struct ProcessRuntimeTests {
  @LoopActor private static func make(_ root: String, _ loop: Loop) throws -> ProcessRuntime {
    var log = Logger(label: "test")
    log.logLevel = .error
    return try ProcessRuntime(root: "\(root)/data", scheduler: loop, random: SystemRandom(), log: log)
  }

  /// As root in a child process that becomes nobody, since this runtime is for those who have no privileges.
  @Test func conformsWithoutPrivileges() async throws {
    let root = "/tmp/skerry-test-\(SystemRandom().bytes(6).hex)"
    try Files.makeDirectory(root)
    guard getuid() == 0 else {
      try await Self.conform(root)
      return try Files.removeTree(root)
    }
    try #require(chown(root, 65534, 65534) == 0)
    await #expect(processExitsWith: .exitCode(0)) { [root = root as String] in
      try #require(setgroups(0, nil) == 0 && setgid(65534) == 0 && setuid(65534) == 0)
      try await Self.conform(root)
      exit(0)
    }
    try Files.removeTree(root)
  }

  @Test func endsWhatItsProcessesStarted() async throws {
    let root = "/tmp/skerry-test-\(SystemRandom().bytes(6).hex)"
    try await onLoop {
      let loop = try #require(LoopActor.executor as? Loop)
      let runtime = try Self.make(root, loop)
      try await runtime.recover()
      let image = try await runtime.pull("any", policy: .always, credentials: nil)
      _ = try await runtime.runSandbox(
        SandboxConfig(
          id: "s", podName: "p", podNamespace: "n", podUID: "u", hostname: "h", logDirectory: "\(root)/logs"))
      var config = ContainerConfig(
        id: "c", sandboxID: "s", name: "main", attempt: 0, image: image.digest,
        command: ["sh", "-c", "setsid sleep 60 & echo $NAME; wait"])
      config.environment = [("NAME", "it's \"me\"")]
      try await runtime.createContainer(config)
      try await runtime.startContainer("c")
      let status = try #require(try await runtime.containers().first)
      let token = try runtime.supervisor.record("c").token
      let end = loop.now + .seconds(60)
      while Processes.marked("SKERRY_PROCESS=\(token)").count < 2, loop.now < end {
        try await loop.sleep(for: .milliseconds(10))
      }
      #expect(Processes.marked("SKERRY_PROCESS=\(token)").count >= 2)
      #expect(try await runtime.stats("c").memoryBytes > 0)
      try await runtime.stopContainer("c", grace: .zero)
      #expect(Processes.marked("SKERRY_PROCESS=\(token)").isEmpty)
      #expect(try OCIWorld.lines(status) == ["stdout it's \"me\""])
      // Another user than ours cannot be had.
      var other = config
      other.id = "other"
      other.security.runAsUser = Int64(getuid()) + 1
      let refused = other
      await #expect(throws: SkerryError.self) { try await runtime.createContainer(refused) }
      try await runtime.tearDown()
      try Files.removeTree(root)
    }
  }

  /// The whole suite; nothing is left afterwards.
  private static func conform(_ root: String) async throws {
    try await onLoop {
      let loop = try #require(LoopActor.executor as? Loop)
      var runtime = try make(root, loop)
      try await runtime.recover()
      let release = "\(root)/release"
      let suite = RuntimeConformance(
        RuntimeConformance.World(
          runtime: runtime, scheduler: loop, image: "example/shell:1", logDirectory: "\(root)/logs",
          log: { try OCIWorld.lines($0) },
          restart: { _ in
            runtime.close()
            runtime = try Self.make(root, loop)
            try await runtime.recover()
            _ = try await runtime.pull("example/shell:1", policy: .ifNotPresent, credentials: nil)
            return runtime
          }, releaseEnvironment: [("RELEASE", release)],
          release: { _ in try Files.write(release, "") }))
      var failure: (any Error)?
      do { try await suite.runAll() } catch { failure = error }
      runtime.close()
      // A fresh one: what is left is found by the directory alone.
      let last = try make(root, loop)
      try await last.tearDown()
      #expect(Processes.marked("\(last.layout.monitorMark.name)=\(last.layout.monitorMark.value)").isEmpty)
      #expect(!Files.exists(last.layout.volatile))
      if let failure { throw failure }
    }
  }
}
