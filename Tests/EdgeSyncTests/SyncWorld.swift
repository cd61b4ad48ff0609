import API
import APIFace
import APIServer
import Base
import CloudHub
import EdgeAgent
import EventLoop
import Identity
import Logging
import ObjectLog
import ObjectModel
import Sync
import Transport
import Wire

/// Waits, in turns of the loop, until a condition holds; the deadline is the test's own.
@LoopActor func until(_ what: String, _ condition: @LoopActor () throws -> Bool) async throws {
  let loop = Loop.startShared()
  let end = loop.now + .seconds(20)
  while try !condition() {
    guard loop.now < end else { throw SkerryError(.timeout, "waited in vain until \(what)") }
    try await loop.sleep(for: .milliseconds(2))
  }
}

/// A cloud of this process: log, API server, slices, directory and hub, as the daemon joins them.
@LoopActor final class SyncCloud {
  let loop = Loop.startShared()
  let logger = Logger(label: "cloud") { _ in SwiftLogNoOpLogHandler() }
  let metrics = Metrics()
  let directory: String
  let log: MemoryObjectLog
  let server: APIServer
  let slices: SliceHub
  let authority: CertificateAuthority
  let identities: NodeDirectory
  let readings: ReadingsStore
  let hub: CloudHub
  static let admin = Caller(user: "admin", groups: [Caller.adminGroup], node: nil, origin: .network)

  init() async throws {
    let random = SystemRandom()
    directory = "/tmp/skerry-sync-\(random.bytes(8).hex)"
    try Files.makeDirectory(directory)
    log = MemoryObjectLog(random: random)
    slices = SliceHub(log: log, anchors: KindRegistry.standard.kinds.map(\.resource), logger: logger)
    server = APIServer(
      log: log, authorizer: HouseAuthorizer(graph: slices, metrics: metrics, logger: logger), scheduler: loop,
      random: random, metrics: metrics, logger: logger)
    authority = try CertificateAuthority.create(
      commonName: "test", lifetime: .seconds(86_400), now: loop.wall, random: random)
    identities = NodeDirectory(
      log: log, authority: authority, revocations: RevocationList(path: "\(directory)/revoked"), scheduler: loop,
      random: random, metrics: metrics, logger: logger)
    try identities.load()
    let slices = slices
    readings = try ReadingsStore(
      path: "\(directory)/readings.db",
      isPlaced: { device, node in slices.mayRead(node: node, key: "\(Device.resource)/\(device)") }, metrics: metrics,
      logger: logger)
    let objects = ObjectLaneEffect(writer: server, log: log, metrics: metrics, logger: logger)
    slices.listen(to: objects)
    hub = CloudHub(
      api: server, face: APIService(api: server, scheduler: loop), directory: identities, slices: slices,
      effects: [.status: objects, .events: objects, .replies: objects, .readings: readings], scheduler: loop,
      random: random, metrics: metrics, logger: logger)
    try slices.start()
    try await server.bootstrap()
  }

  func end() {
    hub.shutDown(delay: .zero)
    slices.stop()
    readings.close()
    try? Files.removeTree(directory)
  }

  /// A connection of that certificate, as the listener hands it out after its handshake.
  func connect(_ certificate: PeerCertificate?, address: String = "10.0.0.1:1", alpn: String = "skerry/1")
    -> MemoryStream
  {
    var peer = PeerInfo(address: address)
    peer.certificate = certificate
    peer.applicationProtocol = alpn
    let (near, far) = MemoryStream.pair(on: loop, first: peer)
    hub.accept(far)
    return near
  }

  func pod(_ name: String, node: String = "n1", configMap: String? = nil) async throws -> Object {
    var spec: Value = ["nodeName": .string(node), "containers": [["name": "c", "image": "i"]]]
    if let configMap { spec["volumes"] = [["name": "v", "configMap": ["name": .string(configMap)]]] }
    return try await server.create(
      resource: "pods", namespace: "default", object: ["metadata": ["name": .string(name)], "spec": spec],
      caller: Self.admin
    ).decoded()
  }

  func delete(_ name: String) async throws {
    _ = try await server.delete(
      ObjectReference(resource: "pods", namespace: "default", name: name),
      options: DeleteOptions(gracePeriod: 0), caller: Self.admin)
  }

  func get(_ resource: String, _ name: String, namespace: String = "default") throws -> Object? {
    let key = ObjectReference(resource: resource, namespace: namespace, name: name).key
    guard let stored = try log.read(key, at: nil) else { return nil }
    var value = try CBOR.decode(stored.body)
    if let status = stored.status { value["status"] = try CBOR.decode(status) }
    return Object(value)
  }

  func events() throws -> [Object] {
    try log.list(prefix: "events/", at: nil, after: nil, limit: 10_000).objects.map {
      Object(try CBOR.decode($0.object.body))
    }
  }

