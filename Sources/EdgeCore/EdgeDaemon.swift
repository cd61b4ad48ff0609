import API
import APIFace
import APIServer
import Base
import ContainerRuntime
import EdgeAgent
import EventLoop
import Glibc
import Identity
import Logging
import ObjectLog
import ObjectModel
import Sync
import Transport
import Wire

/// An edgecore: replica, outbox, pods, the link with the cloud and the edge API, joined and started so that everything
/// that does not need the cloud runs before it is dialled.
@LoopActor package final class EdgeDaemon {
  let configuration: EdgeConfiguration
  let logger: Logger
  private let metrics = Metrics()
  private let replica: SQLiteObjectLog
  private let outbox: Outbox
  let clock: NodeClock
  let grace: UnknownGrace
  let reporter: NodeReporter
  let joinDialer: Dialer
  let random: any RandomSource
  private let view: EdgeView
  private let server: APIServer
  private let pods: PodManager
  let status: NodeStatusReporter
  let link: CloudLink
  private let forwarder: ReadingsForwarder
  private let socket: EdgeSocket
  private let operations: OperationsServer
  let rotation: CertificateRotation
  private let readiness = Readiness()

  /// The kernel repeats a lost SYN after 1, 3 and 7 s. Whoever waits for the last of these notices late that packets
  /// flow again; the next attempt asks sooner.
  static let connectTimeout: Duration = .seconds(4)

  package static func start(_ configuration: EdgeConfiguration, loop: Loop) async throws(SkerryError) -> EdgeDaemon {
    let daemon = try EdgeDaemon(configuration, loop: loop, random: SystemRandom())
    try await daemon.begin()
    return daemon
  }

  private init(_ configuration: EdgeConfiguration, loop: Loop, random: any RandomSource) throws(SkerryError) {
    self.configuration = configuration
    try Files.makeDirectory(configuration.data, mode: 0o700, durably: true)
    let clock = Self.clock(configuration, loop, metrics)
    self.clock = clock
    let logger = Daemon.logger("edgecore/\(configuration.node)", level: configuration.logLevel, clock: clock)
    self.logger = logger
    try Files.makeDirectory(configuration.volatile, mode: 0o711)
    // Files of Secrets and tokens: containers see them by mounts, other users of this machine not at all.
    let isolated = configuration.runtime == .oci
    try Files.makeDirectory("\(configuration.volatile)/pods", mode: isolated ? 0o700 : 0o711)
    try Files.makeDirectory(Self.podSockets(configuration), mode: 0o755)
    let ring = try KeyRing.loadOrCreate(path: configuration.sealingKeys, random: random)
    replica = try SQLiteObjectLog.open(
      SQLiteObjectLog.Configuration(
        path: "\(configuration.data)/replica.db", role: .follower,
        sealing: Sealer(ring: ring, random: random),
        metrics: metrics),
      scheduler: clock, random: random)
    outbox = try Outbox(path: "\(configuration.data)/outbox.db", random: random, logger: logger, scheduler: clock)
    self.random = random
    let runtime = try Self.runtime(configuration, scheduler: clock, random: random, logger: logger)
    reporter = NodeReporter(outbox: outbox, nodeName: configuration.node, scheduler: clock, random: random)
    pods = PodManager(
      replica: replica, runtime: runtime,
      volumes: PodVolumeStore(root: "\(configuration.data)/pods", volatileRoot: "\(configuration.volatile)/pods"),
      reporter: reporter, scheduler: clock, logger: logger,
      configuration: PodManager.Configuration(
        nodeName: configuration.node, hostIP: configuration.address, logRoot: "\(configuration.data)/logs"))
    let facts = NodeFacts.read(
      name: configuration.node, address: configuration.address, dataDirectory: configuration.data,
      maxPods: configuration.maxPods, runtime: "\(runtime.name)://\(Version.current)", version: "v\(Version.current)")
    status = NodeStatusReporter(facts: facts, replica: replica, reporter: reporter, scheduler: clock)

    view = EdgeView(replica: replica, random: random, logger: logger)
    reporter.listener = view
    server = APIServer(
      log: view.log, authorizer: EdgeAuthorizer(metrics: metrics, logger: logger), scheduler: clock,
      random: random, mode: .replica, metrics: metrics, logger: logger)
    forwarder = ReadingsForwarder(
      gather: configuration.profile.gather(.readings), scheduler: clock, metrics: metrics, logger: logger)
    let calls = NodeCalls(runtime: runtime, replica: replica, scheduler: clock)
    let deviceCalls = DeviceCalls(forwarder: forwarder, scheduler: clock, random: random)
    server.register(subresource: "log", of: "pods") { (reference, options, stream, _) async throws(APIError) in
      try await calls.log(reference, options, stream)
    }
    server.register(subresource: "exec", of: "pods") { (reference, options, stream, _) async throws(APIError) in
      try await calls.exec(reference, options, stream)
    }
    server.register(subresource: "command", of: Device.resource) {
      (reference, options, _, caller) async throws(APIError) in
      try await deviceCalls.command(reference, options, caller)
    }
    server.register(subresource: "readings", of: Device.resource) {
      (reference, options, _, _) async throws(APIError) in
      try await deviceCalls.readings(reference, options)
    }
    server.writeRouter = EdgeWrites(view: view, outbox: outbox, nodeName: configuration.node)
    let face = APIService(api: server, scheduler: clock, metrics: metrics)
    rotation = try CertificateRotation(
      CertificateRotation.Paths(
        ca: configuration.ca, certificate: configuration.certificate, key: configuration.key),
      node: configuration.node, scheduler: clock, logger: logger)
    let dialer = try Dialer(targets: configuration.cloud, context: rotation.context, scheduler: clock)
    dialer.connectTimeout = Self.connectTimeout
    let joining = try TLSContext.client(
      credentials: nil, trust: .authority(rotation.caPEM), alpn: [CertificateRotation.joinProtocol])
    dialer.handshakeTimeout = Self.connectTimeout + .seconds(2)
    joinDialer = try Dialer(targets: configuration.cloud, context: joining, scheduler: clock)
    grace = UnknownGrace(
      replica: replica, grace: configuration.unknownGrace, scheduler: clock, metrics: metrics, logger: logger)
    let follower = ReplicaFollower(replica: replica, reporter: reporter, grace: grace, logger: logger)
    link = CloudLink(
      dial: { () async throws(SkerryError) in try await dialer.connect() },
      hello: [
        "role": "node", "node": .string(configuration.node), "version": .string(Version.current),
        "labels": Value(
          configuration.labels.merging(
            ["kubernetes.io/os": "linux", "kubernetes.io/arch": facts.architecture]) { mine, _ in mine }),
      ], profile: configuration.profile, follower: follower, outbox: outbox, calls: face,
      // What the cloud passes on was authorised there, under its user's own name.
      caller: {
        face.connection(
          caller: Caller(user: "system:cloud", groups: [EdgeAuthorizer.cloudGroup], node: nil, origin: .network))
      }, scheduler: clock, random: random, metrics: metrics, logger: logger)
    let credentials = try EdgeCredentials.open("\(configuration.data)/edge-api", random: random)
    pods.edgeAPI = PodEdgeAPI(credentials: credentials, directory: Self.podSockets(configuration))
    deviceCalls.cloud = { [link] in link.current }
    socket = EdgeSocket(
      face: face, nodeName: configuration.node, users: configuration.socketUsers.union([getuid()]),
      credentials: credentials, scheduler: clock, random: random, logger: logger)
    operations = try OperationsServer.standard(
      at: configuration.operations, metrics: metrics, scheduler: clock, ready: readiness)
  }

  private static func runtime(
    _ configuration: EdgeConfiguration, scheduler: any Scheduler, random: any RandomSource, logger: Logger
  ) throws(SkerryError) -> any ContainerRuntime {
    let root = "\(configuration.data)/runtime"
    switch configuration.runtime {
    case .oci:
      return try OCIRuntime(
        OCIRuntime.Options(root: root, podSubnet: configuration.podSubnet), scheduler: scheduler, random: random,
        log: logger)
    case .process:
      return try ProcessRuntime(root: root, scheduler: scheduler, random: random, log: logger)
    }
  }

  private func begin() async throws(SkerryError) {
    clock.start()
    // The slice goes on by its cursor once the disk takes writes again.
    replica.reopenByItself { [logger] error in
      guard let error else { return logger.info("the replica writes again") }
      logger.error(EdgeLog.replicaApply, "the replica does not write; it is opened again every second: \(error)")
    }
    readiness.isReady = { [replica] in replica.failure.map { "the replica does not write: \($0)" } }
    await view.start(waiting: Self.waiting(outbox, logger))
    server.start()
    // From local state alone: pods run before the cloud is dialled, and whether or not it answers.
    try await pods.start()
    status.start()
    try serveNode()
    watchTheCloud()
    socket.onDevices = { [forwarder] session in forwarder.deviceSession(session) }
    link.onSession = { [weak self, forwarder, rotation] session in
      self?.heard(session)
      forwarder.cloudSession(session)
      rotation.sessionReady(session)
    }
    rotation.onRenewed = { [link] in spawn { await link.replaceSession() } }
    link.readingsWaiting = { [forwarder] in forwarder.backlog }
    link.onSessionEnd = { [forwarder] in forwarder.cloudSession(nil) }
    link.start()
    logger.info(
      "edgecore \(Version.current) runs as node \(configuration.node), metrics on \(operations.endpoint)",
      metadata: ["data": "\(configuration.data)", "position": "\(replica.tail.position)"])
    guard let file = configuration.readyFile else { return }
    let text = JSON.print(["metrics": .string("http://\(operations.endpoint)")])
    try Files.writeDurably(file, Bytes(text.utf8), mode: 0o600)
  }

  /// Where the socket lies that is mounted into pods.
  private static func podSockets(_ configuration: EdgeConfiguration) -> String { "\(configuration.volatile)/api" }

  /// What the node said before this start and the cloud has not applied.
  private static func waiting(_ outbox: Outbox, _ logger: Logger) -> [LanePayload] {
    do throws(SkerryError) { return try outbox.waiting(.status) + outbox.waiting(.events) } catch {
      logger.error(EdgeLog.replicaRead, "the edge API shows statuses only as they are told again: \(error)")
      return []
    }
  }

  /// Opens the doors of the edge API. A port that is taken keeps nobody from running pods.
  private func serveNode() throws(SkerryError) {
    socket.pod = { [pods] uid in pods.pod(uid: uid) }
    pods.onFinished = { [socket] uid in socket.podGone(uid: uid) }
    try socket.listen(path: configuration.socket)
    do throws(SkerryError) {
      try socket.listenForPods(path: "\(Self.podSockets(configuration))/\(PodEdgeAPI.socketName)")
      let address = try socket.listen(at: configuration.api)
      try Files.writeDurably("\(configuration.data)/edge-api/endpoint", Bytes("\(address)\n".utf8), mode: 0o644)
      logger.info("the edge API is on \(configuration.socket) and \(address)")
    } catch {
      logger.warning(EdgeLog.apiListen, "the edge API is on \(configuration.socket) alone: \(error)")
    }
  }

  /// Removes everything that this node's runtime ever made on the machine: for `edgecore --tear-down`, when no edgecore
  /// of that data directory runs.
  package static func tearDown(_ configuration: EdgeConfiguration, loop: Loop) async throws(SkerryError) {
    let logger = Daemon.logger("edgecore/\(configuration.node)", level: .warning, clock: loop)
    let root = "\(configuration.data)/runtime"
    switch configuration.runtime {
    case .oci:
      let runtime = try OCIRuntime(
        OCIRuntime.Options(root: root, podSubnet: configuration.podSubnet), scheduler: loop, random: SystemRandom(),
        log: logger)
      try await runtime.tearDown()
    case .process:
      try await ProcessRuntime(root: root, scheduler: loop, random: SystemRandom(), log: logger).tearDown()
    }
    try Files.removeTree(configuration.volatile)
  }

  /// Ends in order and leaves the containers alone.
  package func stop() async {
    link.stop()
    socket.stop()
    pods.stop()
    status.stop()
    server.stop()
    view.stop()
    outbox.close()
    do throws(SkerryError) { try await replica.close() } catch {
      logger.error(EdgeLog.replicaApply, "the replica was not closed in order: \(error)")
    }
    logger.info("edgecore stopped; its containers go on")
  }
}
