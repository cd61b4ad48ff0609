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

  private static func with(_ body: @escaping @LoopActor (String, Loop, ProcessRuntime) async throws -> Void)
    async throws
  {
    try await onLoop {
      let root = "/tmp/skerry-test-\(SystemRandom().bytes(6).hex)"
      let loop = try #require(LoopActor.executor as? Loop)
      let runtime = try make(root, loop)
      var failure: (any Error)?
      do {
        try await runtime.recover()
        try await body(root, loop, runtime)
      } catch {
        failure = error
      }
      runtime.close()
      // A fresh one: what is left is found by the directory alone.
      let last = try make(root, loop)
      try await last.tearDown()
      #expect(Processes.marked("\(last.layout.monitorMark.name)=\(last.layout.monitorMark.value)").isEmpty)
      #expect(!Files.exists(last.layout.volatile))
      try Files.removeTree(root)
      if let failure { throw failure }
    }
  }

  @Test func conforms() async throws {
    try await Self.with { root, loop, first in
      var runtime = first
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
      defer { runtime.close() }
      try await suite.runAll()
    }
  }
}
