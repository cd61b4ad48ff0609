import Base

/// What the writer wrote last under each key, so that who writes a key again and again does not have the row read, checked
/// and decoded each time: that was a third of the writer's work.
///
/// Two generations: when the younger one is full it becomes the older, whose keys are forgotten unless they were written
/// since. The values are the ones that the log's tail holds as well, so they are rarely in memory for this alone.
struct NewestRows {
  private var young: [String: LogTables.Current] = [:]
  private var old: [String: LogTables.Current] = [:]
  private var bytes: UInt64 = 0
  private let maxEntries: Int
  private let maxBytes: UInt64

  /// Of one generation.
  init(maxEntries: Int, maxBytes: Int) {
    self.maxEntries = maxEntries
    self.maxBytes = UInt64(maxBytes)
  }

  subscript(key: String) -> LogTables.Current? { key.isASCII ? young[key] ?? old[key] : nil }

  mutating func note(_ key: String, _ row: LogTables.Current) {
    guard key.isASCII else { return }
    if young.count >= maxEntries || bytes >= maxBytes {
      (old, young, bytes) = (young, [:], 0)
      young.reserveCapacity(old.count)
    }
    if let before = young.updateValue(row, forKey: key) { bytes -= before.size }
    bytes += row.size
  }

  mutating func forget(_ key: String) {
    if let gone = young.removeValue(forKey: key) { bytes -= gone.size }
    old[key] = nil
  }

  mutating func forgetAll() { (young, old, bytes) = ([:], [:], 0) }
}
