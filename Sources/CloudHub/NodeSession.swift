import APIFace
import Base
import EventLoop
import Logging
import ObjectLog
import Sync
import Transport
import Wire

/// One connection of a node: its slice stream, its lanes, and its calls.
@LoopActor final class NodeSession {
  let node: String
  let certificate: PeerCertificate
  let session: Session
  /// Its rank among the node's sessions: later ones have higher ranks.
  let rank: UInt64
  /// It opened its slice or a lane: older sessions are fenced.
  var hasClaimed = false
  private unowned let hub: CloudHub
  private let calls: ServedConnection
  private var pump: SlicePump?
  /// The incarnation whose numbers the slice may use; see `SlicePump.statusLane`.
  private var statusLane: Incarnation?
  /// What was counted of the session's bytes so far.
  private var counted = (sent: TrafficCount(), received: TrafficCount())

  init(
    node: String, certificate: PeerCertificate, session: Session, rank: UInt64, hub: CloudHub, calls: ServedConnection
  ) {
    self.node = node
    self.rank = rank
    self.certificate = certificate
    self.session = session
    self.hub = hub
    self.calls = calls
    session.gather = Session.linkGather
    // Strong: a session lets its callbacks go when it ends, as it always does, and there are thousands of them.
    session.onHello = { self.greeted($0) }
    session.onStream = { self.opened($0) }
    session.onReady = { self.ready() }
    session.onTraffic = { self.count() }
    session.onPing = { self.hub.links.waits(self.node, $0, at: self.hub.scheduler.now) }
    session.pingPosition = { self.pump?.bookmark() ?? 0 }
  }

  private func greeted(_ hello: Value) -> Result<Value, CallError> {
    session.pingInterval = hub.pingInterval(hello)
    session.ownSpread = hub.spread
    return .success(["role": "cloud"])
  }

  private func ready() {
    let hello = session.peerHello
    session.limit(hub.rates(node))
    session.forgetHello()
    hub.logger.info("node \(node) connected from \(session.peer.address)")
    hub.commands.connected(node)
    spawn { [hub, node, certificate] in
      await hub.directory.adopt(node: node, certificate: certificate)
      await hub.register(node, hello: hello)
    }
  }

  private func opened(_ stream: SessionStream) {
    // A half-open session that still speaks: what it says was said anew by the one that took over.
    guard hub.serves(self, claims: stream.method == "slice" || stream.method == "lane") else {
      return stream.fail(LaneSink.fenced("node \(node)"))
    }
    switch stream.method {
    case "slice": openSlice(stream)
    case "lane": openLane(stream)
    case "renew": renew(stream)
    case DeviceCommandRelay.leftMethod: tellLeft(stream)
    default: calls.answer(stream)
    }
  }

  private func openSlice(_ stream: SessionStream) {
    let parameters = stream.params
    stream.forgetParams()
    var cursor: Cursor?
    if let log = Bytes(hex: parameters["log"].string ?? "").flatMap(LogID.init), let epoch = parameters["epoch"].int,
      let position = parameters["position"].int, epoch >= 0, position >= 0
    {
      cursor = Cursor(log: log, epoch: UInt64(epoch), position: UInt64(position))
    }
    let digest = Bytes(hex: parameters["digest"].string ?? "") ?? []
    pump?.end()
    pump = hub.slices.attach(
      node: node, pipe: SessionPipe(stream, of: session), cursor: cursor, digest: digest,
      whole: parameters["whole"].bool ?? false, statusLane: statusLane)
  }

  private func openLane(_ stream: SessionStream) {
    let parameters = stream.params
    stream.forgetParams()
    guard let lane = Lane(rawValue: parameters["lane"].string ?? ""), let sink = hub.sink(node, lane) else {
      return stream.fail(CallError(reason: "BadRequest", message: "no such lane is taken here"))
    }
    let ids = (parameters["incarnations"].array ?? []).compactMap { $0.string.flatMap { Bytes(hex: $0) } }
    let incarnations = ids.compactMap { Incarnation($0) }
    var isTold: LaneSink.ToldElsewhere?
    if lane == .status, parameters["told"].bool == true {
      // With as many as may be named it is not certain that the last is the one that the node writes now.
      statusLane = incarnations.count < LaneMessage.maxIncarnations ? incarnations.last : nil
      pump?.statusLane = statusLane
      isTold = { self.pump?.hasTold($0, $1) ?? false }
    }
    sink.attach(SessionPipe(stream, of: session), incarnations: incarnations, session: rank, isTold: isTold)
  }

  private func tellLeft(_ stream: SessionStream) {
    let left = hub.commands.left(stream.params["ticket"].string ?? "") ?? .zero
    stream.finish(["milliseconds": .int(max(0, left.milliseconds))])
  }

  private func renew(_ stream: SessionStream) {
    let csr = stream.params["csr"].string ?? ""
    spawn { [hub, node, certificate, session] in
      do throws(CallError) {
        stream.finish(
          try await hub.directory.renew(
            node: node, csrPEM: csr, authenticated: certificate.keyFingerprint, from: session.peer.address))
      } catch {
        stream.fail(error)
      }
    }
  }

  private func count() {
    hub.links.count(
      node, sent: session.sent.difference(from: counted.sent),
      received: session.received.difference(from: counted.received),
      wall: hub.scheduler.wall)
    counted = (session.sent, session.received)
  }

  /// Where the slice stands: everything through here was handed to the connection.
  var cursor: UInt64? { pump?.cursor }

  func end() {
    count()
    if let cursor = pump?.cursor { hub.links.left(node, at: cursor) }
    pump?.end()
    pump = nil
  }
}
