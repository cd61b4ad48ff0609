import API
import APIServer
import Base
import EventLoop
import Logging
import ObjectLog
import ObjectModel
import Testing

/// A cursor that a test can break as a connection breaks.
@LoopActor private final class BreakableCursor: WatchCursor {
  private let inner: any WatchCursor
  private var broken = false
  init(_ inner: any WatchCursor) { self.inner = inner }
  var onAvailable: (@LoopActor () -> Void)? {
    get { inner.onAvailable }
    set { inner.onAvailable = newValue }
  }
  func next(limit: Int) throws(APIError) -> [WatchEvent] {
    if broken { throw APIError(.serviceUnavailable, "the connection broke") }
    return try inner.next(limit: limit)
  }
  func cancel() { inner.cancel() }
  func breakNow() {
    broken = true
    inner.onAvailable?()
  }
}

/// The API of a real server, whose calls a test can make fail.
@LoopActor private final class FlakyAPI: API {
  let server: APIServer
  var failing = false
  var lists = 0
  var watches = 0
  var cursors: [BreakableCursor] = []
  /// Answers "too old" to the next watch.
  var expireNext = false

  init(_ server: APIServer) { self.server = server }

  private func check() throws(APIError) {
    if failing { throw APIError(.serviceUnavailable, "down") }
  }
  func get(_ reference: ObjectReference, caller: Caller) async throws(APIError) -> APIObject {
    try await server.get(reference, caller: caller)
  }
  func list(_ options: ListOptions, caller: Caller) async throws(APIError) -> ObjectList {
    lists += 1
    try check()
    return try await server.list(options, caller: caller)
  }
  func watch(_ options: WatchOptions, caller: Caller) async throws(APIError) -> any WatchCursor {
    watches += 1
    try check()
    if expireNext {
      expireNext = false
      throw APIError(.expired, "too old resource version")
    }
    let cursor = BreakableCursor(try await server.watch(options, caller: caller))
    cursors.append(cursor)
    return cursor
  }
  func create(resource: String, namespace: String, object: Value, caller: Caller) async throws(APIError) -> APIObject {
    try await server.create(resource: resource, namespace: namespace, object: object, caller: caller)
  }
  func update(_ reference: ObjectReference, object: Value, subresource: String, caller: Caller) async throws(APIError)
    -> APIObject
  { try await server.update(reference, object: object, subresource: subresource, caller: caller) }
  func patch(_ reference: ObjectReference, type: PatchType, patch: Value, subresource: String, caller: Caller)
    async throws(APIError) -> APIObject
  { try await server.patch(reference, type: type, patch: patch, subresource: subresource, caller: caller) }
  func delete(_ reference: ObjectReference, options: DeleteOptions, caller: Caller) async throws(APIError) -> APIObject
  {
    try await server.delete(reference, options: options, caller: caller)
  }
  func batch(_ items: [BatchItem], caller: Caller) async throws(APIError) -> [Result<APIObject, APIError>] {
    try await server.batch(items, caller: caller)
  }
  func connect(
    _ reference: ObjectReference, subresource: String, options: Value, stream: (any DuplexStream)?, caller: Caller
  ) async throws(APIError) -> Value {
    try await server.connect(reference, subresource: subresource, options: options, stream: stream, caller: caller)
  }
}

@LoopActor private final class World {
  let scheduler = ManualScheduler()
  let api: FlakyAPI
  let informer: Informer<Object>
  let byTier: Informer<Object>.Index
  var changes: [String] = []
  let admin = Caller(user: "admin", groups: [Caller.adminGroup], node: nil, origin: .network)

  init(pageSize: Int = 500) async throws {
    var logger = Logger(label: "test")
    logger.logLevel = .critical
    let random = SeededRandom(seed: 1)
    let server = APIServer(
      log: MemoryObjectLog(random: random), authorizer: HouseAuthorizer(logger: logger), scheduler: scheduler,
      random: random, logger: logger)
    try await server.bootstrap()
    api = FlakyAPI(server)
    var limits = Informer<Object>.Limits()
    limits.pageSize = pageSize
    informer = Informer(
      api: api, caller: admin, options: ListOptions(resource: "configmaps", namespace: "default"), limits: limits,
      scheduler: scheduler, random: random, logger: logger)
    byTier = informer.addIndex { $0.labels["tier"].map { [$0] } ?? [] }
    informer.onChange { [weak self] key, old, new in
      let kind = old == nil ? "+" : new == nil ? "-" : "~"
      self?.changes.append(kind + key.name)
    }
  }

  @discardableResult
  func put(_ name: String, tier: String = "a", data: String = "x") async throws -> APIObject {
    let object: Value = [
      "metadata": ["name": .string(name), "labels": ["tier": .string(tier)]], "data": ["k": .string(data)],
    ]
    let reference = ObjectReference(resource: "configmaps", namespace: "default", name: name)
    if informer[ObjectKey(reference)] != nil {
      return try await api.update(reference, object: object, subresource: "", caller: admin)
    }
    return try await api.create(resource: "configmaps", namespace: "default", object: object, caller: admin)
  }
  @discardableResult
  func remove(_ name: String) async throws -> APIObject {
    let reference = ObjectReference(resource: "configmaps", namespace: "default", name: name)
    return try await api.delete(reference, options: DeleteOptions(), caller: admin)
  }

