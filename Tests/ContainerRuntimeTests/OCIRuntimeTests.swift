import Base
import ContainerRuntimeConformance
import EventLoop
import Glibc
import Testing

@testable import ContainerRuntime

@Suite(.enabled(if: canRunContainers, whyNot)) struct OCIRuntimeTests {
  @Test func conforms() async throws {
    try await OCIWorld.with { world in
      let shared = "\(world.root)/release"
      try Files.makeDirectory(shared)
      let suite = RuntimeConformance(
        RuntimeConformance.World(
          runtime: world.runtime, scheduler: world.loop, image: try await OCIWorld.image(),
          logDirectory: "\(world.root)/logs", log: { try OCIWorld.lines($0) },
          restart: { _ in
            try await world.restart()
            return world.runtime
          }, releaseMounts: [Mount(hostPath: shared, containerPath: "/release", readOnly: false)],
          releaseEnvironment: [("RELEASE", "/release/now")],
          release: { _ in try Files.write("\(shared)/now", "") }))
      try await suite.runAll()
    }
  }
}
