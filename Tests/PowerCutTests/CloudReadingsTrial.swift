import Base
import CloudHub
import EventLoop
import FaultVFS
import Sync
import Wire

/// The cloud's readings: each that was acknowledged is there once and in order, and the lane's cursor says the same.
@LoopActor final class CloudReadingsTrial: Trial {
  private static let path = "/readings.db"

  let disk: DiskImage
  let random: SeededRandom
  /// Through here each lane was acknowledged, and through here it was sent.
  private var lanes: [(node: String, incarnation: Incarnation, acknowledged: UInt64, sent: UInt64)] = []

  init(seed: UInt64) {
    random = SeededRandom(seed: seed)
    disk = DiskImage(random: random)
  }

  var total: Int { lanes.reduce(0) { $0 + Int($1.acknowledged) } }

  private func open() throws(SkerryError) -> ReadingsStore {
    try ReadingsStore(
      path: Self.path, vfs: disk.vfs, isPlaced: { _, _ in true }, metrics: Metrics(), logger: quiet,
      driver: TurnDriver())
  }

  private func device(_ lane: Int) -> String { "default/d\(lane)" }

  func live() async throws(SkerryError) {
    let store = try open()
    let life = disk.lives
    for _ in 0..<(1 + random.below(8)) {
      let lane = Int(random.below(UInt64(min(lanes.count + 1, 12))))
      if lane == lanes.count, let incarnation = Incarnation(random.bytes(16)) {
        lanes.append(("n\(lane % 3)", incarnation, 0, 0))
      }
      // A batch whose answer was lost is sent again only if the cursor says so, as a sink does.
      let start = try store.cursor(node: lanes[lane].node, lane: .readings, incarnation: lanes[lane].incarnation)
      let end = start + 1 + random.below(40)
      lanes[lane].sent = max(lanes[lane].sent, end)
      do throws(SkerryError) {
        try await store.apply(batch(lane, start, end), node: lanes[lane].node, lane: .readings)
        lanes[lane].acknowledged = end
      } catch {
        try goOn(after: error, in: life)
      }
    }
    if random.below(2) == 0 { store.close() } else { disk.crash() }
  }

  private func batch(_ lane: Int, _ start: UInt64, _ end: UInt64) -> LaneBatch {
    let entries = ((start + 1)...end).map { number in
      let reading = Reading(
        number: 0, device: device(lane), property: "p\(number / 50)", type: "INT", value: "\(number)", quality: "Good",
        time: Int64(number))
      return LaneEntry(number: number, payload: CBOR.encode(reading.encoded))
    }
    return LaneBatch(incarnation: lanes[lane].incarnation, after: start, through: end, entries: entries)
  }

  func verify() async throws(SkerryError) -> String? {
    let store = try open()
    for (index, lane) in lanes.enumerated() {
      let cursor = try store.cursor(node: lane.node, lane: .readings, incarnation: lane.incarnation)
      if cursor < lane.acknowledged || cursor > lane.sent {
        return "lane \(index): \(lane.acknowledged) were acknowledged, the cursor is \(cursor)"
      }
      let values = try store.page(device: device(index), property: nil, after: 0, limit: 1_000_000).map(\.value)
      if values != (0..<cursor).map({ "\($0 + 1)" }) {
        return "lane \(index): the cursor is \(cursor), and \(values.count) readings are there"
      }
      lanes[index].acknowledged = cursor
      lanes[index].sent = cursor
    }
    if random.below(2) == 0 { store.close() } else { disk.crash() }
    return nil
  }
}
