import API
import APIFace
import Base
import EventLoop
import Logging
import Transport
import Wire

/// The edge API on a Unix socket: the same API as the cloud's, answered from the replica, for processes of this machine
/// that run as root or as edgecore's own user.
@LoopActor package final class EdgeSocket {
  /// Connections at a time.
  package static let maxConnections = 64

  private let face: APIService
  private let nodeName: String
  private let allowed: Set<UInt32>
  private let scheduler: any Scheduler
  private let random: any RandomSource
  private let logger: Logger
  private var listener: StreamListener?
  private var sessions: [ObjectIdentifier: Session] = [:]

  /// A session of devicecore began or, with nil, ended.
  package var onDevices: ((Session?) -> Void)?

  /// `users` are the uids that may connect besides root.
  package init(
    face: APIService, nodeName: String, users: Set<UInt32>, scheduler: any Scheduler, random: any RandomSource,
    logger: Logger
  ) {
    self.face = face
    self.nodeName = nodeName
    allowed = users.union([0])
    self.scheduler = scheduler
    self.random = random
    self.logger = logger
  }

  package func listen(path: String) throws(SkerryError) {
    let listener = try UnixListener.listen(path: path)
    listener.onAccept = { [weak self] stream in self?.accept(stream) }
    self.listener = listener
  }

  package func stop() {
    listener?.close()
    for session in sessions.values { session.close() }
  }

  private func accept(_ stream: any ByteStream) {
    guard let credentials = stream.peer.credentials, allowed.contains(credentials.uid) else {
      let uid = stream.peer.credentials.map { String($0.uid) } ?? "unknown"
      logger.warning(EdgeLog.socketRefused, "a process of uid \(uid) was refused on the edge socket")
      return stream.close()
    }
    guard sessions.count < Self.maxConnections else {
      logger.warning(
        EdgeLog.socketRefused, "the edge socket has \(Self.maxConnections) connections; one more is refused")
      return stream.close()
    }
    let session = Session(stream: stream, role: .server, hello: ["role": "edge"], scheduler: scheduler, random: random)
    let id = ObjectIdentifier(session)
    sessions[id] = session
    let groups = credentials.uid == 0 ? [Caller.nodesGroup, EdgeAuthorizer.rootGroup] : [Caller.nodesGroup]
    face.attach(
      session,
      caller: Caller(user: "\(Caller.nodeUserPrefix)\(nodeName)", groups: groups, node: nodeName, origin: .edgeSocket))
    var isDevices = false
    session.onReady = { [weak self, weak session] in
      guard let session, session.peerHello["role"].string == "devicecore" else { return }
      isDevices = true
      self?.onDevices?(session)
    }
    session.onClose = { [weak self] _ in
      self?.sessions[id] = nil
      if isDevices { self?.onDevices?(nil) }
    }
    session.start()
  }
}
