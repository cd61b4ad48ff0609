import API
import Base
import EventLoop
import ObjectModel

extension Scenario {
  static let write = Scenario(
    name: "write", summary: "durable writes of 1 KiB objects through the whole API: one client, and many",
    discussion: """
      Clients on a session each replace ConfigMaps of their own, one write after the other: validation, revision, a
      commit with full sync, the answer. Latencies of an open loop (--rate) count from when a write was due; those of a
      closed loop from when it was sent. A watcher checks every change.
      """,
    options: [
      Option("clients", .text, "1,64", "how many write at a time, one measurement each"),
      Option("time", .duration(.milliseconds(100)...(.seconds(86_400))), "10s", "of each measurement"),
      Option("bytes", .bytes(64...900_000), "1KiB", "of an object's payload"),
      Option("keys", .int(1...10_000), "100", "objects of each client"),
      Option("rate", .rate(0...1_000_000), "0", "writes a second of all clients together, open loop; 0: closed loops"),
      Option("find", .text, "", "p99=20ms: the highest open-loop rate whose percentile stays below"),
    ],
    needs: { _ in Needs(connections: 1_100, diskBytes: 2 << 30) },
    flaw: { options in
      let counts = clientCounts(options)
      if counts.isEmpty || !counts.allSatisfy({ (1...1_000).contains($0) }) {
        return "--clients takes numbers from 1 to 1000, such as 1,64"
      }
      return nil
    },
    run: { context, options, recorder in
      let counts = clientCounts(options)
      let server = try await BenchServer.start(context, options)
      do {
        for (index, clients) in counts.enumerated() {
          try await write(context, options, recorder, server, clients, first: index * 1_000)
        }
      } catch {
        await server.stop()
        throw error
      }
      await server.stop()
    })

  private static func clientCounts(_ options: Options) -> [Int] {
    (options.string("clients") ?? "").split(separator: ",").map { Int($0) ?? 0 }
  }

  @LoopActor private static func write(
    _ context: BenchContext, _ options: Options, _ recorder: Recorder, _ server: BenchServer, _ clients: Int,
    first: Int
  ) async throws {
    var plan = WritePlan()
    plan.clients = clients
    plan.first = first
    plan.keys = options.int("keys")
    plan.payloadBytes = options.bytes("bytes")
    let writers = try await RemoteWriters(plan, server.target, pool: context.pool, worker: 1)
    var watching = FleetPlan()
    watching.count = 1
    watching.payloadBytes = plan.payloadBytes
    watching.after = try await server.position()
    let watcher = try await RemoteFleet.make(watching, server.target, pool: context.pool)
    try await watcher.connect(options.duration("deadline"))
    context.progress("write: \(clients) clients for \(options.duration("time"))")
    var load = WriteLoad()
    load.duration = options.duration("time")
    load.rate = options.double("rate")
    let meter = Meter(server.probe, context.scheduler)
    let report = try await writers.run(load)
    guard report.failures == 0 else { throw SkerryError(.unavailable, "a write failed: \(report.failure)") }
    recorder.result.violations += UInt64(report.disorder)
    recorder.result.add("durable writes, \(clients) clients", report.perSecond, "/s", .higher)
    recorder.result.add(cpu: "CPU of a write, \(clients) clients", meter, operations: Double(report.operations))
    recorder.result.add("latency, \(clients) clients", report.latency)
    let seen = try await watcher.await(events: report.operations, patience: options.duration("deadline"))
    recorder.result.check(seen.tally)
    recorder.result.violations += UInt64(report.operations) - min(UInt64(report.operations), seen.tally.deliveries)
    if let find = options.string("find") {
      try await RateSearch(find).run(context, recorder, start: max(50, report.perSecond / 8)) { rate in
        var step = WriteLoad()
        step.rate = rate
        step.duration = .seconds(3)
        return try await writers.run(step).latency
      }
    }
    await writers.close()
    await watcher.close()
  }

  static let watch = Scenario(
    name: "watch", summary: "1,000 watchers on one key space while puts flow",
    discussion: """
      Every watcher receives every change that the writers make for a time: deliveries a second, and CPU of the server
      per delivery with the writes' own cost in it.
      """,
    options: [
      Option("watchers", .int(1...200_000), "1000", "sessions with one watch each"),
      Option("writers", .int(1...1_000), "16", "clients that write"),
      Option("time", .duration(.milliseconds(100)...(.seconds(86_400))), "10s", "how long they write"),
      Option("bytes", .bytes(64...900_000), "1KiB", "of an event's payload"),
      Option("rate", .rate(0...1_000_000), "0", "puts a second, open loop; 0: closed loops"),
    ],
    needs: { Needs(connections: $0.int("watchers") + $0.int("writers"), diskBytes: 2 << 30) },
    run: { context, options, recorder in
      let server = try await BenchServer.start(context, options)
      do { try await watch(context, options, recorder, server) } catch {
        await server.stop()
        throw error
      }
      await server.stop()
    })

