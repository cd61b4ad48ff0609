import Base
import Conformance
import ObjectLog

/// Every state that a log has had, kept the simplest way there is.
private struct Model {
  var states: [UInt64: [String: String]] = [1: [:]]
  var entries: [String] = []
  var position: UInt64 = 1
  var compacted: UInt64 = 0

  mutating func put(_ key: String, _ body: String) {
    let old = states[position] ?? [:]
    guard old[key] != body else { return }
    change(key, body, old[key] == nil ? "created" : "modified")
  }

  mutating func delete(_ key: String) {
    if let last = states[position]?[key] { change(key, nil, "deleted", last) }
  }

  private mutating func change(_ key: String, _ body: String?, _ type: String, _ last: String = "") {
    var state = states[position] ?? [:]
    state[key] = body
    position += 1
    states[position] = state
    entries.append("\(position) \(type) \(key) \(body ?? last)")
  }
}

extension LogConformance {
  static let scripts: [LogConformance] = (1...4).map { seed in
    LogConformance("a random script matches the model (seed \(seed))") { harness in
      var limits = LogLimits()
      limits.tailEntries = 16
      limits.compactionSlice = 7
      limits.pageBytes = 400
      let log = try harness.leader(limits)
      let random = SeededRandom(seed: UInt64(seed))
      var model = Model()
      for round in 0..<60 {
        _ = await log.append(group(random, round, &model))
        if random.below(8) == 0 {
          model.compacted = max(model.compacted, min(random.below(model.position), model.position - 1))
          log.compact(through: model.compacted)
        }
        try equal(log.tail.position, model.position, "tail")
        try equal(log.compacted, model.compacted, "compacted")
        let position = model.compacted + 1 + random.below(model.position - model.compacted)
        try compare(log, model, at: position, limit: Int(1 + random.below(20)))
      }
      for position in (model.compacted + 1)...model.position { try compare(log, model, at: position, limit: 1000) }
    }
  }

  private static func group(_ random: SeededRandom, _ round: Int, _ model: inout Model) -> [Change] {
    (0..<(1 + random.below(12))).map { index in
      let key = "k\(random.below(3))/n\(random.below(2))/\(random.below(6))"
      if random.below(4) == 0 {
        model.delete(key)
        return .delete(key)
      }
      // Few bodies, so that some writes change nothing.
      let body = random.below(3) == 0 ? "same" : "\(round).\(index)"
      model.put(key, body)
      return .put(key, body)
    }
  }

  @LoopActor private static func compare(
    _ log: any ObjectLog, _ model: Model, at position: UInt64, limit: Int
  ) throws {
    let wanted = model.states[position] ?? [:]
    for prefix in ["", "k1/", "k2/n0/"] {
      var (found, after): ([String: String], String?) = ([:], nil)
      while true {
        let page = try log.list(prefix: prefix, at: position, after: after, limit: limit)
        for item in page.objects { found[item.key] = String(decoding: item.object.body, as: UTF8.self) }
        after = page.objects.last?.key
        if !page.more { break }
      }
      try equal(found, wanted.filter { $0.key.hasPrefix(prefix) }, "list of \(prefix) at \(position)")
    }
    for (key, body) in wanted { try equal(try log.body(key, at: position), body, "\(key) at \(position)") }
    var (cursor, told) = (position, [String]())
    while cursor < log.tail.position {
      let page = try log.entries(after: cursor, prefix: "", limit: limit)
      told += page.entries.map {
        "\($0.position) \($0.type) \($0.key) \(String(decoding: $0.object.body, as: UTF8.self))"
      }
      try check(page.through > cursor, "entries do not get on at \(cursor)")
      cursor = page.through
    }
    try equal(told, Array(model.entries.suffix(Int(model.position - position))), "entries after \(position)")
  }
}
