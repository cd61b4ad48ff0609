import API
import APIClient
import APIConformance
import APIFace
import APIServer
import Base
import EdgeAgent
import EventLoop
import Logging
import ObjectLog
import ObjectModel
import Sync
import Transport
import Wire

/// A node's own API over a replica that follows a cloud of this process, entry by entry.
@LoopActor final class EdgeWorld {
  let loop = Loop.startShared()
  let directory = "/tmp/skerry-edge-\(SystemRandom().bytes(8).hex)"
  let logger = Logger(label: "test")
  let cloudLog = MemoryObjectLog(random: SystemRandom())
  let cloud: APIServer
  let replica = MemoryObjectLog(role: .follower, random: SystemRandom())
  let outbox: Outbox
  let reporter: NodeReporter
  let view: EdgeView
  let server: APIServer
  let face: APIService
  let metrics = Metrics()
  var credentials: EdgeCredentials
  private(set) var sockets: EdgeSocket?
  private var sessions: [Session] = []
  static let admin = Caller(user: "admin", groups: [Caller.adminGroup], node: nil, origin: .network)
  static let root = Caller(
    user: "system:node:n1", groups: [Caller.nodesGroup, EdgeAuthorizer.rootGroup], node: "n1", origin: .edgeSocket)

  init(limits: APIServerLimits = APIServerLimits()) async throws {
    let random = SystemRandom()
    try Files.makeDirectory(directory)
    cloud = APIServer(
      log: cloudLog, authorizer: HouseAuthorizer(metrics: metrics), scheduler: loop, random: random)
    outbox = try Outbox(path: "\(directory)/outbox.db", random: random, logger: logger)
    reporter = NodeReporter(outbox: outbox, nodeName: "n1", scheduler: loop, random: random)
    view = EdgeView(replica: replica, random: random, logger: logger)
    reporter.listener = view
    server = APIServer(
      log: view.log, authorizer: EdgeAuthorizer(metrics: metrics, logger: logger), scheduler: loop, random: random,
      mode: .replica, limits: limits)
    server.writeRouter = EdgeWrites(view: view, outbox: outbox, nodeName: "n1")
    face = APIService(api: server, scheduler: loop)
    credentials = try EdgeCredentials.open("\(directory)/edge-api", random: random)
    try await cloud.bootstrap()
    try await follow()
    await view.start(waiting: [])
    _ = cloudLog.observe { [weak self] entries in self?.take(entries) }
  }

  func close() {
    for session in sessions { session.close() }
    sockets?.stop()
    outbox.close()
    try? Files.removeTree(directory)
  }

  /// The cloud's state as a snapshot.
  private func follow() async throws {
    let page = try cloudLog.list(prefix: "", at: nil, after: nil, limit: 1000)
    await withCheckedContinuation { continuation in
      replica.replace(position: cloudLog.tail, objects: page.objects) { _ in continuation.resume() }
    }
  }

  private func take(_ entries: [Entry]) {
    for entry in entries {
      var position = cloudLog.tail
      position.position = entry.position
      replica.apply(position: position, entries: [entry], privates: []) { _ in }
    }
  }

  /// Returns once everything that the cloud has now is shown on the node.
  func settle() async {
    while replica.tail.position < cloudLog.tail.position { await Task.yield() }
    for _ in 0..<10 { await Task.yield() }
  }

  /// A client in memory, as that caller.
  func client(_ caller: Caller = EdgeWorld.root) async throws -> APIClient {
    let (near, far) = MemoryStream.pair(on: loop)
    let session = Session(stream: near, role: .client, hello: .null, scheduler: loop, random: SystemRandom())
    let served = Session(stream: far, role: .server, hello: .null, scheduler: loop, random: SystemRandom())
    face.attach(served, caller: caller)
    served.start()
    session.start()
    sessions += [session, served]
    try await session.ready()
    return APIClient(session: session)
  }

