import Base
import EventLoop
import Logging
import Store
import Sync
import Wire

/// The cloud's series of device readings: a second SQLite file beside the object log, with the cursor of every readings
/// lane in the transaction that stores its batch. So each reading is there once, whatever was sent again.
@LoopActor package final class ReadingsStore: LaneEffect {
  /// Readings kept; beyond it the oldest go.
  package nonisolated static let maxReadings: Int64 = 50_000_000
  /// Gaps that are remembered over all nodes, the newest; what a node lets go in one run is one gap.
  package nonisolated static let maxGaps: Int64 = 10_000
  /// Rows that one slice of trimming removes, so that writing is never held up for long.
  private nonisolated static let trimSlice = 10_000

  nonisolated static let schema = Schema(
    name: "readings", applicationID: 0x534b_5244,
    migrations: [
      """
      CREATE TABLE names (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
      CREATE TABLE readings (
        number INTEGER PRIMARY KEY AUTOINCREMENT, device INTEGER NOT NULL, property INTEGER NOT NULL,
        type TEXT NOT NULL, value TEXT NOT NULL, quality TEXT NOT NULL, time INTEGER NOT NULL);
      CREATE INDEX by_device ON readings (device, number);
      CREATE TABLE cursors (
        node TEXT NOT NULL, incarnation BLOB NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (node, incarnation)
      ) WITHOUT ROWID;
      CREATE TABLE dropped (number INTEGER PRIMARY KEY AUTOINCREMENT, node TEXT NOT NULL, entry BLOB NOT NULL);
      """,
      // `closed` is null while the incarnation lives, then a number that rises. A gap lies behind reading `place`.
      """
      ALTER TABLE cursors ADD COLUMN closed INTEGER;
      DROP TABLE dropped;
      CREATE TABLE gaps (
        id INTEGER PRIMARY KEY AUTOINCREMENT, place INTEGER NOT NULL, node TEXT NOT NULL, incarnation BLOB NOT NULL,
        first INTEGER NOT NULL, last INTEGER NOT NULL, count INTEGER NOT NULL);
      CREATE INDEX gaps_by_place ON gaps (place);
      CREATE TABLE total (count INTEGER NOT NULL);
      INSERT INTO total SELECT count(*) FROM readings;
      """,
    ])

  /// The writer's side. Confined to `driver` after `init` (the reason for `@unchecked Sendable`).
  private final class Writer: @unchecked Sendable {
    let file: StoreFile
    let insert: Statement
    let move: Statement
    let name: Statement
    let findName: Statement
    let gap: Statement
    let extend: Statement
    var ids: [String: Int64] = [:]
    init(_ file: StoreFile) throws(SkerryError) {
      self.file = file
      let database = file.database
      insert = try database.prepare(
        "INSERT INTO readings (device, property, type, value, quality, time) VALUES (?, ?, ?, ?, ?, ?)")
      move = try database.prepare(
        "INSERT OR REPLACE INTO cursors (node, incarnation, number, closed) VALUES (?, ?, ?, NULL)")
      name = try database.prepare("INSERT OR IGNORE INTO names (name) VALUES (?)")
      findName = try database.prepare("SELECT id FROM names WHERE name = ?")
      gap = try database.prepare(
        "INSERT INTO gaps (place, node, incarnation, first, last, count) VALUES (?, ?, ?, ?, ?, ?)")
      // What goes on where the newest gap ended, with no reading in between, is the same gap.
      extend = try database.prepare(
        """
        UPDATE gaps SET last = ?1, count = count + ?2 WHERE id = (SELECT max(id) FROM gaps)
        AND place = ?3 AND node = ?4 AND incarnation = ?5 AND last + 1 = ?6
        """)
    }

    func id(_ text: String) throws(SkerryError) -> Int64 {
      if let known = ids[text] { return known }
      name.bind(1, text)
      try name.run()
      defer { findName.reset() }
      findName.bind(1, text)
      guard try findName.step() else { throw SkerryError(.corrupt, "the name \(text) was stored and is not there") }
      let id = findName.int(0)
      ids[text] = id
      return id
    }
  }

  private let driver: any SerialDriver
  private let writer: Writer
  private let reader: Database
  private let stored: Counter
  private let refused: Counter
  private let letGo: Counter
  private let logger: Logger
  private let isPlaced: @LoopActor (_ device: String, _ node: String) -> Bool

  /// The newest readings of a batch, after they were stored: for the devices' reported values.
  package var onStored: (([Reading]) -> Void)?

  /// `isPlaced` tells whether a device, as "namespace/name", is on a node: only its node may speak for it.
  /// `vfs` names a registered SQLite VFS, nil is the system's files; `driver` runs the writer, nil starts a thread.
  package init(
    path: String, vfs: String? = nil, isPlaced: @escaping @LoopActor (_ device: String, _ node: String) -> Bool,
    metrics: Metrics, logger: Logger, driver: (any SerialDriver)? = nil
  ) throws(SkerryError) {
    self.isPlaced = isPlaced
    self.logger = logger
    var options = Database.Options.ownThread
    options.vfs = vfs
    let file = try StoreFile(path: path, schema: Self.schema, options: options)
    writer = try Writer(file)
    reader = try file.reader()
    stored = metrics.counter("skerry_readings_stored_total", "Device readings stored.")
    refused = metrics.counter(
      "skerry_readings_refused_total", "Device readings refused: the device is not on the node that sent them.")
    self.driver = driver ?? BlockingThread(name: "readings")
    letGo = metrics.counter(
      "skerry_readings_let_go_total", "Device readings that bounds of nodes let go before they reached the cloud.")
  }

  /// Readings of a node that never came: its bound let them go, or they were lost before they were stored there.
  package struct Gap: Sendable, Hashable {
    /// Rises with time; tells gaps apart.
    package var id: UInt64
    /// The number of the last reading before it.
    package var place: UInt64
    package var node: String
    /// Numbers of the node's store, both included.
    package var from: UInt64
    package var to: UInt64
    package var count: UInt64
    package init(id: UInt64, place: UInt64, node: String, from: UInt64, to: UInt64, count: UInt64) {
      self.id = id
      self.place = place
      self.node = node
      self.from = from
      self.to = to
      self.count = count
    }
  }

  package func cursor(node: String, lane: Lane, incarnation: Incarnation) throws(SkerryError) -> UInt64 {
    let statement = try reader.prepare("SELECT number FROM cursors WHERE node = ? AND incarnation = ?")
    statement.bind(1, node)
    statement.bind(2, incarnation.bytes)
    return try statement.step() ? statement.uint(0) : 0
  }

  package func keepOnly(_ incarnations: [Incarnation], node: String, lane: Lane) {
    let (writer, kept) = (writer, Set(incarnations.map(\.bytes)))
    driver.run {
      // A cursor that could not be closed is closed at the next session.
      try? writer.file.database.write { () throws(SkerryError) in try Self.close(writer, node, except: kept) }
    }
  }

  private nonisolated static func close(_ writer: Writer, _ node: String, except kept: Set<Bytes>) throws(SkerryError) {
    let database = writer.file.database
    let list = try database.prepare("SELECT incarnation FROM cursors WHERE node = ? AND closed IS NULL")
    list.bind(1, node)
    var over: [Bytes] = []
    while try list.step() {
      let incarnation = list.bytes(0)
      if !kept.contains(incarnation) { over.append(incarnation) }
    }
    let close = try database.prepare(
      """
      UPDATE cursors SET closed = (SELECT coalesce(max(closed), 0) + 1 FROM cursors WHERE node = ?1)
      WHERE node = ?1 AND incarnation = ?2
      """)
    for incarnation in over {
      close.bind(1, node)
      close.bind(2, incarnation)
      try close.run()
    }
    let forget = try database.prepare(
      """
      DELETE FROM cursors WHERE node = ?1 AND incarnation IN (SELECT incarnation FROM cursors
      WHERE node = ?1 AND closed IS NOT NULL ORDER BY closed DESC LIMIT -1 OFFSET \(LaneSink.maxClosedCursors))
      """)
    forget.bind(1, node)
    try forget.run()
  }

  package func apply(_ batch: LaneBatch, node: String, lane: Lane) async throws(SkerryError) {
    var readings = batch.readings
    var gaps: [Gap] = []
    for entry in batch.entries {
      if let reading = Reading(try CBOR.decode(entry.payload)) {
        readings.append(reading)
      } else if case .dropped(let from, let to, let count)? = try? LanePayload.decode(entry.payload) {
        gaps.append(Gap(id: 0, place: 0, node: node, from: from, to: to, count: count))
      } else {
        refused.add()
        logger.warning(HubLog.intentRefused, "entry \(entry.number) of the readings of node \(node) is no reading")
      }
    }
    readings = placed(readings, on: node)
    let (writer, driver, list, gone) = (writer, driver, readings, gaps)
    let error = await withCheckedContinuation { (continuation: CheckedContinuation<SkerryError?, Never>) in
      let taken = driver.offer { continuation.resume(returning: Self.commit(writer, list, gone, batch, node)) }
      if !taken { continuation.resume(returning: SkerryError(.closed, "the store of readings is closed")) }
    }
    if let error { throw error }
    stored.add(UInt64(readings.count))
    for gap in gaps {
      letGo.add(gap.count)
      logger.warning(
        HubLog.entriesLetGo,
        "node \(node) let go of \(gap.count) readings (\(gap.from) to \(gap.to)): its bound was reached while it was away"
      )
    }
    onStored?(readings)
  }

  /// The readings of devices that are on the node; the others are counted and take no effect.
  private func placed(_ readings: [Reading], on node: String) -> [Reading] {
    var answers: [String: Bool] = [:]
    let kept = readings.filter { reading in
      if let known = answers[reading.device] { return known }
      let answer = isPlaced(reading.device, node)
      answers[reading.device] = answer
      return answer
    }
    if kept.count < readings.count {
      refused.add(UInt64(readings.count - kept.count))
      let devices = answers.filter { !$0.value }.keys.sorted().prefix(5).joined(separator: ", ")
      logger.warning(
        HubLog.intentRefused,
        "\(readings.count - kept.count) readings of node \(node) were refused: not on that node: \(devices)")
    }
    return kept
  }

  private nonisolated static func commit(
    _ writer: Writer, _ readings: [Reading], _ gaps: [Gap], _ batch: LaneBatch, _ node: String
  ) -> SkerryError? {
    do throws(SkerryError) {
      try writer.file.database.write { () throws(SkerryError) in
        for reading in readings {
          writer.insert.bind(1, try writer.id(reading.device))
          writer.insert.bind(2, try writer.id(reading.property))
          writer.insert.bind(3, reading.type)
          writer.insert.bind(4, reading.value)
          writer.insert.bind(5, reading.quality)
          writer.insert.bind(6, reading.time)
          try writer.insert.run()
        }
        for gap in gaps { try store(writer, gap, batch.incarnation) }
        writer.move.bind(1, node)
        writer.move.bind(2, batch.incarnation.bytes)
        writer.move.bind(3, batch.through)
        try writer.move.run()
        try trim(writer, added: readings.count)
      }
      return nil
    } catch {
      // The transaction took new names back, and their ids may go to other names.
      writer.ids = [:]
      return error
    }
  }

  private nonisolated static func store(_ writer: Writer, _ gap: Gap, _ incarnation: Incarnation) throws(SkerryError) {
    let database = writer.file.database
    let place = try database.int("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'readings'")
    writer.extend.bind(1, gap.to)
    writer.extend.bind(2, gap.count)
    writer.extend.bind(3, place)
    writer.extend.bind(4, gap.node)
    writer.extend.bind(5, incarnation.bytes)
    writer.extend.bind(6, gap.from)
    try writer.extend.run()
    guard try database.int("SELECT changes()") == 0 else { return }
    writer.gap.bind(1, place)
    writer.gap.bind(2, gap.node)
    writer.gap.bind(3, incarnation.bytes)
    writer.gap.bind(4, gap.from)
    writer.gap.bind(5, gap.to)
    writer.gap.bind(6, gap.count)
    try writer.gap.run()
    try database.execute("DELETE FROM gaps WHERE id <= (SELECT max(id) FROM gaps) - \(maxGaps)")
  }

  /// Numbers are no count of what is there: they go on further up after a restore.
  private nonisolated static func trim(_ writer: Writer, added: Int) throws(SkerryError) {
    let database = writer.file.database
    if added > 0 { try database.execute("UPDATE total SET count = count + \(added)") }
    let excess = try database.int("SELECT count FROM total") - maxReadings
    guard excess > 0 else { return }
    try database.execute(
      """
      DELETE FROM readings WHERE number IN
        (SELECT number FROM readings ORDER BY number LIMIT \(min(excess, Int64(trimSlice))));
      UPDATE total SET count = count - changes();
      """)
  }

  /// A page of a device's series, oldest first, strictly after number `after`; without `after` the newest `limit`.
  package func page(device: String, property: String?, after: UInt64?, limit: Int) throws(SkerryError) -> [Reading] {
    let filter = property == nil ? "" : " AND p.name = ?3"
    let order = after == nil ? "DESC" : "ASC"
    let statement = try reader.prepare(
      """
      SELECT r.number, p.name, r.type, r.value, r.quality, r.time FROM readings r
      JOIN names d ON d.id = r.device JOIN names p ON p.id = r.property
      WHERE d.name = ?1 AND r.number > ?2\(filter) ORDER BY r.number \(order) LIMIT \(max(0, limit))
      """)
    statement.bind(1, device)
    statement.bind(2, after ?? 0)
    if let property { statement.bind(3, property) }
    var page: [Reading] = []
    while try statement.step() {
      page.append(
        Reading(
          number: statement.uint(0), device: device, property: statement.string(1), type: statement.string(2),
          value: statement.string(3), quality: statement.string(4), time: statement.int(5)))
    }
    return after == nil ? page.reversed() : page
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

  /// The gaps of a device's node; see `gaps(after:through:isShown:)`.
  package func gaps(device: String, after: UInt64, through: UInt64) throws(SkerryError) -> [Gap] {
    try gaps(after: after, through: through) { isPlaced(device, $0) }
  }

  package func close() {
    driver.stop()
    do throws(SkerryError) { try writer.file.close() } catch {
      // The file is whole all the same; the next start checks it, as after a kill.
    }
  }
}
