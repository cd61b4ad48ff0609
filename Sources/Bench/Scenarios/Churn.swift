import API
import Base
import EventLoop
import ObjectModel

extension Scenario {
  static let churn = Scenario(
    name: "churn", summary: "sessions and objects come and go; the cost of each stays flat as they grow",
    discussion: """
      For each number of sessions: so many nodes with a watch each connect and register, then single nodes' pods change,
      and sessions end and begin again. What an event for one node costs, and what a session and a watcher cost, must not
      grow with the number of those that it does not concern; as many nodes are concerned at each size, spread over all,
      since events for the same node share records, and what the server uses while nothing happens is read before and
      taken off. Then objects: the cost of a write and the memory of an object, with few and with many in the store.
      Costs of sessions are compared from 1,000 on, memory of objects from 10,000 on: below that it is the daemon's own
      that counts.
      """,
    options: [
      Option("sessions", .text, "100,1000,19000", "numbers of connected nodes to compare"),
      Option("objects", .text, "1000,10000,100000", "numbers of stored ConfigMaps to compare"),
      Option("changes", .int(1...100_000), "4000", "events for single nodes, at each size"),
      Option(
        "idle", .duration(.milliseconds(100)...(.seconds(3_600))), "14s", "how long the idle CPU is read, at each size"),
      Option("rejoin", .int(0...100_000), "200", "sessions that end and begin again, at each size"),
      Option("bytes", .bytes(64...900_000), "1KiB", "of an object's payload"),
      Option(
        "time", .duration(.milliseconds(100)...(.seconds(3_600))), "5s", "of the writes at each number of objects"),
    ],
    needs: {
      let objects = numbers($0, "objects").max() ?? 0
      return Needs(
        connections: (numbers($0, "sessions").max() ?? 0) + 400,
        diskBytes: (1 << 30) + objects * ($0.bytes("bytes") + 2_048) * 2)
    },
    flaw: { options in
      numbers(options, "sessions").isEmpty && numbers(options, "objects").isEmpty
        ? "--sessions and --objects take numbers, such as 100,1000" : nil
    },
    run: { context, options, recorder in
      for count in numbers(options, "sessions") {
        let server = try await BenchServer.start(context, options)
        do { try await sessions(context, options, recorder, server, count) } catch {
          await server.stop()
          throw error
        }
        await server.stop()
      }
      let server = try await BenchServer.start(context, options)
      do { try await objects(context, options, recorder, server) } catch {
        await server.stop()
        throw error
      }
      await server.stop()
      let (some, objects) = (numbers(options, "sessions"), numbers(options, "objects"))
      let many = some.filter { $0 >= 1_000 }
      spread(recorder, "CPU of an event for one node", some.map { "with \($0) sessions" })
      for what in ["CPU of a session, its watch and registration", "memory of a node with its watch"] {
        spread(recorder, what, many.map { "with \($0) sessions" })
      }
      spread(recorder, "CPU of a session that comes and goes", many.map { "with \($0) others" })
      spread(recorder, "CPU of a write", objects.map { "with \($0) objects" })
      spread(recorder, "memory of an object", objects.filter { $0 >= 10_000 }.map { "with \($0) objects" })
    })

  private static func numbers(_ options: Options, _ name: String) -> [Int] {
    (options.string(name) ?? "").split(separator: ",").compactMap { Int($0) }.filter { (1...1_000_000).contains($0) }
      .sorted()
  }

  /// What it costs at the largest size, over what it costs at the smallest.
  @LoopActor private static func spread(_ recorder: Recorder, _ what: String, _ sizes: [String]) {
    let found = sizes.compactMap { size in
      recorder.result.figures.first { $0.name == "\(what) \(size)" }?.values.last
    }
    guard found.count > 1, let first = found.first, first > 0, let last = found.last else { return }
    recorder.result.add("\(what): largest over smallest size", last / first, "", bound: 1.2)
  }

  @LoopActor private static func sessions(
    _ context: BenchContext, _ options: Options, _ recorder: Recorder, _ server: BenchServer, _ count: Int
  ) async throws {
    var plan = FleetPlan()
    plan.kind = .watchingNode
    plan.count = count
    plan.concurrency = options.int("concurrency")
    plan.payloadBytes = options.bytes("bytes")
    let fleet = try await RemoteFleet.make(plan, server.target, pool: context.pool)
    context.progress("churn: \(count) nodes connect")
    let before = server.probe?.memory
    let joining = Meter(server.probe, context.scheduler)
    try await fleet.connect(options.duration("deadline"))
    recorder.result.add(
      cpu: "CPU of a session, its watch and registration with \(count) sessions", joining, operations: Double(count))
    try await context.scheduler.sleep(for: .seconds(2))
    if let before, let after = server.probe?.memory {
      recorder.result.add(
        "memory of a node with its watch with \(count) sessions",
        Double(after.pss - before.pss) / Double(count) / 1024, "KiB")
    }
    let events = NodeEvents(
      context: context, options: options, recorder: recorder, server: server, fleet: fleet,
      concerned: numbers(options, "sessions").first ?? count)
    try await events.run()
    try await rejoin(context, options, recorder, server, count)
    await fleet.close()
  }

