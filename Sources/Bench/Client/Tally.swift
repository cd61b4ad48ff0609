import Base

/// What the receivers of one process saw since the last reset.
struct Tally: Sendable {
  var deliveries: UInt64 = 0
  var bookmarks: UInt64 = 0
  var bytes: UInt64 = 0
  /// Events that were missing, repeated, out of order or damaged.
  var gaps: UInt64 = 0
  var repeats: UInt64 = 0
  var damaged: UInt64 = 0
  var disorder: UInt64 = 0
  /// Snapshots and inventories: a node that resumes by its cursor needs neither.
  var relists: UInt64 = 0
  var latency = Latency()
  var violations: UInt64 { gaps + repeats + damaged + disorder }

  private static let counters: [(String, any WritableKeyPath<Tally, UInt64> & Sendable)] = [
    ("deliveries", \.deliveries), ("bookmarks", \.bookmarks), ("bytes", \.bytes), ("gaps", \.gaps),
    ("repeats", \.repeats), ("damaged", \.damaged), ("disorder", \.disorder), ("relists", \.relists),
  ]

  var value: Value {
    var value: Value = ["latency": latency.value]
    for (name, path) in Self.counters { value[name] = .int(Int64(clamping: self[keyPath: path])) }
    return value
  }

  init() {}
  init(_ value: Value) {
    for (name, path) in Self.counters { self[keyPath: path] = UInt64(clamping: value[name].int ?? 0) }
    latency = Latency(value["latency"])
  }

  mutating func add(_ other: Tally) {
    for (_, path) in Self.counters { self[keyPath: path] += other[keyPath: path] }
    latency.add(other.latency)
  }
}

/// Checks one stream of events: each writer's numbers without gap or repeat, revisions that rise, a CRC that fits. With
/// `latestWins` numbers may be left out, never fall back.
struct EventCheck {
  private var last: [UInt64] = []
  private var revision: UInt64 = 0
  let latestWins: Bool

  init(latestWins: Bool = false) { self.latestWins = latestWins }

  /// The number that the writer's next event follows on.
  mutating func begin(writer: Int, after sequence: UInt64) {
    while last.count <= writer { last.append(0) }
    last[writer] = sequence
  }

  func sequence(of writer: Int) -> UInt64 { writer < last.count ? last[writer] : 0 }

  /// Looks at one event; answers its payload if it counts.
  mutating func take(
    _ message: UnsafeRawBufferPointer, revision: UInt64, payloadBytes: Int, now: UInt64, into tally: inout Tally
  ) -> Payload? {
    guard let range = Payload.find(in: message, length: payloadBytes), let payload = Payload(range) else {
      tally.damaged += 1
      return nil
    }
    if revision != 0 {
      if revision <= self.revision { tally.disorder += 1 }
      self.revision = max(self.revision, revision)
    }
    let writer = Int(payload.writer)
    while last.count <= writer, writer < 65_536 { last.append(0) }
    guard writer < last.count else {
      tally.damaged += 1
      return nil
    }
    let expected = last[writer] + 1
    if payload.sequence < expected {
      tally.repeats += 1
      return nil
    }
    if payload.sequence > expected, !latestWins { tally.gaps += payload.sequence - expected }
    last[writer] = payload.sequence
    tally.deliveries += 1
    tally.bytes += UInt64(message.count)
    tally.latency.record(now > payload.time ? now - payload.time : 0)
    return payload
  }
}
