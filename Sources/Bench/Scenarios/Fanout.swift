import API
import Base
import EventLoop
import ObjectModel

extension Scenario {
  static let fanout = Scenario(
    name: "fanout",
    summary: "events of 1 KiB to 10,000 watchers over TLS, saturated and paced; one ConfigMap to 1,000 edges",
    discussion: """
      Writers change ConfigMaps as fast as they are answered, and every watcher receives every change: CPU of the server
      per delivery, deliveries a second. Then one writer at a fixed rate: the latency of each delivery from the moment
      its write was due. Last one ConfigMap that pods on all edge nodes use is changed: the time until all have it.
      """,
    options: [
      Option("watchers", .int(0...200_000), "10000", "sessions with one watch each; 0: none"),
      Option("bytes", .bytes(64...900_000), "1KiB", "of an event's payload"),
      Option("events", .int(1...Bounds.maxEvents), "200", "saturated: events to each watcher"),
      Option("writers", .int(1...1_000), "64", "clients that write, saturated"),
      Option("rate", .rate(0.1...10_000), "2", "paced: events a second"),
      Option("pace", .duration(.zero...(.seconds(3_600))), "20s", "how long events are paced; 0s: not at all"),
      Option("edges", .int(0...100_000), "1000", "edge nodes that use one ConfigMap; 0: none"),
      Option("changes", .int(1...1_000), "5", "changes of that ConfigMap"),
      Option("find", .text, "", "p99=200ms: the highest paced rate whose percentile stays below"),
    ],
    needs: { Needs(connections: max($0.int("watchers"), $0.int("edges")) + $0.int("writers")) },
    run: { context, options, recorder in
      let server = try await BenchServer.start(context, options)
      do {
        if options.int("watchers") > 0 { try await FanoutRun(context, options, recorder, server).run() }
        if options.int("edges") > 0 { try await EdgeFanout(context, options, recorder, server).run() }
      } catch {
        await server.stop()
        throw error
      }
      await server.stop()
    })
}

/// Watchers of one namespace.
@LoopActor struct FanoutRun {
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
    let count = options.int("watchers")
    var writing = WritePlan()
    writing.clients = options.int("writers")
    writing.keys = 8
    writing.payloadBytes = options.bytes("bytes")
    // Writers in a process of their own, so that they are not held up by what the watchers read.
    let writerWorker = try context.pool.workers(for: count)
    let writers = try await RemoteWriters(writing, server.target, pool: context.pool, worker: writerWorker)
    var pacing = writing
    pacing.clients = 1
    pacing.first = writing.clients
    let pacer = try await RemoteWriters(pacing, server.target, pool: context.pool, worker: writerWorker)
    var plan = FleetPlan()
    plan.count = count
    plan.concurrency = options.int("concurrency")
    plan.payloadBytes = options.bytes("bytes")
    plan.after = try await server.position()
    let fleet = try await RemoteFleet.make(plan, server.target, pool: context.pool)
    context.progress("fanout: \(count) watchers connect")
    try await fleet.connect(options.duration("deadline"))
    try await saturate(fleet, writers)
    if options.duration("pace") > .zero { try await pace(fleet, pacer) }
    if let find = options.string("find") {
      try await RateSearch(find).run(context, recorder, start: options.double("rate")) { rate in
        try await self.step(fleet, pacer, rate, .seconds(5)).tally.latency
      }
    }
    await writers.close()
    await pacer.close()
    await fleet.close()
  }

  private func saturate(_ fleet: RemoteFleet, _ writers: RemoteWriters) async throws {
    let (events, count) = (options.int("events"), fleet.plan.count)
    context.progress("fanout: \(events) events to \(count) watchers, saturated")
    try await fleet.reset()
    var load = WriteLoad()
    load.operations = events
    load.duration = options.duration("deadline")
    let meter = Meter(server.probe, context.scheduler)
    let written = try await writers.run(load)
    guard written.failures == 0 else { throw SkerryError(.unavailable, "a write failed: \(written.failure)") }
    let report = try await fleet.await(events: written.operations, patience: options.duration("deadline"))
    finish(report, expected: written.operations * count)
    let deliveries = Double(report.tally.deliveries)
    recorder.result.add(
      cpu: "CPU of a delivery, saturated", meter, operations: deliveries,
      bound: options.bytes("bytes") == 1_024 ? 3 : nil)
    let seconds = Double(report.lastDelivery - meter.began) / 1e9
    recorder.result.add("deliveries, saturated", deliveries / seconds, "/s", .higher)
    recorder.result.add("bytes on the wire of a delivery", Double(report.received) / max(1, deliveries), "B")
  }

  private func pace(_ fleet: RemoteFleet, _ pacer: RemoteWriters) async throws {
    let rate = options.double("rate")
    context.progress("fanout: \(Numbers.short(rate)) events a second for \(options.duration("pace"))")
    let meter = Meter(server.probe, context.scheduler)
    let report = try await step(fleet, pacer, rate, options.duration("pace"))
    recorder.result.add(cpu: "CPU of a delivery, paced", meter, operations: Double(report.tally.deliveries))
    recorder.result.add("latency, paced", report.tally.latency)
  }

  private func step(
    _ fleet: RemoteFleet, _ pacer: RemoteWriters, _ rate: Double, _ time: Duration
  ) async throws -> FleetReport {
    try await fleet.reset(busyPolls: true)
    var load = WriteLoad()
    load.rate = rate
    load.duration = time
    let written = try await pacer.run(load)
    let report = try await fleet.await(events: written.operations, patience: options.duration("deadline"))
    finish(report, expected: written.operations * fleet.plan.count)
    return report
  }

  private func finish(_ report: FleetReport, expected: Int) {
    recorder.result.check(report.tally)
    let missing = UInt64(expected) - min(UInt64(expected), report.tally.deliveries)
    // What did not arrive in time is missing too, unless a gap counted it.
    recorder.result.violations += missing - min(missing, report.tally.gaps)
    if report.lost > 0 { recorder.result.note("\(report.lost) sessions were lost on the way") }
  }
}

