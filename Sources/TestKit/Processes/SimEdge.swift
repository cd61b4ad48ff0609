import API
import APIFace
import APIServer
import Base
import ContainerRuntime
import DeviceServices
import EdgeAgent
import EventLoop
import Identity
import Logging
import ObjectLog
import ObjectModel
import Sync
import Transport
import Wire

/// One life of an edgecore: the parts of `EdgeDaemon` that keep state, joined in the same order.
@LoopActor package final class SimEdge {
  package let process: SimProcess
  package let replica: SQLiteObjectLog
  package let outbox: Outbox
  package let reporter: NodeReporter
  package let pods: PodManager
  package let link: CloudLink
  package let forwarder: ReadingsForwarder
  private let server: APIServer
  private let status: NodeStatusReporter
  private unowned let node: SimNode
  private var local: Session?
  /// Versions of the protocol that this program speaks; nil: as the product does.
  let versions: [Int64]?

  package init(_ node: SimNode) throws(SkerryError) {
    self.node = node
    versions = node.versions
    let (machine, world) = (node.machine, node.machine.world)
    let process = machine.process("edgecore")
    self.process = process
    let (clock, random, logger) = (process.clock, process.random, process.logger)
    let metrics = Metrics()
    let sealing = Sealer(ring: world.authority.ring, random: random)
    replica = try SQLiteObjectLog.open(
      SQLiteObjectLog.Configuration(
        path: node.disk.path("replica.db"), role: .follower, vfs: node.disk.vfs, sealing: sealing,
        metrics: metrics),
      scheduler: clock, random: random, driver: process.driver(of: node.disk))
    outbox = try Outbox(
      path: node.disk.path("outbox.db"), vfs: node.disk.vfs,
      random: world.seams.outboxRandom(random, node: node.name), logger: logger,
      driver: process.driver(of: node.disk), scheduler: clock)
    let runtime = GatedRuntime(node.runtime, process: process)
    reporter = NodeReporter(outbox: outbox, nodeName: node.name, scheduler: clock, random: random)
    pods = PodManager(
      replica: replica, runtime: runtime,
      volumes: PodVolumeStore(root: "\(node.files)/pods", volatileRoot: "\(node.files)/volatile"), reporter: reporter,
      scheduler: clock, logger: logger,
      configuration: PodManager.Configuration(
        nodeName: node.name, hostIP: "192.0.2.1", logRoot: "\(node.files)/logs"))
    let facts = NodeFacts(
      name: node.name, address: "192.0.2.1", cpuCount: 4, memoryBytes: 1 << 32, diskBytes: 1 << 36, maxPods: 100,
      osImage: "simulated", kernelVersion: "0", machineID: node.name, architecture: "amd64", runtime: "fake://0",
      version: "v0")
    status = NodeStatusReporter(facts: facts, replica: replica, reporter: reporter, scheduler: clock)
    server = APIServer(
      log: replica, authorizer: EdgeAuthorizer(metrics: metrics, logger: logger), scheduler: clock, random: random,
      mode: .replica, metrics: metrics, logger: logger)
    let profile = LinkProfile()
    forwarder = ReadingsForwarder(gather: profile.gather(.readings), scheduler: clock, metrics: metrics, logger: logger)
    let face = APIService(api: server, scheduler: clock, metrics: metrics)
    let follower = ReplicaFollower(
      replica: world.seams.replica(replica, node: node.name, process: process), reporter: reporter, logger: logger)
    let hello: Value = [
      "role": "node", "node": .string(node.name), "version": "0", "labels": ["kubernetes.io/os": "linux"],
    ]
    link = CloudLink(
      dial: { [unowned node, versions] () async throws(SkerryError) in
        try await node.dial(process, versions: versions)
      }, hello: hello, profile: profile,
      follower: follower, outbox: outbox, calls: face,
      caller: {
        face.connection(
          caller: Caller(user: "system:cloud", groups: [EdgeAuthorizer.cloudGroup], node: nil, origin: .network))
      }, scheduler: clock, random: random, metrics: metrics, logger: logger)
  }

  /// As `EdgeDaemon.begin`: what needs no cloud comes first.
  package func start() async throws(SkerryError) {
    let (trace, name) = (node.machine.world.trace, node.name)
    replica.reopenByItself { error in
      trace.note("\(name): \(error.map { "the replica does not write: \($0.message)" } ?? "the replica writes again")")
    }
    server.start()
    try await pods.start()
    status.start()
    link.onSession = { [weak self] session in
      guard let self else { return }
      self.forwarder.cloudSession(session)
      self.node.sessionReady(session)
    }
    link.onSessionEnd = { [weak self] in
      self?.node.machine.world.take(.linkLost)
      self?.forwarder.cloudSession(nil)
    }
    link.start()
  }

  /// Whether an event with that text is in the outbox, durably, or is in the cloud already.
  package func holdsEvent(_ message: String) -> Bool {
    if machineWorld.ledger.knows(event: message) { return true }
    guard let entries = try? outbox.read(.events, outbox.current, after: 0, through: UInt64(Int64.max)) else {
      return false
    }
    return entries.contains { entry in
      guard case .event(_, let object)? = try? LanePayload.decode(entry.payload) else { return false }
      return object["message"].string == message
    }
  }

  private var machineWorld: SimWorld { node.machine.world }

  /// The edge's end of devicecore's connection, as `EdgeSocket` takes it.
  func takeDevices(_ stream: any ByteStream) {
    let session = Session(
      stream: stream, role: .server, hello: ["role": "edgecore"], scheduler: process.clock, random: process.random)
    local = session
    session.onReady = { [weak self, weak session] in
      if let session { self?.forwarder.deviceSession(session) }
    }
    session.onClose = { [weak self, weak session] _ in
      guard let self, self.local === session else { return }
      self.local = nil
      self.forwarder.deviceSession(nil)
    }
    session.start()
  }

  package func kill(silently: Bool) { process.kill(silently: silently, keeping: self) }
}
