import Base
import EventLoop
import ObjectModel
import Sync
import Wire

/// What hollow nodes send up; travels to the worker as a value.
struct UpstreamPlan: Sendable {
  var duration: Duration = .seconds(10)
  /// Of all nodes of the fleet together, a second.
  var statuses = 0.0
  var readings = 0.0

  var value: Value {
    [
      "duration": .int(duration.nanosecondCount), "statuses": .double(statuses), "readings": .double(readings),
    ]
  }
  init() {}
  init(_ value: Value) {
    duration = .nanoseconds(value["duration"].int ?? 0)
    statuses = value["statuses"].double ?? 0
    readings = value["readings"].double ?? 0
  }
}

/// Makes statuses and readings for the lanes of a fleet's nodes at a rate. A status is due at its own time, a batch of
/// readings with its last one: an edgecore lets them wait `gather` for others that can travel with them. A node whose
/// lane waits for the cloud gets no more than `maxWaiting`; what it could not take is counted, not forgotten.
@LoopActor final class UpstreamLoad {
  static let maxWaiting = 8_192
  /// As an edgecore at `default` does.
  static let gather = Duration.seconds(1)
  /// Readings of one batch at most: what edgecore's forwarder pulls at once.
  static let maxBatch = 2_000
  static let tickLength = Duration.milliseconds(10)

  private let nodes: [HollowNode]
  private let fleet: HollowFleet
  private let plan: UpstreamPlan
  private let started: UInt64
  private var madeStatuses = 0
  private var madeReadings = 0
  private var heldStatuses = 0
  private var heldReadings = 0
  private var turn = 0
  private var done: CheckedContinuation<Void, Never>?

  init(_ fleet: HollowFleet, _ plan: UpstreamPlan) {
    self.fleet = fleet
    self.plan = plan
    nodes = fleet.peers.compactMap { $0 as? HollowNode }
    started = fleet.now
  }

  /// Runs for the plan's time, then waits until what was made is applied, or for `patience`.
  func run(patience: Duration) async -> Value {
    if plan.readings > 0 { for node in nodes { node.openReadings() } }
    await withCheckedContinuation { continuation in
      done = continuation
      tick()
    }
    let made = UInt64(madeStatuses + madeReadings)
    let applied = await fleet.wait(patience) { self.fleet.tally.deliveries >= made }
    var report = fleet.report
    report["made"] = .int(Int64(made))
    report["heldBack"] = .int(Int64(heldStatuses + heldReadings))
    report["complete"] = .bool(applied)
    report["nanoseconds"] = .int(Int64(max(fleet.lastDelivery, started) - started))
    return report
  }

  private func tick() {
    let now = fleet.now
    let elapsed = Double(now - started) / 1e9
    let over = elapsed >= plan.duration.seconds
    let time = min(elapsed, plan.duration.seconds)
    makeStatuses(Int(time * plan.statuses) - madeStatuses - heldStatuses, now)
    makeReadings(Int(time * plan.readings) - madeReadings - heldReadings, now, isLast: over)
    if over {
      done?.resume()
      done = nil
      return
    }
    fleet.scheduler.schedule(after: Self.tickLength) { self.tick() }
  }

  /// The nodes in turn, so that their batches spread over the time.
  private func next() -> HollowNode {
    turn += 1
    return nodes[turn % nodes.count]
  }

  private func makeStatuses(_ count: Int, _ now: UInt64) {
    guard count > 0, !nodes.isEmpty else { return }
    for _ in 0..<count {
      let node = next()
      guard node.status.waiting < Self.maxWaiting else {
        heldStatuses += 1
        continue
      }
      node.tell(
        "nodes//\(node.name)", node.uid,
        ["conditions": [["type": "Ready", "message": .string("heard \(madeStatuses) at \(now)")]]])
      node.status.push()
      madeStatuses += 1
    }
  }

  /// Whole batches, each what one node's share is in `gather`; the rest is left for the next time.
  private func makeReadings(_ count: Int, _ now: UInt64, isLast: Bool) {
    guard count > 0, !nodes.isEmpty else { return }
    let share = Int(plan.readings * Self.gather.seconds) / nodes.count
    let piece = max(1, min(Self.maxBatch, share))
    var left = count
    while left >= piece || isLast && left > 0 {
      let node = next()
      let size = min(piece, left)
      left -= size
      if node.readings.waiting + size <= Self.maxWaiting {
        node.readings.make(size, wall: fleet.scheduler.wall.milliseconds, due: now)
        madeReadings += size
      } else {
        heldReadings += size
      }
    }
  }
}

@LoopActor enum UpstreamCalls {
  static let handlers: [String: Worker.Handler] = [
    "upstream.run": { worker, params in
      let fleet = try FleetCalls.fleet(worker, params)
      return await UpstreamLoad(fleet, UpstreamPlan(params["plan"])).run(patience: FleetCalls.duration(params))
    }
  ]
}
