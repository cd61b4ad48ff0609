import Base
import Store

extension SQLiteObjectLog {
  private func open() throws(SkerryError) -> LogReader {
    guard let reader else { throw SkerryError(.closed, "the log \(configuration.path) is closed") }
    return reader
  }

  private func checked(_ position: UInt64?) throws(SkerryError) -> UInt64 {
    guard let position else { return tail.position }
    try PositionRules.check(position, compacted: compacted, newest: tail.position)
    return position
  }

  package func read(_ key: String, at position: UInt64?) throws(SkerryError) -> StoredObject? {
    let (position, reader) = (try checked(position), try open())
    // What changed lately is asked for most, by those who change it again.
    if position == tail.position, let entry = ring.newest(of: key) {
      return entry.type == .deleted ? nil : entry.object
    }
    return try reader.read(key, at: position)
  }

  package func list(prefix: String, at position: UInt64?, after: String?, limit: Int) throws(SkerryError) -> Page {
    let position = try checked(position)
    return try open().list(prefix: prefix, at: position, after: after, limit: limit)
  }

  package func entries(after position: UInt64, prefix: String, limit: Int) throws(SkerryError) -> (
    entries: [Entry], through: UInt64
  ) {
    let position = try checked(position)
    let reader = try open()
    if position >= ring.floor {
      return ring.entries(
        after: position, prefix: prefix, limit: max(limit, 1), bytes: limits.pageBytes, scan: limits.scannedEntries,
        newest: tail.position)
    }
    return try reader.entries(after: position, prefix: prefix, limit: max(limit, 1), newest: tail.position)
  }

  package func privateValue(_ key: String) throws(SkerryError) -> Bytes? {
    if let published = overlay[key] { return published }
    return try open().privateValue(key)
  }

  package func privateValues(prefix: String) throws(SkerryError) -> [(key: String, value: Bytes)] {
    var found = try open().privateValues(prefix: prefix)
    let pending = overlay.matching(prefix)
    guard !pending.isEmpty else { return found }
    let keys = Set(pending.map(\.key))
    found.removeAll { keys.contains($0.key) }
    found += pending.compactMap { item in item.value.map { (item.key, $0) } }
    return found.sorted { $0.key.utf8.lexicographicallyPrecedes($1.key.utf8) }
  }
}
