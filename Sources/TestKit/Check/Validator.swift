import API
import APIServer
import Base
import EdgeAgent
import EventLoop
import ObjectLog
import ObjectModel
import Sync
import Transport
import Wire

/// Joins the recorders of one run.
@LoopActor package final class Validator {
  package let judge: Judge
  package let history: CloudHistory
  private unowned let world: SimWorld
  private var replicas: [String: ReplicaChecker] = [:]

  package init(_ world: SimWorld) {
    self.world = world
    judge = world.judge
    history = CloudHistory(judge: world.judge, trace: world.trace)
    history.onEntry = { [weak self] entry, body in self?.saw(entry, body) }
  }

  package func replica(_ node: String) -> ReplicaChecker {
    if let known = replicas[node] { return known }
    let checker = ReplicaChecker(node, history: history, judge: judge)
    replicas[node] = checker
    return checker
  }

  package func cloudStarted(_ cloud: SimCloud, restored: CloudHistory.Mark?) throws(SkerryError) {
    try history.started(cloud.log, restored: restored)
    let process = cloud.process
    _ = cloud.log.observe { [weak self] entries in
      if process.isAlive { self?.history.published(entries) }
    }
  }

  package func edgeStarted(_ node: SimNode, _ edge: SimEdge) {
    do throws(SkerryError) {
      try replica(node.name).started(edge.replica)
    } catch {
      judge.check(.durable, false, "\(node.name): the replica cannot be read after a start: \(error)")
    }
  }

  package func applied(_ node: String, _ position: Cursor, _ entries: [Entry]) {
    replica(node).applied(position, entries)
  }

  package func replaced(_ node: String, _ position: Cursor, _ objects: [String: UInt64]) {
    replica(node).replaced(position, objects, resumableFrom: world.cloud?.floor ?? .max)
  }

  private func saw(_ entry: Entry, _ body: Value) {
    guard entry.type == .created, entry.key.hasPrefix("events/") else { return }
    let message = body["message"].string ?? ""
    if message.hasPrefix("once ") { world.ledger.made(event: message, name: entry.key) }
  }

  // MARK: While it runs

  /// What must hold at any moment.
  package func examine() {
    for node in world.nodes {
      guard let edge = node.edge, edge.process.isAlive else { continue }
      let waiting = edge.outbox.waiting()
      judge.check(
        .bounded, waiting <= Outbox.Limits().entries * 3, "\(node.name): \(waiting) entries wait in the outbox")
      if let session = edge.link.current {
        judge.check(
          .bounded, session.pendingBytes <= 4 << 20, "\(node.name): \(session.pendingBytes) bytes wait in its session")
        let silence = edge.process.clock.now - session.lastHeard
        judge.check(
          .bounded, silence <= .seconds(50),
          "\(node.name): its session is kept although nothing was heard for \(silence)")
      }
    }
    let now = world.cloudWall.seconds
    for stream in world.network.open(where: { $0.clock === world.cloud?.process.clock }) {
      judge.check(
        .bounded, stream.pendingWriteBytes <= 1 << 20,
        "\(stream.pendingWriteBytes) bytes wait in the connection of \(stream.peer.address)")
      guard let certificate = stream.peer.certificate else { continue }
      judge.check(
        .authorised, certificate.notAfter >= now - 30,
        "a session of \(certificate.commonName) lives \(now - certificate.notAfter) s longer than its certificate")
    }
  }
}
