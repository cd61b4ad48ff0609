import Base
import Store
import Sync

/// The series' ids of one block, in the order of the block, as they lie beside it: `number(3)`, how many; then each as
/// `signed(0)` of the id less the one before it less 1 (proto-spec/readings.md has the codes).
enum StoredSeries {
  static func encode(_ ids: [Int64]) -> Bytes {
    var writer = BitWriter()
    writer.number(UInt64(ids.count), order: 3)
    var last: Int64 = 0
    for id in ids {
      writer.signed(id &- last &- 1, order: 0)
      last = id
    }
    return writer.bytes
  }

  static func decode(_ bytes: Bytes) throws(SkerryError) -> [Int64] {
    var reader = BitReader(bytes)
    let count = try reader.count(order: 3, limit: ReadingBlock.maxRows, "series")
    var ids: [Int64] = []
    var last: Int64 = 0
    for _ in 0..<count {
      last = last &+ 1 &+ (try reader.signed(order: 0))
      ids.append(last)
    }
    try reader.finish()
    return ids
  }
}

/// The ids of devices, properties and series, given at their first use. Confined as its database is.
final class SeriesNames {
  /// Series and names that are remembered in memory; beyond it the memory starts over.
  static let maxCached = 100_000

  private struct Key: Hashable {
    var device: String
    var property: String
    var type: String
  }

  private let findName: Statement
  private let addName: Statement
  private let find: Statement
  private let add: Statement
  private let device: Statement
  private var texts: [String: Int64] = [:]
  private var series: [Key: (series: Int64, device: Int64)] = [:]

  init(_ database: Database) throws(SkerryError) {
    findName = try database.prepare("SELECT id FROM names WHERE name = ?")
    addName = try database.prepare("INSERT INTO names (name) VALUES (?) RETURNING id")
    find = try database.prepare("SELECT id FROM series WHERE device = ? AND property = ? AND type = ?")
    add = try database.prepare("INSERT INTO series (device, property, type) VALUES (?, ?, ?) RETURNING id")
    device = try database.prepare("SELECT device FROM series WHERE id = ?")
  }

  /// The ids that a transaction gave and took back may go to others.
  func forget() {
    texts = [:]
    series = [:]
  }

  func ids(_ name: SeriesName) throws(SkerryError) -> (series: Int64, device: Int64) {
    let key = Key(device: name.device, property: name.property, type: name.type)
    if let known = series[key] { return known }
    let (device, property) = (try id(name.device), try id(name.property))
    for statement in [find, add] {
      statement.bind(1, device)
      statement.bind(2, property)
      statement.bind(3, name.type)
    }
    let ids = (series: try Self.first(find, add), device: device)
    if series.count >= Self.maxCached { series = [:] }
    series[key] = ids
    return ids
  }

  /// The devices that some series are of, each once.
  func devices(of ids: [Int64]) throws(SkerryError) -> [Int64] {
    var devices: [Int64] = []
    for id in ids {
      device.bind(1, id)
      defer { device.reset() }
      guard try device.step() else { throw SkerryError(.corrupt, "readings of series \(id), which has no name") }
      let found = device.int(0)
      if !devices.contains(found) { devices.append(found) }
    }
    return devices
  }

  private func id(_ text: String) throws(SkerryError) -> Int64 {
    if let known = texts[text] { return known }
    findName.bind(1, text)
    addName.bind(1, text)
    let id = try Self.first(findName, addName)
    if texts.count >= Self.maxCached { texts = [:] }
    texts[text] = id
    return id
  }

  /// The id that `find` finds, else the one that `add` gives.
  private static func first(_ find: Statement, _ add: Statement) throws(SkerryError) -> Int64 {
    defer {
      find.reset()
      add.reset()
    }
    if try find.step() { return find.int(0) }
    guard try add.step() else { throw SkerryError(.corrupt, "a name was stored and has no id") }
    let id = add.int(0)
    // A statement that gives rows is over, and what it did certain, behind its last row.
    while try add.step() {}
    return id
  }
}
