import API
import APIFace
import APIServer
import Base
import CloudHub
import EventLoop
import Identity
import Logging
import ObjectLog
import ObjectModel
import Store
import Sync
import Transport
import Wire

/// What every cloud process of a run shares and what is made with real keys: they never show in what is simulated.
@LoopActor package final class SimAuthority {
  package let authority: CertificateAuthority
  package let ring: KeyRing

  package init() throws(SkerryError) {
    let random = SeededRandom(seed: 1)
    authority = try CertificateAuthority.create(
      commonName: "simulated", lifetime: .seconds(20 * 365 * 86_400),
      now: WallTime(nanoseconds: SimClock.epoch), random: random)
    ring = KeyRing(random: random)
  }
}

/// One life of a cloudcore: the parts of `CloudDaemon` that keep state, joined in the same order.
@LoopActor package final class SimCloud {
  package static let address = "cloud"
  /// How often connections whose certificate has run out are cut, as `TLSListener` does.
  static let expirySweep: Duration = .seconds(10)

  package let process: SimProcess
  package let log: SQLiteObjectLog
  package let server: APIServer
  package let hub: CloudHub
  package let slices: SliceHub
  package let readings: ReadingsStore
  package let directory: NodeDirectory
  package let metrics = Metrics()
  /// Positions below which a slice cannot be resumed by its cursor. A hub that remembers everything is held to what the
  /// log still had at its start, not to its own word.
  package var floor: UInt64 { world.knobs.remembersSlices ? startFloor : slices.floor }
  private var startFloor: UInt64 = 0
  private unowned let world: SimWorld
  private let twins: TwinReporter
  private var accepted: [SimStream] = []

  package init(_ machine: SimMachine, disk: SimDisk) throws(SkerryError) {
    world = machine.world
    let process = machine.process("cloudcore")
    self.process = process
    let (clock, random, logger) = (process.clock, process.random, process.logger)
    var limits = LogLimits()
    limits.retentionTime = world.knobs.retention
    let sealing = Sealer(ring: world.authority.ring, random: random)
    log = try SQLiteObjectLog.open(
      SQLiteObjectLog.Configuration(
        path: disk.path("objects.db"), vfs: disk.vfs, sealing: sealing, limits: limits,
        metrics: metrics),
      scheduler: clock, random: random, driver: process.driver(of: disk))
    let registry = KindRegistry.standard
    slices = SliceHub(
      cluster: world.seams.sliceLog(log), registry: registry, journalLimit: world.knobs.sliceJournal, logger: logger)
    let placements = slices
    readings = try ReadingsStore(
      path: disk.path("readings.db"), vfs: disk.vfs,
      isPlaced: { device, node in placements.mayRead(node: node, key: "\(Device.resource)/\(device)") },
      metrics: metrics, logger: logger, driver: process.driver(of: disk))
    server = APIServer(
      log: world.seams.serverLog(log), registry: registry,
      authorizer: world.seams.authorizer(HouseAuthorizer(graph: slices, metrics: metrics, logger: logger)),
      scheduler: clock, random: random, metrics: metrics, logger: logger)
    directory = NodeDirectory(
      log: log, authority: world.authority.authority, scheduler: clock, random: random, metrics: metrics,
      logger: logger)
    try directory.load()
    let words = ObjectLaneEffect(writer: server, log: log, metrics: metrics, logger: logger)
    slices.listen(to: words)
    let objects = world.seams.effect(words, process: process)
    let series = world.seams.effect(readings, process: process)
    hub = CloudHub(
      api: server, face: APIService(api: server, scheduler: clock, metrics: metrics), directory: directory,
      slices: slices, effects: [.status: objects, .events: objects, .replies: objects, .readings: series],
      scheduler: clock, random: random, metrics: metrics, logger: logger,
      configuration: world.seams.configuration(world.sessionConfiguration))
    server.connector = hub
    HubCalls.register(on: server, directory: directory, readings: readings, hub: hub)
    twins = TwinReporter(api: server, scheduler: clock, logger: logger)
  }

  /// The start of `CloudDaemon.begin`.
  package func start() async throws(SkerryError) {
    let trace = world.trace
    log.reopenByItself { error in
      trace.note(error.map { "cloud: the log does not write: \($0.message)" } ?? "cloud: the log writes again")
    }
    startFloor = min(log.compacted + 1, log.tail.position)
    try slices.start()
    server.start()
    readings.onStored = { [twins] readings in twins.took(readings) }
    do throws(APIError) { try await server.bootstrap() } catch {
      throw SkerryError(.unavailable, "the namespaces that every cluster has cannot be made", cause: error)
    }
  }

  /// Begins to take connections.
  package func listen() {
    world.network.listen(Self.address, clock: process.clock) { [weak self] peer in
      self?.refusal(of: peer)
    } accept: { [weak self] stream in
      guard let self else { return }
      self.accepted.removeAll { !$0.isOpen }
      self.accepted.append(stream)
      self.hub.accept(stream)
    }
    sweep()
  }

  /// What a TLS handshake says to a peer.
  private func refusal(of peer: PeerInfo) -> SkerryError? {
    guard let certificate = peer.certificate else { return SkerryError(.unauthenticated, "no certificate") }
    if certificate.notAfter < process.clock.wall.seconds {
      return SkerryError(.unauthenticated, "the certificate of \(certificate.commonName) has expired")
    }
    if let reason = directory.refusal(of: certificate) { return SkerryError(.unauthenticated, reason) }
    return nil
  }

  private func sweep() {
    process.clock.schedule(after: Self.expirySweep) { [weak self] in
      guard let self else { return }
      let now = self.process.clock.wall.seconds
      for stream in self.accepted
      where self.world.seams.cutsExpired && (stream.peer.certificate?.notAfter ?? .max) < now { stream.close() }
      self.sweep()
    }
  }

  package func kill(silently: Bool) { process.kill(silently: silently, keeping: self) }
}
