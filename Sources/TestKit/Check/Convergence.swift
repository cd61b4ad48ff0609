import API
import Base
import CloudHub
import ContainerRuntime
import EdgeAgent
import ObjectLog
import ObjectModel
import Sync
import Wire

/// Whether a calm cluster has come to what it should be; in words, what is still different.
@LoopActor package struct Convergence {
  private static let unshown = "runs and the cloud says"
  private let world: SimWorld
  package init(_ world: SimWorld) { self.world = world }

  /// Empty once desired equals actual everywhere.
  package func difference() -> String {
    guard let cloud = world.cloud, world.cloudServes else { return "the cloud does not run" }
    if let failure = cloud.log.failure { return "the cloud's log does not write: \(failure)" }
    let desired = desiredPods(cloud)
    for node in world.nodes {
      if let text = different(node, cloud, desired[node.name] ?? [:]) { return "\(node.name): \(text)" }
    }
    for watch in world.watches where !watch.isCurrent { return "a watch has not been told everything" }
    return ""
  }

  private struct DesiredPod {
    let key: String
    let status: Value
  }

  /// Pods by node and uid, as the cloud's log has them.
  private func desiredPods(_ cloud: SimCloud) -> [String: [String: DesiredPod]] {
    var found: [String: [String: DesiredPod]] = [:]
    var after: String?
    while let page = try? cloud.log.list(prefix: "pods/", at: nil, after: after, limit: 500) {
      for (key, object) in page.objects {
        guard let body = try? CBOR.decode(object.body) else { continue }
        let status = object.status.flatMap { try? CBOR.decode($0) } ?? .null
        found[body["spec"]["nodeName"].string ?? "", default: [:]][body["metadata"]["uid"].string ?? ""] =
          DesiredPod(key: body["metadata"]["deletionTimestamp"].isNull ? key : "", status: status)
      }
      guard page.more, let last = page.objects.last else { break }
      after = last.key
    }
    return found
  }

  private func different(_ node: SimNode, _ cloud: SimCloud, _ pods: [String: DesiredPod]) -> String? {
    guard let edge = node.edge, edge.process.isAlive else { return "edgecore does not run" }
    guard edge.link.isConnected else { return "it is not connected" }
    let expected = world.validator.history.model.content[node.name] ?? [:]
    let actual = world.validator.replica(node.name).actual
    if expected != actual { return "replica: \(CloudHistory.difference(expected, actual))" }
    if let text = runs(node, pods) { return text }
    if let text = statuses(edge, cloud, expected.keys.sorted()) { return text }
    let waiting = edge.outbox.waiting()
    if waiting > 0 { return "\(waiting) entries wait in the outbox" }
    let missing = world.ledger.missing(readings(of: node, cloud), node: node.name)
    if missing > 0 { return "\(missing) readings have not arrived" }
    let events = world.ledger.missingEvents(of: node.name)
    return events.isEmpty ? nil : "events have not arrived: \(events.prefix(5))"
  }

  /// What runs is what should, once each, and the cloud says so.
  private func runs(_ node: SimNode, _ pods: [String: DesiredPod]) -> String? {
    for (uid, pod) in pods.sorted(by: { $0.key < $1.key }) {
      if pod.key.isEmpty { return "pod \(uid) is still being deleted" }
      let running = node.runningContainers[uid] ?? 0
      if running != 1 { return "\(pod.key) has \(running) running containers" }
      if pod.status["phase"].string != "Running" {
        return "\(pod.key) \(Self.unshown) \(pod.status["phase"].string ?? "nothing")"
      }
    }
    for uid in node.runningContainers.keys.sorted() where pods[uid] == nil { return "pod \(uid) runs and is nobody's" }
    return nil
  }

  /// What the cloud only named, because the node told it, is byte for byte what the cloud has.
  private func statuses(_ edge: SimEdge, _ cloud: SimCloud, _ keys: [String]) -> String? {
    for key in keys where !key.hasPrefix("devices.") {
      let (here, there) = (try? edge.replica.read(key, at: nil), try? cloud.log.read(key, at: nil))
      if here?.status != there?.status { return "replica: the status of \(key) is not the cloud's" }
    }
    return nil
  }

  private func readings(of node: SimNode, _ cloud: SimCloud) -> [Int64] {
    var values: [Int64] = []
    var after: UInt64 = 0
    while let page = try? cloud.readings.page(device: node.device, property: nil, after: after, limit: 1000) {
      values += page.compactMap { Int64($0.value) }
      guard page.count == 1000, let last = page.last else { break }
      after = last.number
    }
    return values
  }

  /// The last checks of a run.
  package func conclude(_ difference: String) {
    guard world.judge.violations.isEmpty else { return }
    if let cloud = world.cloud {
      for node in world.nodes {
        if node.hasDevice { world.ledger.examine(readings(of: node, cloud), node: node.name) }
        world.ledger.examineEvents(of: node.name)
      }
    }
    for node in world.nodes where difference.hasPrefix("\(node.name): ") && difference.contains(Self.unshown) {
      // The node has nothing left to say, and what it said is not there.
      world.judge.check(.effectExactlyOnce, node.edge?.outbox.waiting() != 0, "a status had no effect: \(difference)")
    }
    world.judge.check(
      .converges, difference.isEmpty, "\(Int(Simulation.settling.seconds)) s after the last fault: \(difference)")
  }
}
