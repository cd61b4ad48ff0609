import API
import APIClient
import APIFace
import APIServer
import Base
import EventLoop
import Identity
import Logging
import ObjectLog
import ObjectModel
import Sync
import Transport
import Wire

/// The cloud's end of every connection: authenticates it, gives each stream to whoever serves it, and reaches nodes
/// for logs, exec and device commands over the sessions that they opened.
@LoopActor package final class CloudHub: NodeConnector, NodeLiveness {
  /// The ALPN protocols that are served.
  package static let sessionProtocol = "skerry/1"
  package static let joinProtocol = "skerry-join/1"
  /// Requests to join that one minute takes in all; a join is one small call, and guessing tokens is not to be cheap.
  package static let maxJoinsPerMinute = 600
  /// How long a connection that came to join may stay.
  static let joinDeadline = Duration.seconds(30)

  let directory: NodeDirectory
  let slices: SliceHub
  let links: NodeLinks
  let scheduler: any Scheduler
  let logger: Logger
  let commands: DeviceCommandRelay
  private let random: any RandomSource
  private let face: APIService
  private let api: any API
  private let configuration: SessionConfiguration
  private let effects: [Lane: any LaneEffect]
  private var sinks: [String: LaneSink] = [:]
  private var nodes: [String: [NodeSession]] = [:]
  private var clients: [UInt64: Session] = [:]
  private var lastClient: UInt64 = 0
  private var clientNames: [UInt64: String] = [:]
  private var heard: [String: Instant] = [:]
  private var nextRank: UInt64 = 1
  /// How often nodes that are away now pinged.
  private var intervals: [String: Duration] = [:]
  private var joinsLeft = CloudHub.maxJoinsPerMinute
  private var joinsRefilled: Instant
  private let refused: Counter
  private let applied: Counter
  private let connectedNodes: Gauge
  private let connectedClients: Gauge

  package init(
    api: any API, face: APIService, directory: NodeDirectory, slices: SliceHub, effects: [Lane: any LaneEffect],
    scheduler: any Scheduler, random: any RandomSource, metrics: Metrics, logger: Logger,
    configuration: SessionConfiguration = SessionConfiguration()
  ) {
    self.api = api
    self.face = face
    self.directory = directory
    self.slices = slices
    links = NodeLinks(metrics)
    self.effects = effects
    self.scheduler = scheduler
    self.random = random
    self.logger = logger
    commands = DeviceCommandRelay(scheduler: scheduler, random: random)
    self.configuration = configuration
    joinsRefilled = scheduler.now
    refused = metrics.counter("skerry_hub_refused_total", "Connections that were refused after their handshake.")
    applied = metrics.counter("skerry_hub_lane_entries_total", "Lane entries of nodes that took effect.")
    connectedNodes = metrics.gauge("skerry_hub_node_sessions", "Live sessions of nodes.")
    connectedClients = metrics.gauge("skerry_hub_client_sessions", "Live sessions of clients.")
    directory.onRevoked = { [weak self] node in self?.cut(node) }
    directory.onClientRevoked = { [weak self] name in self?.cutClient(name) }
  }

  // MARK: Connections

  /// Takes a connection whose TLS handshake is done.
  package func accept(_ stream: any ByteStream) {
    let peer = stream.peer
    if peer.applicationProtocol == Self.joinProtocol { return acceptJoin(stream) }
    guard let certificate = peer.certificate else { return refuse(stream, "no client certificate") }
    if let reason = directory.refusal(of: certificate) { return refuse(stream, reason) }
    if let node = NodeDirectory.nodeName(certificate) {
      acceptNode(node, certificate, stream)
    } else {
      acceptClient(certificate, stream)
    }
  }

  private func refuse(_ stream: any ByteStream, _ reason: String) {
    refused.add()
    logger.warning(HubLog.sessionRefused, "\(stream.peer.address) was refused: \(reason)")
    stream.close()
  }

  private static let hello: Value = ["role": "cloud"]

  private func makeSession(_ stream: any ByteStream) -> Session {
    Session(
      stream: stream, role: .server, hello: Self.hello, scheduler: scheduler, random: random,
      configuration: configuration)
  }

  /// How many intervals of a node one of a client is.
  private static let clientPing = 2

  private func acceptClient(_ certificate: PeerCertificate, _ stream: any ByteStream) {
    let session = makeSession(stream)
    lastClient += 1
    let id = lastClient
    let caller = Caller(
      user: certificate.commonName, groups: certificate.organizations, node: nil, origin: .network)
    face.attach(session, caller: caller)
    // Nothing but its own watches hangs on a client: with thousands that only watch, their pings are most of the load.
    session.pingInterval = configuration.pingInterval * Self.clientPing
    clients[id] = session
    clientNames[id] = certificate.commonName
    connectedClients.add(1)
    session.onClose = { [weak self] _ in
      self?.clientNames[id] = nil
      guard let self, self.clients.removeValue(forKey: id) != nil else { return }
      self.connectedClients.add(-1)
    }
    session.start()
  }

  private func acceptNode(_ node: String, _ certificate: PeerCertificate, _ stream: any ByteStream) {
    let session = makeSession(stream)
    let served = NodeSession(
      node: node, certificate: certificate, session: session, rank: nextRank, hub: self,
      calls: face.connection(caller: .node(node, origin: .network)))
    nextRank += 1
    nodes[node, default: []].append(served)
    connectedNodes.add(1)
    session.onClose = { [weak self] error in self?.ended(served, error) }
    session.start()
  }

  private func ended(_ served: NodeSession, _ error: SkerryError?) {
    guard let index = nodes[served.node]?.firstIndex(where: { $0 === served }) else { return }
    heard[served.node] = served.session.lastHeard
    intervals[served.node] = served.session.interval
    nodes[served.node]?.remove(at: index)
    if nodes[served.node]?.isEmpty == true { nodes[served.node] = nil }
    connectedNodes.add(-1)
    served.end()
    logger.info("node \(served.node) disconnected: \(error?.description ?? "in order")")
  }

  /// Whether the session speaks for its node. The newest session that opened its slice or a lane does; when one
  /// `claims` to, the older ones are fenced and ended.
  func serves(_ served: NodeSession, claims: Bool) -> Bool {
    let all = nodes[served.node] ?? []
    if all.contains(where: { $0.rank > served.rank && $0.hasClaimed }) { return false }
    guard claims, !served.hasClaimed else { return true }
    served.hasClaimed = true
    for old in all where old.rank < served.rank && !old.session.isClosed {
      if Self.host(old) != Self.host(served) {
        let (now, before) = (served.session.peer.address, old.session.peer.address)
        logger.warning(
          HubLog.superseded, "node \(served.node) speaks from \(now) now; its session from \(before) is ended")
      }
      old.session.close(GoAway.shutdown, message: "a newer session of this node took over")
    }
    return true
  }

  /// The peer's address without its port.
  private static func host(_ served: NodeSession) -> Substring {
    let address = served.session.peer.address
    return address.lastIndex(of: ":").map { address[..<$0] } ?? address[...]
  }

  /// Ends every session of a node whose certificate is no longer good.
  private func cut(_ node: String) {
    for served in nodes[node] ?? [] where directory.refusal(of: served.certificate) != nil {
      served.session.close("revoked", message: "the certificate of node \"\(node)\" is no longer good")
    }
  }

  private func cutClient(_ name: String) {
    for (id, _) in clientNames.filter({ $0.value == name }) {
      clients[id]?.close("revoked", message: "the certificates of client \"\(name)\" were revoked")
    }
  }

  /// Tells everybody to come back later, and elsewhere if there is an elsewhere.
  package func shutDown(delay: Duration) {
    for served in nodes.values.flatMap({ $0 }) { served.session.close(GoAway.shutdown, delay: delay) }
    for session in clients.values { session.close(GoAway.shutdown, delay: delay) }
  }

  // MARK: Joining

  private func acceptJoin(_ stream: any ByteStream) {
    let now = scheduler.now
    if now - joinsRefilled >= .seconds(60) {
      joinsLeft = Self.maxJoinsPerMinute
      joinsRefilled = now
    }
    guard joinsLeft > 0 else { return refuse(stream, "more than \(Self.maxJoinsPerMinute) joins in a minute") }
    joinsLeft -= 1
    let session = makeSession(stream)
    lastClient += 1
    let id = lastClient
    clients[id] = session
    let deadline = scheduler.schedule(after: Self.joinDeadline) { [weak session] in session?.close() }
    session.onClose = { [weak self] _ in
      self?.scheduler.cancel(deadline)
      self?.clients[id] = nil
    }
    session.onStream = { [weak self] stream in self?.join(stream) }
    session.start()
  }

  private func join(_ stream: SessionStream) {
    let parameters = stream.params
    let address = stream.peer?.address ?? ""
    spawn {
      do throws(CallError) {
        let csr = parameters["csr"].string ?? ""
        let node = parameters["node"].string ?? ""
        switch stream.method {
        case "join":
          let credential = parameters["token"].string ?? ""
          stream.finish(try await self.directory.join(credential: credential, csrPEM: csr, node: node, from: address))
        case "renew":
          stream.finish(try await self.directory.renew(node: node, csrPEM: csr, authenticated: nil, from: address))
        default:
          throw CallError(reason: CallError.unknownMethod, message: "only join and renew are served to strangers")
        }
      } catch {
        stream.fail(error)
      }
    }
  }

  // MARK: What a node's session asks for

  func sink(_ node: String, _ lane: Lane) -> LaneSink? {
    let name = "\(node)/\(lane.rawValue)"
    if let sink = sinks[name] { return sink }
    guard let effect = effects[lane] else { return nil }
    let sink = LaneSink(node: node, lane: lane, effect: effect, logger: logger, applied: applied)
    sinks[name] = sink
    return sink
  }

  /// Makes sure that a connected node is an object of the cluster.
  func register(_ node: String, hello: Value) async {
    // A whole fleet that comes back asks the log's readers, not its writer.
    let key = ObjectReference(resource: Node.resource, name: node).key
    if let known = try? slices.log.read(key, at: nil), !known.body.isEmpty { return }
    var labels: Value = [:]
    // The registrar has more rights than the node that speaks here.
    for (key, value) in hello["labels"].object ?? Value.Fields() where !NodeRules.isReserved(label: key) {
      labels[key] = value
    }
    labels["kubernetes.io/hostname"] = .string(node)
    let object: Value = [
      "apiVersion": "v1", "kind": "Node", "metadata": ["name": .string(node), "labels": labels], "spec": [:],
    ]
    do throws(APIError) {
      _ = try await api.create(
        resource: "nodes", namespace: "", object: object, caller: .controller("node-registrar"))
      logger.info("node \(node) was registered")
    } catch {
      guard error.reason != .alreadyExists else { return }
      logger.error(HubLog.nodeRegister, "node \(node) could not be registered: \(error)")
    }
  }

  // MARK: The link's terms

  /// Bounds of the ping interval that a node may ask for. The lower one keeps a fleet's pings from being a load, the
  /// upper one a dead node from being taken for alive for too long.
  package nonisolated static let pingRange: ClosedRange<Duration> = .seconds(1)...(.seconds(300))
  /// Nodes that may come back in a second; the spread that is told grows with the fleet.
  static let returnsPerSecond = 1_000

  /// How often a node pings: as its profile says, within bounds, or as the hub is configured.
  func pingInterval(_ hello: Value) -> Duration? {
    guard let asked = hello["ping"].int else { return nil }
    return min(max(.milliseconds(min(max(asked, 0), 3_600_000)), Self.pingRange.lowerBound), Self.pingRange.upperBound)
  }

  /// Over what time a node spreads its return: long enough for all that are connected.
  var spread: Duration {
    max(configuration.reconnectSpread, .seconds(Int64(nodes.count / Self.returnsPerSecond)))
  }

  /// What may be sent to a node, by its group.
  package var ratesOfNode: ((_ node: String) -> LinkBudget.Rates)?

  func rates(_ node: String) -> LinkBudget.Rates { ratesOfNode?(node) ?? LinkBudget.Rates() }

  package func interval(_ node: String) -> Duration? {
    (nodes[node] ?? []).map(\.session.interval).max() ?? intervals[node]
  }

  /// What is known of the links of all nodes that were heard, by name: for `skerry get nodes -o wide`.
  package func linkReport() -> [(node: String, report: Value)] {
    let wall = scheduler.wall
    return Set(nodes.keys).union(heard.keys).sorted().map { node in (node, report(node, wall)) }
  }

  private func report(_ node: String, _ wall: WallTime) -> Value {
    let link = links.link(node, wall: wall)
    let session = nodes[node]?.last { $0.session.isReady }
    var report: Value = [
      "connected": .bool(session != nil), "waiting": .int(Int64(clamping: link.waiting)),
      "bytesToday": .int(Int64(clamping: link.up.total + link.down.total)),
    ]
    if let seen = lastHeard(node) { report["lastSeenSeconds"] = .int(Int64((scheduler.now - seen).seconds)) }
    if let since = link.waitingSince { report["waitingSeconds"] = .int(Int64((scheduler.now - since).seconds)) }
    if let cursor = session?.cursor ?? link.leftAt {
      report["behind"] = slices.behind(node, cursor).map { .int(Int64($0)) } ?? .null
    }
    for (name, count) in [("up", link.up), ("down", link.down)] {
      var classes: Value = [:]
      for priority in Priority.allCases { classes["\(priority)"] = .int(Int64(clamping: count[priority])) }
      report[name] = classes
    }
    return report
  }

  // MARK: NodeConnector

  package func connect(
    node: String, _ reference: ObjectReference, subresource: String, options: Value, stream: (any DuplexStream)?,
    caller: Caller
  ) async throws(APIError) -> Value {
    func ready() -> Session? { nodes[node]?.last { $0.session.takesCalls }?.session }
    // The node's audit of device writes names who asked; what the request itself says of that does not count.
    if subresource == "command" {
      return try await commands.run(reference, node: node, options: options, caller: caller, session: ready)
    }
    guard let session = ready() else {
      let seen =
        lastHeard(node).map { "it was last heard \(Int((scheduler.now - $0).seconds)) s ago" }
        ?? "it was not heard since this cloudcore started"
      throw APIError(.serviceUnavailable, "node \"\(node)\" is not connected: \(seen)")
    }
    return try await APIClient(session: session).connect(
      reference, subresource: subresource, options: options, stream: stream, caller: caller)
  }

  package func lastHeard(_ node: String) -> Instant? {
    (nodes[node] ?? []).map(\.session.lastHeard).max() ?? heard[node]
  }

  /// Names of the nodes with a live session.
  package var connected: [String] { nodes.keys.sorted() }
}
