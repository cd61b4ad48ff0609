import Base

/// Watches of one resource in the order in which they began. That is also about the order in which their sessions lie
/// in memory, here and in the kernel: a publication walks thousands of them.
@LoopActor final class WatchList {
  private var watches: [LogWatch?] = []
  /// Those that did not end.
  private(set) var live = 0
  private var walks = 0

  /// Numbers rise.
  func append(_ watch: LogWatch) {
    watches.append(watch)
    live += 1
  }

  /// False if it is not here.
  func remove(_ watch: LogWatch) -> Bool {
    guard let index = index(of: watch) else { return false }
    watches[index] = nil
    live -= 1
    tidy()
    return true
  }

  /// Calls `body` with each; those that end or begin meanwhile may or may not be among them.
  func forEach(_ body: (LogWatch) -> Void) {
    walks += 1
    for index in 0..<watches.count {
      // Two steps ahead the watch itself is fetched, one step ahead what it leads to.
      if index + 2 < watches.count { fetch(index + 2) }
      if index + 1 < watches.count { watches[index + 1]?.approach() }
      if let watch = watches[index] { body(watch) }
    }
    walks -= 1
    tidy()
  }

  /// Fetches a watch without touching it, as counting a reference would.
  private func fetch(_ index: Int) {
    let address = watches.withUnsafeBytes { slots in
      slots.load(fromByteOffset: index * MemoryLayout<LogWatch?>.stride, as: UInt.self)
    }
    WorkingSet.fetch(UnsafeRawPointer(bitPattern: address), bytes: LogWatch.bytes)
  }

  private func tidy() {
    if walks == 0, watches.count > 16, live * 2 < watches.count { watches.removeAll { $0 == nil } }
  }

  /// Searches among the numbers; gaps are passed over to the left.
  private func index(of watch: LogWatch) -> Int? {
    var (low, high) = (0, watches.count)
    while low < high {
      let middle = (low + high) / 2
      var probe = middle
      while probe > low, watches[probe] == nil { probe -= 1 }
      guard let found = watches[probe] else {
        low = middle + 1
        continue
      }
      if found === watch { return probe }
      if found.number < watch.number { low = middle + 1 } else { high = probe }
    }
    return nil
  }
}
