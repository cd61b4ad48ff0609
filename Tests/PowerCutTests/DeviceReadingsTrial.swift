import Base
import DeviceSDK
import DeviceServices
import EventLoop
import FaultVFS

/// The node's readings: what a driver handed over is there once and in order, whatever it had to hand over again; what
/// the cloud acknowledged stays so; a command that was begun is known.
@LoopActor final class DeviceReadingsTrial: Trial {
  private static let path = "/devices.db"

  let disk: DiskImage
  let random: SeededRandom
  private let run: Bytes
  private var sequence: UInt64 = 0
  private var next: Int64 = 1
  /// The batch that was not answered; the driver hands it over again.
  private var waiting: ReadingLog.Batch?
  private var acknowledged: Int64 = 0
  var total: Int { Int(acknowledged) }
  private var exported: [Bytes: UInt64] = [:]
  private var commands: [String: CommandState] = [:]

  init(seed: UInt64) {
    random = SeededRandom(seed: seed)
    disk = DiskImage(random: random)
    run = random.bytes(16)
  }

  private func open() throws(SkerryError) -> ReadingStore {
    try ReadingStore(
      path: Self.path, vfs: disk.vfs, scheduler: Loop.startShared(), random: random, driver: TurnDriver())
  }

  private func batch() -> ReadingLog.Batch {
    if let waiting { return waiting }
    let end = next + Int64(random.below(40))
    sequence += 1
    let readings = (next...end).map { value in
      Reading(
        device: "default/d", property: "p\(value / 50)", type: .int32, value: .int(value), quality: .good, time: value)
    }
    next = end + 1
    return ReadingLog.Batch(driver: "d", run: run, sequence: sequence, readings: readings)
  }

  func live() async throws(SkerryError) {
    let store = try open()
    let life = disk.lives
    for _ in 0..<(1 + random.below(8)) {
      let batch = batch()
      waiting = batch
      do throws(SkerryError) { try await store.append(batch) } catch {
        try goOn(after: error, in: life)
        continue
      }
      waiting = nil
      acknowledged = next - 1
      if random.below(4) == 0 { try await export(store) }
      if random.below(4) == 0 { try await command(store) }
    }
    if random.below(2) == 0 { await store.close() } else { disk.crash() }
  }

  private func export(_ store: ReadingStore) async throws(SkerryError) {
    let rows = try await store.perform { log throws(SkerryError) in try log.incarnations() }
    let row = rows[Int(random.below(UInt64(rows.count)))]
    guard row.last > 0 else { return }
    let number = 1 + random.below(row.last)
    try await store.perform { log throws(SkerryError) in
      try log.acknowledge(incarnation: row.uid, through: number)
    }
    exported[row.uid] = max(exported[row.uid] ?? 0, number)
  }

  private func command(_ store: ReadingStore) async throws(SkerryError) {
    let id = "c\(commands.count)"
    let entry = AuditEntry(
      command: id, device: "default/d", property: "p", origin: "command", caller: "u", verb: "write", value: .int(1),
      state: .running, started: 1)
    let begun = try await store.perform { log throws(SkerryError) in try log.begin(entry) }
    commands[id] = .running
    guard case .begun(let row) = begun, random.below(2) == 0 else { return }
    try await store.perform { log throws(SkerryError) in
      try log.finish(row, state: .done, before: .null, after: .int(1), message: "", now: 2)
    }
    commands[id] = .done
  }

  func verify() async throws(SkerryError) -> String? {
    let store = try open()
    let finding = try await compare(store)
    if random.below(2) == 0 { await store.close() } else { disk.crash() }
    return finding
  }

  private func compare(_ store: ReadingStore) async throws(SkerryError) -> String? {
    let rows = try await store.perform { log throws(SkerryError) in try log.incarnations() }
    for row in rows where row.exported < exported[row.uid] ?? 0 {
      return "\(exported[row.uid] ?? 0) were exported, the store says \(row.exported)"
    }
    var values: [Int64] = []
    var (incarnation, after) = (rows.first?.uid, UInt64(0))
    while let page = try await store.perform({ [incarnation, after] log throws(SkerryError) in
      try log.page(incarnation: incarnation, after: after, limit: 1000)
    }) {
      if let lost = page.lost { return "\(lost.count) readings are told as lost" }
      values += page.readings.compactMap { $0.reading.value.int }
      (incarnation, after) = (page.incarnation, page.through)
    }
    if values != Array(1..<(Int64(values.count) + 1)) { return "the readings are not in order, or not there once" }
    if values.count < acknowledged || values.count >= next {
      return "\(acknowledged) readings were acknowledged, \(values.count) are there"
    }
    for (id, state) in commands.sorted(by: { $0.key < $1.key }) {
      let known = try await store.perform { log throws(SkerryError) in try log.audit(command: id) }
      // One that was running when the store stopped may have ended, and nobody knows.
      let isKnown = known?.state == state || state == .running && [.unknown, .done].contains(known?.state)
      if !isKnown { return "command \(id) was \(state), the store says \(known.map { "\($0.state)" } ?? "nothing")" }
    }
    return nil
  }
}
