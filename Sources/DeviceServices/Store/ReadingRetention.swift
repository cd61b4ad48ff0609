import Base
import Store

extension ReadingLog {
  /// Moves the export's durable cursor: the cloud has everything of `incarnation` through `number`, and of all
  /// incarnations before it. A cursor never goes back; an unknown incarnation is one that is done with.
  package func acknowledge(incarnation: Bytes, through number: UInt64) throws(SkerryError) {
    guard let row = try rows().first(where: { $0.uid == incarnation }) else { return }
    guard number <= row.last else {
      throw SkerryError(
        .invalidArgument,
        "number \(number) was acknowledged, but incarnation \(incarnation.hex) ends at \(row.last)")
    }
    try database.write { () throws(SkerryError) in
      let move = try database.prepare("UPDATE incarnation SET exported = max(exported, ?2) WHERE id = ?1")
      move.bind(1, row.id)
      move.bind(2, number)
      try move.run()
      try database.execute("UPDATE incarnation SET exported = last WHERE id < \(row.id)")
      let drop = try database.prepare("DELETE FROM loss WHERE incarnation < ?1 OR (incarnation = ?1 AND high <= ?2)")
      drop.bind(1, row.id)
      drop.bind(2, number)
      try drop.run()
    }
  }

  /// Entries that are not exported yet.
  package func backlog() throws(SkerryError) -> Int64 {
    try database.int("SELECT coalesce(sum(last - max(exported, deleted)), 0) FROM incarnation WHERE last > exported")
  }

  /// Bytes that all entries count for.
  package func bytes() throws(SkerryError) -> Int64 { try database.int("SELECT bytes FROM total") }

  /// Drops what the bounds no longer allow, oldest first, a step's worth. True when there may be more to drop.
  /// `now` is the wall clock in milliseconds.
  package func retain(now: Int64) throws(SkerryError) -> Bool {
    var excess = try bytes() - limits.maxBytes
    for row in try rows() {
      let old = try expired(row, now: now, excess: excess)
      if old.blocks > 0 { try drop(row, old) }
      excess -= old.size
      if old.blocks >= ReadingLimits.blocksPerStep { return true }
      if old.stays { break }
    }
    try trimAudit()
    return false
  }

  /// How far the oldest blocks of an incarnation are to go.
  private struct Expired {
    var through: UInt64 = 0
    var blocks = 0
    var size: Int64 = 0
    /// Readings among them that the cloud does not have.
    var lost: UInt64 = 0
    /// A block was met that stays, and so do all that are newer.
    var stays = false
  }

  private func expired(_ row: IncarnationRow, now: Int64, excess: Int64) throws(SkerryError) -> Expired {
    let select = try database.prepare(
      "SELECT key, rows, newest, length(data) FROM block WHERE key BETWEEN ?1 AND ?2 ORDER BY key LIMIT ?3")
    select.bind(1, BlockKey.make(row.id, 0))
    select.bind(2, BlockKey.make(row.id, BlockKey.maxNumber))
    select.bind(3, Int64(ReadingLimits.blocksPerStep))
    defer { select.reset() }
    var result = Expired()
    let low = max(row.exported, row.deleted) + 1
    while try select.step() {
      let first = BlockKey.number(select.int(0))
      let (last, time) = (first + select.uint(1) - 1, select.int(2))
      let isExported = last <= row.exported
      let bound = isExported ? limits.keepExported : limits.maxAge
      // A reading from before this program was made was taken under a wrong clock: its age is not known, and only the
      // bound on bytes may take it from the cloud.
      let released = Version.released.seconds * 1000
      let isOld = time < now - bound.milliseconds && (isExported || time >= released || now < released)
      guard result.size < excess || isOld else {
        result.stays = true
        break
      }
      result.through = last
      result.blocks += 1
      result.size += select.int(3) + ReadingLimits.bytesPerBlock
      if last >= low { result.lost += last - max(first, low) + 1 }
    }
    return result
  }

  /// Deletes an incarnation's blocks through a number. What the cloud does not have leaves a loss in its place.
  private func drop(_ row: IncarnationRow, _ old: Expired) throws(SkerryError) {
    let through = old.through
    forgetTail(through: through, of: row.id)
    try database.write { () throws(SkerryError) in
      var low = max(row.exported, row.deleted) + 1
      if through >= low {
        var count = old.lost
        // Losses inside the range and the one that ends just before it become one with it.
        let reach = low - 1
        count += UInt64(
          try scalar(
            "SELECT coalesce(sum(count), 0) FROM loss WHERE incarnation = ?1 AND high >= ?2 AND low <= ?3", row.id,
            reach, through))
        let first = try scalar(
          "SELECT coalesce(min(low), ?2 + 1) FROM loss WHERE incarnation = ?1 AND high >= ?2 AND low <= ?3", row.id,
          reach, through)
        low = min(low, UInt64(first))
        let merge = try database.prepare("DELETE FROM loss WHERE incarnation = ?1 AND high >= ?2 AND low <= ?3")
        merge.bind(1, row.id)
        merge.bind(2, reach)
        merge.bind(3, through)
        try merge.run()
        let insert = try database.prepare("INSERT INTO loss VALUES (?1, ?2, ?3, ?4)")
        insert.bind(1, row.id)
        insert.bind(2, low)
        insert.bind(3, through)
        insert.bind(4, count)
        try insert.run()
      }
      let delete = try database.prepare("DELETE FROM block WHERE key BETWEEN ?1 AND ?2")
      delete.bind(1, BlockKey.make(row.id, 0))
      delete.bind(2, BlockKey.make(row.id, through))
      try delete.run()
      let note = try database.prepare("UPDATE incarnation SET deleted = max(deleted, ?2) WHERE id = ?1")
      note.bind(1, row.id)
      note.bind(2, through)
      try note.run()
      try database.execute("UPDATE total SET bytes = max(0, bytes - \(old.size))")
    }
  }

  private func scalar(_ sql: String, _ row: Int64, _ low: UInt64, _ high: UInt64) throws(SkerryError) -> Int64 {
    let select = try database.prepare(sql)
    select.bind(1, row)
    select.bind(2, low)
    select.bind(3, high)
    defer { select.reset() }
    return try select.step() ? select.int(0) : 0
  }

  private func trimAudit() throws(SkerryError) {
    try database.execute(
      """
      DELETE FROM audit WHERE state <> 'Running'
        AND id <= (SELECT coalesce(max(id), 0) FROM audit) - \(limits.maxAudit)
      """)
  }

  /// Copies the write-ahead log into the file, as far as nobody is in the way.
  package func checkpoint() throws(SkerryError) { try database.checkpoint(.passive) }
}
