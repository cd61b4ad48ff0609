import Base
import Conformance
import ObjectLog

private func object(_ body: String, _ revision: UInt64, created: UInt64? = nil, meta: String = "m") -> StoredObject {
  StoredObject(
    body: Bytes(body), status: nil, meta: Bytes(meta), bodyRevision: revision, statusRevision: 0,
    createRevision: created ?? revision)
}

private func entry(
  _ position: UInt64, _ key: String, _ body: String, revision: UInt64? = nil, type: EntryType = .modified
) -> Entry {
  let revision = revision ?? position
  return Entry(
    position: position, index: 0, key: key, revision: revision, previousRevision: 0, type: type,
    object: object(body, revision), previousMeta: nil)
}

private let leaderID = LogID(Bytes(repeating: 7, count: 16))

private func at(_ position: UInt64, epoch: UInt64 = 1) throws -> Cursor {
  guard let leaderID else { throw ConformanceFailure(description: "a log id has 16 bytes") }
  return Cursor(log: leaderID, epoch: epoch, position: position)
}

extension LogConformance {
  static let following: [LogConformance] = [
    LogConformance("a follower begins with a snapshot and takes positions as given") { harness in
      let log = try harness.follower(LogLimits())
      try equal(log.tail.position, 0)
      try equal(await log.replace(try at(100), [("k/a/1", object("x", 40)), ("k/a/2", object("y", 50))])?.code, nil)
      try equal(log.tail, try at(100))
      try equal(try log.read("k/a/1", at: nil)?.revision, 40)
      let both = [entry(105, "k/a/3", "z", revision: 7), entry(105, "k/a/1", "x2")]
      try equal(await log.apply(try at(105), both, privates: [("p/1", [5])])?.code, nil)
      try equal(log.tail, try at(105))
      let entries = try log.all(after: 100)
      try equal(entries.map(\.key), ["k/a/3", "k/a/1"])
      try equal(entries.map(\.index), [0, 1])
      try equal(entries.map(\.position), [105, 105])
      try equal(entries.map(\.revision), [7, 105])
      try equal(entries.map(\.type), [.created, .modified])
      try equal(entries[1].previousRevision, 40)
      try equal(entries[1].previousMeta, Bytes("m"))
      try equal(try log.privateValue("p/1"), [5])
      try equal(try log.keys("k/", at: 100), ["k/a/1", "k/a/2"])
    },

    LogConformance("a follower moves its cursor without entries, and never back") { harness in
      let log = try harness.follower(LogLimits())
      _ = await log.replace(try at(10), [])
      try equal(await log.apply(try at(20), [])?.code, nil)
      try equal(log.tail.position, 20)
      try equal(await log.apply(try at(20), [entry(20, "k/a/1", "x")])?.code, .conflict)
      try equal(await log.apply(try at(15), [entry(15, "k/a/1", "x")])?.code, .conflict)
      try equal(await log.apply(try at(30, epoch: 2), [entry(30, "k/a/1", "x")])?.code, .conflict)
      try equal(try log.keys(""), [])
      try equal(log.tail, try at(20))
    },

    LogConformance("a follower's delete carries what stood here; a delete of nothing leaves no entry") { harness in
      let log = try harness.follower(LogLimits())
      _ = await log.replace(try at(10), [("k/a/1", object("x", 4))])
      let gone = [entry(11, "k/a/9", "", type: .deleted), entry(11, "k/a/1", "", type: .deleted)]
      try equal(await log.apply(try at(11), gone)?.code, nil)
      let entries = try log.all(after: 10)
      try equal(entries.map(\.key), ["k/a/1"])
      try equal(entries.first?.object.body, Bytes("x"))
      try equal(entries.first?.revision, 11)
      try equal(try log.keys(""), [])
    },

    LogConformance("a later snapshot of the same history leaves only the differences") { harness in
      let log = try harness.follower(LogLimits())
      let old = [("k/a/1", object("x", 4)), ("k/a/2", object("y", 5)), ("k/a/3", object("z", 6))]
      _ = await log.replace(try at(10), old)
      var told: [[String]] = []
      _ = log.observe { told.append($0.map { "\($0.type) \($0.key)" }) }
      let new = [("k/a/1", object("x", 4)), ("k/a/2", object("y2", 15)), ("k/a/4", object("n", 12))]
      try equal(await log.replace(try at(20), new)?.code, nil)
      try equal(try log.all(after: 10).map { "\($0.type) \($0.key)" }, told.first)
      try equal(told, [["modified k/a/2", "deleted k/a/3", "created k/a/4"]])
      try equal(try log.keys("k/"), ["k/a/1", "k/a/2", "k/a/4"])
      try equal(try log.keys("k/", at: 10), ["k/a/1", "k/a/2", "k/a/3"])
      try equal(await log.replace(try at(20), new)?.code, nil)
      try equal(told.count, 1, "publications after an equal snapshot")
    },

    LogConformance("a snapshot of another history ends the old one") { harness in
      let log = try harness.follower(LogLimits())
      _ = await log.replace(try at(1000), [("k/a/1", object("x", 4)), ("k/a/2", object("y", 900))])
      _ = await log.apply(try at(1001), [entry(1001, "k/a/2", "y2")])
      var told: [String] = []
      _ = log.observe { told += $0.map { "\($0.type) \($0.key)" } }
      let new = [("k/a/1", object("x", 4)), ("k/a/3", object("z", 20))]
      try equal(await log.replace(try at(50, epoch: 2), new)?.code, nil)
      try equal(log.tail, try at(50, epoch: 2))
      try equal(told, ["deleted k/a/2", "created k/a/3"])
      try equal(try log.keys("k/"), ["k/a/1", "k/a/3"])
      try equal(try log.read("k/a/1", at: 50)?.revision, 4)
      _ = try fails(.tooOld) { try log.all(after: 49) }
      _ = try fails(.invalidArgument) { try log.all(after: 1001) }
      try equal(try log.all(after: 50).count, 0)
      _ = await log.apply(try at(51, epoch: 2), [entry(51, "k/a/1", "x51")])
      try equal(try log.all(after: 50).map(\.previousRevision), [4])
      try equal(try log.body("k/a/1", at: 50), "x")
    },

    LogConformance("each role refuses the other's writes") { harness in
      let follower = try harness.follower(LogLimits())
      try equal(await follower.append(.put("k/a/1", "x"))[0].error?.code, .invalidArgument)
      let own = Change(key: "own", guarding: .any, operation: .privatesOnly, privates: [("p/1", [1])])
      try equal(await follower.append(own)[0].revision, 0)
      try equal(try follower.privateValue("p/1"), [1])
      let leader = try harness.leader(LogLimits())
      try equal(await leader.apply(try at(9), [])?.code, .invalidArgument)
      try equal(await leader.replace(try at(9), [])?.code, .invalidArgument)
      try equal(leader.tail.position, 1)
    },
  ]
}
