import Base

/// What one object means for slices, as its kind declares it.
package struct SliceFacts: Sendable, Hashable {
  /// The node that the object is placed on (a Pod's or Device's `spec.nodeName`, a Node's own name); nil for objects
  /// that nodes see only because something placed there refers to them.
  package var node: String?
  /// Log keys of what it refers to: a Pod's ConfigMaps and Secrets, a Device's model.
  package var references: [String]
  package init(node: String?, references: [String]) {
    self.node = node
    self.references = references
  }
}

/// How one entry of the cloud's log changes one node's slice.
package struct SliceChange: Sendable, Hashable {
  package enum Effect: UInt8, Sendable {
    /// The node may see the object from here on; it is sent with its own, perhaps older, revision.
    case enters
    case changed
    /// Deleted, or no longer the node's business.
    case leaves
  }
  package let position: UInt64
  package let key: String
  package let effect: Effect
  package init(position: UInt64, key: String, effect: Effect) {
    self.position = position
    self.key = key
    self.effect = effect
  }
}

/// The index (node, position, key, enters | changed | leaves) over the cloud's log.
///
/// Invariants:
/// - `reasons[node][key]` counts why a node may see a key: 1 for being placed there, and 1 for each placed object
///   that refers to it. A key with no reason is absent.
/// - `present` holds exactly the keys that exist in the log and that some node has a reason for; a reference to an
///   object that does not exist yet is a reason without presence, and the object enters when it is created.
/// - A journal's positions never fall, and every change of that node after `floor` is in it.
///
/// An entry that concerns one node costs the same with ten nodes and with ten thousand.
package struct SliceIndex: Sendable {
  /// Journal items kept over all nodes; beyond it the oldest go and `floor` rises, so that a node that was away for
  /// longer compares its inventory instead of reading history.
  package static let defaultJournalLimit = 200_000

  private var placed: [String: SliceFacts] = [:]
  private var reasons: [String: [String: Int]] = [:]
  private var watchers: [String: Set<String>] = [:]
  private var present: Set<String> = []
  private var journals: [String: Journal] = [:]
  private var order: [String] = []
  private var orderHead = 0
  private let journalLimit: Int

  /// Changes at or before this position are not all known any more.
  package private(set) var floor: UInt64
  /// Everything up to here was taken in.
  package private(set) var position: UInt64

  private struct Journal: Sendable {
    var items: [SliceChange] = []
    var head = 0
  }

  /// An index that knows nothing before `position`; feed it the objects at that position by `seed`.
  package init(at position: UInt64, journalLimit: Int = SliceIndex.defaultJournalLimit) {
    floor = position
    self.position = position
    self.journalLimit = journalLimit
  }

  /// Takes in an object as it stands at the starting position, without journal items.
  package mutating func seed(key: String, facts: SliceFacts) {
    _ = place(key: key, facts: facts)
    if watchers[key] != nil { present.insert(key) }
  }

  /// Ends seeding: `exists` tells whether a referenced key is in the log.
  package mutating func finishSeeding(exists: (String) -> Bool) {
    for key in watchers.keys where exists(key) { present.insert(key) }
  }

  /// Takes in one entry of the log; answers the nodes whose slices it changed.
  package mutating func apply(
    position: UInt64, key: String, deleted: Bool, facts: SliceFacts, exists: (String) -> Bool
  ) -> Set<String> {
    precondition(position >= self.position, "the log's positions only rise")
    self.position = position
    var changes: [(node: String, key: String, effect: SliceChange.Effect)] = []
    let hadBefore = watchers[key] ?? []
    let wasPresent = present.contains(key)
    if deleted {
      for (node, other) in unplace(key: key) where other != key && present.contains(other) {
        changes.append((node, other, .leaves))
      }
      if wasPresent { for node in hadBefore { changes.append((node, key, .leaves)) } }
      present.remove(key)
    } else {
      let (entered, left) = place(key: key, facts: facts)
      for (node, other) in left where other != key && present.contains(other) { changes.append((node, other, .leaves)) }
      for (node, other) in entered where other != key && (present.contains(other) || exists(other)) {
        present.insert(other)
        changes.append((node, other, .enters))
      }
      let hasNow = watchers[key] ?? []
      if !hasNow.isEmpty { present.insert(key) }
      for node in hadBefore.subtracting(hasNow) where wasPresent { changes.append((node, key, .leaves)) }
      for node in hasNow { changes.append((node, key, hadBefore.contains(node) && wasPresent ? .changed : .enters)) }
    }
    forgetUnseen(key)
    record(changes)
    return Set(changes.map(\.node))
  }

  /// Takes in a change of an object that is there already, which leaves its facts as they are; answers the nodes that
  /// see it.
  package mutating func change(position: UInt64, key: String) -> Set<String> {
    precondition(position >= self.position, "the log's positions only rise")
    self.position = position
    guard let nodes = watchers[key] else { return [] }
    let effect: SliceChange.Effect = present.insert(key).inserted ? .enters : .changed
    record(nodes.map { (node: $0, key: key, effect: effect) })
    return nodes
  }

  /// An entry of the log that changes no slice: the index only moves on.
  package mutating func pass(position: UInt64) { self.position = max(self.position, position) }

  /// The keys that a node may see now, sorted.
  package func keys(of node: String) -> [String] {
    (reasons[node] ?? [:]).keys.filter { present.contains($0) }.sorted()
  }

  package func contains(node: String, key: String) -> Bool {
    present.contains(key) && reasons[node]?[key] != nil
  }

  /// Whether the node has a reason to see the key, be it there or not.
  package func mayRead(node: String, key: String) -> Bool { reasons[node]?[key] != nil }

  /// The node's changes after `after`, at most `limit` but whole positions; and the position through which they are
  /// complete. Nil when the journal does not reach back so far.
  package func changes(of node: String, after: UInt64, limit: Int) -> (changes: [SliceChange], through: UInt64)? {
    guard after >= floor else { return nil }
    guard let journal = journals[node] else { return ([], position) }
    var low = journal.head
    var high = journal.items.count
    while low < high {
      let middle = (low + high) / 2
      if journal.items[middle].position <= after { low = middle + 1 } else { high = middle }
    }
    var end = min(low + limit, journal.items.count)
    while end > low, end < journal.items.count, journal.items[end].position == journal.items[end - 1].position {
      end += 1
    }
    let through = end == journal.items.count ? position : journal.items[end - 1].position
    return (Array(journal.items[low..<end]), through)
  }

  // MARK: Reasons

  private mutating func place(key: String, facts: SliceFacts) -> (
    entered: [(String, String)], left: [(String, String)]
  ) {
    let before = placed[key]
    let relevant = facts.node == nil ? nil : facts
    if before == relevant { return ([], []) }
    var left: [(String, String)] = []
    var entered: [(String, String)] = []
    placed[key] = relevant
    // What is new is counted before what is old is dropped, so that a reference which stays never leaves.
    if let facts = relevant, let node = facts.node {
      for other in Set(facts.references).union([key]) where addReason(node, other) { entered.append((node, other)) }
    }
    if let before, let node = before.node {
      for other in Set(before.references).union([key]) where dropReason(node, other) { left.append((node, other)) }
    }
    return (entered.sorted { $0.1 < $1.1 }, left.sorted { $0.1 < $1.1 })
  }

  private mutating func unplace(key: String) -> [(String, String)] {
    place(key: key, facts: SliceFacts(node: nil, references: [])).left
  }

  private mutating func addReason(_ node: String, _ key: String) -> Bool {
    let count = reasons[node, default: [:]][key, default: 0]
    reasons[node, default: [:]][key] = count + 1
    if count == 0 { watchers[key, default: []].insert(node) }
    return count == 0
  }

  private mutating func dropReason(_ node: String, _ key: String) -> Bool {
    guard let count = reasons[node]?[key] else { return false }
    if count > 1 {
      reasons[node]?[key] = count - 1
      return false
    }
    reasons[node]?[key] = nil
    if reasons[node]?.isEmpty == true { reasons[node] = nil }
    watchers[key]?.remove(node)
    return true
  }

  private mutating func forgetUnseen(_ key: String) {
    if watchers[key]?.isEmpty == true { watchers[key] = nil }
    if watchers[key] == nil { present.remove(key) }
  }

  // MARK: Journal

  private mutating func record(_ changes: [(node: String, key: String, effect: SliceChange.Effect)]) {
    for change in changes {
      journals[change.node, default: Journal()].items.append(
        SliceChange(position: position, key: change.key, effect: change.effect))
      order.append(change.node)
      if change.effect == .leaves, watchers[change.key]?.isEmpty == true { forgetUnseen(change.key) }
    }
    while order.count - orderHead > journalLimit { dropOldest() }
    if orderHead > 4096, orderHead * 2 > order.count {
      order.removeFirst(orderHead)
      orderHead = 0
    }
  }

  private mutating func dropOldest() {
    let node = order[orderHead]
    orderHead += 1
    guard var journal = journals.removeValue(forKey: node) else { return }
    floor = max(floor, journal.items[journal.head].position)
    journal.head += 1
    if journal.head == journal.items.count { return }
    if journal.head > 1024, journal.head * 2 > journal.items.count {
      journal.items.removeFirst(journal.head)
      journal.head = 0
    }
    journals[node] = journal
  }
}

