import Base
import EventLoop
import Glibc
import Transport
import Wire

/// A process of the bench that holds connections: more clients than one process may hold files for are spread over
/// several. It does what the coordinator calls, over the product's own protocol on a Unix socket, and ends with it.
@LoopActor final class Worker {
  typealias Handler = @LoopActor (Worker, Value) async throws -> Value

  private let session: Session
  let scheduler: any Scheduler
  let random: any RandomSource
  var fleets: [Int64: HollowFleet] = [:]
  var writers: [Int64: HollowWriters] = [:]
  var relays: [Int64: WideRelay] = [:]
  var publishers: [Int64: any Publisher] = [:]

  private static let handlers: [String: Handler] = FleetCalls.handlers
    .merging(UpstreamCalls.handlers) { old, _ in old }
    .merging(PublisherCalls.handlers) { old, _ in old }

  /// Connects to the coordinator and serves until it goes.
  static func run(socket: String, number: Int, loop: Loop) async throws(SkerryError) {
    _ = Machine.raiseFileLimit()
    let stream = try await UnixStream.connect(path: socket)
    let worker = Worker(stream, number: number, loop: loop)
    worker.session.start()
    try await worker.session.ready()
  }

  private init(_ stream: any ByteStream, number: Int, loop: Loop) {
    scheduler = loop
    random = SystemRandom()
    var configuration = SessionConfiguration()
    configuration.agent = "skerry-bench-worker"
    session = Session(
      stream: stream, role: .client, hello: ["worker": .int(Int64(number))], scheduler: loop, random: random,
      configuration: configuration)
    session.onStream = { stream in spawn { await self.serve(stream) } }
    // Nobody is left to measure for.
    session.onClose = { _ in exit(0) }
  }

  private func serve(_ stream: SessionStream) async {
    guard let handler = Self.handlers[stream.method] else {
      return stream.fail(CallError(reason: CallError.unknownMethod, message: "no such order: \(stream.method)"))
    }
    do {
      stream.finish(try await handler(self, stream.params))
    } catch {
      stream.fail(CallError(reason: "Failed", message: "\(error)"))
    }
  }
}

/// What a coordinator orders of fleets and writers.
@LoopActor enum FleetCalls {
  static let handlers: [String: Worker.Handler] = [
    "fleet.make": { worker, params in
      let fleet = try HollowFleet(
        FleetPlan(params["plan"]), try BenchTarget(params["target"]), scheduler: worker.scheduler,
        random: worker.random)
      worker.fleets[params["id"].int ?? 0] = fleet
      try await fleet.prepare()
      return [:]
    },
    "fleet.connect": { worker, params in
      let fleet = try Self.fleet(worker, params)
      await fleet.connect(deadline: duration(params))
      return fleet.report
    },
    "fleet.report": { worker, params in try fleet(worker, params).report },
    "fleet.reset": { worker, params in
      let fleet = try Self.fleet(worker, params)
      fleet.reset(busyPolls: params["busyPolls"].bool == true)
      if params["restart"].bool == true { for peer in fleet.peers { peer.restart() } }
      return [:]
    },
    "fleet.await": { worker, params in
      let fleet = try Self.fleet(worker, params)
      let wanted = UInt64(clamping: params["deliveries"].int ?? 0)
      await fleet.wait(duration(params)) { fleet.tally.deliveries >= wanted }
      return fleet.report
    },
    "fleet.standing": { worker, params in
      let fleet = try Self.fleet(worker, params)
      let wanted = Int(params["count"].int ?? 0)
      await fleet.wait(duration(params)) { fleet.standing >= wanted }
      return fleet.report
    },
    "fleet.close": { worker, params in
      let fleet = try Self.fleet(worker, params)
      fleet.close()
      worker.fleets[params["id"].int ?? 0] = nil
      return fleet.report
    },
    "writers.make": { worker, params in
      let writers = try HollowWriters(
        WritePlan(params["plan"]), try BenchTarget(params["target"]), scheduler: worker.scheduler)
      worker.writers[params["id"].int ?? 0] = writers
      try await writers.prepare()
      return writers.report
    },
    "writers.run": { worker, params in
      guard let writers = worker.writers[params["id"].int ?? 0] else { throw unknown }
      let took = await writers.run(WriteLoad(params["load"]))
      var report = writers.report
      report["nanoseconds"] = .int(took.nanosecondCount)
      return report
    },
    "writers.close": { worker, params in
      worker.writers.removeValue(forKey: params["id"].int ?? 0)?.close()
      return [:]
    },
    "relay.make": { worker, params in
      let relay = try WideRelay(WideRelay.Conditions(params), to: try HostPort(params["target"].string ?? ""), worker)
      worker.relays[params["id"].int ?? 0] = relay
      return ["port": .int(Int64(relay.port))]
    },
    "relay.cut": { worker, params in
      let share = params["share"].double ?? 1
      return ["cut": .int(Int64(worker.relays[params["id"].int ?? 0]?.cut(share: share) ?? 0))]
    },
    "relay.report": { worker, params in worker.relays[params["id"].int ?? 0]?.report ?? [:] },
  ]

  private static let unknown = SkerryError(.notFound, "an order for what was never made")

  static func fleet(_ worker: Worker, _ params: Value) throws(SkerryError) -> HollowFleet {
    guard let fleet = worker.fleets[params["id"].int ?? 0] else { throw unknown }
    return fleet
  }

  static func duration(_ params: Value) -> Duration { .nanoseconds(params["patience"].int ?? 60_000_000_000) }
}