  @LoopActor private static func rejoin(
    _ context: BenchContext, _ options: Options, _ recorder: Recorder, _ server: BenchServer, _ count: Int
  ) async throws {
    let rejoin = options.int("rejoin")
    guard rejoin > 0 else { return }
    var plan = FleetPlan()
    plan.kind = .client
    plan.first = 500_000
    plan.count = rejoin
    let meter = Meter(server.probe, context.scheduler)
    for _ in 0..<2 {
      let fleet = try await RemoteFleet.make(plan, server.target, pool: context.pool)
      try await fleet.connect(options.duration("deadline"))
      await fleet.close()
    }
    recorder.result.add(
      cpu: "CPU of a session that comes and goes with \(count) others", meter, operations: Double(rejoin * 2))
  }

  @LoopActor private static func objects(
    _ context: BenchContext, _ options: Options, _ recorder: Recorder, _ server: BenchServer
  ) async throws {
    let api = try await server.api()
    var plan = WritePlan()
    plan.clients = 4
    plan.keys = 50
    plan.payloadBytes = options.bytes("bytes")
    let writers = try await RemoteWriters(plan, server.target, pool: context.pool, worker: 1)
    let empty = server.probe?.memory
    var made = 0
    for count in numbers(options, "objects") {
      context.progress("churn: writes with \(count) objects")
      try await Objects.create(
        api, resource: ConfigMap.resource,
        (made..<max(made, count)).map { Objects.configMap("filler-\($0)", bytes: options.bytes("bytes")) })
      made = max(made, count)
      try await context.scheduler.sleep(for: .seconds(1))
      if let empty, let now = server.probe?.memory {
        recorder.result.add(
          "memory of an object with \(count) objects", Double(now.pss - empty.pss) / Double(count) / 1024, "KiB")
      }
      var load = WriteLoad()
      load.duration = options.duration("time")
      let meter = Meter(server.probe, context.scheduler)
      let report = try await writers.run(load)
      guard report.failures == 0 else { throw SkerryError(.unavailable, "a write failed: \(report.failure)") }
      recorder.result.checked += UInt64(report.operations)
      recorder.result.violations += UInt64(report.disorder)
      recorder.result.add(cpu: "CPU of a write with \(count) objects", meter, operations: Double(report.operations))
    }
    await writers.close()
  }

  static let soak = Scenario(
    name: "soak", summary: "a mixed load for long; the slope of memory, descriptors and files",
    discussion: """
      Nodes send statuses, writers change objects that watchers follow, sessions come and go. Memory, open descriptors
      and the data directory's size are read all the while, and a line is put through the second half of each.
      """,
    options: [
      Option("time", .duration(.seconds(2)...(.seconds(604_800))), "60s", "how long"),
      Option("nodes", .int(1...100_000), "200", "hollow edge nodes"),
      Option("watchers", .int(1...100_000), "100", "that follow the writes"),
      Option("rate", .rate(0.1...1_000_000), "200", "writes a second"),
      Option("statuses", .rate(0...1_000_000), "200", "a second"),
      Option("every", .duration(.milliseconds(100)...(.seconds(3_600))), "1s", "between two readings"),
      Option("bytes", .bytes(64...900_000), "1KiB", "of an object's payload"),
    ], needs: { Needs(connections: $0.int("nodes") + $0.int("watchers") + 600, diskBytes: 4 << 30) },
    run: { context, options, recorder in
      let server = try await BenchServer.start(context, options)
      do { try await SoakRun(context, options, recorder, server).run() } catch {
        await server.stop()
        throw error
      }
      await server.stop()
    })
}

/// The mixed load and its readings.
@LoopActor final class SoakRun {
  private let context: BenchContext
  private let options: Options
  private let recorder: Recorder
  private let server: BenchServer
  private var readings: [(time: Double, memory: Double, descriptors: Double, disk: Double)] = []
  private var over = false

  init(_ context: BenchContext, _ options: Options, _ recorder: Recorder, _ server: BenchServer) {
    self.context = context
    self.options = options
    self.recorder = recorder
    self.server = server
  }

