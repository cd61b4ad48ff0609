import Base
import Logging
import Wire

/// What a driver has read and devicecore has not yet confirmed. One batch is under way at a time, numbered, so that
/// it can be sent again after a lost answer and is stored once.
///
/// In memory and bounded: while devicecore is away the oldest go first, counted, and the count becomes an entry of
/// the log.
@LoopActor package final class ReadingOutbox {
  /// Readings that wait; beyond it the oldest are dropped.
  package nonisolated static let maxReadings = 50_000
  package nonisolated static let maxBatch = 500

  package struct Batch: Sendable, Hashable {
    /// Counts this run's batches from 1.
    package var sequence: UInt64
    /// Readings that were dropped before these.
    package var lost: UInt64
    package var readings: [Reading]
  }

  /// Sends a batch; returns when it is stored.
  package typealias Send = @LoopActor (Batch) async throws(CallError) -> Void

  /// Tells this process's batches from those of the one before.
  package let run: Bytes
  private let capacity: Int
  private let logger: Logger
  private var waiting: [Reading] = []
  private var lost: UInt64 = 0
  private var sequence: UInt64 = 0
  private var underWay: Batch?
  private var send: Send?
  private var sending = false
  /// Tells a connection's answers from those of the one before.
  private var connection = 0

  package var waitingGauge = Gauge()
  package var lostCounter = Counter()

  package init(run: Bytes, capacity: Int = ReadingOutbox.maxReadings, logger: Logger) {
    self.run = run
    self.capacity = capacity
    self.logger = logger
  }

  /// Readings that are not confirmed.
  package var count: Int { waiting.count + (underWay?.readings.count ?? 0) }

  package func add(_ readings: [Reading]) {
    guard !readings.isEmpty else { return }
    waiting.append(contentsOf: readings)
    let excess = waiting.count - capacity
    if excess > 0 {
      // In larger steps than one, so that a full buffer does not move all of itself for each reading.
      let drop = min(waiting.count, excess + capacity / 16)
      waiting.removeFirst(drop)
      if lost == 0 { logger.warning(.readingsDropped, "devicecore takes no readings; the oldest are dropped") }
      lost += UInt64(drop)
      lostCounter.add(UInt64(drop))
    }
    waitingGauge.set(Int64(count))
    flush()
  }

  /// There is a connection; what was under way is sent again.
  package func connected(_ send: @escaping Send) {
    connection += 1
    self.send = send
    sending = false
    flush()
  }

  package func disconnected() {
    connection += 1
    send = nil
    sending = false
  }

  private func flush() {
    guard let send, !sending else { return }
    if underWay == nil {
      guard !waiting.isEmpty || lost > 0 else { return }
      sequence += 1
      underWay = Batch(sequence: sequence, lost: lost, readings: Array(waiting.prefix(Self.maxBatch)))
      waiting.removeFirst(min(waiting.count, Self.maxBatch))
      lost = 0
    }
    guard let batch = underWay else { return }
    sending = true
    let connection = connection
    spawn { [self] in
      do throws(CallError) {
        try await send(batch)
        guard connection == self.connection else { return }
        underWay = nil
        sending = false
        waitingGauge.set(Int64(count))
        flush()
      } catch {
        guard connection == self.connection else { return }
        logger.warning(.devicePeerUnreachable, "devicecore did not take a batch, it is kept: \(error)")
        sending = false
        retry?()
      }
    }
  }

  /// Called when a batch was refused while the connection stands: the owner calls `again` after a while.
  package var retry: (@LoopActor () -> Void)?

  /// Tries the batch that was refused again.
  package func again() { flush() }
}