/// One ConfigMap that every node uses.
@LoopActor struct EdgeFanout {
  let context: BenchContext
  let options: Options
  let recorder: Recorder
  let server: BenchServer
  private static let name = "shared"

  init(_ context: BenchContext, _ options: Options, _ recorder: Recorder, _ server: BenchServer) {
    self.context = context
    self.options = options
    self.recorder = recorder
    self.server = server
  }

  func run() async throws {
    let count = options.int("edges")
    let api = try await server.api()
    var plan = FleetPlan()
    plan.kind = .node
    plan.count = count
    plan.concurrency = options.int("concurrency")
    plan.payloadBytes = options.bytes("bytes")
    plan.namePrefix = "edge"
    let fleet = try await RemoteFleet.make(plan, server.target, pool: context.pool)
    context.progress("fanout: \(count) edge nodes connect")
    try await fleet.connect(options.duration("deadline"))
    try await prepare(api, fleet)
    for change in 1...options.int("changes") { try await self.change(api, fleet, UInt64(change), count) }
    await fleet.close()
  }

  /// Makes the ConfigMap, and a pod on each node that uses it.
  func prepare(_ api: any API, _ fleet: RemoteFleet) async throws {
    let plan = fleet.plan
    _ = try await write(api, sequence: 0, create: true)
    context.progress("a pod on each node that uses one ConfigMap")
    try await Objects.create(
      api, resource: Pod.resource,
      (0..<plan.count).map { Objects.pod("uses-\($0)", node: plan.nodeName($0), configMap: Self.name) })
    try await settle(fleet, api, plan.count)
  }

  /// Every node holds the ConfigMap and has told of its pod: what follows is the change alone.
  private func settle(_ fleet: RemoteFleet, _ api: any API, _ count: Int) async throws {
    let running = try await Objects.wait(context, options.duration("deadline")) {
      try await Objects.count(api, Pod.resource, fields: "status.phase=Running") >= count
    }
    guard running else { throw SkerryError(.timeout, "the pods of \(count) edge nodes do not run") }
    try await fleet.reset()
  }

  private func change(_ api: any API, _ fleet: RemoteFleet, _ sequence: UInt64, _ count: Int) async throws {
    try await fleet.reset()
    let meter = Meter(server.probe, context.scheduler)
    _ = try await write(api, sequence: sequence, create: false)
    let report = try await fleet.await(events: 1, patience: options.duration("deadline"))
    recorder.result.check(report.tally)
    let missing = count - min(count, Int(report.tally.deliveries))
    recorder.result.violations += UInt64(missing)
    let seconds = Double(report.lastDelivery - meter.began) / 1e9
    recorder.result.add(
      "one ConfigMap on all edge nodes within", seconds, "s", bound: count == 1_000 ? 0.5 : nil)
    recorder.result.add(
      cpu: "CPU of a delivery to an edge node", meter, operations: Double(count), bound: count == 1_000 ? 60 : nil)
    recorder.result.add("latency to an edge node", report.tally.latency)
  }

  func write(_ api: any API, sequence: UInt64, create: Bool) async throws -> UInt64 {
    let payload = Payload(writer: 0, sequence: sequence, time: context.scheduler.now.nanoseconds)
    let text = String(decoding: payload.bytes(options.bytes("bytes")), as: UTF8.self)
    let object: Value = [
      "metadata": ["name": .string(Self.name), "namespace": .string(BenchServer.namespace)],
      "data": ["payload": .string(text)],
    ]
    let reference = ObjectReference(
      resource: ConfigMap.resource, namespace: BenchServer.namespace, name: Self.name)
    let answer =
      create
      ? try await api.create(
        resource: ConfigMap.resource, namespace: BenchServer.namespace, object: object, caller: .bench)
      : try await api.update(reference, object: object, subresource: "", caller: .bench)
    return answer.revision
  }
}
