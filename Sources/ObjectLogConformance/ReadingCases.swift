import Base
import Conformance
import ObjectLog

extension LogConformance {
  static let reading: [LogConformance] = [
    LogConformance("a listing is in the order of the keys' bytes and knows prefixes") { harness in
      let log = try harness.leader(LogLimits())
      let keys = [
        "a//x", "a/b/1", "a/b/10", "a/b/2", "a/c/1", "ab/c/1", "a/\u{e9}/1", "a/e\u{301}/1", "b/\u{10FFFF}/1",
      ]
      for key in keys.reversed() { _ = try await log.write(.put(key, key)) }
      let sorted = keys.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
      try equal(try log.keys("").map { Bytes($0) }, sorted.map { Bytes($0) })
      try equal(try log.keys("a/b/"), ["a/b/1", "a/b/10", "a/b/2"])
      try equal(try log.keys("a/b"), ["a/b/1", "a/b/10", "a/b/2"])
      try equal(try log.keys("b/\u{10FFFF}").count, 1)
      try equal(try log.keys("zz"), [])
      try equal(try log.keys("a/\u{e9}/").count, 1, "keys with one of two spellings")
    },

    LogConformance("two spellings of a letter are two keys, however often they are written") { harness in
      let log = try harness.leader(LogLimits())
      let keys = ["a/\u{e9}/1", "a/e\u{301}/1"]
      for round in 0..<3 {
        for (index, key) in keys.enumerated() { _ = try await log.write(.put(key, "\(index)\(round)")) }
      }
      for (index, key) in keys.enumerated() {
        let read = try log.read(key, at: nil)
        try equal(read.map { String(decoding: $0.body, as: UTF8.self) }, "\(index)2")
        try equal(read?.createRevision, UInt64(index + 2))
      }
    },

    LogConformance("pages of a listing show one position while the log goes on") { harness in
      let log = try harness.leader(LogLimits())
      for index in 0..<7 { _ = try await log.write(.put("k/a/\(index)", "old\(index)")) }
      var page = try log.list(prefix: "k/", at: nil, after: nil, limit: 3)
      try equal(page.position, 8)
      try equal(page.more, true)
      var found = page.objects.map { "\($0.key)=\(String(decoding: $0.object.body, as: UTF8.self))" }
      _ = await log.append(.put("k/a/3", "new"), .delete("k/a/4"), .put("k/a/45", "new"), .delete("k/a/6"))
      _ = await log.append(.put("k/a/6", "again"), .put("k/a/3", "newer"))
      while page.more {
        page = try log.list(prefix: "k/", at: 8, after: page.objects.last?.key, limit: 3)
        try equal(page.position, 8)
        found += page.objects.map { "\($0.key)=\(String(decoding: $0.object.body, as: UTF8.self))" }
      }
      try equal(found, (0..<7).map { "k/a/\($0)=old\($0)" })
      try equal(try log.keys("k/", at: nil), ["k/a/0", "k/a/1", "k/a/2", "k/a/3", "k/a/45", "k/a/5", "k/a/6"])
      let exact = try log.list(prefix: "k/", at: nil, after: nil, limit: 7)
      try equal(exact.more, false, "more after the last key")
    },

    LogConformance("a page holds at least one object and stops at its bound of bytes") { harness in
      var limits = LogLimits()
      limits.pageBytes = 100
      let log = try harness.leader(limits)
      for index in 0..<4 { _ = try await log.write(.put("k/a/\(index)", String(repeating: "x", count: 150))) }
      var (after, seen): (String?, [String]) = (nil, [])
      while true {
        let page = try log.list(prefix: "k/", at: nil, after: after, limit: 100)
        try equal(page.objects.count, 1, "objects on a page")
        seen += page.objects.map(\.key)
        after = page.objects.last?.key
        if !page.more { break }
      }
      try equal(seen, (0..<4).map { "k/a/\($0)" })
      var (position, entries): (UInt64, Int) = (1, 0)
      while position < log.tail.position {
        let page = try log.entries(after: position, prefix: "", limit: 100)
        try check(page.through > position, "entries do not get on at \(position)")
        (position, entries) = (page.through, entries + page.entries.count)
      }
      try equal(entries, 4)
    },

    LogConformance("an object is read as it was at a position") { harness in
      let log = try harness.leader(LogLimits())
      let changes: [Change] = [.put("k/a/1", "x"), .put("k/a/1", "y"), .delete("k/a/1"), .put("k/a/1", "z")]
      for change in changes { _ = try await log.write(change) }
      let read = try (1...5).map { try log.body("k/a/1", at: UInt64($0)) }
      try equal(read, [nil, "x", "y", nil, "z"])
      _ = try fails(.invalidArgument) { try log.body("k/a/1", at: 6) }
      _ = try fails(.invalidArgument) { try log.all(after: 6) }
    },

    LogConformance("entries are followed by prefix, and the cursor moves past the others") { harness in
      let log = try harness.leader(LogLimits())
      for index in 0..<10 {
        _ = try await log.write(.put(index.isMultiple(of: 2) ? "even/a/\(index)" : "odd/a/\(index)", "x"))
      }
      let even = try log.entries(after: 1, prefix: "even/", limit: 3)
      try equal(even.entries.map(\.key), ["even/a/0", "even/a/2", "even/a/4"])
      try check(even.through >= 6 && even.through < 8, "through \(even.through)")
      let rest = try log.entries(after: even.through, prefix: "even/", limit: 100)
      try equal(rest.entries.map(\.key), ["even/a/6", "even/a/8"])
      try equal(rest.through, log.tail.position)
      let none = try log.entries(after: 3, prefix: "none/", limit: 1)
      try equal(none.through, log.tail.position)
    },

    LogConformance("what left memory is read from where it is kept") { harness in
      var limits = LogLimits()
      limits.tailEntries = 4
      limits.scannedEntries = 3
      let log = try harness.leader(limits)
      for index in 0..<20 { _ = try await log.write(.put("k/a/\(index % 5)", "\(index)")) }
      var (position, bodies): (UInt64, [String]) = (1, [])
      while position < log.tail.position {
        let page = try log.entries(after: position, prefix: "k/", limit: 100)
        bodies += page.entries.map { String(decoding: $0.object.body, as: UTF8.self) }
        try check(page.through > position, "entries do not get on at \(position)")
        position = page.through
      }
      try equal(bodies, (0..<20).map { "\($0)" })
    },

    LogConformance("compaction ends the past and keeps the present") { harness in
      let log = try harness.leader(LogLimits())
      _ = try await log.write(.put("k/a/1", "x"))  // 2
      _ = try await log.write(.put("k/a/2", "x"))  // 3
      _ = try await log.write(.put("k/a/1", "y"))  // 4
      _ = try await log.write(.delete("k/a/2"))  // 5
      _ = try await log.write(.put("k/a/3", "x"))  // 6
      _ = try await log.write(.put("k/a/1", "z"))  // 7
      log.compact(through: 4)
      try equal(log.compacted, 4)
      let error = try fails(.tooOld) { try log.all(after: 4) }
      try check(error.message.contains("7"), "the message names no revision to restart from: \(error.message)")
      _ = try fails(.tooOld) { try log.body("k/a/1", at: 3) }
      _ = try fails(.tooOld) { try log.keys("k/", at: 4) }
      for _ in 0..<20 {
        _ = await log.append(.delete("k/a/none"))  // gives the writer time to sweep
        try equal(try log.keys("k/", at: 5), ["k/a/1"])
        try equal(try log.body("k/a/1", at: 5), "y")
        try equal(try log.body("k/a/2", at: 5), nil)
        try equal(try log.all(after: 5).map(\.position), [6, 7])
        try equal(try log.keys("k/"), ["k/a/1", "k/a/3"])
      }
      log.compact(through: 2)
      try equal(log.compacted, 4, "compaction went back")
      log.compact(through: .max)
      try equal(log.compacted, 6, "the newest position stays")
      try equal(try log.all(after: 7).count, 0)
      try equal(try log.keys("k/", at: 7), ["k/a/1", "k/a/3"])
      let again = await log.append(.put("k/a/2", "back", .absent))
      try equal(again[0].revision, 8)
      try equal(try log.all(after: 7).map(\.type), [.created])
    },
  ]
}
