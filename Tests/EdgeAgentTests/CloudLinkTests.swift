import API
import APIFace
import APIServer
import Base
import EdgeAgent
import EventLoop
import Logging
import ObjectLog
import Testing
import Transport
import Wire

/// The cloud's end of a link, as far as sessions and streams go.
@LoopActor private final class Hub {
  let loop = Loop.startShared()
  private(set) var sessions: [Session] = []
  private(set) var streams: [MemoryStream] = []
  var configuration = SessionConfiguration()
  /// Dials that fail from now on.
  var failures = 0
  /// What happened, in order: `open 1 slice`, `close 0`.
  private(set) var history: [String] = []
  private var waiting: (condition: () -> Bool, continuation: CheckedContinuation<Void, Never>)?

  func dial() throws(SkerryError) -> any ByteStream {
    if failures > 0 {
      failures -= 1
      note("failed")
      throw SkerryError(.timeout, "nobody answers")
    }
    let (mine, theirs) = MemoryStream.pair(on: loop)
    streams.append(mine)
    let number = sessions.count
    let session = Session(
      stream: mine, role: .server, hello: [:], scheduler: loop, random: SystemRandom(), configuration: configuration)
    sessions.append(session)
    session.onReady = { [weak self] in self?.note("ready \(number)") }
    session.onStream = { [weak self] stream in self?.note("open \(number) \(stream.method)") }
    session.onClose = { [weak self] _ in self?.note("close \(number)") }
    session.start()
    return theirs
  }

  private func note(_ event: String) {
    history.append(event)
    guard let waiter = waiting, waiter.condition() else { return }
    waiting = nil
    waiter.continuation.resume()
  }

  func until(_ condition: @escaping () -> Bool) async {
    if condition() { return }
    await withCheckedContinuation { waiting = (condition, $0) }
  }
}

@Suite struct CloudLinkTests {
  /// Runs the body with a link to a hub.
  private func withLink(
    _ configuration: SessionConfiguration = SessionConfiguration(), profile: LinkProfile = LinkProfile(),
    _ body: @escaping @LoopActor (Hub, CloudLink) async throws -> Void
  ) async throws {
    try await onLoop {
      let hub = Hub()
      hub.configuration = configuration
      let random = SystemRandom()
      let directory = "/tmp/skerry-link-\(random.bytes(8).hex)"
      try Files.makeDirectory(directory)
      defer { try? Files.removeTree(directory) }
      let logger = Logger(label: "test")
      let replica = MemoryObjectLog(role: .follower, random: random)
      let server = APIServer(
        log: replica, authorizer: EdgeAuthorizer(metrics: Metrics(), logger: logger), scheduler: hub.loop,
        random: random, mode: .replica)
      let face = APIService(api: server, scheduler: hub.loop)
      let outbox = try Outbox(path: "\(directory)/outbox.db", random: random, logger: logger)
      let link = CloudLink(
        dial: { () async throws(SkerryError) in try hub.dial() }, hello: ["role": "node"], profile: profile,
        follower: ReplicaFollower(replica: replica, logger: logger), outbox: outbox, calls: face,
        caller: { face.connection(caller: .node("n1", origin: .network)) }, scheduler: hub.loop, random: random,
        metrics: Metrics(), logger: logger)
      link.start()
      await hub.until { hub.history.contains("open 0 lane") }
      try await body(hub, link)
      link.stop()
      outbox.close()
    }
  }

  /// A half-open link: the edge goes on dialling beside it, and moves over before either side takes the other for dead.
  @Test(.timeLimit(.minutes(1))) func aLinkThatDoesNotAnswerIsReplacedWhileItStands() async throws {
    var configuration = SessionConfiguration()
    configuration.pingInterval = .seconds(2)
    try await withLink(configuration) { hub, _ in
      hub.failures = 1
      hub.streams[0].isBlackHole = true
      await hub.until { hub.history.contains("open 1 slice") }
      let ready = try #require(hub.history.firstIndex(of: "ready 1"))
      #expect(hub.history.contains("failed") && !hub.history.prefix(ready).contains("close 0"))
    }
  }

  @Test(.timeLimit(.minutes(1))) func aProfileIsToldAndTheDefaultIsNot() async throws {
    try await withLink { hub, _ in #expect(hub.sessions[0].peerHello["ping"].isNull) }
    try await withLink(profile: LinkProfile(.metered)) { hub, _ in
      #expect(hub.sessions[0].peerHello["ping"] == 60_000)
    }
  }

  @Test(.timeLimit(.minutes(1))) func aReplacementIsMadeBeforeTheOldSessionIsBroken() async throws {
    try await withLink { hub, link in
      await link.replaceSession()
      await hub.until { hub.history.contains("open 1 slice") }
      let ready = try #require(hub.history.firstIndex(of: "ready 1"))
      let closed = try #require(hub.history.firstIndex(of: "close 0"))
      let opened = try #require(hub.history.firstIndex(of: "open 1 slice"))
      #expect(ready < closed && ready < opened)
      #expect(!hub.history.contains("close 1"))
    }
  }
}
