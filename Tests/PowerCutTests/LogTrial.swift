import Base
import EventLoop
import FaultVFS
import ObjectLog

/// The leader's log: every acknowledged change is there under the revision that was told.
@LoopActor final class LeaderTrial: Trial {
  private static let path = "/log.db"

  let disk: DiskImage
  let random: SeededRandom
  private var id: LogID?
  /// Acknowledged changes by revision; nil is a deletion.
  private var told: [UInt64: (key: String, body: Bytes?)] = [:]
  private var tail: UInt64 = 0
  private var rounds: UInt64 = 0
  private var acknowledgedRound: UInt64 = 0
  private(set) var total = 0

  init(seed: UInt64) {
    random = SeededRandom(seed: seed)
    disk = DiskImage(random: random)
  }

  private func open() throws(SkerryError) -> SQLiteObjectLog {
    var limits = LogLimits()
    limits.checkpointFrames = 30
    limits.compactionSlice = 8
    return try SQLiteObjectLog.open(
      SQLiteObjectLog.Configuration(path: Self.path, vfs: disk.vfs, limits: limits), scheduler: Loop.startShared(),
      random: random, driver: TurnDriver())
  }

  func live() async throws(SkerryError) {
    let log = try open()
    for _ in 0..<(1 + random.below(8)) {
      await write(to: log)
      if let failure = log.failure { throw failure }
      if random.below(4) == 0 { log.compact(through: log.tail.position - min(log.tail.position, 20)) }
    }
    if random.below(2) == 0 { try await log.close() } else { disk.crash() }
  }

  /// Groups that wait together, as far as they are answered.
  private func write(to log: SQLiteObjectLog) async {
    let groups = (0..<(1 + random.below(3))).map { _ in group() }
    await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
      var left = groups.count
      for (round, changes) in groups {
        log.append(changes) { results in
          self.note(round, changes, results)
          left -= 1
          if left == 0 { continuation.resume() }
        }
      }
    }
  }

  private func group() -> (UInt64, [Change]) {
    rounds += 1
    let round = rounds
    let changes = (0..<(1 + random.below(4))).map { index in
      let key = "k/a/\(random.below(20))"
      let body = Bytes("\(round).\(index) ".utf8) + Bytes(repeating: UInt8(index), count: Int(random.below(4000)))
      return Change(
        key: key, guarding: .any,
        operation: random.below(6) == 0 ? .delete : .put(body: body, status: nil, meta: [1]),
        privates: [("round", Bytes("\(round)".utf8))])
    }
    return (round, changes)
  }

  private func note(_ round: UInt64, _ changes: [Change], _ results: [ChangeResult]) {
    for (change, result) in zip(changes, results) {
      guard case .applied(let revision) = result else { continue }
      acknowledgedRound = max(acknowledgedRound, round)
      guard revision > 0 else { continue }
      total += 1
      tail = max(tail, revision)
      if case .put(let body, _, _) = change.operation {
        told[revision] = (change.key, body)
      } else {
        told[revision] = (change.key, nil)
      }
    }
  }

  func verify() async throws(SkerryError) -> String? {
    let log = try open()
    _ = try LogCheck.run(path: Self.path, vfs: disk.vfs)
    if let id, log.tail.log != id { return "another log stands there" }
    if log.tail.epoch != 1 { return "another epoch began" }
    if log.tail.position < tail { return "revision \(tail) was told, and the log ends at \(log.tail.position)" }
    id = log.tail.log
    let entries = try entries(of: log)
    for (revision, change) in told where revision > log.compacted + 1 {
      guard let entry = entries[revision] else { return "revision \(revision) was told and is gone" }
      let body = entry.type == .deleted ? nil : entry.object.body
      if entry.key != change.key || body != change.body { return "revision \(revision) holds something else" }
    }
    if let finding = try compareNewest(log, entries) { return finding }
    let round = try log.privateValue("round").flatMap { UInt64(String(decoding: $0, as: UTF8.self)) } ?? 0
    if round < acknowledgedRound || round > rounds { return "round \(acknowledgedRound) was told, \(round) is there" }
    acknowledgedRound = round
    try remember(log)
    if random.below(2) == 0 { try await log.close() } else { disk.crash() }
    return nil
  }

  private func entries(of log: SQLiteObjectLog) throws(SkerryError) -> [UInt64: Entry] {
    var found: [UInt64: Entry] = [:]
    var position = log.compacted + 1
    while position < log.tail.position {
      let page = try log.entries(after: position, prefix: "", limit: 1000)
      for entry in page.entries { found[entry.position] = entry }
      position = page.through
    }
    return found
  }

  /// The newest acknowledged state of each key stands, unless something newer does.
  private func compareNewest(_ log: SQLiteObjectLog, _ entries: [UInt64: Entry]) throws(SkerryError) -> String? {
    var newest: [String: UInt64] = [:]
    for (revision, change) in told { newest[change.key] = max(newest[change.key] ?? 0, revision) }
    for (key, revision) in newest {
      if entries.values.contains(where: { $0.key == key && $0.position > revision }) { continue }
      let object = try log.read(key, at: nil)
      let body = told[revision]?.body
      if object?.body != body || body != nil && object?.revision != revision {
        return "\(key) is not what revision \(revision) made of it"
      }
    }
    return nil
  }

  /// From now on what stands here is what was told.
  private func remember(_ log: SQLiteObjectLog) throws(SkerryError) {
    told = [:]
    tail = log.tail.position
    for item in try log.list(prefix: "", at: nil, after: nil, limit: 1000).objects {
      told[item.object.revision] = (item.key, item.object.body)
    }
  }
}

