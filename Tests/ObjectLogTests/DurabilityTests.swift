import Base
import EventLoop
import Glibc
import ObjectLog
import Store
import Testing

/// What one child process writes until it is killed.
@LoopActor private func writeUntilKilled(_ path: String, seed: UInt64) async throws {
  let random = SeededRandom(seed: seed)
  let scheduler = testScheduler()
  let acknowledged = open(path + ".acks", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
  var limits = LogLimits()
  limits.checkpointFrames = 40
  limits.compactionSlice = 16
  let log = try SQLiteObjectLog.open(
    SQLiteObjectLog.Configuration(path: path, limits: limits), scheduler: scheduler, random: random)
  scheduler.schedule(after: .microseconds(Int64(2000 + random.below(60_000)))) { kill(getpid(), SIGKILL) }
  var round = 0
  while true {
    round += 1
    let group = (0..<(1 + random.below(8))).map { index in
      let key = "k/a/\(random.below(40))"
      let body = Bytes("\(seed).\(round).\(index) ".utf8) + random.bytes(Int(random.below(3000)))
      return Change(
        key: key, guarding: .any,
        operation: random.below(6) == 0 ? .delete : .put(body: body, status: nil, meta: [1]),
        privates: [("round", Bytes("\(seed).\(round)".utf8))])
    }
    let last = round
    log.append(group) { results in
      var lines = ""
      for (change, result) in zip(group, results) {
        guard let revision = result.revision, revision > 0 else { continue }
        var body = "-"
        if case .put(let bytes, _, _) = change.operation { body = bytes.hex }
        lines += "\(revision) \(change.key) \(body)\n"
      }
      lines += "round \(seed).\(last)\n"
      // One write call: the acknowledgement is out whole or not at all.
      _ = lines.withCString { write(acknowledged, $0, strlen($0)) }
    }
    if round.isMultiple(of: 5) { log.compact(through: log.tail.position - min(log.tail.position, 60)) }
    if random.below(2) == 0 { await Task.yield() } else { try await scheduler.sleep(for: .microseconds(300)) }
  }
}

@Suite struct DurabilityTests {
  /// SIGKILL at a random moment, again and again on one file: everything that was acknowledged is there, under the
  /// revision that was told, and the file is sound.
  @Test func killedProcessesLoseNothingAcknowledged() async throws {
    let directory = try TemporaryDirectory()
    let path = directory.log
    var (log, acknowledged): (LogID?, Int) = (nil, 0)
    for seed in 1...12 as ClosedRange<UInt64> {
      await #expect(processExitsWith: .signal(SIGKILL)) { [path = path as String, seed = seed as UInt64] in
        try await onLoop { try await writeUntilKilled(path, seed: seed) }
      }
      let (id, lines) = try await onLoop { try await verify(path) }
      acknowledged += lines
      #expect(log == nil || log == id)
      log = id
      _ = try LogCheck.run(path: path)
    }
    #expect(acknowledged > 100, "the processes hardly wrote anything")
  }

  @LoopActor private func verify(_ path: String) async throws -> (LogID, acknowledged: Int) {
    let log = try SQLiteObjectLog.open(
      SQLiteObjectLog.Configuration(path: path), scheduler: testScheduler(), random: SeededRandom(seed: 9))
    var entries: [UInt64: Entry] = [:]
    var position = log.compacted + 1
    while position < log.tail.position {
      let page = try log.entries(after: position, prefix: "", limit: 1000)
      for entry in page.entries { entries[entry.position] = entry }
      position = page.through
    }
    var (lines, newest) = (0, [String: (revision: UInt64, body: String)]())
    let file = String(decoding: (try? readFile(path + ".acks")) ?? [], as: UTF8.self)
    for line in file.split(separator: "\n").map({ $0.split(separator: " ") }) where line[0] != "round" {
      guard let revision = UInt64(line[0]) else { continue }
      lines += 1
      newest[String(line[1])] = (revision, String(line[2]))
      guard revision > log.compacted + 1 else { continue }
      let entry = try #require(entries[revision], "revision \(revision) was acknowledged and is gone")
      #expect(entry.key == line[1])
      #expect(entry.type == .deleted ? line[2] == "-" : entry.object.body.hex == line[2])
    }
    for (key, last) in newest {
      // What was not acknowledged may be newer; this process's compaction did not reach it.
      let later = entries.values.contains { $0.key == key && $0.revision > last.revision }
      if later { continue }
      let object = try log.read(key, at: nil)
      #expect(last.body == "-" ? object == nil : object?.body.hex == last.body && object?.revision == last.revision)
    }
    #expect(log.tail.position >= newest.values.map(\.revision).max() ?? 0)
    #expect(log.tail.epoch == 1)
    try settle(log, newest.keys.sorted(), path)
    let id = log.tail.log
    try await log.close()
    return (id, lines)
  }

  /// Notes what stands as acknowledged, so that the next process is measured by it.
  @LoopActor private func settle(_ log: SQLiteObjectLog, _ keys: [String], _ path: String) throws {
    var lines = ""
    for item in try log.list(prefix: "", at: nil, after: nil, limit: 1000).objects {
      lines += "\(item.object.revision) \(item.key) \(item.object.body.hex)\n"
    }
    for key in keys where try log.read(key, at: nil) == nil { lines += "0 \(key) -\n" }
    let file = open(path + ".acks", O_WRONLY | O_TRUNC | O_CLOEXEC)
    _ = lines.withCString { write(file, $0, strlen($0)) }
    close(file)
  }

  @Test func everyWriteIsThereAfterACleanStopToo() async throws {
    let directory = try TemporaryDirectory()
    try await onLoop {
      let configuration = SQLiteObjectLog.Configuration(path: directory.log)
      var log = try SQLiteObjectLog.open(configuration, scheduler: testScheduler(), random: SeededRandom(seed: 1))
      for index in 0..<10 { _ = await log.put("k/a/\(index)", [UInt8(index)]) }
      let before = (log.tail, log.compacted)
      try await log.close()
      #expect(throws: SkerryError.self) { try log.read("k/a/1", at: nil) }
      #expect(await log.put("k/a/1", [1]).error?.code == .closed)
      log = try SQLiteObjectLog.open(configuration, scheduler: testScheduler(), random: SeededRandom(seed: 2))
      #expect(log.tail == before.0)
      #expect(log.compacted == before.1)
      #expect(try log.entries(after: 1, prefix: "", limit: 100).entries.map(\.position) == Array(2...11))
      #expect(try log.read("k/a/7", at: 9)?.body == [7])
      try await log.close()
    }
  }

  /// Commits that only add to the history leave the row of the log's state behind; a start goes on from there, and counts
  /// as the writer did.
  @Test(arguments: [1, 30, 1500]) func aStartReadsOnBehindTheStateRow(_ rounds: Int) async throws {
    let directory = try TemporaryDirectory()
    try await onLoop {
      let configuration = SQLiteObjectLog.Configuration(path: directory.log)
      var log = try SQLiteObjectLog.open(configuration, scheduler: testScheduler(), random: SeededRandom(seed: 1))
      let random = SeededRandom(seed: UInt64(rounds))
      for start in stride(from: 0, to: rounds, by: 50) {
        _ = await log.append(
          (start..<min(start + 50, rounds)).map { _ in
            let body = random.bytes(Int(random.below(300)))
            return Change(
              key: "k/ä/\(random.below(9))", guarding: .any,
              operation: random.below(5) == 0
                ? .delete : .put(body: body, status: random.below(2) == 0 ? body : nil, meta: [UInt8(random.below(3))]))
          })
      }
      _ = await log.put("k/a/last", [1])
      let (tail, retained) = (log.tail, log.retainedBytes)
      try await log.close()
      let row = try Database.reader(path: directory.log).int("SELECT position FROM state")
      #expect(row < tail.position && row + 1200 > tail.position, "the row says \(row)")
      #expect(try LogCheck.run(path: directory.log).cursor == tail)
      log = try SQLiteObjectLog.open(configuration, scheduler: testScheduler(), random: SeededRandom(seed: 2))
      #expect(log.tail == tail)
      #expect(log.retainedBytes == retained)
      #expect(await log.put("k/a/last", [2]).revision == tail.position + 1)
      try await log.close()
    }
  }

  @Test func relaxedDurabilityBeginsAnEpochAfterAnUncleanStop() async throws {
    let directory = try TemporaryDirectory()
    try await onLoop {
      var configuration = SQLiteObjectLog.Configuration(path: directory.log, durability: .normal)
      var log = try SQLiteObjectLog.open(configuration, scheduler: testScheduler(), random: SeededRandom(seed: 1))
      _ = await log.put("k/a/1", [1])
      try await log.close()
      log = try SQLiteObjectLog.open(configuration, scheduler: testScheduler(), random: SeededRandom(seed: 2))
      #expect(log.tail.epoch == 1, "a clean stop keeps the epoch")
      let id = log.tail.log
      try await log.close()
      try Database(path: directory.log).execute("UPDATE store SET clean = 0")
      configuration.durability = .full
      log = try SQLiteObjectLog.open(configuration, scheduler: testScheduler(), random: SeededRandom(seed: 3))
      #expect(log.tail.log == id)
      #expect(log.tail.epoch > 1)
      #expect(log.tail.position >= 1_000_000_002)
      #expect(try log.read("k/a/1", at: nil)?.revision == 2)
      #expect(throws: SkerryError.self) { try log.entries(after: 2, prefix: "", limit: 1) }
      #expect(await log.put("k/a/2", [1]).revision == log.tail.position)
      try await log.close()
    }
  }
}
