import Base
import ObjectLog

/// Follows one node's replica and holds it against the model at every position that it completes.
@LoopActor package final class ReplicaChecker {
  private let node: String
  private let history: CloudHistory
  private let judge: Judge
  private var cursor: Cursor?
  /// What the replica holds.
  package private(set) var actual: [String: UInt64] = [:]
  /// What it should hold at `reached` of the current epoch.
  private var expected: [String: UInt64] = [:]
  private var reached: UInt64 = 0
  private var next = 0
  private var epoch: UInt64 = 0
  /// Whether `expected` says anything about `cursor`.
  private var isFollowing = false

  package init(_ node: String, history: CloudHistory, judge: Judge) {
    self.node = node
    self.history = history
    self.judge = judge
  }

  /// The disk was exchanged or set back: what the replica holds is news.
  package func forget() {
    cursor = nil
    isFollowing = false
  }

  /// An edgecore opened the replica.
  package func started(_ replica: any ObjectLog) throws(SkerryError) {
    let tail = replica.tail
    var found: [String: UInt64] = [:]
    var after: String?
    while true {
      let page = try replica.list(prefix: "", at: nil, after: after, limit: 500)
      for (key, object) in page.objects { found[key] = object.revision }
      guard page.more, let last = page.objects.last else { break }
      after = last.key
    }
    if let cursor {
      let isLater = tail.log != cursor.log || tail.epoch != cursor.epoch || tail.position >= cursor.position
      judge.check(
        .durable, isLater, "\(node): the replica is at \(tail.position) after its start, and was at \(cursor.position)")
      if tail == cursor {
        judge.check(.durable, found == actual, "\(node): the replica \(CloudHistory.difference(actual, found))")
      }
    }
    actual = found
    cursor = tail
    isFollowing = false
    if advance(to: tail) { compareAll("after a start") }
  }

  /// Brings `expected` to a position of the current epoch; false for another history.
  private func advance(to target: Cursor) -> Bool {
    guard target.log == history.log, target.epoch == history.epoch, target.position >= history.base else {
      isFollowing = false
      return false
    }
    let deltas = history.model.deltas[node] ?? []
    if epoch != target.epoch || target.position < reached || !isFollowing {
      epoch = target.epoch
      expected = history.model.base[node] ?? [:]
      next = 0
      reached = history.base
    }
    isFollowing = true
    while next < deltas.count, deltas[next].position <= target.position {
      expected[deltas[next].key] = deltas[next].revision
      next += 1
    }
    reached = target.position
    return true
  }

  private func compareAll(_ occasion: String) {
    for key in Set(actual.keys).union(expected.keys).sorted() { compare(key, occasion) }
    judge.check(.noGap, true, "")
  }

  private func compare(_ key: String, _ occasion: String) {
    let (has, should) = (actual[key], expected[key])
    if should == nil {
      judge.check(.filtered, has == nil, "\(node) holds \(key), which is not its to see, at \(reached) \(occasion)")
    } else {
      judge.check(
        .noGap, has == should,
        "\(node) holds \(key) at \(has.map(String.init) ?? "nothing") instead of \(should ?? 0), position \(reached) "
          + occasion)
    }
  }

  /// A position was completed.
  package func applied(_ target: Cursor, _ entries: [Entry]) {
    if let cursor, cursor.log == target.log, cursor.epoch == target.epoch {
      judge.check(
        .ordered, target.position > cursor.position,
        "\(node) applied position \(target.position) after \(cursor.position)")
    }
    cursor = target
    var touched: Set<String> = []
    let held = actual
    for entry in entries {
      actual[entry.key] = entry.type == .deleted ? nil : entry.revision
      touched.insert(entry.key)
    }
    let wasFollowing = isFollowing
    let before = wasFollowing ? next : 0
    guard advance(to: target) else { return }
    if !wasFollowing { return compareAll("while following") }
    for delta in (history.model.deltas[node] ?? [])[before..<next] {
      touched.insert(delta.key)
      guard delta.revision == nil, held[delta.key] != nil else { continue }
      judge.check(
        .noGap, entries.contains { $0.key == delta.key && $0.type == .deleted },
        "\(node) was not told that \(delta.key) left at \(delta.position), only what it is at \(target.position)")
    }
    for key in touched.sorted() { compare(key, "while following") }
  }

  /// Everything was replaced by a snapshot.
  package func replaced(_ target: Cursor, _ objects: [String: UInt64], resumableFrom floor: UInt64) {
    if let cursor, cursor.log == target.log, cursor.epoch == target.epoch, target.epoch == history.epoch {
      judge.check(
        .resumable, cursor.position < floor || cursor.position > target.position,
        "\(node) stood at \(cursor.position), which can be followed from \(floor) on, and was sent a snapshot at "
          + "\(target.position)")
      judge.check(
        .revisionsNeverLower, target.position >= cursor.position,
        "\(node) was set back from \(cursor.position) to \(target.position)")
    }
    cursor = target
    actual = objects
    if advance(to: target) { compareAll("after a snapshot") }
  }
}
