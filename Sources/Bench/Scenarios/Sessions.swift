import API
import Base
import EventLoop
import ObjectModel

extension Scenario {
  static let sessions = Scenario(
    name: "sessions", summary: "nodes connect with full handshakes and register; memory of an idle session",
    discussion: """
      First clients with nothing but a session: CPU of a handshake, and again when they come back. Then hollow nodes,
      already enrolled, connect, register, open their slice, lanes and one watch: how long until all are Ready, and what
      one such session holds in the server. Last the server's CPU while nothing happens.
      """,
    options: [
      Option("sessions", .int(1...200_000), "10000", "hollow nodes"),
      Option("clients", .int(0...200_000), "2000", "clients for the handshakes alone; 0: none"),
      Option("idle", .duration(.zero...(.seconds(3_600))), "10s", "how long the idle CPU is read"),
    ],
    needs: { Needs(connections: max($0.int("sessions"), $0.int("clients"))) },
    run: { context, options, recorder in
      let server = try await BenchServer.start(context, options)
      do {
        if options.int("clients") > 0 { try await handshakes(context, options, recorder, server) }
        try await nodes(context, options, recorder, server)
      } catch {
        await server.stop()
        throw error
      }
      await server.stop()
    })

  @LoopActor private static func handshakes(
    _ context: BenchContext, _ options: Options, _ recorder: Recorder, _ server: BenchServer
  ) async throws {
    var plan = FleetPlan()
    plan.kind = .client
    plan.count = options.int("clients")
    plan.concurrency = options.int("concurrency")
    for name in ["CPU of a full handshake", "CPU of a handshake of who returns"] {
      context.progress("sessions: \(plan.count) clients")
      let fleet = try await RemoteFleet.make(plan, server.target, pool: context.pool)
      let meter = Meter(server.probe, context.scheduler)
      try await fleet.connect(options.duration("deadline"))
      recorder.result.add(cpu: name, meter, operations: Double(plan.count))
      await fleet.close()
    }
  }

  @LoopActor private static func nodes(
    _ context: BenchContext, _ options: Options, _ recorder: Recorder, _ server: BenchServer
  ) async throws {
    var plan = FleetPlan()
    plan.kind = .watchingNode
    plan.count = options.int("sessions")
    plan.concurrency = options.int("concurrency")
    context.progress("sessions: identities of \(plan.count) hollow nodes")
    let fleet = try await RemoteFleet.make(plan, server.target, pool: context.pool)
    let before = server.probe?.memory
    context.progress("sessions: \(plan.count) hollow nodes connect and register")
    let meter = Meter(server.probe, context.scheduler)
    let report = try await fleet.connect(options.duration("deadline"))
    let took = meter.elapsed
    recorder.result.add(
      "nodes connected and registered within", took.seconds, "s", bound: plan.count == 10_000 ? 60 : nil)
    recorder.result.add("nodes a second", Double(plan.count) / took.seconds, "/s", .higher)
    recorder.result.add(cpu: "CPU of a node's handshake and registration", meter, operations: Double(plan.count))
    recorder.result.add("time of a node's handshake", report.handshakes)
    recorder.result.check(report)
    try await context.scheduler.sleep(for: .seconds(2))
    if let before, let after = server.probe?.memory {
      recorder.result.add(
        "memory of a node: session, streams, watch, objects",
        Double(after.pss - before.pss) / Double(plan.count) / 1024, "KiB")
    }
    try await idle(context, options, recorder, server)
    try await plainSessions(context, options, recorder, server, fleet)
    await fleet.close()
  }

  /// What a session holds, apart from what the cluster knows of a node: sessions that come back to a warm server.
  @LoopActor private static func plainSessions(
    _ context: BenchContext, _ options: Options, _ recorder: Recorder, _ server: BenchServer, _ fleet: RemoteFleet
  ) async throws {
    guard !server.isGiven else { return }
    let plan = fleet.plan
    try await server.crash()
    try await server.launch()
    context.progress("sessions: memory of \(plan.count) sessions of nodes that are known")
    try await context.scheduler.sleep(for: .seconds(2))
    guard let before = server.probe?.memory else { return }
    try await fleet.connect(options.duration("deadline"))
    try await context.scheduler.sleep(for: .seconds(2))
    if let after = server.probe?.memory {
      recorder.result.add(
        "memory of an idle session with its streams and a watch",
        Double(after.pss - before.pss) / Double(plan.count) / 1024, "KiB")
      recorder.result.add("memory of the server, PSS", Double(after.pss) / 1_048_576, "MiB", .neither)
      recorder.result.add("memory of the server, RSS", Double(after.rss) / 1_048_576, "MiB", .neither)
    }
    if let allocated = await server.allocated() {
      recorder.result.add("memory of the server, allocated", allocated / 1_048_576, "MiB", .neither)
    }
  }

  @LoopActor private static func idle(
    _ context: BenchContext, _ options: Options, _ recorder: Recorder, _ server: BenchServer
  ) async throws {
    let time = options.duration("idle")
    guard time > .zero, server.probe != nil else { return }
    context.progress("sessions: idle for \(time)")
    let meter = Meter(server.probe, context.scheduler)
    try await context.scheduler.sleep(for: time)
    guard let used = meter.used else { return }
    recorder.result.add(
      "idle CPU with all sessions", Double(used.total) / Double(meter.elapsed.nanosecondCount) * 100, "% of a core",
      bound: options.int("sessions") == 10_000 ? 5 : nil)
  }
}
