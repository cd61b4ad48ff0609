import Base
import Store
import Sync

/// What a lane of the outbox lets go when it is full: its oldest entries, over all incarnations, until a tenth is free.
/// Each incarnation's run becomes one `dropped` entry with the number of the last of them, so that the cloud hears of it.
enum OutboxBounds {
  struct Size: Sendable {
    var entries: UInt64
    var bytes: UInt64
  }

  /// The run of an incarnation that goes.
  private struct Run {
    var age: Int64
    var from: UInt64
    var last: UInt64
    var count: UInt64
  }

  /// Entries that are looked at for what a `dropped` entry among them stands for; others are larger.
  private static let largestDropped = 64

  static func keep(
    _ database: Database, _ lane: Lane, _ sizes: inout [Lane: Size], added: (entries: UInt64, bytes: UInt64),
    _ limits: Outbox.Limits
  ) throws(SkerryError) {
    var size: Size
    if let known = sizes[lane] {
      size = Size(entries: known.entries + added.entries, bytes: known.bytes + added.bytes)
    } else {
      size = try measure(database, lane)
    }
    if size.entries > limits.entries || size.bytes > limits.bytes {
      // Entries that were superseded or applied were counted too.
      size = try measure(database, lane)
      if size.entries > limits.entries || size.bytes > limits.bytes {
        for run in try oldest(database, lane, size, limits) { try letGo(database, lane, run) }
        size = try measure(database, lane)
      }
    }
    sizes[lane] = size
  }

  private static func measure(_ database: Database, _ lane: Lane) throws(SkerryError) -> Size {
    let total = try database.prepare("SELECT count(*), coalesce(sum(length(payload)), 0) FROM entries WHERE lane = ?")
    total.bind(1, lane.rawValue)
    guard try total.step() else { return Size(entries: 0, bytes: 0) }
    return Size(entries: total.uint(0), bytes: total.uint(1))
  }

  private static func oldest(
    _ database: Database, _ lane: Lane, _ size: Size, _ limits: Outbox.Limits
  ) throws(SkerryError) -> [Run] {
    let goal = Size(entries: limits.entries / 10 * 9, bytes: limits.bytes / 10 * 9)
    let select = try database.prepare("SELECT age, number, payload FROM entries WHERE lane = ? ORDER BY age, number")
    select.bind(1, lane.rawValue)
    var (left, runs): (Size, [Run]) = (size, [])
    while left.entries > goal.entries || left.bytes > goal.bytes, try select.step() {
      let (age, number, payload) = (select.int(0), select.uint(1), select.bytes(2))
      var (from, count) = (number, UInt64(1))
      if payload.count <= largestDropped, case .dropped(let first, _, let gone)? = try? LanePayload.decode(payload) {
        (from, count) = (first, gone)
      }
      if runs.last?.age == age {
        runs[runs.count - 1].last = number
        runs[runs.count - 1].count += count
      } else {
        runs.append(Run(age: age, from: from, last: number, count: count))
      }
      left.entries -= 1
      left.bytes -= min(left.bytes, UInt64(payload.count))
    }
    return runs
  }

  private static func letGo(_ database: Database, _ lane: Lane, _ run: Run) throws(SkerryError) {
    let delete = try database.prepare("DELETE FROM entries WHERE lane = ? AND age = ? AND number <= ?")
    delete.bind(1, lane.rawValue)
    delete.bind(2, run.age)
    delete.bind(3, run.last)
    try delete.run()
    let insert = try database.prepare(
      "INSERT INTO entries (lane, age, number, subject, payload) VALUES (?, ?, ?, '', ?)")
    insert.bind(1, lane.rawValue)
    insert.bind(2, run.age)
    insert.bind(3, run.last)
    insert.bind(4, LanePayload.dropped(from: run.from, to: run.last, count: run.count).encode())
    try insert.run()
  }
}
