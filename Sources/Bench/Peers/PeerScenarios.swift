import Base
import EventLoop
import Identity
import ObjectModel

extension Scenario {
  /// Other products, driven over their own protocols with the same clients, certificates, sizes and pacing.
  static let peers: [Scenario] = [.nats, .mosquitto, .etcd]

  private static let brokerOptions = [
    Option("watchers", .int(1...200_000), "10000", "subscribers on a connection each"),
    Option("bytes", .bytes(64...900_000), "1KiB", "of an event"),
    Option("events", .int(1...Bounds.maxEvents), "200", "saturated: events to each subscriber"),
    Option("rate", .rate(0.1...10_000), "2", "paced: events a second"),
    Option("pace", .duration(.zero...(.seconds(3_600))), "20s", "how long events are paced; 0s: not at all"),
    Option("clients", .text, "1,64", "of etcd: how many write at a time"),
  ]

  static let nats = Scenario(
    name: "nats", summary: "NATS with JetStream, as a peer",
    discussion: "Subscribers over TLS with client certificates, and acknowledged messages to a stream on disk.",
    options: brokerOptions, needs: { Needs(connections: $0.int("watchers"), noServer: true, peer: "nats-server") },
    run: { context, options, recorder in
      let run = try await PeerFanout(context, options, recorder, .nats)
      do {
        try await run.go(.natsSubscriber)
        try await run.jetStream()
      } catch {
        run.server.stop()
        throw error
      }
      run.server.stop()
    })

  static let mosquitto = Scenario(
    name: "mosquitto", summary: "Mosquitto, as a peer",
    discussion: "Subscribers over TLS with client certificates, QoS 0.",
    options: brokerOptions, needs: { Needs(connections: $0.int("watchers"), noServer: true, peer: "mosquitto") },
    run: { context, options, recorder in
      let run = try await PeerFanout(context, options, recorder, .mosquitto)
      do { try await run.go(.mqttSubscriber) } catch {
        run.server.stop()
        throw error
      }
      run.server.stop()
    })

  static let etcd = Scenario(
    name: "etcd", summary: "etcd, as a peer",
    discussion: """
      Puts and watches by its JSON gateway over TLS, and etcd's own `etcdctl check perf`. The same watches over gRPC, if
      a program for that is named (benchmarks/peers/etcd_watch.py, as make bench-peers does): of the two the one counts
      that costs etcd less.
      """,
    options: brokerOptions + [
      Option("time", .duration(.milliseconds(100)...(.seconds(86_400))), "10s", "of each measurement of puts"),
      Option("etcd-watchers", .int(0...100_000), "1000", "watchers on one key space"),
      Option("grpc-watcher", .text, "", "PROGRAM [ARGUMENT …] that watches over gRPC"),
      Option("check-perf", .text, "l", "load of etcdctl check perf (s, m, l, xl); none: it is not run"),
    ], needs: { Needs(connections: $0.int("etcd-watchers") + 100, noServer: true, peer: "etcd") },
    run: { context, options, recorder in
      let server = try await PeerServer.start(.etcd, context)
      do { try await EtcdRun(context, options, recorder, server).go() } catch {
        server.stop()
        throw error
      }
      server.stop()
    })
}

/// Fan-out through a broker.
@LoopActor struct PeerFanout {
  static let subject = "bench"
  let context: BenchContext
  let options: Options
  let recorder: Recorder
  let server: PeerServer

  init(_ context: BenchContext, _ options: Options, _ recorder: Recorder, _ product: PeerServer.Product) async throws {
    self.context = context
    self.options = options
    self.recorder = recorder
    server = try await PeerServer.start(product, context)
  }

  func go(_ kind: HollowKind) async throws {
    var plan = FleetPlan()
    plan.kind = kind
    plan.count = options.int("watchers")
    plan.concurrency = options.int("concurrency")
    plan.namespace = Self.subject
    plan.payloadBytes = options.bytes("bytes")
    let fleet = try await RemoteFleet.make(plan, server.target, pool: context.pool)
    let before = server.probe.memory
    context.progress("\(recorder.result.name): \(plan.count) subscribers connect")
    let handshakes = Meter(server.probe, context.scheduler)
    try await fleet.connect(options.duration("deadline"))
    recorder.result.add(cpu: "CPU of a full handshake", handshakes, operations: Double(plan.count))
    try await context.scheduler.sleep(for: .seconds(2))
    recorder.result.add(
      "memory of an idle session", Double(server.probe.memory.pss - before.pss) / Double(plan.count) / 1024, "KiB")
    let publisher = try await RemotePublisher(
      server.target, ["subject": .string(Self.subject)], pool: context.pool,
      worker: try context.pool.workers(for: plan.count))
    try await saturate(fleet, publisher)
    if options.duration("pace") > .zero { try await pace(fleet, publisher) }
    await publisher.close()
    await fleet.close()
  }