/// A replica: it stands at a whole position, not before the one that was acknowledged, and holds exactly what leads there.
@LoopActor final class FollowerTrial: Trial {
  private static let path = "/replica.db"
  private static let keys: UInt64 = 15

  let disk: DiskImage
  let random: SeededRandom
  private let leader = LogID(random: SeededRandom(seed: 5))
  private var attempted: UInt64 = 10
  private var acknowledged: UInt64 = 0
  private(set) var total = 0

  init(seed: UInt64) {
    random = SeededRandom(seed: seed)
    disk = DiskImage(random: random)
  }

  private func open() throws(SkerryError) -> SQLiteObjectLog {
    try SQLiteObjectLog.open(
      SQLiteObjectLog.Configuration(path: Self.path, role: .follower, vfs: disk.vfs), scheduler: Loop.startShared(),
      random: random, driver: TurnDriver())
  }

  private func cursor(_ position: UInt64) -> Cursor { Cursor(log: leader, epoch: 1, position: position) }

  /// What stands under a key at a position: written by the last position that is its own.
  private static func object(_ key: UInt64, at position: UInt64) -> StoredObject? {
    let behind = (position + keys - key) % keys
    guard position > 10 + behind else { return nil }
    return object(writtenAt: position - behind)
  }

  private static func object(writtenAt position: UInt64) -> StoredObject {
    StoredObject(
      body: Bytes(repeating: UInt8(position % 251), count: Int(position * 97 % 5000)), status: nil, meta: [1],
      bodyRevision: position, statusRevision: 0, createRevision: position, sealed: false)
  }

  func live() async throws(SkerryError) {
    let log = try open()
    if log.tail.log != leader {
      if let error = await withCheckedContinuation({ continuation in
        log.replace(position: cursor(10), objects: []) { continuation.resume(returning: $0) }
      }) {
        throw error
      }
      acknowledged = max(acknowledged, 10)
    }
    for _ in 0..<(1 + random.below(10)) {
      let position = log.tail.position + 1
      attempted = max(attempted, position)
      let key = "k/a/\(position % Self.keys)"
      let entry = Entry(
        position: position, index: 0, key: key, revision: position, previousRevision: 0, type: .modified,
        object: Self.object(writtenAt: position), previousMeta: nil)
      if let error = await withCheckedContinuation({ continuation in
        log.apply(
          position: cursor(position), entries: [entry], privates: [("cursor", Bytes("\(position)".utf8))]
        ) { continuation.resume(returning: $0) }
      }) {
        throw error
      }
      acknowledged = position
      total += 1
    }
    if random.below(2) == 0 { try await log.close() } else { disk.crash() }
  }

  func verify() async throws(SkerryError) -> String? {
    let log = try open()
    _ = try LogCheck.run(path: Self.path, vfs: disk.vfs)
    if log.tail.log == leader {
      let position = log.tail.position
      if position < acknowledged || position > attempted { return "it stands at \(position), told was \(acknowledged)" }
      for key in 0..<Self.keys {
        let (object, expected) = (try log.read("k/a/\(key)", at: nil), Self.object(key, at: position))
        if object?.body != expected?.body || object?.revision != expected?.bodyRevision {
          return "k/a/\(key) is not as position \(position) has it"
        }
      }
      let stored = try log.privateValue("cursor").map { String(decoding: $0, as: UTF8.self) }
      if position > 10, stored != "\(position)" { return "the cursor is \(stored ?? "gone") at position \(position)" }
      acknowledged = position
      attempted = position
    } else if acknowledged > 0 {
      return "the replica is empty after \(acknowledged)"
    }
    if random.below(2) == 0 { try await log.close() } else { disk.crash() }
    return nil
  }
}
