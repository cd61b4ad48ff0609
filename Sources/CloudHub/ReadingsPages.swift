import Base
import Store
import Sync

/// Looking into the series of readings.
extension ReadingsStore {
  /// A page of a device's series, oldest first, strictly after number `after`; without `after` the newest `limit`.
  package func page(device: String, property: String?, after: UInt64?, limit: Int) throws(SkerryError) -> [Reading] {
    let query = PageQuery(device: device, property: property, after: after, limit: max(0, limit))
    if after != nil {
      let old = try rows(query, limit: query.limit)
      return old + (try packed(query, limit: query.limit - old.count))
    }
    let new = try packed(query, limit: query.limit)
    return (try rows(query, limit: query.limit - new.count)) + new
  }

  private struct PageQuery {
    var device: String
    var property: String?
    var after: UInt64?
    var limit: Int
    var order: String { after == nil ? "DESC" : "ASC" }
  }

  /// Readings of the time before blocks, oldest first; all of them lie before all that are packed.
  private func rows(_ query: PageQuery, limit: Int) throws(SkerryError) -> [Reading] {
    guard limit > 0 else { return [] }
    let filter = query.property == nil ? "" : " AND p.name = ?3"
    let statement = try reader.prepare(
      """
      SELECT r.number, p.name, r.type, r.value, r.quality, r.time FROM readings r
      JOIN names d ON d.id = r.device JOIN names p ON p.id = r.property
      WHERE d.name = ?1 AND r.number > ?2\(filter) ORDER BY r.number \(query.order) LIMIT \(limit)
      """)
    statement.bind(1, query.device)
    statement.bind(2, query.after ?? 0)
    if let property = query.property { statement.bind(3, property) }
    var page: [Reading] = []
    while try statement.step() {
      page.append(
        Reading(
          number: statement.uint(0), device: query.device, property: statement.string(1), type: statement.string(2),
          value: statement.string(3), quality: statement.string(4), time: statement.int(5)))
    }
    return query.after == nil ? page.reversed() : page
  }

  /// Readings that lie packed, oldest first.
  private func packed(_ query: PageQuery, limit: Int) throws(SkerryError) -> [Reading] {
    guard limit > 0 else { return [] }
    let series = try series(query)
    guard !series.isEmpty else { return [] }
    // The block that `after` itself lies in begins before it.
    let statement = try reader.prepare(
      """
      SELECT b.first, b.series, b.data FROM names n
      JOIN blocks_by_device i ON i.device = n.id JOIN blocks b ON b.first = i.first
      WHERE n.name = ?1 AND i.first >= coalesce(
        (SELECT max(first) FROM blocks_by_device WHERE device = n.id AND first <= ?2), 0)
      ORDER BY i.first \(query.order)
      """)
    defer { statement.reset() }
    statement.bind(1, query.device)
    statement.bind(2, min(query.after ?? 0, UInt64(Int64.max)))
    var page: [Reading] = []
    while page.count < limit, try statement.step() {
      let first = statement.uint(0)
      let columns = try columns(statement, first)
      let names = try StoredSeries.decode(statement.bytes(1)).map { series[$0] }
      guard names.count == columns.series.count else { throw damaged(first) }
      var found: [Reading] = []
      for (index, row) in columns.rows.enumerated() {
        let number = first + UInt64(index)
        guard number > query.after ?? 0, let name = names[columns.places[index]] else { continue }
        found.append(Reading(number: number, name, row))
      }
      page += query.after == nil ? found.reversed() : found
    }
    page.removeLast(max(0, page.count - limit))
    return query.after == nil ? page.reversed() : page
  }

  /// The series of the device that are asked for, by their ids.
  private func series(_ query: PageQuery) throws(SkerryError) -> [Int64: SeriesName] {
    let filter = query.property == nil ? "" : " AND p.name = ?2"
    let statement = try reader.prepare(
      """
      SELECT s.id, p.name, s.type FROM names d JOIN series s ON s.device = d.id JOIN names p ON p.id = s.property
      WHERE d.name = ?1\(filter)
      """)
    statement.bind(1, query.device)
    if let property = query.property { statement.bind(2, property) }
    var series: [Int64: SeriesName] = [:]
    while try statement.step() {
      series[statement.int(0)] = SeriesName(
        series: 0, device: query.device, property: statement.string(1), type: statement.string(2))
    }
    return series
  }

  private func columns(_ statement: Statement, _ first: UInt64) throws(SkerryError) -> BlockColumns {
    do throws(SkerryError) { return try ReadingBlock.columns(statement.bytes(2)) } catch {
      throw damaged(first, cause: error)
    }
  }

  private func damaged(_ first: UInt64, cause: SkerryError? = nil) -> SkerryError {
    SkerryError(
      .corrupt, "the block of readings from number \(first) on cannot be read: stop cloudcore and restore a backup",
      cause: cause)
  }

  /// The gaps that lie behind reading `after` and not behind `through`, oldest first; `isShown` tells which nodes'.
  package func gaps(after: UInt64, through: UInt64, isShown: (_ node: String) -> Bool) throws(SkerryError) -> [Gap] {
    let statement = try reader.prepare(
      "SELECT id, place, node, first, last, count FROM gaps WHERE place >= ? AND place < ? ORDER BY id")
    statement.bind(1, after)
    statement.bind(2, min(through, UInt64(Int64.max)))
    var found: [Gap] = []
    while try statement.step() {
      let gap = Gap(
        id: statement.uint(0), place: statement.uint(1), node: statement.string(2), from: statement.uint(3),
        to: statement.uint(4), count: statement.uint(5))
      if isShown(gap.node) { found.append(gap) }
    }
    return found
  }
}