  func listen(users: Set<UInt32> = []) throws -> EdgeSocket {
    let socket = EdgeSocket(
      face: face, nodeName: "n1", users: users, credentials: credentials, scheduler: loop, random: SystemRandom(),
      logger: logger)
    sockets = socket
    return socket
  }

  /// A client over a stream that shows a token; throws if it is turned away.
  func client(over stream: any ByteStream, token: String?) async throws -> APIClient {
    let hello: Value = token.map { ["token": .string($0)] } ?? [:]
    let session = Session(stream: stream, role: .client, hello: hello, scheduler: loop, random: SystemRandom())
    sessions.append(session)
    session.start()
    try await session.ready()
    return APIClient(session: session)
  }

  func pod(_ name: String, namespace: String = "default", annotations: Value = [:], node: String = "n1") async throws
    -> Object
  {
    let made = try await cloud.create(
      resource: "pods", namespace: namespace,
      object: [
        "metadata": ["name": .string(name), "annotations": annotations],
        "spec": ["nodeName": .string(node), "containers": [["name": "c", "image": "i"]]],
      ], caller: Self.admin)
    await settle()
    return try made.decoded()
  }
}

/// Writes go to the cloud, reads come from the node.
@LoopActor final class EdgeHarness: APIHarness {
  private let world: EdgeWorld
  init(limits: APIServerLimits = APIServerLimits()) async throws { world = try await EdgeWorld(limits: limits) }
  func close() { world.close() }
  func api(_ caller: Caller) async throws -> any API {
    SplitAPI(world: world, reads: try await world.client())
  }
  func compact(through revision: UInt64) throws { world.view.log.compact(through: revision) }
}

@LoopActor private final class SplitAPI: API {
  private let world: EdgeWorld
  private let reads: APIClient
  init(world: EdgeWorld, reads: APIClient) {
    self.world = world
    self.reads = reads
  }
  func get(_ reference: ObjectReference, caller: Caller) async throws(APIError) -> APIObject {
    try await reads.get(reference, caller: caller)
  }
  func list(_ options: ListOptions, caller: Caller) async throws(APIError) -> ObjectList {
    await world.settle()
    return try await reads.list(options, caller: caller)
  }
  func watch(_ options: WatchOptions, caller: Caller) async throws(APIError) -> any WatchCursor {
    await world.settle()
    return try await reads.watch(options, caller: caller)
  }
  func create(resource: String, namespace: String, object: Value, caller: Caller) async throws(APIError) -> APIObject {
    let made = try await world.cloud.create(
      resource: resource, namespace: namespace, object: object, caller: EdgeWorld.admin)
    await world.settle()
    return made
  }
  func update(_ reference: ObjectReference, object: Value, subresource: String, caller: Caller)
    async throws(APIError) -> APIObject
  {
    let made = try await world.cloud.update(
      reference, object: object, subresource: subresource, caller: EdgeWorld.admin)
    await world.settle()
    return made
  }
  func patch(_ reference: ObjectReference, type: PatchType, patch: Value, subresource: String, caller: Caller)
    async throws(APIError) -> APIObject
  {
    let made = try await world.cloud.patch(
      reference, type: type, patch: patch, subresource: subresource, caller: EdgeWorld.admin)
    await world.settle()
    return made
  }
  func delete(_ reference: ObjectReference, options: DeleteOptions, caller: Caller) async throws(APIError) -> APIObject
  {
    let gone = try await world.cloud.delete(reference, options: options, caller: EdgeWorld.admin)
    await world.settle()
    return gone
  }
  func batch(_ items: [BatchItem], caller: Caller) async throws(APIError) -> [Result<APIObject, APIError>] {
    try await world.cloud.batch(items, caller: EdgeWorld.admin)
  }
  func connect(
    _ reference: ObjectReference, subresource: String, options: Value, stream: (any DuplexStream)?, caller: Caller
  ) async throws(APIError) -> Value {
    try await reads.connect(reference, subresource: subresource, options: options, stream: stream, caller: caller)
  }
}