  private func saturate(_ fleet: RemoteFleet, _ publisher: RemotePublisher) async throws {
    let events = options.int("events")
    context.progress("\(recorder.result.name): \(events) events, saturated")
    try await fleet.reset(restart: true)
    let meter = Meter(server.probe, context.scheduler)
    _ = try await publisher.run(
      ["events": .int(Int64(events)), "bytes": .int(Int64(options.bytes("bytes")))],
      patience: options.duration("deadline"))
    let report = try await fleet.await(events: events, patience: options.duration("deadline"))
    check(report, events * fleet.plan.count)
    let deliveries = Double(report.tally.deliveries)
    recorder.result.add(cpu: "CPU of a delivery, saturated", meter, operations: deliveries)
    recorder.result.add(
      "deliveries, saturated", deliveries / max(1e-9, Double(report.lastDelivery - meter.began) / 1e9), "/s", .higher)
  }

  private func pace(_ fleet: RemoteFleet, _ publisher: RemotePublisher) async throws {
    let events = max(1, Int(options.duration("pace").seconds * options.double("rate")))
    context.progress("\(recorder.result.name): \(events) paced events")
    try await fleet.reset(restart: true, busyPolls: true)
    let meter = Meter(server.probe, context.scheduler)
    _ = try await publisher.run(
      [
        "events": .int(Int64(events)), "bytes": .int(Int64(options.bytes("bytes"))),
        "rate": .double(options.double("rate")),
      ], patience: options.duration("pace") + options.duration("deadline"))
    let report = try await fleet.await(events: events, patience: .seconds(30))
    check(report, events * fleet.plan.count)
    recorder.result.add(cpu: "CPU of a delivery, paced", meter, operations: Double(report.tally.deliveries))
    recorder.result.add("latency, paced", report.tally.latency)
  }

  private func check(_ report: FleetReport, _ expected: Int) {
    recorder.result.checked += report.tally.deliveries
    let missing = UInt64(expected) - min(UInt64(expected), report.tally.deliveries)
    recorder.result.peerViolations += max(missing, report.tally.violations)
    if report.lost > 0 { recorder.result.note("\(report.lost) connections were closed by the server") }
  }

  /// Small messages to a stream on disk, each acknowledged.
  func jetStream() async throws {
    context.progress("nats: acknowledged messages to JetStream")
    let publisher = try await RemotePublisher(
      server.target, ["subject": "bench.stored"], pool: context.pool, worker: 0)
    let meter = Meter(server.probe, context.scheduler)
    let messages = 50_000
    let answer = try await publisher.run(
      ["events": .int(Int64(messages)), "bytes": 64, "acknowledged": true, "window": 512], patience: .seconds(120))
    let seconds = max(1e-9, Double(answer["nanoseconds"].int ?? 0) / 1e9)
    recorder.result.add("acknowledged small messages", Double(messages) / seconds, "/s", .higher)
    recorder.result.add(cpu: "CPU of an acknowledged small message", meter, operations: Double(messages))
    recorder.result.add("latency of an acknowledged message", Latency(answer["latency"]))
    if let refused = answer["refused"].int, refused > 0 {
      recorder.result.note("JetStream refused \(refused) messages")
    }
    await publisher.close()
  }
}

/// Puts and watches of etcd.
@LoopActor struct EtcdRun {
  let context: BenchContext
  let options: Options
  let recorder: Recorder
  let server: PeerServer

  init(_ context: BenchContext, _ options: Options, _ recorder: Recorder, _ server: PeerServer) {
    self.context = context
    self.options = options
    self.recorder = recorder
    self.server = server
  }

  func go() async throws {
    for clients in (options.string("clients") ?? "").split(separator: ",").compactMap({ Int($0) }) {
      try await put(clients)
    }
    if options.int("etcd-watchers") > 0 {
      let gateway = try await watch()
      let grpc = try await watchOverGRPC()
      recorder.result.add("deliveries a CPU second", max(gateway, grpc ?? 0), "/s", .higher)
    }
    try await checkPerf()
  }

  private func writers(_ clients: Int, _ subject: String) async throws(SkerryError) -> RemotePublisher {
    try await RemotePublisher(
      server.target,
      [
        "clients": .int(Int64(clients)), "subject": .string(subject), "bytes": .int(Int64(options.bytes("bytes"))),
      ], pool: context.pool, worker: 1)
  }

  private func put(_ clients: Int) async throws {
    context.progress("etcd: \(clients) clients put")
    let writers = try await writers(clients, "plain")
    let time = options.duration("time")
    let meter = Meter(server.probe, context.scheduler)
    let answer = try await writers.run(["duration": .int(time.nanosecondCount)], patience: time + .seconds(60))
    let operations = Double(answer["operations"].int ?? 0)
    let seconds = max(1e-9, Double(answer["nanoseconds"].int ?? 0) / 1e9)
    recorder.result.add("durable writes, \(clients) clients", operations / seconds, "/s", .higher)
    recorder.result.add(cpu: "CPU of a write, \(clients) clients", meter, operations: operations)
    recorder.result.add("latency, \(clients) clients", Latency(answer["latency"]))
    await writers.close()
  }

