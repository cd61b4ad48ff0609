import API
import Base
import EventLoop
import ObjectModel
import Wire

extension Scenario {
  static let storm = Scenario(
    name: "storm", summary: "cloudcore is killed with 10,000 edge nodes connected, and started again",
    discussion: """
      SIGKILL, then a start on the same data. Measured from the start of the new process: until it serves, and until
      every node has its session back and has resumed its slice by its cursor. No node may be reported NotReady, and none
      may need a snapshot.
      """,
    options: [
      Option("nodes", .int(1...200_000), "10000", "hollow edge nodes"),
      Option("spread", .duration(.milliseconds(1)...(.seconds(3_600))), "5s", "over what time first retries spread"),
      Option("down", .duration(.zero...(.seconds(3_600))), "1s", "how long the server is gone"),
    ], needs: { Needs(connections: $0.int("nodes"), ownServer: true) },
    run: { context, options, recorder in
      let server = try await BenchServer.start(
        context, options, settings: [("reconnect-spread", "\(options.duration("spread").milliseconds)ms")])
      do { try await storm(context, options, recorder, server) } catch {
        await server.stop()
        throw error
      }
      await server.stop()
    })

  @LoopActor private static func storm(
    _ context: BenchContext, _ options: Options, _ recorder: Recorder, _ server: BenchServer
  ) async throws {
    let count = options.int("nodes")
    var plan = FleetPlan()
    plan.kind = .node
    plan.count = count
    plan.concurrency = options.int("concurrency")
    plan.reconnects = true
    let fleet = try await RemoteFleet.make(plan, server.target, pool: context.pool)
    context.progress("storm: \(count) nodes connect")
    try await fleet.connect(options.duration("deadline"))
    let api = try await server.api()
    let ready = try await Objects.wait(context, options.duration("deadline"), each: .seconds(1)) {
      try await NodeReadiness.look(api).ready == count
    }
    guard ready else { throw SkerryError(.timeout, "not all nodes were reported Ready before the storm") }
    try await fleet.reset()
    context.progress("storm: the server is killed")
    try await server.crash()
    try await context.scheduler.sleep(for: options.duration("down"))
    let meter0 = context.scheduler.now
    let start = try await server.launch()
    let meter = Meter(server.probe, context.scheduler)
    context.progress("storm: it serves again after \(Numbers.short(start.seconds * 1e3)) ms")
    let report = try await fleet.standing(patience: options.duration("deadline"))
    let took = context.scheduler.now - meter0
    guard report.standing == count else {
      throw SkerryError(
        .timeout, "\(report.standing) of \(count) nodes came back within \(options.duration("deadline"))")
    }
    recorder.result.add("start until it serves", start.seconds * 1e3, "ms")
    recorder.result.add("all nodes back and in sync within", took.seconds, "s", bound: count == 10_000 ? 30 : nil)
    recorder.result.add(cpu: "CPU of a returning node", meter, operations: Double(count))
    recorder.result.add("nodes that needed a snapshot", Double(report.tally.relists), "", bound: 0)
    recorder.result.check(report)
    let after = try await NodeReadiness.look(try await server.api())
    recorder.result.add("nodes reported NotReady", Double(after.notReady), "", bound: 0)
    recorder.result.violations += report.tally.relists + UInt64(after.notReady)
    await fleet.close()
  }

  static let wan = Scenario(
    name: "wan", summary: "edge nodes behind a bad network: delay, jitter, a slow line, cuts",
    discussion: """
      A relay stands between the nodes and the server: each node's line has a round trip, jitter, a rate, and is cut now
      and then. Pods and ConfigMaps change meanwhile: how late the nodes have the newest state, what they need on the
      wire, and whether all are in sync at the end without a snapshot.
      """,
    options: [
      Option("nodes", .int(1...100_000), "3000", "hollow edge nodes"),
      Option("round-trip", .duration(.zero...(.seconds(60))), "80ms", "of each line"),
      Option("jitter", .duration(.zero...(.seconds(60))), "20ms", "added to each way, uniform"),
      Option("line", .int(0...1_000_000_000), "2000000", "bits a second of each line; 0: as fast as it goes"),
      Option("cut", .rate(0...1), "0.02", "share of the lines that is cut every second"),
      Option("time", .duration(.seconds(1)...(.seconds(86_400))), "30s", "how long things change"),
      Option("rate", .rate(0.01...1_000), "1", "changes a second that all nodes see"),
      Option("bytes", .bytes(64...900_000), "1KiB", "of a change"),
    ],
    needs: { Needs(connections: $0.int("nodes") * 2 + 100, bytesPerConnection: 60 * 1024) },
    run: { context, options, recorder in
      let server = try await BenchServer.start(context, options)
      do { try await WideArea(context, options, recorder, server).run() } catch {
        await server.stop()
        throw error
      }
      await server.stop()
    })
}

