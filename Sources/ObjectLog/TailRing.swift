import Base

/// The newest entries in memory, oldest first, bounded by number and bytes.
struct TailRing {
  private var slots: [Entry?] = []
  private var head = 0
  /// Slots that were removed before the first of `slots`.
  private var removed = 0
  /// The newest entry of each key that is here, counted from the first slot that ever was.
  private var newest: [String: Int] = [:]
  private var bytes = 0
  private let maxEntries: Int
  private let maxBytes: Int
  /// Every entry after this position is here.
  private(set) var floor: UInt64

  init(floor: UInt64, maxEntries: Int, maxBytes: Int) {
    self.floor = floor
    self.maxEntries = maxEntries
    self.maxBytes = maxBytes
  }

  var count: Int { slots.count - head }

  private static func size(_ entry: Entry) -> Int {
    160 + entry.key.utf8.count + entry.object.size + (entry.previousMeta?.count ?? 0)
  }

  /// Appends entries in order; whole positions fall out at the other end.
  mutating func append(_ entries: [Entry]) {
    for entry in entries {
      if entry.key.isASCII { newest[entry.key] = removed + slots.count }
      slots.append(entry)
      bytes += Self.size(entry)
    }
    while count > 1, count > maxEntries || bytes > maxBytes { dropFirst() }
    // A position is here whole or not at all.
    while let first = slots[safe: head].flatMap({ $0 }), first.position <= floor { dropFirst() }
    shrink()
  }

  /// The last change of a key, if it is here; a key that did not change for long is not.
  func newest(of key: String) -> Entry? {
    key.isASCII ? newest[key].flatMap { slots[$0 - removed] } : nil
  }

  /// Forgets what is at or below a position.
  mutating func drop(through position: UInt64) {
    while let first = slots[safe: head].flatMap({ $0 }), first.position <= position { dropFirst() }
    floor = max(floor, position)
    shrink()
  }

  /// Forgets everything; entries after `position` will follow.
  mutating func reset(floor position: UInt64) {
    slots = []
    newest = [:]
    removed = 0
    head = 0
    bytes = 0
    floor = position
  }

  private mutating func dropFirst() {
    guard let entry = slots[safe: head].flatMap({ $0 }) else { return }
    if newest[entry.key] == removed + head { newest[entry.key] = nil }
    slots[head] = nil
    head += 1
    bytes -= Self.size(entry)
    floor = max(floor, entry.position)
  }

  private mutating func shrink() {
    guard head > 64, head * 2 > slots.count else { return }
    slots.removeFirst(head)
    removed += head
    head = 0
  }

  /// Entries after `position`, which is at or above the floor: see `ObjectLog.entries`.
  func entries(
    after position: UInt64, prefix: String, limit: Int, bytes maxPage: Int, scan: Int, newest: UInt64
  ) -> (entries: [Entry], through: UInt64) {
    var found: [Entry] = []
    var size = 0
    var index = firstIndex(after: position)
    let start = index
    var through = position
    while index < slots.count, let entry = slots[index] {
      // Stop only between positions: `through` promises that a position was seen whole.
      if entry.position != through, found.count >= limit || size >= maxPage || index - start >= scan {
        return (found, through)
      }
      through = entry.position
      if entry.key.utf8.starts(with: prefix.utf8) {
        found.append(entry)
        size += Self.size(entry)
      }
      index += 1
    }
    return (found, newest)
  }

  private func firstIndex(after position: UInt64) -> Int {
    var (low, high) = (head, slots.count)
    while low < high {
      let middle = (low + high) / 2
      if let entry = slots[middle], entry.position <= position { low = middle + 1 } else { high = middle }
    }
    return low
  }
}

extension Array {
  fileprivate subscript(safe index: Int) -> Element? { indices.contains(index) ? self[index] : nil }
}
