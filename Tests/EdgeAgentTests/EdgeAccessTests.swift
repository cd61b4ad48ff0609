import API
import APIClient
import APIServer
import Base
import EdgeAgent
import EventLoop
import Glibc
import Identity
import Logging
import ObjectModel
import Testing
import Transport
import Wire

@Suite struct EdgeAccessTests {
  @LoopActor private func withWorld(_ body: @LoopActor (EdgeWorld, EdgeSocket) async throws -> Void) async throws {
    let world = try await EdgeWorld()
    defer { world.close() }
    try await body(world, try world.listen())
  }

  private let pods = ListOptions(resource: "pods", namespace: "default")

  @LoopActor private func isTurnedAway(_ world: EdgeWorld, _ stream: any ByteStream, _ token: String?) async -> Bool {
    do {
      _ = try await world.client(over: stream, token: token)
      return false
    } catch { return true }
  }

  @Test(.timeLimit(.minutes(1))) func noRequestWithoutACredential() async throws {
    try await onLoop {
      try await withWorld { world, socket in
        let path = "\(world.directory)/pods.sock"
        try socket.listenForPods(path: path)
        let pod = try await world.pod("p")
        socket.pod = { $0 == pod.uid ? pod : nil }
        let good = world.credentials.podToken(uid: pod.uid)
        // Root as the kernel sees it, and no token: a container's root is nobody here.
        for token in [
          nil, "", "x", String(good.dropLast()) + (good.hasSuffix("0") ? "1" : "0"),
          world.credentials.podToken(uid: "another"),
          EdgeCredentials.podPrefix + pod.uid, EdgeCredentials.operatorPrefix,
        ] {
          #expect(await isTurnedAway(world, try await UnixStream.connect(path: path), token))
        }
        let client = try await world.client(over: try await UnixStream.connect(path: path), token: good)
        #expect(try await client.list(pods, caller: EdgeWorld.root).items.count == 1)
        await #expect(throws: APIError.self) {
          _ = try await client.list(ListOptions(resource: "secrets", namespace: "default"), caller: EdgeWorld.root)
        }
        await #expect(throws: APIError.self) {
          _ = try await client.list(ListOptions(resource: "pods"), caller: EdgeWorld.root)
        }
        await #expect(throws: APIError.self) {
          _ = try await client.patch(
            ObjectReference(resource: "pods", namespace: "default", name: "p"), type: .merge,
            patch: ["status": ["phase": "Failed"]], subresource: "status", caller: EdgeWorld.root)
        }
        // A pod that goes takes its sessions and its token with it.
        socket.pod = { _ in nil }
        socket.podGone(uid: pod.uid)
        await #expect(throws: APIError.self) { _ = try await client.list(pods, caller: EdgeWorld.root) }
        #expect(await isTurnedAway(world, try await UnixStream.connect(path: path), good))
      }
    }
  }

  @Test(.timeLimit(.minutes(1))) func thePortOnLoopbackSpeaksTLSAndWantsAToken() async throws {
    try await onLoop {
      try await withWorld { world, socket in
        let address = try socket.listen(at: HostPort(host: "127.0.0.1", port: 0))
        #expect(throws: SkerryError.self) { try socket.listen(at: HostPort(host: "0.0.0.0", port: 0)) }
        _ = try await world.pod("p")
        // The certificate is good whatever the clock says: 1970 here.
        let clock = FixedClock(world.loop, wall: WallTime(seconds: 200_000))
        @LoopActor func dial() async throws -> any ByteStream {
          let context = try TLSContext.client(
            credentials: nil, trust: .authority(world.credentials.caPEM), alpn: ["skerry/1"])
          return try await Dialer(targets: [address], context: context, scheduler: clock).connect()
        }
        #expect(await isTurnedAway(world, try await dial(), nil))
        #expect(await isTurnedAway(world, try await dial(), "skerry-node.00"))
        let client = try await world.client(over: try await dial(), token: world.credentials.operatorToken)
        #expect(try await client.list(ListOptions(resource: "pods"), caller: EdgeWorld.root).items.count == 1)
        // Without TLS there is no word at all.
        #expect(await isTurnedAway(world, try await TCPStream.connect(to: address), world.credentials.operatorToken))
      }
    }
  }

  @Test(.timeLimit(.minutes(1))) func rootOfTheMachineNeedsNoTokenOnTheNodesSocket() async throws {
    guard geteuid() == 0 else { return }
    try await onLoop {
      try await withWorld { world, socket in
        let path = "\(world.directory)/edge.sock"
        try socket.listen(path: path)
        let client = try await world.client(over: try await UnixStream.connect(path: path), token: nil)
        _ = try await world.cloud.create(
          resource: "secrets", namespace: "default", object: ["metadata": ["name": "s"]], caller: EdgeWorld.admin)
        await world.settle()
        #expect(
          try await client.list(ListOptions(resource: "secrets"), caller: EdgeWorld.root).items.count == 1)
      }
    }
  }

  @Test func tokensAndTheIdentitySurviveARestartAndAreMadeAnewWhenTheyAreBroken() throws {
    let directory = "/tmp/skerry-credentials-\(SystemRandom().bytes(8).hex)"
    defer { try? Files.removeTree(directory) }
    let first = try EdgeCredentials.open(directory, random: SystemRandom())
    let second = try EdgeCredentials.open(directory, random: SystemRandom())
    #expect(first.operatorToken == second.operatorToken && first.caPEM == second.caPEM)
    #expect(second.bearer(of: first.podToken(uid: "u")) == .pod(uid: "u"))
    #expect(second.bearer(of: first.operatorToken) == .nodeOperator)
    for name in ["operator.token", "pods.key", "server.key"] {
      var info = stat()
      #expect(stat("\(directory)/\(name)", &info) == 0 && info.st_mode & 0o777 == 0o600)
    }
    // A crash between two files of the identity.
    let other = try EdgeCredentials.open("\(directory)/other", random: SystemRandom())
    try PrivateFile.write(Bytes(other.caPEM.utf8), path: "\(directory)/ca.crt", mode: 0o644)
    let third = try EdgeCredentials.open(directory, random: SystemRandom())
    #expect(third.caPEM != first.caPEM && third.operatorToken == first.operatorToken)
  }

  @Test func aPodCommandsDevicesOnlyIfItsAnnotationSaysSo() async throws {
    try await onLoop {
      let authorizer = EdgeAuthorizer(metrics: Metrics(), logger: .init(label: "test"))
      func pod(_ annotations: Value) -> Caller {
        EdgeAuthorizer.caller(
          of: Object(["metadata": ["name": "p", "namespace": "a", "annotations": annotations]]))
      }
      @LoopActor func may(_ caller: Caller, _ subresource: String, _ namespace: String = "a") -> Bool {
        let reference = ObjectReference(resource: Device.resource, namespace: namespace, name: "d")
        do throws(APIError) {
          try authorizer.authorize(AccessRequest(.connect, reference, subresource: subresource), caller: caller)
          return true
        } catch { return false }
      }
      let (plain, trusted) = (pod([:]), pod([.init(EdgeAuthorizer.accessAnnotation): "command"]))
      #expect(may(plain, "readings") && !may(plain, "command"))
      #expect(may(trusted, "command") && !may(trusted, "command", "b") && !may(trusted, "readings", "b"))
    }
  }
}

/// A clock that stands, over timers that run.
final class FixedClock: Scheduler {
  private let loop: Loop
  let wall: WallTime
  init(_ loop: Loop, wall: WallTime) {
    self.loop = loop
    self.wall = wall
  }
  var now: Instant { loop.now }
  @discardableResult func schedule(after delay: Duration, _ action: @escaping @LoopActor () -> Void) -> TimerID {
    loop.schedule(after: delay, action)
  }
  func cancel(_ timer: TimerID) { loop.cancel(timer) }
}