  func synced() async {
    informer.start()
    await withCheckedContinuation { continuation in informer.whenSynced { continuation.resume() } }
  }
  /// Waits until the informer shows a write.
  func reached(_ object: APIObject) async {
    await withCheckedContinuation { continuation in informer.whenReached(object.revision) { continuation.resume() } }
  }
  /// Lets the time pass until the informer shows a write: its retries need the time.
  func reachedInTime(_ object: APIObject) async {
    while informer.revision < object.revision {
      scheduler.advance(.seconds(31))
      await Task.yield()
    }
  }
}

@Suite struct InformerTests {
  @Test func listsInPagesThenFollows() async throws {
    try await onLoop {
      let world = try await World(pageSize: 2)
      for name in ["a", "b", "c", "d", "e"] { try await world.put(name) }
      await world.synced()
      #expect(world.api.lists == 3)
      #expect(world.changes == ["+a", "+b", "+c", "+d", "+e"])
      world.changes = []
      try await world.put("b", data: "y")
      try await world.put("f")
      await world.reached(try await world.remove("a"))
      #expect(world.changes == ["~b", "+f", "-a"])
      #expect(world.informer.count == 5)
      #expect(world.informer[ObjectKey(namespace: "default", name: "b")]?.value["data"]["k"] == "y")
      #expect(world.api.watches == 1)
    }
  }

  @Test func indexesFollowTheChanges() async throws {
    try await onLoop {
      let world = try await World()
      try await world.put("a", tier: "front")
      try await world.put("b", tier: "front")
      await world.synced()
      #expect(world.informer.items(world.byTier, "front").map(\.name) == ["a", "b"])
      await world.reached(try await world.put("a", tier: "back"))
      #expect(world.informer.items(world.byTier, "front").map(\.name) == ["b"])
      #expect(world.informer.items(world.byTier, "back").map(\.name) == ["a"])
      await world.reached(try await world.remove("b"))
      #expect(world.informer.items(world.byTier, "front").isEmpty)
      #expect(Array(world.informer.values(world.byTier)) == ["back"])
    }
  }

  @Test func aListThatFailsIsTriedAgain() async throws {
    try await onLoop {
      let world = try await World()
      let object = try await world.put("a")
      world.api.failing = true
      world.informer.start()
      while world.api.lists < 3 {
        world.scheduler.advance(.seconds(31))
        await Task.yield()
      }
      #expect(!world.informer.isSynced)
      world.api.failing = false
      await world.reachedInTime(object)
      #expect(world.changes == ["+a"])
    }
  }

  @Test func afterAFailureItResumesByPositionWithoutListing() async throws {
    try await onLoop {
      let world = try await World()
      try await world.put("a")
      await world.synced()
      while world.api.cursors.isEmpty { await Task.yield() }
      world.api.failing = true
      world.api.cursors.removeLast().breakNow()
      try await world.put("b")
      let last = try await world.put("c")
      world.api.failing = false
      await world.reachedInTime(last)
      #expect(world.changes == ["+a", "+b", "+c"])
      #expect(world.api.lists == 1)
      #expect(world.informer.listings == 1)
    }
  }

  @Test func whenTheLogDoesNotReachBackItListsAgainAndTellsOnlyTheDifference() async throws {
    try await onLoop {
      let world = try await World()
      for name in ["a", "b", "c"] { try await world.put(name) }
      await world.synced()
      while world.api.cursors.isEmpty { await Task.yield() }
      world.changes = []
      world.api.expireNext = true
      world.api.cursors.removeLast().breakNow()
      try await world.put("b", data: "y")
      try await world.remove("c")
      // Made again under its name while nobody looked: two changes, not one.
      try await world.remove("a")
      _ = try await world.api.create(
        resource: "configmaps", namespace: "default", object: ["metadata": ["name": "a"]], caller: world.admin)
      let last = try await world.put("d")
      await world.reachedInTime(last)
      #expect(world.changes == ["-c", "-a", "+a", "~b", "+d"])
      #expect(world.informer.listings == 2)
    }
  }

  @Test func stoppedItHearsNothing() async throws {
    try await onLoop {
      let world = try await World()
      await world.synced()
      world.informer.stop()
      try await world.put("a")
      #expect(world.changes.isEmpty)
      #expect(world.informer.count == 0)
    }
  }

  @Test func aLateHandlerHearsOfWhatIsThere() async throws {
    try await onLoop {
      let world = try await World()
      try await world.put("a")
      await world.synced()
      var heard: [String] = []
      world.informer.onChange { key, _, new in if new != nil { heard.append(key.name) } }
      #expect(heard == ["a"])
    }
  }
}