  /// Deliveries a CPU second of etcd by its JSON gateway.
  private func watch() async throws -> Double {
    var plan = FleetPlan()
    plan.kind = .etcdWatcher
    plan.count = options.int("etcd-watchers")
    plan.concurrency = options.int("concurrency")
    plan.namespace = "watched"
    plan.payloadBytes = options.bytes("bytes")
    let fleet = try await RemoteFleet.make(plan, server.target, pool: context.pool)
    try await fleet.connect(options.duration("deadline"))
    context.progress("etcd: \(plan.count) watchers while puts flow")
    let writers = try await writers(16, "watched")
    let time = options.duration("time")
    let meter = Meter(server.probe, context.scheduler)
    let answer = try await writers.run(["duration": .int(time.nanosecondCount)], patience: time + .seconds(120))
    let operations = Int(answer["operations"].int ?? 0)
    let report = try await fleet.await(events: operations, patience: options.duration("deadline"))
    let deliveries = Double(report.tally.deliveries)
    recorder.result.checked += report.tally.deliveries
    recorder.result.peerViolations += report.tally.violations
    recorder.result.add(
      "deliveries, \(plan.count) watchers",
      deliveries / max(1e-9, Double(report.lastDelivery - meter.began) / 1e9), "/s", .higher)
    recorder.result.add(cpu: "CPU of a delivery", meter, operations: deliveries)
    let cost = meter.perOperation(deliveries)?.total ?? 0
    await writers.close()
    await fleet.close()
    return cost > 0 ? 1e6 / cost : 0
  }

  /// The same over gRPC, each watch on a connection of its own; the puts come by the gateway as before. nil without the
  /// program.
  private func watchOverGRPC() async throws -> Double? {
    guard let command = options.string("grpc-watcher") else {
      recorder.result.note("etcd's watches over gRPC were not measured: no --grpc-watcher (make bench-peers has one)")
      return nil
    }
    let streams = options.int("etcd-watchers")
    let watcher = try await GRPCWatcher.start(command, server, prefix: "over-grpc/", streams: streams, context)
    defer { watcher.stop() }
    context.progress("etcd: \(streams) watchers over gRPC while puts flow")
    let writers = try await writers(16, "over-grpc")
    let time = options.duration("time")
    let meter = Meter(server.probe, context.scheduler)
    let answer = try await writers.run(["duration": .int(time.nanosecondCount)], patience: time + .seconds(120))
    let wanted = Int(answer["operations"].int ?? 0) * streams
    let report = try await watcher.await(events: wanted, patience: options.duration("deadline"))
    await writers.close()
    recorder.result.checked += UInt64(report.events)
    recorder.result.peerViolations += UInt64(wanted - min(wanted, report.events))
    let deliveries = Double(report.events)
    recorder.result.add(
      "deliveries over gRPC, \(streams) watchers",
      deliveries / max(1e-9, (Double(report.last) - Double(meter.began)) / 1e9), "/s", .higher)
    recorder.result.add("events in a response over gRPC", deliveries / Double(max(1, report.responses)), "", .neither)
    recorder.result.add(cpu: "CPU of a delivery over gRPC", meter, operations: deliveries)
    return meter.perOperation(deliveries).map { 1e6 / max(1e-9, $0.total) }
  }

  /// etcd's own tool; it writes for a minute.
  private func checkPerf() async throws {
    guard let load = options.string("check-perf"), load != "none" else { return }
    guard let program = PeerServer.program("etcdctl") else {
      return recorder.result.note("etcdctl is not installed: its check perf was not run")
    }
    context.progress("etcd: etcdctl check perf --load=\(load), a minute")
    let result = try await Subprocess.run(
      [
        program, "--endpoints", "https://\(server.target.address)", "--cacert", "\(server.directory)/ca.crt", "check",
        "perf", "--load=\(load)",
      ], environment: ["ETCDCTL_API": "3", "PATH": "/usr/bin:/bin"], deadline: .seconds(180))
    let text = result.outputText + result.errorText
    for line in text.split(whereSeparator: { $0 == "\n" || $0 == "\r" }) where line.contains("writes/s") {
      let words = line.split(separator: " ")
      guard let index = words.firstIndex(where: { $0.hasPrefix("writes/s") }), index > 0,
        let rate = Double(words[index - 1])
      else { continue }
      recorder.result.add("check perf, writes", rate, "/s", .higher)
      recorder.result.note("etcdctl: \(line)")
    }
  }
}