  @LoopActor private static func watch(
    _ context: BenchContext, _ options: Options, _ recorder: Recorder, _ server: BenchServer
  ) async throws {
    let count = options.int("watchers")
    var writing = WritePlan()
    writing.clients = options.int("writers")
    writing.keys = 64
    writing.payloadBytes = options.bytes("bytes")
    let writers = try await RemoteWriters(
      writing, server.target, pool: context.pool, worker: try context.pool.workers(for: count))
    var plan = FleetPlan()
    plan.count = count
    plan.concurrency = options.int("concurrency")
    plan.payloadBytes = options.bytes("bytes")
    plan.after = try await server.position()
    let fleet = try await RemoteFleet.make(plan, server.target, pool: context.pool)
    try await fleet.connect(options.duration("deadline"))
    context.progress("watch: \(count) watchers, puts for \(options.duration("time"))")
    try await fleet.reset()
    var load = WriteLoad()
    load.duration = options.duration("time")
    load.rate = options.double("rate")
    let meter = Meter(server.probe, context.scheduler)
    let written = try await writers.run(load)
    guard written.failures == 0 else { throw SkerryError(.unavailable, "a write failed: \(written.failure)") }
    let report = try await fleet.await(events: written.operations, patience: options.duration("deadline"))
    recorder.result.check(report.tally)
    let expected = UInt64(written.operations * count)
    recorder.result.violations += expected - min(expected, report.tally.deliveries + report.tally.gaps)
    let deliveries = Double(report.tally.deliveries)
    recorder.result.add("puts", written.perSecond, "/s", .higher)
    recorder.result.add("deliveries", deliveries / (Double(report.lastDelivery - meter.began) / 1e9), "/s", .higher)
    recorder.result.add(cpu: "CPU of a delivery", meter, operations: deliveries)
    if let cost = meter.perOperation(deliveries) {
      recorder.result.add("deliveries a CPU second", 1e6 / max(cost.total, 1e-9), "/s", .higher)
    }
    recorder.result.add("bytes on the wire of a delivery", Double(report.received) / max(1, deliveries), "B")
    recorder.result.add("latency", report.tally.latency)
    await writers.close()
    await fleet.close()
  }

  static let list = Scenario(
    name: "list", summary: "lists of many objects, page by page",
    discussion:
      "Makes ConfigMaps and lists them all again and again, from several clients: objects a second, CPU an object.",
    options: [
      Option("objects", .int(1...1_000_000), "10000", "ConfigMaps"),
      Option("bytes", .bytes(0...900_000), "1KiB", "of each"),
      Option("page", .int(1...5_000), "500", "objects a page"),
      Option("lists", .int(1...100_000), "20", "whole lists"),
      Option("clients", .int(1...256), "4", "that list at a time"),
    ],
    needs: { Needs(connections: 300, diskBytes: $0.int("objects") * ($0.bytes("bytes") + 2_048) * 2) },
    run: { context, options, recorder in
      let server = try await BenchServer.start(context, options)
      do { try await list(context, options, recorder, server) } catch {
        await server.stop()
        throw error
      }
      await server.stop()
    })

  @LoopActor private static func list(
    _ context: BenchContext, _ options: Options, _ recorder: Recorder, _ server: BenchServer
  ) async throws {
    let count = options.int("objects")
    context.progress("list: \(count) objects are made")
    let first = try await server.api()
    try await Objects.create(
      first, resource: ConfigMap.resource,
      (0..<count).map { Objects.configMap("object-\($0)", bytes: options.bytes("bytes")) })
    var apis: [any API] = []
    for _ in 0..<options.int("clients") { apis.append(try await server.api()) }
    context.progress("list: \(options.int("lists")) lists")
    let meter = Meter(server.probe, context.scheduler)
    var (left, seen, latency, failure) = (options.int("lists"), 0, Latency(), nil as String?)
    let tasks = apis.map { api in
      spawn {
        while left > 0, failure == nil {
          left -= 1
          let start = context.scheduler.now
          do {
            seen += try await pages(api, options.int("page"))
            latency.record(UInt64((context.scheduler.now - start).nanosecondCount))
          } catch {
            failure = "\(error)"
          }
        }
      }
    }
    for task in tasks { await task.value }
    if let failure { throw SkerryError(.unavailable, failure) }
    recorder.result.checked += UInt64(seen)
    let expected = count * options.int("lists")
    recorder.result.violations += UInt64(expected - min(expected, seen))
    recorder.result.add("objects listed", Double(seen) / meter.elapsed.seconds, "/s", .higher)
    recorder.result.add(cpu: "CPU of a listed object", meter, operations: Double(seen))
    recorder.result.add("time of a whole list", latency)
  }

  /// One whole list; throws if an object comes twice or out of order, or if its revision is above the list's.
  @LoopActor private static func pages(_ api: any API, _ limit: Int) async throws -> Int {
    var (seen, continuation, last) = (0, "", "")
    repeat {
      let page = try await api.list(
        ListOptions(
          resource: ConfigMap.resource, namespace: BenchServer.namespace, limit: limit, continuation: continuation),
        caller: .bench)
      for item in page.items {
        guard item.reference.name > last, item.revision <= page.revision else {
          throw SkerryError(.corrupt, "the list is out of order at \(item.reference.name)")
        }
        last = item.reference.name
      }
      seen += page.items.count
      continuation = page.continuation
    } while !continuation.isEmpty
    return seen
  }
}