/// How many nodes the cluster shows as Ready.
@LoopActor enum NodeReadiness {
  static func look(_ api: any API) async throws(SkerryError) -> (ready: Int, notReady: Int) {
    var (ready, notReady, continuation) = (0, 0, "")
    repeat {
      do throws(APIError) {
        let page = try await api.list(
          ListOptions(
            resource: Node.resource, labelSelector: "skerry.io/bench=hollow", limit: 500, continuation: continuation),
          caller: .bench)
        for item in page.items {
          if isReady(item) { ready += 1 } else { notReady += 1 }
        }
        continuation = page.continuation
      } catch {
        throw SkerryError(.unavailable, "nodes cannot be listed: \(error)")
      }
    } while !continuation.isEmpty
    return (ready, notReady)
  }

  private static func isReady(_ item: APIObject) -> Bool {
    guard let status = item.status, let value = try? CBOR.decode(status) else { return false }
    return (value["conditions"].array ?? []).contains {
      $0["type"].string == "Ready" && $0["status"].string == "True"
    }
  }
}

/// A fleet behind a relay.
@LoopActor struct WideArea {
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
    let count = options.int("nodes")
    var conditions = WideRelay.Conditions()
    conditions.roundTrip = options.duration("round-trip")
    conditions.jitter = options.duration("jitter")
    conditions.bitsPerSecond = Int64(options.int("line"))
    let relayWorker = try context.pool.workers(for: count)
    try await context.pool.ensure(relayWorker + 1)
    let id = context.pool.newID()
    var order = conditions.value
    order["id"] = .int(id)
    order["target"] = .string(server.target.address.description)
    let made = try await context.pool.call(relayWorker, "relay.make", order, patience: .seconds(10))
    var target = server.target
    target.address = HostPort(host: "127.0.0.1", port: Int(made["port"].int ?? 0))

    var plan = FleetPlan()
    plan.kind = .node
    plan.count = count
    plan.concurrency = options.int("concurrency") * 4
    plan.reconnects = true
    plan.payloadBytes = options.bytes("bytes")
    let fleet = try await RemoteFleet.make(plan, target, pool: context.pool)
    context.progress("wan: \(count) nodes connect over lines of \(conditions.bitsPerSecond) bit/s")
    let meter = Meter(server.probe, context.scheduler)
    try await fleet.connect(options.duration("deadline"))
    recorder.result.add("nodes connected within", meter.elapsed.seconds, "s")
    let edges = EdgeFanout(context, options, recorder, server)
    let api = try await server.api()
    try await edges.prepare(api, fleet)
    try await fleet.reset()
    let changes = try await change(api, edges, relayWorker, id)
    try await settle(fleet, changes)
    let relay = try await context.pool.call(relayWorker, "relay.report", ["id": .int(id)], patience: .seconds(10))
    recorder.result.add("lines cut", relay["cuts"].double ?? 0, "", .neither)
    recorder.result.add(
      "bytes down of a node and change",
      (relay["down"].double ?? 0) / Double(count) / Double(max(1, changes)), "B", .lower)
    await fleet.close()
  }

  /// Changes the ConfigMap that all use, while lines are cut; answers how often.
  private func change(_ api: any API, _ edges: EdgeFanout, _ relay: Int, _ id: Int64) async throws -> Int {
    let end = context.scheduler.now + options.duration("time")
    let interval = Duration.nanoseconds(Int64(1e9 / options.double("rate")))
    var (changes, nextCut) = (0, context.scheduler.now)
    context.progress("wan: changes for \(options.duration("time")), lines are cut")
    while context.scheduler.now < end {
      changes += 1
      _ = try await edges.write(api, sequence: UInt64(changes), create: false)
      if context.scheduler.now >= nextCut {
        nextCut = nextCut + .seconds(1)
        _ = try await context.pool.call(
          relay, "relay.cut", ["id": .int(id), "share": .double(options.double("cut"))], patience: .seconds(10))
      }
      try await context.scheduler.sleep(for: interval)
    }
    return changes
  }

  /// One last change must reach every node.
  private func settle(_ fleet: RemoteFleet, _ changes: Int) async throws {
    let during = try await fleet.standing(patience: options.duration("deadline"))
    recorder.result.check(during.tally)
    recorder.result.add("latency of a change", during.tally.latency)
    recorder.result.add("sessions lost", Double(during.lost), "", .neither)
    recorder.result.add("nodes that needed a snapshot", Double(during.tally.relists), "", bound: 0)
    try await fleet.reset()
    let api = try await server.api()
    _ = try await EdgeFanout(context, options, recorder, server).write(
      api, sequence: UInt64(changes + 1), create: false)
    let start = context.scheduler.now
    let last = try await fleet.await(events: 1, patience: options.duration("deadline"))
    recorder.result.check(last.tally)
    let missing = fleet.plan.count - min(fleet.plan.count, Int(last.tally.deliveries))
    recorder.result.violations += UInt64(missing)
    recorder.result.add(
      "the last change on all nodes within", Double(last.lastDelivery - start.nanoseconds) / 1e9, "s")
  }
}
