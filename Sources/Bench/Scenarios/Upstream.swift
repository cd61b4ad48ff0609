import API
import Base
import EventLoop
import ObjectModel

extension Scenario {
  static let upstream = Scenario(
    name: "upstream", summary: "statuses and device readings from 1,000 edge nodes, durably stored",
    discussion: """
      Hollow nodes send statuses, then readings, up their lanes at a rate; an entry counts when the server has
      acknowledged it, which it does behind a commit with full sync. Readings are of a device with four properties on
      each node and travel column-packed, as edgecore's do, in batches of what a node has in a second, 2,000 at most.
      More is offered than is asked of the server, since what is stored a second counts to the last answer. Latency counts
      from when a status, or the last reading of a batch, was due. Every answer is checked: cursors rise,
      nothing is acknowledged that was not sent.
      """,
    options: [
      Option("nodes", .int(1...100_000), "1000", "hollow edge nodes"),
      Option("statuses", .rate(0...10_000_000), "11000", "a second, of all nodes together; 0: none"),
      Option("readings", .rate(0...100_000_000), "550000", "a second, of all nodes together; 0: none"),
      Option("time", .duration(.milliseconds(100)...(.seconds(86_400))), "10s", "of each of the two"),
      Option("find", .text, "", "p99=500ms: the highest rate of readings whose percentile stays below"),
    ],
    needs: { Needs(connections: $0.int("nodes"), diskBytes: 4 << 30) },
    run: { context, options, recorder in
      let server = try await BenchServer.start(context, options)
      do { try await UpstreamRun(context, options, recorder, server).run() } catch {
        await server.stop()
        throw error
      }
      await server.stop()
    })
}

@LoopActor struct UpstreamRun {
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
    var plan = FleetPlan()
    plan.kind = .node
    plan.count = options.int("nodes")
    plan.concurrency = options.int("concurrency")
    let fleet = try await RemoteFleet.make(plan, server.target, pool: context.pool)
    context.progress("upstream: \(plan.count) nodes connect")
    try await fleet.connect(options.duration("deadline"))
    let api = try await server.api()
    _ = try await Objects.wait(context, options.duration("deadline")) {
      try await NodeReadiness.look(api).ready >= plan.count
    }
    if options.double("statuses") > 0 {
      try await load(fleet, "status updates", statuses: options.double("statuses"), readings: 0, bound: 10_000)
    }
    if options.double("readings") > 0 {
      try await devices(api, plan)
      try await load(fleet, "readings", statuses: 0, readings: options.double("readings"), bound: 500_000)
    }
    if let find = options.string("find") {
      try await RateSearch(find).run(context, recorder, start: 10_000) { rate in
        try await self.step(fleet, statuses: 0, readings: rate, .seconds(3)).tally.latency
      }
    }
    await fleet.close()
  }

  /// One device on each node, since a node speaks only for devices that are placed on it.
  private func devices(_ api: any API, _ plan: FleetPlan) async throws(SkerryError) {
    context.progress("upstream: a device on each node")
    try await Objects.create(
      api, resource: DeviceModel.resource,
      [
        [
          "metadata": ["name": "sensor", "namespace": .string(BenchServer.namespace)],
          "spec": [
            "protocol": "bench", "properties": .array(HollowSensor.modelled),
          ],
        ]
      ])
    try await Objects.create(
      api, resource: Device.resource,
      (0..<plan.count).map { index -> Value in
        [
          "metadata": ["name": .string(plan.nodeName(index)), "namespace": .string(BenchServer.namespace)],
          "spec": [
            "deviceModelRef": ["name": "sensor"], "nodeName": .string(plan.nodeName(index)),
            "protocol": ["protocolName": "bench"],
            "properties": .array(HollowSensor.modelled.map { ["name": $0["name"]] }),
          ],
        ]
      })
  }

  private func step(_ fleet: RemoteFleet, statuses: Double, readings: Double, _ time: Duration)
    async throws(SkerryError) -> FleetReport
  {
    try await fleet.reset()
    var plan = UpstreamPlan()
    plan.duration = time
    plan.statuses = statuses
    plan.readings = readings
    return try await fleet.upstream(plan, patience: options.duration("deadline"))
  }

  private func load(
    _ fleet: RemoteFleet, _ what: String, statuses: Double, readings: Double, bound: Double
  ) async throws(SkerryError) {
    context.progress("upstream: \(what) for \(options.duration("time"))")
    let meter = Meter(server.probe, context.scheduler)
    let report = try await step(fleet, statuses: statuses, readings: readings, options.duration("time"))
    recorder.result.checked += report.tally.deliveries
    recorder.result.violations +=
      report.tally.violations + UInt64(report.made) - min(UInt64(report.made), report.tally.deliveries)
    let seconds = max(1e-9, Double(report.nanoseconds) / 1e9)
    let stored = Double(report.tally.deliveries)
    recorder.result.add(
      "\(what) stored", stored / seconds, "/s", .higher, bound: fleet.plan.count == 1_000 ? bound : nil)
    recorder.result.add(
      cpu: "CPU of \(what == "readings" ? "a reading" : "a status update")", meter, operations: stored)
    recorder.result.add("\(what) on the wire", Double(report.sent) / max(1, stored), "B")
    recorder.result.add("latency of \(what)", report.tally.latency)
    if report.heldBack > 0 {
      recorder.result.note(
        "\(report.heldBack) \(what) were not made since a node's lane was full: the server is slower than the rate")
    }
  }
}
