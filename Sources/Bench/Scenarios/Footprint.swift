import API
import Base
import EventLoop
import Glibc
import ObjectModel

extension Scenario {
  static let footprint = Scenario(
    name: "footprint", summary: "memory empty and loaded, and what an idle node costs",
    discussion: """
      PSS of an empty cloudcore; of one that holds 1,000 nodes and 10,000 pods, while the nodes are connected; the start
      after SIGKILL until it serves its objects. Then a real node, an edgecore with a devicecore beside it: PSS with
      nothing to run; CPU, wake-ups, bytes written and syncs with 10 idle pods; PSS of all its processes with 20, and
      apart from it that of the conmons that hold them. Syncs are counted by the kernel's tracepoints (perf, as root).
      """,
    options: [
      Option("nodes", .int(1...100_000), "1000", "hollow edge nodes"),
      Option("pods", .int(0...1_000_000), "10000", "placed on them"),
      Option("idle", .duration(.seconds(1)...(.seconds(3_600))), "10s", "how long an idle cloudcore is watched"),
      Option("edge-idle", .duration(.seconds(1)...(.seconds(86_400))), "40s", "how long an idle node is watched"),
    ] + EdgeRuntime.options,
    needs: { Needs(connections: $0.int("nodes"), ownServer: true, programs: ["edgecore", "devicecore"]) },
    flaw: { EdgeRuntime.flaw($0) },
    run: { context, options, recorder in
      let server = try await BenchServer.start(context, options)
      do { try await footprint(context, options, recorder, server) } catch {
        await server.stop()
        throw error
      }
      await server.stop()
    })

  @LoopActor private static func footprint(
    _ context: BenchContext, _ options: Options, _ recorder: Recorder, _ server: BenchServer
  ) async throws {
    let (nodes, pods) = (options.int("nodes"), options.int("pods"))
    try await context.scheduler.sleep(for: .seconds(1))
    memory("cloudcore, empty", server.probe, await server.allocated(), recorder, bound: 30)
    try await RealNode(context, options, recorder, server).run()
    var plan = FleetPlan()
    plan.kind = .node
    plan.count = nodes
    plan.concurrency = options.int("concurrency")
    let fleet = try await RemoteFleet.make(plan, server.target, pool: context.pool)
    context.progress("footprint: \(nodes) nodes and \(pods) pods")
    try await fleet.connect(options.duration("deadline"))
    let api = try await server.api()
    try await Objects.create(
      api, resource: Pod.resource, (0..<pods).map { Objects.pod("pod-\($0)", node: plan.nodeName($0 % nodes)) })
    let running = try await Objects.wait(context, options.duration("deadline"), each: .seconds(1)) {
      try await Objects.count(api, Pod.resource, fields: "status.phase=Running") >= pods
    }
    guard running else { throw SkerryError(.timeout, "the pods do not run") }
    try await context.scheduler.sleep(for: .seconds(2))
    memory(
      "cloudcore with \(nodes) nodes and \(pods) pods", server.probe, await server.allocated(), recorder, bound: 120)
    let meter = Meter(server.probe, context.scheduler)
    try await context.scheduler.sleep(for: options.duration("idle"))
    if let used = meter.used {
      recorder.result.add(
        "idle CPU with \(nodes) nodes", Double(used.total) / Double(meter.elapsed.nanosecondCount) * 100, "% of a core")
    }
    await fleet.close()
    context.progress("footprint: SIGKILL and start")
    try await server.crash()
    let start = try await server.launch()
    let answer = context.scheduler.now
    let count = try await Objects.count(try await server.api(), Pod.resource)
    recorder.result.checked += UInt64(count)
    recorder.result.violations += UInt64(pods - min(pods, count))
    recorder.result.add("start after SIGKILL until it serves", start.seconds, "s", bound: 1)
    recorder.result.add("first whole list after it", (context.scheduler.now - answer).seconds, "s")
  }

  @LoopActor static func memory(
    _ what: String, _ probe: ProcessProbe?, _ allocated: Double?, _ recorder: Recorder, bound: Double? = nil
  ) {
    guard let memory = probe?.memory else { return }
    recorder.result.add("PSS of \(what)", Double(memory.pss) / 1_048_576, "MiB", bound: bound)
    recorder.result.add("RSS of \(what)", Double(memory.rss) / 1_048_576, "MiB", .neither)
    if let allocated { recorder.result.add("allocated by \(what)", allocated / 1_048_576, "MiB", .neither) }
  }
}

