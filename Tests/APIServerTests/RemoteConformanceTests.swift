import API
import APIClient
import APIConformance
import APIFace
import Base
import EventLoop
import Testing
import Transport
import Wire

/// The server behind its binary face: each caller has a session of its own over a stream in memory.
@LoopActor final class RemoteHarness: APIHarness {
  private let inner: ServerHarness
  private let service: APIService
  private var sessions: [Session] = []

  init() async throws {
    inner = try await ServerHarness()
    service = APIService(api: inner.server, scheduler: Loop.startShared())
  }

  func api(_ caller: Caller) async throws -> any API {
    let loop = Loop.startShared()
    let (near, far) = MemoryStream.pair(on: loop)
    let session = Session(stream: near, role: .client, hello: .null, scheduler: loop, random: SystemRandom())
    let server = Session(stream: far, role: .server, hello: .null, scheduler: loop, random: SystemRandom())
    service.attach(server, caller: caller)
    server.start()
    session.start()
    sessions += [session, server]
    try await session.ready()
    return APIClient(session: session)
  }

  func compact(through revision: UInt64) throws { try inner.compact(through: revision) }

  func close() { for session in sessions { session.close() } }
}

@Suite struct RemoteConformanceTests {
  @Test(.timeLimit(.minutes(1)), arguments: APIConformance.all)
  func serves(_ conformance: APIConformance) async throws {
    try await onLoop {
      let harness = try await RemoteHarness()
      defer { harness.close() }
      try await conformance.run(harness)
    }
  }
}
