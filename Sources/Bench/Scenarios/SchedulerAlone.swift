import API
import Base
import CloudScheduler
import EventLoop
import Glibc
import ObjectModel

/// The production scheduler's decisions with nothing around them: queue in, cluster kept up, node out, as a turn of
/// `PodScheduler` does it, without the API.
@LoopActor struct SchedulerAlone {
  /// Replicas of one Deployment.
  static let family = 1_000
  let context: BenchContext
  let options: Options
  let recorder: Recorder

  init(_ context: BenchContext, _ options: Options, _ recorder: Recorder) {
    self.context = context
    self.options = options
    self.recorder = recorder
  }

  func run() throws {
    let most = options.int("alone-nodes")
    guard most > 0 else { return }
    for nodes in [max(1, most / 5), most] { try measure(nodes, options.int("alone-pods")) }
  }

  private func measure(_ nodes: Int, _ pods: Int) throws {
    context.progress("schedule: the scheduler alone, \(pods) pods over \(nodes) nodes")
    var cluster = Cluster()
    for number in 0..<nodes { cluster.set(Self.node(number, pods: max(110, pods / nodes * 2))) }
    var queue = SchedulingQueue()
    for demand in (0..<pods).map(Self.pod) { queue.add(demand, now: context.scheduler.now) }
    var scheduling = Scheduling()
    var placed = 0
    let meter = Meter(ProcessProbe(pid: getpid()), context.scheduler)
    while let demand = queue.take(now: context.scheduler.now) {
      cluster.prepare(for: demand)
      if case .node(let name) = scheduling.decide(demand, cluster, random: context.random) {
        cluster.place(demand, on: name)
        placed += 1
      }
      queue.remove(demand.key)
    }
    let (took, used) = (meter.elapsed, meter.used)
    let what = "\(nodes) nodes, scheduler alone"
    recorder.result.add(
      "decisions, \(what)", Double(pods) / max(1e-9, took.seconds), "/s", .higher, bound: nodes == 5_000 ? 20_000 : nil)
    if let used { recorder.result.add("CPU of a decision, \(what)", Double(used.total) / 1e3 / Double(pods), "µs") }
    check(cluster, nodes, missing: pods - placed)
  }

  private func check(_ cluster: Cluster, _ nodes: Int, missing: Int) {
    var overcommitted = 0
    for number in 0..<nodes {
      guard let free = cluster.free("node-\(number)") else { continue }
      if free.cpu < 0 || free.memory < 0 || free.pods < 0 { overcommitted += 1 }
    }
    recorder.result.checked += UInt64(cluster.podCount)
    recorder.result.violations += UInt64(overcommitted + missing)
  }

  private static func node(_ number: Int, pods: Int) -> NodeRecord {
    let name = "node-\(number)"
    return NodeRecord(
      Object([
        "metadata": [
          "name": .string(name), "uid": .string("uid-\(name)"),
          "labels": [
            "kubernetes.io/hostname": .string(name), "topology.kubernetes.io/zone": .string("zone-\(number % 3)"),
          ],
        ],
        "status": ["allocatable": ["cpu": "32", "memory": "64Gi", "pods": .int(Int64(pods))]],
      ]))
  }

  private static func pod(_ number: Int) -> PodDemand {
    let (name, owner) = ("pod-\(number)", "set-\(number / family)")
    let reference = OwnerReference(apiVersion: "apps/v1", kind: "ReplicaSet", name: owner, uid: "uid-\(owner)")
    return PodDemand(
      Object([
        "metadata": [
          "name": .string(name), "namespace": .string(BenchServer.namespace), "uid": .string("uid-\(name)"),
          "labels": ["app": .string(owner)], "ownerReferences": [reference.value],
        ],
        "spec": [
          "containers": [
            ["name": "main", "image": "hollow", "resources": ["requests": ["cpu": "100m", "memory": "128Mi"]]]
          ]
        ],
      ]), key: ObjectKey(namespace: BenchServer.namespace, name: name))
  }
}
