import Base
import EventLoop
import Logging
import Store
import Sync
import Wire

/// The cloud's series of device readings: a second SQLite file beside the object log, with the cursor of every readings
/// lane in the transaction that stores its batch. So each reading is there once, whatever was sent again.
///
/// Readings lie packed as they came, a block a row, and are found by their device; a reading costs a few bytes and, as
/// long as nobody reads it, next to no work.
@LoopActor package final class ReadingsStore: LaneEffect {
  /// Readings kept; beyond it the oldest blocks go.
  package nonisolated static let maxReadings: Int64 = 50_000_000
  /// Gaps that are remembered over all nodes, the newest; what a node lets go in one run is one gap.
  package nonisolated static let maxGaps: Int64 = 10_000
  /// Bytes of the texts of readings that came one by one and are packed here into one block.
  private nonisolated static let maxTexts = ReadingBlock.maxTexts / 4

  private let writer: ReadingsWriter
  let reader: Database
  private let stored: Counter
  private let refused: Counter
  private let letGo: Counter
  private let logger: Logger
  private let isPlaced: @LoopActor (_ device: String, _ node: String) -> Bool

  /// The newest good reading of each series of a batch, after it was stored: for the devices' reported values.
  package var onStored: (([Reading]) -> Void)?

  /// `isPlaced` tells whether a device, as "namespace/name", is on a node: only its node may speak for it.
  /// `vfs` names a registered SQLite VFS, nil is the system's files; `driver` runs the writer, nil starts a thread.
  package init(
    path: String, vfs: String? = nil, maxReadings: Int64 = ReadingsStore.maxReadings,
    isPlaced: @escaping @LoopActor (_ device: String, _ node: String) -> Bool, metrics: Metrics, logger: Logger,
    driver: (any SerialDriver)? = nil
  ) throws(SkerryError) {
    self.isPlaced = isPlaced
    self.logger = logger
    var options = Database.Options.ownThread
    options.vfs = vfs
    let file = try StoreFile(path: path, schema: Self.schema, options: options)
    reader = try file.reader()
    writer = try ReadingsWriter(file, maxKept: maxReadings, driver: driver ?? BlockingThread(name: "readings"))
    stored = metrics.counter("skerry_readings_stored_total", "Device readings stored.")
    refused = metrics.counter(
      "skerry_readings_refused_total", "Device readings refused: the device is not on the node that sent them.")
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
    // A cursor that could not be closed is closed at the next session.
    writer.submit(ReadingsJob(node: node, work: .keepOnly(Set(incarnations.map(\.bytes)))) { _ in })
  }

  package func apply(_ batch: LaneBatch, node: String, lane: Lane) async throws(SkerryError) {
    var (singles, gaps): ([Reading], [Gap]) = ([], [])
    for entry in batch.entries {
      if let reading = Reading(try CBOR.decode(entry.payload)), reading.isBounded {
        singles.append(reading)
      } else if case .dropped(let from, let to, let count)? = try? LanePayload.decode(entry.payload) {
        gaps.append(Gap(id: 0, place: 0, node: node, from: from, to: to, count: count))
      } else {
        refused.add()
        logger.warning(HubLog.intentRefused, "entry \(entry.number) of the readings of node \(node) is no reading")
      }
    }
    var blocks: [ReadingBatch] = []
    for came in try Self.packed(singles) + (batch.packed.map { [$0] } ?? []) {
      if let block = try placed(came, on: node) { blocks.append(block) }
    }
    let work = ReadingsJob.Work.store(
      blocks: blocks, gaps: gaps, incarnation: batch.incarnation, through: batch.through)
    let writer = writer
    let error = await withCheckedContinuation { (continuation: CheckedContinuation<SkerryError?, Never>) in
      writer.submit(ReadingsJob(node: node, work: work) { continuation.resume(returning: $0) })
    }
    if let error { throw error }
    stored.add(UInt64(blocks.reduce(0) { $0 + $1.count }))
    for gap in gaps {
      letGo.add(gap.count)
      logger.warning(
        HubLog.entriesLetGo,
        "node \(node) let go of \(gap.count) readings (\(gap.from) to \(gap.to)): its bound was reached while it was away"
      )
    }
    for block in blocks { onStored?(block.newest()) }
  }

  /// Readings that came one by one, in blocks.
  private static func packed(_ readings: [Reading]) throws(SkerryError) -> [ReadingBatch] {
    var (blocks, open, texts): ([ReadingBatch], [Reading], Int) = ([], [], 0)
    for reading in readings {
      if open.count == ReadingBlock.maxRows || texts > maxTexts {
        blocks.append(try ReadingBatch(open))
        (open, texts) = ([], 0)
      }
      open.append(reading)
      texts += reading.value.utf8.count + reading.quality.utf8.count
    }
    if !open.isEmpty { blocks.append(try ReadingBatch(open)) }
    return blocks
  }

  /// The readings of devices that are on the node; the others are counted and take no effect.
  private func placed(_ batch: ReadingBatch, on node: String) throws(SkerryError) -> ReadingBatch? {
    var answers: [String: Bool] = [:]
    var strange: Set<Int> = []
    for (place, name) in batch.names.enumerated() {
      let answer = answers[name.device] ?? isPlaced(name.device, node)
      answers[name.device] = answer
      if !answer { strange.insert(place) }
    }
    guard !strange.isEmpty else { return batch.count > 0 ? batch : nil }
    let kept = try batch.without(strange)
    let count = batch.count - (kept?.count ?? 0)
    refused.add(UInt64(count))
    let devices = answers.filter { !$0.value }.keys.sorted().prefix(5).joined(separator: ", ")
    logger.warning(
      HubLog.intentRefused, "\(count) readings of node \(node) were refused: not on that node: \(devices)")
    return kept
  }

  /// The gaps of a device's node; see `gaps(after:through:isShown:)`.
  package func gaps(device: String, after: UInt64, through: UInt64) throws(SkerryError) -> [Gap] {
    try gaps(after: after, through: through) { isPlaced(device, $0) }
  }

  package func close() { writer.close() }
}

extension Reading {
  /// Whether its texts fit into a block.
  fileprivate var isBounded: Bool { max(value.utf8.count, quality.utf8.count) <= ReadingBlock.maxText }
}
