import Base
import Conformance
import ObjectLog

@LoopActor private final class Observation {
  var id: ObservationID?
}

extension LogConformance {
  static let writing: [LogConformance] = [
    LogConformance("a new log is empty at position 1") { harness in
      let log = try harness.leader(LogLimits())
      try equal(log.tail.position, 1)
      try equal(log.tail.epoch, 1)
      try equal(log.compacted, 0)
      try equal(try log.keys(""), [])
      try equal(try log.all(after: 1).count, 0)
      _ = try fails(.tooOld) { try log.all(after: 0) }
    },

    LogConformance("one change is one revision, in order") { harness in
      let log = try harness.leader(LogLimits())
      let results = await log.append(.put("a/b/1", "x"), .put("a/b/2", "y"), .put("a/b/1", "z"))
      try equal(results.map(\.revision), [2, 3, 4])
      try equal(log.tail.position, 4)
      let object = try log.read("a/b/1", at: nil)
      try equal(object?.body, Bytes("z"))
      try equal(object?.createRevision, 2, "createRevision")
      try equal(object?.revision, 4, "revision")
    },

    LogConformance("a guard that does not hold fails its change alone") { harness in
      let log = try harness.leader(LogLimits())
      _ = try await log.write(.put("k/a/1", "x"))
      let results = await log.append(
        .put("k/a/1", "y", .absent), .put("k/a/2", "y", .absent), .put("k/a/1", "y", .revision(7)),
        .put("k/a/9", "y", .revision(2)), .put("k/a/1", "y", .revision(2)), .delete("k/a/2", .revision(2)))
      guard case .conflict(current: 2) = results[0], case .conflict(current: 2) = results[2],
        case .conflict(current: nil) = results[3], case .conflict(current: 3) = results[5]
      else { throw ConformanceFailure(description: "conflicts were answered \(results)") }
      try equal(results[1].revision, 3)
      try equal(results[4].revision, 4)
      try equal(try log.body("k/a/1"), "y")
    },

    LogConformance("a write that changes nothing makes no revision but keeps its privates") { harness in
      let log = try harness.leader(LogLimits())
      let first = try await log.write(.put("k/a/1", "x", status: "s"))
      let again = try await log.write(.put("k/a/1", "x", status: "s", privates: [("lane/n1", [7])]))
      try equal(again, first, "revision of a no-op")
      try equal(log.tail.position, first)
      try equal(try log.privateValue("lane/n1"), [7])
      try equal(try await log.write(.delete("k/a/none")), 0, "deleting nothing")
      try equal(log.tail.position, first)
    },

    LogConformance("body and status have revisions of their own") { harness in
      let log = try harness.leader(LogLimits())
      _ = try await log.write(.put("k/a/1", "x"))
      try equal(try log.read("k/a/1", at: nil)?.statusRevision, 0)
      _ = try await log.write(.put("k/a/1", "x", status: "s"))
      _ = try await log.write(.put("k/a/1", "y", status: "s"))
      var object = try log.read("k/a/1", at: nil)
      try equal(object.map { [$0.createRevision, $0.bodyRevision, $0.statusRevision] }, [2, 4, 3])
      _ = try await log.write(.put("k/a/1", "y", status: "s", meta: "new"))
      object = try log.read("k/a/1", at: nil)
      try equal(object?.revision, 5, "revision after a change of meta")
      _ = try await log.write(.put("k/a/1", "y", meta: "new"))
      object = try log.read("k/a/1", at: nil)
      try equal(object?.statusRevision, 6, "revision after the status went")
      try equal(object?.status, nil)
    },

    LogConformance("an entry tells what was before, a delete carries the last value") { harness in
      let log = try harness.leader(LogLimits())
      let changes: [Change] = [
        .put("k/a/1", "x", meta: "m1"), .put("k/a/1", "y", meta: "m2"), .delete("k/a/1"),
        .put("k/a/1", "z", meta: "m3"),
      ]
      for change in changes { _ = try await log.write(change) }
      let entries = try log.all(after: 1)
      try equal(entries.map(\.type), [.created, .modified, .deleted, .created])
      try equal(entries.map(\.position), [2, 3, 4, 5])
      try equal(entries.map(\.revision), [2, 3, 4, 5])
      try equal(entries.map(\.previousRevision), [0, 2, 3, 0])
      try equal(entries.map(\.previousMeta), [nil, Bytes("m1"), Bytes("m2"), nil])
      try equal(entries.map(\.object.body), [Bytes("x"), Bytes("y"), Bytes("y"), Bytes("z")])
      try equal(entries[2].object.revision, 3, "last value's revision")
      try equal(entries[3].object.createRevision, 5)
    },

    LogConformance("privates alone take no revision and leave no entry") { harness in
      let log = try harness.leader(LogLimits())
      _ = try await log.write(.put("k/a/1", "x"))
      let only = Change(
        key: "k/a/1", guarding: .revision(2), operation: .privatesOnly,
        privates: [("p/2", [2]), ("p/1", [1]), ("q/1", [3])])
      try equal(try await log.write(only), 0)
      try equal(log.tail.position, 2)
      try equal(try log.keys("p/"), [], "private keys in a listing")
      try equal(try log.privateValues(prefix: "p/").map(\.key), ["p/1", "p/2"])
      let stale = Change(
        key: "k/a/1", guarding: .revision(9), operation: .privatesOnly, privates: [("p/1", [9])])
      try check(await log.append(stale)[0].isConflict, "a stale guard let privates through")
      let gone = Change(key: "k/a/1", guarding: .any, operation: .privatesOnly, privates: [("p/1", nil)])
      _ = try await log.write(gone)
      try equal(try log.privateValues(prefix: "p/").map(\.value), [[2]])
      try equal(try log.privateValue("p/1"), nil)
    },

    LogConformance("what cannot be stored is refused and nothing else is") { harness in
      var limits = LogLimits()
      limits.valueBytes = 10
      let log = try harness.leader(limits)
      let results = await log.append(
        .put("k/a/1", String(repeating: "x", count: 11)), .put("", "x"), .put("k/\u{0}", "x"),
        .put(String(repeating: "k", count: LogLimits.maxKeyBytes + 1), "x"), .put("k/a/2", "0123456789"))
      try equal(
        results.map { $0.error?.code },
        [.limitExceeded, .invalidArgument, .invalidArgument, .limitExceeded, nil])
      try equal(try log.keys(""), ["k/a/2"])
    },

    LogConformance("more than may wait is refused") { harness in
      var limits = LogLimits()
      limits.waitingChanges = 3
      let log = try harness.leader(limits)
      var answers: [Int: [ChangeResult]] = [:]
      for index in 0..<3 {
        log.append([.put("k/a/\(index)", "x"), .put("k/b/\(index)", "x")]) { answers[index] = $0 }
      }
      try equal(answers.count, 0, "answers inside the call")
      _ = await log.append(.delete("k/a/none"))
      while answers.count < 3 { _ = await log.append(.delete("k/a/none")) }
      try equal(answers[0]?.map { $0.revision }, [2, 3])
      try equal(answers[1]?.map { $0.error?.code }, [.limitExceeded, .limitExceeded])
      try equal(try log.keys("k/"), ["k/a/0", "k/b/0"])
    },

    LogConformance("published, then answered, then observed") { harness in
      let log = try harness.leader(LogLimits())
      var seen: [String] = []
      let second = Observation()
      let first = log.observe { entries in
        seen.append("first \(entries.map(\.position)) at \(log.tail.position)")
        if let id = second.id { log.cancelObservation(id) }
      }
      second.id = log.observe { _ in seen.append("second") }
      try equal(try log.body("k/a/1"), nil)
      log.append([.put("k/a/1", "x")]) { results in
        let read = try? log.body("k/a/1")
        seen.append("answered \(results[0].revision ?? 0) reads \(read ?? "nothing")")
      }
      try equal(try log.body("k/a/1"), nil, "unpublished value")
      _ = await log.append(.delete("k/a/none"))
      // Observers may hear of it behind who waited for an answer, but before the next is given.
      _ = await log.append(.delete("k/a/none"))
      try check(seen.first == "answered 2 reads x", "order was \(seen)")
      try equal(seen.last, "first [2] at 2")
      log.cancelObservation(first)
      _ = try await log.write(.put("k/a/1", "y"))
      try equal(seen.count, 2, "calls after the observation ended")
    },

    LogConformance("nothing unpublished can be read") { harness in
      let log = try harness.leader(LogLimits())
      let old = Change(key: "k/a/1", guarding: .any, operation: .privatesOnly, privates: [("p/1", [1])])
      _ = try await log.write(old)
      var done = false
      log.append([.put("k/a/1", "x", privates: [("p/1", [2]), ("p/2", [3])])]) { _ in done = true }
      var rounds = 0
      while !done {
        try equal(try log.body("k/a/1"), nil, "object")
        try equal(try log.keys(""), [], "listing")
        try equal(try log.privateValue("p/1"), [1], "private value")
        try equal(try log.privateValues(prefix: "p/").map(\.value), [[1]], "private values")
        try equal(log.tail.position, 1)
        rounds += 1
        await Task.yield()
      }
      try check(rounds > 0, "the append was answered inside the call")
      try equal(try log.privateValues(prefix: "p/").map(\.value), [[2], [3]])
    },
  ]
}