/// A fingerprint of what a slice holds: the sum of a 128-bit hash of each (key, revision), so that it is kept up to
/// date by adding and subtracting. Equal digests mean that nothing needs to be sent; it is no defence against a node
/// that lies to itself.
package struct SliceDigest: Sendable, Hashable {
  private var high: UInt64 = 0
  private var low: UInt64 = 0
  package init() {}

  package mutating func add(key: String, revision: UInt64) {
    let (a, b) = Self.hash(key, revision)
    high &+= a
    low &+= b
  }

  package mutating func subtract(key: String, revision: UInt64) {
    let (a, b) = Self.hash(key, revision)
    high &-= a
    low &-= b
  }

  /// 16 bytes.
  package var bytes: Bytes {
    var out: Bytes = []
    out.append(bigEndian: high)
    out.append(bigEndian: low)
    return out
  }

  /// Two FNV-1a runs with different offsets, each finished by SplitMix64's mixer. Fixed by proto-spec.
  private static func hash(_ key: String, _ revision: UInt64) -> (UInt64, UInt64) {
    var a: UInt64 = 0xcbf2_9ce4_8422_2325
    var b: UInt64 = 0x6c62_272e_07bb_0142
    func take(_ byte: UInt8) {
      a = (a ^ UInt64(byte)) &* 0x100_0000_01b3
      b = (b ^ UInt64(byte)) &* 0x100_0000_01b3
    }
    for byte in key.utf8 { take(byte) }
    take(0xff)
    for shift in stride(from: 56, through: 0, by: -8) { take(UInt8(truncatingIfNeeded: revision >> UInt64(shift))) }
    return (mix(a), mix(b))
  }

  /// FNV-1a with the first offset over bytes, mixed as above.
  static func mixedHash(_ bytes: Bytes) -> UInt64 {
    var hash: UInt64 = 0xcbf2_9ce4_8422_2325
    for byte in bytes { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
    return mix(hash)
  }

  private static func mix(_ value: UInt64) -> UInt64 {
    var z = value
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }
}
