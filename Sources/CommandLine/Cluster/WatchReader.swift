import API
import Base

/// Waits for a watch's events, where the cursor itself never waits.
@LoopActor final class WatchReader {
  /// Events that are taken at a time.
  static let batch = 100
  private let cursor: any WatchCursor
  private var waiting: CheckedContinuation<Void, Never>?
  private var isAvailable = true

  init(_ cursor: any WatchCursor) {
    self.cursor = cursor
    cursor.onAvailable = { [weak self] in self?.wake() }
  }

  private func wake() {
    isAvailable = true
    waiting?.resume()
    waiting = nil
  }

  /// At least one event.
  func next() async throws(APIError) -> [WatchEvent] {
    while true {
      isAvailable = false
      let events = try cursor.next(limit: Self.batch)
      if !events.isEmpty { return events }
      if !isAvailable { await withCheckedContinuation { waiting = $0 } }
    }
  }

  func cancel() {
    cursor.cancel()
    wake()
  }
}