/// A real node, empty and with idle pods.
@LoopActor struct RealNode {
  let context: BenchContext
  let options: Options
  let recorder: Recorder
  let server: BenchServer

  init(_ context: BenchContext, _ options: Options, _ recorder: Recorder, _ server: BenchServer) {
    self.context = context
    self.options = options
    self.recorder = recorder
    self.server = server
  }

  func run() async throws {
    let runtime = EdgeRuntime(options)
    recorder.result.note(runtime.note)
    context.progress("footprint: a real node")
    let node = try await BenchEdge.start(context, server, runtime)
    recorder.result.add("start of an edgecore", node.start.seconds, "s")
    try await settled()
    Scenario.memory("edgecore, idle", node.edge, await node.allocated(), recorder, bound: 15)
    try await pods(0..<10, node, runtime)
    try await idle(node)
    try await pods(10..<20, node, runtime)
    try await settled()
    memory(node)
    await node.stop()
  }

  /// Until daemons have given back what only their start needed.
  private func settled() async throws {
    if options.duration("edge-idle") < ProcessMemory.trimInterval { return }
    context.progress("footprint: until it has settled")
    try await context.scheduler.sleep(for: ProcessMemory.trimInterval + .seconds(5))
  }

  /// Makes pods on the node and waits until all so far run.
  private func pods(_ range: Range<Int>, _ node: BenchEdge, _ runtime: EdgeRuntime) async throws {
    context.progress("footprint: \(range.upperBound) idle pods on it")
    let api = try await server.api()
    try await Objects.create(api, resource: Pod.resource, range.map { runtime.idlePod("idle-\($0)", node: node.node) })
    let running = try await Objects.wait(context, options.duration("deadline")) {
      try await Objects.count(api, Pod.resource, fields: "status.phase=Running,spec.nodeName=\(node.node)")
        >= range.upperBound
    }
    guard running else { throw SkerryError(.timeout, "the \(range.upperBound) idle pods do not run") }
    recorder.result.checked += UInt64(range.count)
    // What a start leaves to do is done.
    try await context.scheduler.sleep(for: .seconds(5))
  }

  private func idle(_ node: BenchEdge) async throws {
    let probes = [node.edge, node.devices].compactMap { $0 }
    func sum(_ read: (ProcessProbe) -> Int) -> Double { Double(probes.reduce(0) { $0 + read($1) }) }
    let time = options.duration("edge-idle")
    context.progress("footprint: idle for \(time)")
    let what = "of a node with 10 idle pods"
    let (wakeUps, written) = (sum(\.wakeUps), sum(\.storageWritten))
    let meters = probes.map { Meter($0, context.scheduler) }
    let syncs = await SyncCount.count(probes, for: time)
    if let left = meters.first.map({ time - $0.elapsed }), left > .zero { try await context.scheduler.sleep(for: left) }
    let seconds = max(1e-9, meters.first?.elapsed.seconds ?? 0)
    let used = meters.compactMap(\.used).reduce(0) { $0 + Double($1.total) }
    recorder.result.add("CPU \(what)", used / 1e7 / seconds, "% of a core", bound: 0.2)
    recorder.result.add("wake-ups \(what)", (sum(\.wakeUps) - wakeUps) / seconds, "/s", bound: 2)
    recorder.result.add(
      "written \(what)", (sum(\.storageWritten) - written) / seconds * 3_600 / 1_048_576, "MiB/h", bound: 1)
    if let syncs {
      recorder.result.add("syncs \(what)", Double(syncs) / seconds * 3_600, "/h", bound: 60)
    } else {
      recorder.result.note("the syncs of an idle node were not counted: that needs perf, root and tracepoints")
    }
  }

  private func memory(_ node: BenchEdge) {
    func pss(_ probes: [ProcessProbe]) -> Double { Double(probes.reduce(0) { $0 + $1.memory.pss }) / 1_048_576 }
    let monitors = node.monitors
    recorder.result.add(
      "PSS of edgecore and devicecore with 20 pods", pss([node.edge, node.devices].compactMap { $0 }), "MiB", bound: 20)
    recorder.result.add("  of it edgecore", pss([node.edge]), "MiB", .neither)
    recorder.result.add("PSS of the \(monitors.count) conmons", pss(monitors), "MiB", .neither)
  }
}
