import API
import APIFace
import Base
import EventLoop
import Logging
import ObjectModel
import Transport
import Wire

/// The doors of the edge API: the same API as the cloud's, answered on the node.
///
/// * `socket`: a Unix socket for root, edgecore's own user and the users that are let in; the kernel says who calls.
/// * `pods`: a Unix socket that is mounted into pods. Who is root in a container is not root here, so it asks for a token.
/// * `port`: TLS on loopback, with a token.
///
/// A token is in HELLO; without a credential no request is read.
@LoopActor package final class EdgeSocket {
  /// Connections at a time of one door; a pod has its own share of its door's.
  package static let maxConnections = 64
  package static let maxPodConnections = 512
  package static let maxOfOnePod = 8

  private enum Door { case local, pods, port }
  private struct Served {
    let session: Session
    let door: Door
    var podUID: String?
  }

  private let face: APIService
  private let nodeName: String
  private let allowed: Set<UInt32>
  private let credentials: EdgeCredentials?
  private let scheduler: any Scheduler
  private let random: any RandomSource
  private let logger: Logger
  private var listeners: [StreamListener] = []
  private var port: TLSListener?
  private var sessions: [ObjectIdentifier: Served] = [:]

  /// A session of devicecore began or, with nil, ended.
  package var onDevices: ((Session?) -> Void)?
  /// The pod of a uid, if it is on this node.
  package var pod: ((_ uid: String) -> Object?)?

  /// `users` are the uids that may connect besides root; without `credentials` no token is good.
  package init(
    face: APIService, nodeName: String, users: Set<UInt32>, credentials: EdgeCredentials? = nil,
    scheduler: any Scheduler, random: any RandomSource, logger: Logger
  ) {
    self.face = face
    self.nodeName = nodeName
    allowed = users.union([0])
    self.credentials = credentials
    self.scheduler = scheduler
    self.random = random
    self.logger = logger
  }

  package func listen(path: String) throws(SkerryError) {
    listeners.append(try UnixListener.listen(path: path) { [weak self] in self?.acceptLocal($0) })
  }

  /// The socket for pods: anybody may connect, and shows a token.
  package func listenForPods(path: String) throws(SkerryError) {
    listeners.append(try UnixListener.listen(path: path) { [weak self] in self?.accept($0, .pods) })
    try Files.setMode(path, 0o666)
  }

  /// TLS on a loopback address; answers where.
  package func listen(at address: HostPort) throws(SkerryError) -> HostPort {
    guard let credentials else { throw SkerryError(.invalidArgument, "the edge API has no certificate") }
    guard address.host == "127.0.0.1" || address.host == "::1" else {
      throw SkerryError(
        .invalidArgument, "the edge API listens on loopback alone: 127.0.0.1 or ::1, not \(address.host)")
    }
    let context = try TLSContext.server(
      credentials: credentials.server, clientAuthorities: nil,
      protocols: [TLSProtocol("skerry/1", requiresClientCertificate: false)])
    var limits = ListenerLimits()
    limits.maxConnections = 2 * Self.maxConnections
    let listener = try TLSListener(
      host: address.host, port: address.port, context: context, limits: limits, scheduler: scheduler
    ) { [weak self] in self?.accept($0, .port) }
    port = listener
    return HostPort(host: address.host, port: listener.boundPort)
  }

  package func stop() {
    for listener in listeners { listener.close() }
    port?.close()
    for served in sessions.values { served.session.close() }
  }

  /// A pod has gone: its sessions end, and its token is worth nothing.
  package func podGone(uid: String) {
    for served in sessions.values where served.podUID == uid {
      served.session.close("revoked", message: "the pod is gone")
    }
  }

  // MARK: Connections

  private func refuse(_ stream: any ByteStream, _ why: String) {
    logger.warning(EdgeLog.socketRefused, "\(why) was refused on the edge API")
    stream.close()
  }

  private func hasRoom(_ door: Door) -> Bool {
    sessions.values.count { $0.door == door } < (door == .pods ? Self.maxPodConnections : Self.maxConnections)
  }

  private func session(_ stream: any ByteStream, _ door: Door) -> Session? {
    guard hasRoom(door) else {
      refuse(stream, "one more connection than a door of the edge API takes")
      return nil
    }
    let session = Session(stream: stream, role: .server, hello: ["role": "edge"], scheduler: scheduler, random: random)
    let id = ObjectIdentifier(session)
    sessions[id] = Served(session: session, door: door)
    return session
  }

  private func ended(_ session: Session) { sessions[ObjectIdentifier(session)] = nil }

  private func acceptLocal(_ stream: any ByteStream) {
    guard let peer = stream.peer.credentials, allowed.contains(peer.uid) else {
      let uid = stream.peer.credentials.map { String($0.uid) } ?? "unknown"
      return refuse(stream, "a process of uid \(uid)")
    }
    guard let session = session(stream, .local) else { return }
    face.attach(session, caller: local(isRoot: peer.uid == 0))
    var isDevices = false
    session.onReady = { [weak self, weak session] in
      guard let session, session.peerHello["role"].string == "devicecore" else { return }
      isDevices = true
      self?.onDevices?(session)
    }
    session.onClose = { [weak self, unowned session] _ in
      self?.ended(session)
      if isDevices { self?.onDevices?(nil) }
    }
    session.start()
  }

  /// For doors at which the peer shows a token.
  private func accept(_ stream: any ByteStream, _ door: Door) {
    guard let session = session(stream, door) else { return }
    var caller: Caller?
    session.onHello = { [weak self, unowned session] hello in
      guard let self else { return .failure(CallError(reason: "Unauthorized", message: "this node stops")) }
      let answer = self.authenticate(hello["token"].string ?? "", session)
      switch answer {
      case .success(let known):
        caller = known
        return .success(["role": "edge"])
      case .failure(let error):
        self.logger.warning(
          EdgeLog.socketRefused, "\(session.peer.address) was refused on the edge API: \(error.message)")
        return .failure(error)
      }
    }
    session.onReady = { [face, unowned session] in
      guard let caller else { return session.close("refused", message: "no credential") }
      face.attach(session, caller: caller)
    }
    session.onClose = { [weak self, unowned session] _ in self?.ended(session) }
    session.start()
  }

  private func local(isRoot: Bool) -> Caller {
    Caller(
      user: "\(Caller.nodeUserPrefix)\(nodeName)",
      groups: isRoot ? [Caller.nodesGroup, EdgeAuthorizer.rootGroup] : [Caller.nodesGroup], node: nodeName,
      origin: .edgeSocket)
  }

  private func authenticate(_ token: String, _ session: Session) -> Result<Caller, CallError> {
    func refused(_ why: String) -> Result<Caller, CallError> {
      .failure(CallError(reason: "Unauthorized", message: why))
    }
    guard !token.isEmpty else { return refused("no token was shown") }
    switch credentials?.bearer(of: token) {
    case .nodeOperator?: return .success(local(isRoot: true))
    case .pod(let uid)?:
      guard let pod = pod?(uid) else { return refused("the pod of this token is not on this node") }
      guard sessions.values.count(where: { $0.podUID == uid }) < Self.maxOfOnePod else {
        return refused("the pod has \(Self.maxOfOnePod) connections already")
      }
      sessions[ObjectIdentifier(session)]?.podUID = uid
      return .success(EdgeAuthorizer.caller(of: pod))
    case nil: return refused("the token is not valid here")
    }
  }
}
