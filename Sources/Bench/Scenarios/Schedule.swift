import API
import Base
import EventLoop
import ObjectModel
import Wire

extension Scenario {
  static let schedule = Scenario(
    name: "schedule", summary: "a Deployment of 5,000 replicas over 1,000 hollow nodes until every pod is Running",
    discussion: """
      From the Deployment's creation through ReplicaSet, pods, the scheduler's binding, the slice, the node's answer and
      the stored status: pods a second from end to end. Nodes answer at once that a pod runs. The end is checked: every
      pod on a node that exists, none twice, as many as asked for. Before that the scheduler alone: its queue, its
      cluster and its decisions in this process, over --alone-nodes and over a fifth of them in three zones, with pods of
      Deployments of 1,000 replicas that ask for CPU and memory. No node may be given more than it has.
      """,
    options: [
      Option("nodes", .int(1...100_000), "1000", "hollow edge nodes"),
      Option("replicas", .int(1...1_000_000), "5000", "of the Deployment"),
      Option("alone-nodes", .int(0...100_000), "5000", "for the scheduler alone; 0: it is not measured alone"),
      Option("alone-pods", .int(1...1_000_000), "30000", "that it places"),
    ], needs: { Needs(connections: $0.int("nodes"), diskBytes: 1 << 30) },
    run: { context, options, recorder in
      try SchedulerAlone(context, options, recorder).run()
      let server = try await BenchServer.start(context, options)
      do { try await schedule(context, options, recorder, server) } catch {
        await server.stop()
        throw error
      }
      await server.stop()
    })

  @LoopActor private static func schedule(
    _ context: BenchContext, _ options: Options, _ recorder: Recorder, _ server: BenchServer
  ) async throws {
    let (nodes, replicas) = (options.int("nodes"), options.int("replicas"))
    var plan = FleetPlan()
    plan.kind = .node
    plan.count = nodes
    plan.concurrency = options.int("concurrency")
    let fleet = try await RemoteFleet.make(plan, server.target, pool: context.pool)
    context.progress("schedule: \(nodes) nodes connect")
    try await fleet.connect(options.duration("deadline"))
    let api = try await server.api()
    let ready = try await Objects.wait(context, options.duration("deadline"), each: .seconds(1)) {
      try await NodeReadiness.look(api).ready == nodes
    }
    guard ready else { throw SkerryError(.timeout, "the nodes do not become Ready") }
    context.progress("schedule: a Deployment of \(replicas) replicas")
    let watch = try await PodWatch.open(api, context)
    let meter = Meter(server.probe, context.scheduler)
    _ = try await api.create(
      resource: Deployment.resource, namespace: BenchServer.namespace,
      object: deployment(replicas, besideOthers: server.isGiven),
      caller: .bench)
    let took = try await watch.wait(replicas, options.duration("deadline"))
    recorder.result.add(
      "pods a second, end to end", Double(replicas) / took.seconds, "/s", .higher,
      bound: nodes == 1_000 && replicas == 5_000 ? 1_000 : nil)
    recorder.result.add("all pods Running within", took.seconds, "s")
    recorder.result.add(cpu: "CPU of a pod", meter, operations: Double(replicas))
    recorder.result.checked += UInt64(watch.running.count)
    recorder.result.violations += watch.violations
    await fleet.close()
  }

  /// `besideOthers`: there may be nodes that are not hollow.
  private static func deployment(_ replicas: Int, besideOthers: Bool) -> Value {
    var spec: Value = ["containers": [["name": "main", "image": "hollow"]]]
    if besideOthers { spec["nodeSelector"] = ["skerry.io/bench": "hollow"] }
    return [
      "metadata": ["name": "bench", "namespace": .string(BenchServer.namespace)],
      "spec": [
        "replicas": .int(Int64(replicas)), "selector": ["matchLabels": ["app": "bench"]],
        "template": [
          "metadata": ["labels": ["app": "bench"]],
          "spec": spec,
        ],
      ],
    ]
  }
}

/// Follows the pods of the bench's namespace and counts those that run.
@LoopActor final class PodWatch {
  private let cursor: any WatchCursor
  private let context: BenchContext
  private(set) var running: Set<String> = []
  private var placed: [String: String] = [:]
  private(set) var violations: UInt64 = 0
  private var lastRevision: UInt64 = 0
  private var failure: (any Error)?

  static func open(_ api: any API, namespace: String = BenchServer.namespace, _ context: BenchContext)
    async throws -> PodWatch
  {
    let list = try await api.list(ListOptions(resource: Pod.resource, limit: 1), caller: .bench)
    let cursor = try await api.watch(
      WatchOptions(resource: Pod.resource, namespace: namespace, after: list.revision), caller: .bench)
    return PodWatch(cursor, context)
  }

  private init(_ cursor: any WatchCursor, _ context: BenchContext) {
    self.cursor = cursor
    self.context = context
    cursor.onAvailable = { [weak self] in self?.pull() }
  }

  private func pull() {
    do {
      while true {
        let events = try cursor.next(limit: 64)
        for event in events { take(event) }
        if events.isEmpty { return }
      }
    } catch {
      failure = error
    }
  }

  private func take(_ event: WatchEvent) {
    guard let object = event.object else { return }
    if object.revision <= lastRevision { violations += 1 }
    lastRevision = max(lastRevision, object.revision)
    let name = object.reference.name
    guard let body = try? CBOR.decode(object.body) else {
      violations += 1
      return
    }
    let node = Object(body).spec["nodeName"].string ?? ""
    // A pod that was bound once is never bound to another node.
    if let before = placed[name], !before.isEmpty, before != node { violations += 1 }
    placed[name] = node
    guard let status = object.status, let value = try? CBOR.decode(status) else { return }
    if value["phase"].string == "Running" {
      if node.isEmpty { violations += 1 }
      running.insert(name)
    }
  }

  /// Until `count` pods run; answers how long it took.
  func wait(_ count: Int, _ patience: Duration) async throws -> Duration {
    let start = context.scheduler.now
    pull()
    let all = try await Objects.wait(context, patience, each: .milliseconds(5)) {
      if let failure { throw failure }
      return running.count >= count
    }
    guard all else { throw SkerryError(.timeout, "\(running.count) of \(count) pods run after \(patience)") }
    return context.scheduler.now - start
  }
}
