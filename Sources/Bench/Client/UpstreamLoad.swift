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
  var namespace = "bench"

  var value: Value {
    [
      "duration": .int(duration.nanosecondCount), "statuses": .double(statuses), "readings": .double(readings),
      "namespace": .string(namespace),
    ]
  }
  init() {}
  init(_ value: Value) {
    duration = .nanoseconds(value["duration"].int ?? 0)
    statuses = value["statuses"].double ?? 0
    readings = value["readings"].double ?? 0
    namespace = value["namespace"].string ?? "bench"
  }
}

/// Makes entries for the lanes of a fleet's nodes at a rate, each due at its own time. A node whose lane waits for the
/// cloud gets no more than `maxWaiting`; what it could not take is counted, not forgotten.
@LoopActor final class UpstreamLoad {
  static let maxWaiting = 8_192
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
    make(Int(time * plan.statuses) - madeStatuses - heldStatuses, now, isStatus: true)
    make(Int(time * plan.readings) - madeReadings - heldReadings, now, isStatus: false)
    if over {
      done?.resume()
      done = nil
      return
    }
    fleet.scheduler.schedule(after: Self.tickLength) { self.tick() }
  }

  /// Spreads `count` entries over the nodes, each node's share in one piece.
  private func make(_ count: Int, _ now: UInt64, isStatus: Bool) {
    guard count > 0, !nodes.isEmpty else { return }
    // Few nodes a turn, with several entries each: a batch is worth more than its entries alone.
    let share = isStatus ? 1 : max(1, min(512, count / max(1, nodes.count / 20)))
    var left = count
    while left > 0 {
      let node = nodes[turn % nodes.count]
      turn += 1
      let piece = min(share, left)
      left -= piece
      let lane = isStatus ? node.status : node.readings
      guard lane.waiting + piece <= Self.maxWaiting else {
        if isStatus { heldStatuses += piece } else { heldReadings += piece }
        continue
      }
      for _ in 0..<piece { isStatus ? addStatus(node, now) : addReading(node, now) }
      lane.push()
      if isStatus { madeStatuses += piece } else { madeReadings += piece }
    }
  }

  private func addStatus(_ node: HollowNode, _ now: UInt64) {
    node.tell(
      "nodes//\(node.name)", node.uid,
      ["conditions": [["type": "Ready", "message": .string("heard \(madeStatuses) at \(now)")]]])
  }

  private func addReading(_ node: HollowNode, _ now: UInt64) {
    let number = node.readings.nextNumber
    let reading = Reading(
      number: number, device: "\(plan.namespace)/\(node.name)", property: "temperature", type: "FLOAT",
      value: "\(20 + Double(number % 100) / 10)", quality: "Good",
      time: fleet.scheduler.wall.milliseconds)
    node.readings.add(CBOR.encode(reading.encoded), due: now)
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
