import Base
import EventLoop

/// What a fleet has told of itself, all its workers together.
struct FleetReport: Sendable {
  var tally = Tally()
  var handshakes = Latency()
  var ready = 0
  var standing = 0
  var lost = 0
  var regained = 0
  var received = 0
  var sent = 0
  /// When the last event arrived, on the machine's monotonic clock.
  var lastDelivery: UInt64 = 0
  var errors: [String: Int] = [:]
  /// Of an upstream load: entries that were made, and those that a full lane kept from being made.
  var made = 0
  var heldBack = 0
  var nanoseconds: Int64 = 0

  init(_ values: [Value]) {
    for value in values {
      func number(_ key: String) -> Int { Int(clamping: value[key].int ?? 0) }
      tally.add(Tally(value["tally"]))
      handshakes.add(Latency(value["handshakes"]))
      ready += number("ready")
      standing += number("standing")
      lost += number("lost")
      regained += number("regained")
      received += number("received")
      sent += number("sent")
      made += number("made")
      heldBack += number("heldBack")
      nanoseconds = max(nanoseconds, value["nanoseconds"].int ?? 0)
      lastDelivery = max(lastDelivery, UInt64(number("last")))
      for (text, count) in value["errors"].stringMap { errors[text, default: 0] += Int(count) ?? 0 }
    }
  }

  /// The most frequent error, for messages.
  var mainError: String? {
    errors.max { $0.value < $1.value }.map { "\($0.value) times: \($0.key)" }
  }
}

/// A fleet of hollow peers, spread over the workers.
@LoopActor final class RemoteFleet {
  let plan: FleetPlan
  private let pool: WorkerPool
  /// Worker and peers of each part.
  private let parts: [(worker: Int, count: Int)]
  private let id: Int64
  private var isOpen = false

  /// Makes the peers and their identities; nothing is connected yet.
  static func make(_ plan: FleetPlan, _ target: BenchTarget, pool: WorkerPool) async throws(SkerryError) -> RemoteFleet
  {
    let fleet = try RemoteFleet(plan, pool: pool)
    try await pool.ensure(fleet.parts.count)
    var orders: [(Int, Value)] = []
    var first = plan.first
    for part in fleet.parts {
      var share = plan
      share.first = first
      share.count = part.count
      first += part.count
      orders.append((part.worker, ["id": .int(fleet.id), "plan": share.value, "target": target.value]))
    }
    _ = try await pool.calls(orders, "fleet.make", patience: .seconds(600))
    fleet.isOpen = true
    return fleet
  }

  private init(_ plan: FleetPlan, pool: WorkerPool) throws(SkerryError) {
    self.plan = plan
    self.pool = pool
    id = pool.newID()
    let workers = try pool.workers(for: plan.count)
    parts = (0..<workers).map { (worker: $0, count: plan.count / workers + ($0 < plan.count % workers ? 1 : 0)) }
  }

  /// Asks every part, with params made for its number of peers.
  func ask(_ method: String, patience: Duration, _ params: (_ count: Int) -> Value = { _ in [:] })
    async throws(SkerryError) -> FleetReport
  {
    let orders = parts.map { part in
      var value = params(part.count)
      value["id"] = .int(id)
      return (worker: part.worker, params: value)
    }
    return FleetReport(try await pool.calls(orders, method, patience: patience))
  }

  /// Connects all; throws if less than all stand at the deadline, unless `partly`.
  @discardableResult
  func connect(_ patience: Duration, partly: Bool = false) async throws(SkerryError) -> FleetReport {
    let report = try await ask("fleet.connect", patience: patience)
    guard report.standing == plan.count || partly else {
      throw SkerryError(
        .unavailable,
        "\(report.standing) of \(plan.count) \(plan.kind.rawValue)s stand within \(patience)"
          + (report.mainError.map { " (\($0))" } ?? ""))
    }
    return report
  }

  func report() async throws(SkerryError) -> FleetReport { try await ask("fleet.report", patience: .seconds(60)) }

  /// Counts begin at zero; with `restart` events' numbers too.
  func reset(restart: Bool = false, busyPolls: Bool = false) async throws(SkerryError) {
    _ = try await ask("fleet.reset", patience: .seconds(60)) { _ in
      ["restart": .bool(restart), "busyPolls": .bool(busyPolls)]
    }
  }

  /// Waits until each peer was delivered `events`.
  func await(events: Int, patience: Duration) async throws(SkerryError) -> FleetReport {
    try await ask("fleet.await", patience: patience) { count in ["deliveries": .int(Int64(events * count))] }
  }

  /// Waits until all stand (again).
  func standing(patience: Duration) async throws(SkerryError) -> FleetReport {
    try await ask("fleet.standing", patience: patience) { count in ["count": .int(Int64(count))] }
  }

  func upstream(_ plan: UpstreamPlan, patience: Duration) async throws(SkerryError) -> FleetReport {
    let total = Double(max(1, self.plan.count))
    return try await ask("upstream.run", patience: plan.duration + patience) { count in
      var share = plan
      share.statuses *= Double(count) / total
      share.readings *= Double(count) / total
      return ["plan": share.value]
    }
  }

  /// CPU of the workers that hold this fleet.
  var cpu: CPUTime {
    parts.compactMap { pool.probe($0.worker)?.cpu }.reduce(CPUTime()) {
      CPUTime(total: $0.total + $1.total, user: $0.user + $1.user, system: $0.system + $1.system)
    }
  }

  func close() async {
    guard isOpen else { return }
    isOpen = false
    _ = try? await ask("fleet.close", patience: .seconds(60))
  }
}

/// Writers in one worker.
@LoopActor final class RemoteWriters {
  struct Report: Sendable {
    var operations: Int
    var failures: Int
    var failure: String
    var disorder: Int
    var latency: Latency
    var revision: UInt64
    var duration: Duration

    init(_ value: Value) {
      operations = Int(value["operations"].int ?? 0)
      failures = Int(value["failures"].int ?? 0)
      failure = value["failure"].string ?? ""
      disorder = Int(value["disorder"].int ?? 0)
      latency = Latency(value["latency"])
      revision = UInt64(clamping: value["revision"].int ?? 0)
      duration = .nanoseconds(value["nanoseconds"].int ?? 0)
    }
    var perSecond: Double { duration > .zero ? Double(operations) / duration.seconds : 0 }
  }

  private let pool: WorkerPool
  private let worker: Int
  private let id: Int64

  /// Connects the writers in the worker of that number and makes their objects.
  init(_ plan: WritePlan, _ target: BenchTarget, pool: WorkerPool, worker: Int) async throws(SkerryError) {
    self.pool = pool
    self.worker = worker
    id = pool.newID()
    try await pool.ensure(worker + 1)
    _ = try await pool.call(
      worker, "writers.make", ["id": .int(id), "plan": plan.value, "target": target.value], patience: .seconds(300))
  }

  func run(_ load: WriteLoad) async throws(SkerryError) -> Report {
    Report(
      try await pool.call(
        worker, "writers.run", ["id": .int(id), "load": load.value], patience: load.duration + .seconds(300)))
  }

  func close() async { _ = try? await pool.call(worker, "writers.close", ["id": .int(id)], patience: .seconds(30)) }
}