  func run() async throws {
    var nodes = FleetPlan()
    nodes.kind = .node
    nodes.count = options.int("nodes")
    let edge = try await RemoteFleet.make(nodes, server.target, pool: context.pool)
    try await edge.connect(options.duration("deadline"))
    var writing = WritePlan()
    writing.clients = 8
    writing.payloadBytes = options.bytes("bytes")
    let writers = try await RemoteWriters(writing, server.target, pool: context.pool, worker: 1)
    var watching = FleetPlan()
    watching.count = options.int("watchers")
    watching.first = 100_000
    watching.payloadBytes = options.bytes("bytes")
    watching.after = try await server.position()
    let watchers = try await RemoteFleet.make(watching, server.target, pool: context.pool)
    try await watchers.connect(options.duration("deadline"))
    try await edge.reset()
    context.progress("soak: for \(options.duration("time"))")
    var load = WriteLoad()
    load.rate = options.double("rate")
    load.duration = options.duration("time")
    var upstream = UpstreamPlan()
    upstream.duration = options.duration("time")
    upstream.statuses = options.double("statuses")
    let meter = Meter(server.probe, context.scheduler)
    let (sampler, comers) = (spawn { await self.sample() }, spawn { await self.comeAndGo() })
    let lanes = spawn { () -> Result<FleetReport, SkerryError> in
      do throws(SkerryError) {
        return .success(try await edge.upstream(upstream, patience: self.options.duration("deadline")))
      } catch {
        return .failure(error)
      }
    }
    let written = try await writers.run(load)
    let statuses = try await lanes.value.get()
    over = true
    await sampler.value
    await comers.value
    let seen = try await watchers.await(events: written.operations, patience: options.duration("deadline"))
    recorder.result.check(seen.tally)
    recorder.result.checked += statuses.tally.deliveries
    let expected = UInt64(written.operations * watching.count)
    recorder.result.violations += expected - min(expected, seen.tally.deliveries + seen.tally.gaps)
    recorder.result.violations += statuses.tally.violations + UInt64(written.disorder)
    recorder.result.add("writes", written.perSecond, "/s", .neither)
    recorder.result.add("latency of a write", written.latency)
    recorder.result.add("latency of a delivery", seen.tally.latency)
    if let used = meter.used {
      recorder.result.add("CPU", Double(used.total) / Double(meter.elapsed.nanosecondCount) * 100, "% of a core")
    }
    slopes()
    await writers.close()
    await watchers.close()
    await edge.close()
  }

  private func sample() async {
    let start = context.scheduler.now
    while !over {
      if let probe = server.probe {
        readings.append(
          (
            (context.scheduler.now - start).seconds, Double(probe.memory.pss), Double(probe.descriptors),
            server.isGiven ? 0 : Double(Files.treeBytes(server.data))
          ))
      }
      try? await context.scheduler.sleep(for: options.duration("every"))
    }
  }

  private func comeAndGo() async {
    var plan = FleetPlan()
    plan.kind = .client
    plan.count = 20
    plan.first = 300_000
    while !over {
      if let fleet = try? await RemoteFleet.make(plan, server.target, pool: context.pool) {
        _ = try? await fleet.connect(.seconds(30), partly: true)
        await fleet.close()
      }
      try? await context.scheduler.sleep(for: .seconds(1))
    }
  }

  private func slopes() {
    let second = readings.dropFirst(readings.count / 2)
    guard second.count >= 3 else { return recorder.result.note("too short for slopes: give --time and --every room") }
    let hour = 3_600.0
    recorder.result.add(
      "slope of memory", Self.slope(second.map { ($0.time, $0.memory) }) * hour / 1_048_576, "MiB/h")
    recorder.result.add("slope of descriptors", Self.slope(second.map { ($0.time, $0.descriptors) }) * hour, "/h")
    recorder.result.add(
      "slope of the data directory", Self.slope(second.map { ($0.time, $0.disk) }) * hour / 1_048_576, "MiB/h",
      .neither)
    if let last = readings.last { recorder.result.add("memory at the end", last.memory / 1_048_576, "MiB", .neither) }
  }

  /// Least squares.
  private static func slope(_ points: [(Double, Double)]) -> Double {
    let count = Double(points.count)
    let (x, y) = (points.reduce(0) { $0 + $1.0 } / count, points.reduce(0) { $0 + $1.1 } / count)
    let spread = points.reduce(0) { $0 + ($1.0 - x) * ($1.0 - x) }
    guard spread > 0 else { return 0 }
    return points.reduce(0) { $0 + ($1.0 - x) * ($1.1 - y) } / spread
  }
}
