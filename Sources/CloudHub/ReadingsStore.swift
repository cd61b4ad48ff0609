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
  /// Rows that one slice of trimming removes, so that writing is never held up for long.
  private nonisolated static let trimSlice = 10_000

  private static let schema = Schema(
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
      """
    ])

  /// The writer's side. Confined to `driver` after `init` (the reason for `@unchecked Sendable`).
  private final class Writer: @unchecked Sendable {
    let file: StoreFile
    let insert: Statement
    let move: Statement
    let name: Statement
    let findName: Statement
    let drop: Statement
    var ids: [String: Int64] = [:]
    init(_ file: StoreFile) throws(SkerryError) {
      self.file = file
      let database = file.database
      insert = try database.prepare(
        "INSERT INTO readings (device, property, type, value, quality, time) VALUES (?, ?, ?, ?, ?, ?)")
      move = try database.prepare("INSERT OR REPLACE INTO cursors (node, incarnation, number) VALUES (?, ?, ?)")
      name = try database.prepare("INSERT OR IGNORE INTO names (name) VALUES (?)")
      findName = try database.prepare("SELECT id FROM names WHERE name = ?")
      drop = try database.prepare("INSERT INTO dropped (node, entry) VALUES (?, ?)")
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
    let file = try StoreFile(path: path, schema: Self.schema, options: Database.Options(vfs: vfs))
    writer = try Writer(file)
    reader = try file.reader()
    stored = metrics.counter("skerry_readings_stored_total", "Device readings stored.")
    refused = metrics.counter(
      "skerry_readings_refused_total", "Device readings refused: the device is not on the node that sent them.")
    self.driver = driver ?? BlockingThread(name: "readings")
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
      try? writer.file.database.write { () throws(SkerryError) in
        let list = try writer.file.database.prepare("SELECT incarnation FROM cursors WHERE node = ?")
        list.bind(1, node)
        var over: [Bytes] = []
        while try list.step() {
          let incarnation = list.bytes(0)
          if !kept.contains(incarnation) { over.append(incarnation) }
        }
        let close = try writer.file.database.prepare("DELETE FROM cursors WHERE node = ? AND incarnation = ?")
        for incarnation in over {
          close.bind(1, node)
          close.bind(2, incarnation)
          try close.run()
        }
      }
    }
  }

  package func apply(_ batch: LaneBatch, node: String, lane: Lane) async throws(SkerryError) {
    var readings: [Reading] = []
    var dropped: [Bytes] = []
    for entry in batch.entries {
      let value = try CBOR.decode(entry.payload)
      if let reading = Reading(value) { readings.append(reading) } else { dropped.append(entry.payload) }
    }
    readings = placed(readings, on: node)
    let (writer, driver, list, gone) = (writer, driver, readings, dropped)
    let error = await withCheckedContinuation { (continuation: CheckedContinuation<SkerryError?, Never>) in
      driver.run { continuation.resume(returning: Self.commit(writer, list, gone, batch, node)) }
    }
    if let error { throw error }
    stored.add(UInt64(readings.count))
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
    _ writer: Writer, _ readings: [Reading], _ dropped: [Bytes], _ batch: LaneBatch, _ node: String
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
        for entry in dropped {
          writer.drop.bind(1, node)
          writer.drop.bind(2, entry)
          try writer.drop.run()
        }
        writer.move.bind(1, node)
        writer.move.bind(2, batch.incarnation.bytes)
        writer.move.bind(3, batch.through)
        try writer.move.run()
        try trim(writer)
      }
      return nil
    } catch {
      return error
    }
  }

  private nonisolated static func trim(_ writer: Writer) throws(SkerryError) {
    let last = try writer.file.database.int("SELECT coalesce(max(number), 0) FROM readings")
    guard last > maxReadings else { return }
    try writer.file.database.execute(
      "DELETE FROM readings WHERE number IN (SELECT number FROM readings WHERE number <= \(last - maxReadings) LIMIT \(trimSlice))"
    )
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

  package func close() {
    driver.stop()
    do throws(SkerryError) { try writer.file.close() } catch {
      // The file is whole all the same; the next start checks it, as after a kill.
    }
  }
}
