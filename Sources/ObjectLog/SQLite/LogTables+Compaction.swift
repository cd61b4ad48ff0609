import Base
import Store

extension LogTables {
  /// True while history at or below the compacted position is still on disk.
  var hasSweepingToDo: Bool { state.swept < sweepEnd }

  /// Rows up to here (the first listable position included) may free what they replaced.
  private var sweepEnd: UInt64 { state.compacted == 0 ? 0 : Place.end(of: state.compacted + 1).raw }

  /// Deletes a slice of what nobody can reach any more, in a transaction of its own.
  ///
  /// It walks the history once, in order: a row at or below the first listable position means that the version it
  /// replaced can go, and if it is a tombstone, that it can go itself.
  func sweep(rows: Int) throws(SkerryError) {
    let end = sweepEnd
    try write { () throws(SkerryError) in
      let found = try sweepable(after: state.swept, through: end, limit: rows)
      let size = try database.prepare(Self.sizeOfRow)
      let remove = try database.prepare("DELETE FROM history WHERE place = ?1")
      let forget = try database.prepare("DELETE FROM current WHERE key = ?1 AND place = ?2")
      for row in found {
        if let previous = row.previous { try free(previous, size, remove) }
        guard row.type == .deleted else { continue }
        try free(row.place, size, remove)
        forget.bind(1, row.key)
        forget.bind(2, row.place.raw)
        try forget.run()
        self.forget(row.key)
      }
      state.swept = found.count < rows ? end : found.last?.place.raw ?? end
    }
  }

  private static let sizeOfRow = "SELECT \(HistoryRow.size(of: "h")) FROM history h WHERE h.place = ?1"

  private func free(_ place: Place, _ size: Statement, _ remove: Statement) throws(SkerryError) {
    size.bind(1, place.raw)
    guard try size.step() else { return }
    let bytes = size.uint(0)
    size.reset()
    remove.bind(1, place.raw)
    try remove.run()
    state.retained -= min(state.retained, bytes)
  }

  private func sweepable(
    after: UInt64, through: UInt64, limit: Int
  ) throws(SkerryError) -> [(place: Place, key: String, type: EntryType?, previous: Place?)] {
    let statement = try database.prepare(
      "SELECT place, key, type, previous FROM history WHERE place > ?1 AND place <= ?2 ORDER BY place LIMIT ?3")
    statement.bind(1, after)
    statement.bind(2, through)
    statement.bind(3, Int64(limit))
    var found: [(place: Place, key: String, type: EntryType?, previous: Place?)] = []
    while try statement.step() {
      found.append(
        (
          Place(raw: statement.uint(0)), statement.string(1),
          EntryType(rawValue: UInt8(truncatingIfNeeded: statement.int(2))),
          statement.place(3)
        ))
    }
    return found
  }
}