  /// A series of `skerry_…` in the metrics' text.
  func metric(_ name: String) -> Int {
    let line = metrics.text().split(separator: "\n").first { $0.hasPrefix("\(name) ") }
    return line.flatMap { Int($0.split(separator: " ")[1]) } ?? 0
  }
}

/// The node's side of the link over files of its own, which can be copied, taken away and put back.
@LoopActor final class SyncNode {
  let cloud: SyncCloud
  let name: String
  let directory: String
  let key: KeyPair
  let certificate: PeerCertificate
  private(set) var replica: SQLiteObjectLog?
  private(set) var outbox: Outbox?
  private(set) var reporter: NodeReporter?
  private(set) var link: CloudLink?
  /// The near ends of its connections, oldest first.
  private(set) var streams: [MemoryStream] = []
  var isOnline = true
  var limits = Outbox.Limits()

  init(_ cloud: SyncCloud, name: String = "n1") throws {
    self.cloud = cloud
    self.name = name
    directory = "\(cloud.directory)/\(name)"
    key = try KeyPair.generate()
    certificate = SyncNode.certificate(name, key)
    try Files.makeDirectory(directory)
  }

  static func certificate(_ name: String, _ key: KeyPair, age: Duration = .zero) -> PeerCertificate {
    let now = Loop.startShared().wall.seconds
    return PeerCertificate(
      commonName: "system:node:\(name)", organizations: ["system:nodes"], serial: "1",
      keyFingerprint: key.publicKey.fingerprint, notBefore: now - 300, notAfter: now + 3_600)
  }

  /// Opens the files and begins to dial.
  func start() async throws {
    let random = SystemRandom()
    let replica = try SQLiteObjectLog.open(
      SQLiteObjectLog.Configuration(path: "\(directory)/replica.db", role: .follower), scheduler: cloud.loop,
      random: random)
    let outbox = try Outbox(path: "\(directory)/outbox.db", limits: limits, random: random, logger: cloud.logger)
    let reporter = NodeReporter(outbox: outbox, nodeName: name, scheduler: cloud.loop, random: random)
    let server = APIServer(
      log: replica, authorizer: EdgeAuthorizer(metrics: Metrics(), logger: cloud.logger), scheduler: cloud.loop,
      random: random, mode: .replica)
    let face = APIService(api: server, scheduler: cloud.loop)
    let follower = ReplicaFollower(replica: replica, reporter: reporter, logger: cloud.logger)
    let link = CloudLink(
      dial: { [weak self] () async throws(SkerryError) in
        guard let self, self.isOnline else { throw SkerryError(.unavailable, "the link is down") }
        let stream = self.cloud.connect(self.certificate)
        self.streams.append(stream)
        return stream
      }, hello: ["role": "node"], follower: follower, outbox: outbox, calls: face,
      caller: { face.connection(caller: .node("n1", origin: .network)) }, scheduler: cloud.loop,
      random: random, metrics: Metrics(), logger: cloud.logger)
    (self.replica, self.outbox, self.reporter, self.link) = (replica, outbox, reporter, link)
    link.start()
  }

  /// Ends the process' part: everything that was said before is on disk.
  func stop() async throws {
    link?.stop()
    try? await outbox?.durable()
    outbox?.close()
    try await replica?.close()
    (replica, outbox, reporter, link) = (nil, nil, nil, nil)
    try await until("the hub has noticed") { !self.cloud.hub.connected.contains(self.name) }
  }

  func has(_ resource: String, _ name: String) throws -> Bool {
    try replica?.read("\(resource)/default/\(name)", at: nil) != nil
  }

  func status(_ pod: Object, _ status: Value) {
    reporter?.podStatus(key: "pods/default/\(pod.name)", uid: pod.uid, status: status)
  }

  func event(_ pod: Object, _ reason: String) {
    reporter?.event(
      regarding: pod, apiVersion: "v1", kind: "Pod", type: "Normal", reason: reason, message: reason)
  }

  /// Cuts the live connection without a word.
  func cut() { streams.last?.reset() }

  /// Everything that was said took effect.
  func drained() async throws {
    try await outbox?.durable()
    try await until("the lanes are empty") { self.outbox?.waiting() == 0 }
  }

  // MARK: Backups of the data directory

  func backUp(to name: String) throws { try copy(directory, "\(cloud.directory)/\(name)") }

  func restore(from name: String) throws {
    try Files.removeTree(directory)
    try copy("\(cloud.directory)/\(name)", directory)
  }

  func wipe() throws {
    try Files.removeTree(directory)
    try Files.makeDirectory(directory)
  }

  private func copy(_ from: String, _ to: String) throws {
    try Files.makeDirectory(to)
    for file in Files.list(from) where !file.hasSuffix(".lock") && !file.hasSuffix("-shm") {
      try Files.write("\(to)/\(file)", try Files.read("\(from)/\(file)", limit: 64 << 20))
    }
  }
}
