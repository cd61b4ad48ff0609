import API
import APIFace
import APIServer
import Base
import CloudControllers
import CloudHub
import CloudScheduler
import EventLoop
import Identity
import Logging
import ObjectLog
import ObjectModel
import Sync
import Transport
import Wire

/// A cloudcore: the log, the API over it, controllers, scheduler and hub, joined and started in order.
@LoopActor package final class CloudDaemon {
  private let configuration: CloudConfiguration
  private let logger: Logger
  private let metrics = Metrics()
  private let log: SQLiteObjectLog
  private let server: APIServer
  private let hub: CloudHub
  private let slices: SliceHub
  private let readings: ReadingsStore
  private let twins: TwinReporter
  private let controllers: ControllerManager
  private let scheduler: PodScheduler
  private let listener: TLSListener
  private let operations: OperationsServer
  private let readiness = Readiness()

  /// The address that nodes and clients reach.
  package var address: String { HostPort(host: configuration.listen.host, port: listener.boundPort).description }

  /// Opens the data directory and serves. Throws what keeps it from starting, with the place and the remedy.
  package static func start(_ configuration: CloudConfiguration, loop: Loop) async throws(SkerryError) -> CloudDaemon {
    let daemon = try CloudDaemon(configuration, loop: loop, random: SystemRandom())
    try await daemon.begin()
    return daemon
  }

  private init(_ configuration: CloudConfiguration, loop: Loop, random: any RandomSource) throws(SkerryError) {
    self.configuration = configuration
    let logger = Daemon.logger("cloudcore", level: configuration.logLevel, clock: loop)
    self.logger = logger
    try Files.makeDirectory(configuration.data, mode: 0o700, durably: true)
    var pki = try ClusterPKI.load(directory: configuration.pki)
    if try pki.renewServer(now: loop.wall, random: random) { logger.info("the serving certificate was renewed") }
    let ring = try KeyRing.loadOrCreate(path: ClusterPKI.sealingKeys(in: configuration.pki), random: random)
    log = try SQLiteObjectLog.open(
      SQLiteObjectLog.Configuration(
        path: configuration.objects, sealing: Sealer(ring: ring, random: random),
        limits: configuration.log, metrics: metrics), scheduler: loop, random: random,
      driver: BlockingThread(name: "log-writer", busyPolls: true))
    let registry = KindRegistry.standard
    slices = SliceHub(cluster: log, registry: registry, logger: logger)
    let placements = slices
    readings = try ReadingsStore(
      path: configuration.readings,
      // Nothing refers to a device, so a node has reason to see one only if it is placed there.
      isPlaced: { device, node in placements.mayRead(node: node, key: "\(Device.resource)/\(device)") },
      metrics: metrics, logger: logger)
    let authorizer = HouseAuthorizer(graph: slices, metrics: metrics, logger: logger)
    server = APIServer(
      log: log, registry: registry, authorizer: authorizer, scheduler: loop, random: random, metrics: metrics,
      logger: logger)
    let directory = NodeDirectory(
      log: log, authority: pki.authority, revocations: RevocationList(path: "\(configuration.pki)/revoked"),
      scheduler: loop, random: random, metrics: metrics, logger: logger)
    try directory.load()

    let face = APIService(api: server, scheduler: loop, metrics: metrics)
    let objects = ObjectLaneEffect(writer: server, log: log, metrics: metrics, logger: logger)
    hub = CloudHub(
      api: server, face: face, directory: directory, slices: slices,
      effects: [.status: objects, .events: objects, .replies: objects, .readings: readings], scheduler: loop,
      random: random, metrics: metrics, logger: logger, configuration: configuration.session)
    server.connector = hub
    HubCalls.register(on: server, directory: directory, readings: readings, hub: hub)
    if !configuration.groups.rates.isEmpty {
      let (log, rates) = (log, configuration.groups.rates)
      hub.ratesOfNode = { node in rates[Self.group(of: node, log)] ?? LinkBudget.Rates() }
    }
    slices.listen(to: objects)

    var settings = ControllerManager.Settings()
    settings.nodes.grace = configuration.nodeGrace
    settings.nodes.groups = configuration.groups.lifecycle
    controllers = ControllerManager(
      api: server, scheduler: loop, random: random, liveness: hub, metrics: metrics, logger: logger, settings: settings)
    scheduler = PodScheduler(api: server, scheduler: loop, random: random, metrics: metrics, logger: logger)
    twins = TwinReporter(api: server, scheduler: loop, logger: logger)
    let context = try TLSContext.server(
      credentials: TLSCredentials(certificatePEM: pki.serverCertificatePEM, keyPEM: pki.serverKeyPEM),
      clientAuthorities: pki.authority.certificate.pem,
      protocols: [
        TLSProtocol(CloudHub.sessionProtocol),
        TLSProtocol(CloudHub.joinProtocol, requiresClientCertificate: false, presentsRoot: true),
      ])
    context.refusal = { directory.refusal(of: $0) }
    let accepting = hub
    listener = try TLSListener(
      host: configuration.listen.host, port: configuration.listen.port, context: context,
      limits: configuration.listener, scheduler: loop
    ) { accepting.accept($0) }
    operations = try OperationsServer.standard(
      at: configuration.operations, metrics: metrics, scheduler: loop, ready: readiness)
  }

  /// The group that a node's label puts it in; empty without one.
  private static func group(of node: String, _ log: SQLiteObjectLog) -> String {
    guard let stored = try? log.read("\(Node.resource)//\(node)", at: nil),
      let meta = try? ObjectMeta(decoding: stored.meta)
    else { return "" }
    return meta.labels[NodeState.groupLabel] ?? ""
  }

  private func begin() async throws(SkerryError) {
    let failures = metrics.counter("skerry_tls_handshakes_failed_total", "TLS handshakes that failed.")
    let logger = logger
    listener.onFailure = { peer, error in
      failures.add()
      logger.warning(CloudLog.handshake, "\(peer.address): \(error)")
    }
    // Reads go on meanwhile, writes answer 503.
    log.reopenByItself { error in
      guard let error else { return logger.info("the object log writes again") }
      logger.error(CloudLog.logStopped, "the object log does not write; it is opened again every second: \(error)")
    }
    readiness.isReady = { [log] in log.failure.map { "the object log does not write: \($0)" } }
    try slices.start()
    server.start()
    readings.onStored = { [twins] readings in twins.took(readings) }
    do throws(APIError) { try await server.bootstrap() } catch {
      throw SkerryError(.unavailable, "the namespaces that every cluster has cannot be made", cause: error)
    }
    controllers.start()
    scheduler.start()
    logger.info(
      "cloudcore \(Version.current) serves on \(address), metrics on \(operations.endpoint)",
      metadata: ["data": "\(configuration.data)", "position": "\(log.tail.position)"])
    try announce()
  }

  /// Tells whoever started this daemon where it serves.
  private func announce() throws(SkerryError) {
    guard let file = configuration.readyFile else { return }
    let text = JSON.print(["api": .string(address), "metrics": .string("http://\(operations.endpoint)")])
    try Files.writeDurably(file, Bytes(text.utf8), mode: 0o600)
  }

  /// Ends in order: no new work, sessions told to come back, the log closed as clean.
  package func stop() async {
    listener.close()
    hub.shutDown(delay: .zero)
    scheduler.stop()
    controllers.stop()
    server.stop()
    slices.stop()
    readings.close()
    do throws(SkerryError) { try await log.close() } catch {
      logger.error(CloudLog.logStopped, "the object log was not closed in order: \(error)")
    }
    logger.info("cloudcore stopped")
  }
}

/// The codes of this room's log lines; docs/operations.md lists them.
enum CloudLog {
  static let handshake = LogCode("W-CLOUD-001")
  static let logStopped = LogCode("E-CLOUD-002")
}
