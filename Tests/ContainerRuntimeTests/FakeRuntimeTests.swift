import Base
import ContainerRuntime
import ContainerRuntimeConformance
import EventLoop
import Testing

@Suite struct FakeRuntimeTests {
  @Test func conforms() async throws {
    try await onLoop {
      let scheduler: any Scheduler = LoopActor.executor as! Loop
      let fake = FakeRuntime(scheduler: scheduler)
      fake.behavior = { behavior(of: $0) }
      fake.execBehavior = { _, request in
        request.stdin
          ? FakeRuntime.ExecBehavior(echoes: true)
          : FakeRuntime.ExecBehavior(output: [.init("out"), .init("err", stream: 2)], exitCode: 9)
      }
      let suite = RuntimeConformance(
        RuntimeConformance.World(
          runtime: fake, scheduler: scheduler, image: "example/web:1", logDirectory: "/logs",
          log: { status in
            let released = status.id
            return fake.log(released).map { "\($0.stream == 1 ? "stdout" : "stderr") \($0.text)" }
          }, restart: { $0 },
          release: { id in
            fake.print(id, "released")
            fake.exit(id, code: 5)
          }))
      try await suite.runAll()
    }
  }

  @Test func failsAndDelaysWhenTold() async throws {
    try await onLoop {
      let fake = FakeRuntime(scheduler: LoopActor.executor as! Loop)
      fake.failNext(.pull, SkerryError(.unavailable, "the registry is down"))
      await #expect(throws: SkerryError.self) { try await fake.pull("a", policy: .always, credentials: nil) }
      let image = try await fake.pull("a", policy: .always, credentials: nil)
      _ = try await fake.runSandbox(
        SandboxConfig(
          id: "s", podName: "p", podNamespace: "n", podUID: "u", hostname: "h", logDirectory: "/l"))
      try await fake.createContainer(
        ContainerConfig(id: "c", sandboxID: "s", name: "c", attempt: 0, image: image.digest))
      try await fake.startContainer("c")
      fake.reboot()
      #expect(try await fake.containers().map(\.state) == [.unknown])
      #expect(try await fake.sandboxes().map(\.ready) == [false])
      #expect(fake.calls.first == "pull a")
    }
  }
}

@LoopActor private func behavior(of config: ContainerConfig) -> FakeRuntime.Behavior {
  typealias Program = RuntimeConformance.Program
  switch Program.allCases.first(where: { $0.command == config.command }) {
  case .printsAndFails:
    return .init(exitCode: 7, output: [.init("one"), .init("two", stream: 2)])
  case .succeeds: return .init(exitCode: 0)
  case .obeysStop: return .init(output: [.init("ready")], stopCode: 3)
  case .ignoresStop: return .init(output: [.init("ready")], stopsAfter: nil)
  case .isMissing: return .init(startError: "no such program")
  case .waitsForRelease, nil: return .init()
  }
}
