import Base
import EdgeAgent
import EventLoop
import FaultVFS
import Sync

/// The edge's outbox: every entry that was shown as durable is there, in order, until the cloud has it; of statuses the
/// newest of each subject.
@LoopActor final class OutboxTrial: Trial {
  private static let path = "/outbox.db"
  private static let lanes: [Lane] = [.status, .events]

  private struct Place: Hashable {
    var incarnation: Incarnation
    var lane: Lane
  }
  /// What was appended, by number.
  private struct Written {
    var entries: [UInt64: (subject: String, payload: Bytes, order: Int64)] = [:]
    /// Through here it was shown as durable.
    var shown: UInt64 = 0
    /// Through here the cloud has it.
    var forgotten: UInt64 = 0
  }

  let disk: DiskImage
  let random: SeededRandom
  private var written: [Place: Written] = [:]
  /// The newest status of each subject, by the order of appending, that stands or that the cloud has.
  private var newest: [String: Int64] = [:]
  private var count: Int64 = 0
  private(set) var total = 0

  init(seed: UInt64) {
    random = SeededRandom(seed: seed)
    disk = DiskImage(random: random)
  }

  private func open() throws(SkerryError) -> Outbox {
    try Outbox(path: Self.path, vfs: disk.vfs, random: random, logger: quiet, driver: TurnDriver())
  }

  func live() async throws(SkerryError) {
    let outbox = try open()
    let lives = disk.lives
    for _ in 0..<(1 + random.below(8)) {
      for _ in 0..<(1 + random.below(6)) { append(to: outbox) }
      let isDone = await settle { self.note(outbox) || self.disk.lives != lives }
      // A failed commit waits for the next append.
      if !isDone { try goOn(after: SkerryError(.unavailable, "the outbox does not get on"), in: lives) }
      if disk.lives != lives { return }
      if random.below(2) == 0 { forget(outbox) }
    }
    if random.below(2) == 0 { outbox.close() } else { disk.crash() }
  }

  private func append(to outbox: Outbox) {
    count += 1
    let lane = Self.lanes[Int(random.below(2))]
    let place = Place(incarnation: outbox.current, lane: lane)
    let subject = lane == .status ? "pods/default/\(random.below(6))" : ""
    let padding = String(repeating: "x", count: Int(random.below(900)))
    let payload = LanePayload.status(key: subject, uid: padding, fields: .int(count))
    let number = UInt64(written[place, default: Written()].entries.count) + 1
    written[place, default: Written()].entries[number] = (subject, payload.encode(), count)
    outbox.append(lane, subject: subject, payload)
  }

  /// Takes note of what is durable; true when everything is.
  private func note(_ outbox: Outbox) -> Bool {
    var isDone = true
    for lane in Self.lanes {
      let place = Place(incarnation: outbox.current, lane: lane)
      guard let last = written[place]?.entries.count, last > 0 else { continue }
      let shown = outbox.incarnations(lane).first { $0.id == outbox.current }?.last ?? 0
      total += Int(shown - (written[place]?.shown ?? 0))
      written[place]?.shown = shown
      if shown < last { isDone = false }
    }
    return isDone
  }

  private func forget(_ outbox: Outbox) {
    let lane = Self.lanes[Int(random.below(2))]
    guard let (incarnation, last) = outbox.incarnations(lane).first.map({ ($0.id, $0.last) }) else { return }
    let number = random.below(2) == 0 ? last : 1 + random.below(last)
    outbox.forget(lane, incarnation, through: number)
    let place = Place(incarnation: incarnation, lane: lane)
    let before = written[place]?.forgotten ?? 0
    written[place]?.forgotten = max(before, number)
  }

  func verify() async throws(SkerryError) -> String? {
    let outbox = try open()
    let places = Self.lanes.flatMap { lane in
      outbox.incarnations(lane).map { (Place(incarnation: $0.id, lane: lane), $0.last) }
    }
    for (place, last) in places where written[place] == nil {
      return "incarnation \(place.incarnation) with \(last) entries was never written"
    }
    let lasts = Dictionary(uniqueKeysWithValues: places)
    var held: [Place: Set<UInt64>] = [:]
    for place in places.map(\.0) {
      let entries = try outbox.read(place.lane, place.incarnation, after: 0, through: UInt64(Int64.max))
      if let finding = inspect(place, entries, last: lasts[place] ?? 0) { return finding }
      held[place] = Set(entries.map(\.number))
    }
    if let finding = findLost(held) { return finding }
    for place in written.keys { written[place]?.shown = lasts[place] ?? 0 }
    for place in written.keys where lasts[place] == nil { written[place] = nil }
    if random.below(2) == 0 { outbox.close() } else { disk.crash() }
    return nil
  }

  /// Only what was written, in order.
  private func inspect(_ place: Place, _ entries: [LaneEntry], last: UInt64) -> String? {
    var before: UInt64 = 0
    for entry in entries {
      if entry.number <= before { return "\(place.lane): \(entry.number) comes after \(before)" }
      if written[place]?.entries[entry.number]?.payload != entry.payload {
        return "\(place.lane): \(entry.number) is another"
      }
      before = entry.number
    }
    return before == last ? nil : "\(place.lane): \(last) is told as the newest of \(before)"
  }

  /// What was shown and is not there, though neither the cloud has it nor, of statuses, a newer one of the subject
  /// stands for it or did until the cloud had that.
  private func findLost(_ held: [Place: Set<UInt64>]) -> String? {
    for (place, entries) in written {
      for (number, entry) in entries.entries where place.lane == .status {
        let counts = held[place]?.contains(number) == true || number <= entries.forgotten
        if counts { newest[entry.subject] = max(newest[entry.subject] ?? 0, entry.order) }
      }
    }
    for (place, entries) in written {
      for (number, entry) in entries.entries where number <= entries.shown && number > entries.forgotten {
        if held[place]?.contains(number) == true { continue }
        if place.lane == .status, newest[entry.subject] ?? 0 > entry.order { continue }
        return "\(place.lane): \(number) of \(entries.shown) is gone, the cloud has \(entries.forgotten)"
      }
    }
    return nil
  }
}
