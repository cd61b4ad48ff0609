import Base
import FaultVFS
import Store
import Testing

private let schema = Schema(
  name: "test", applicationID: 77,
  migrations: [
    "CREATE TABLE row (number INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT; CREATE INDEX b ON row (body);"
  ])

/// Rows with consecutive numbers, whose content follows from the number.
private func body(_ number: Int64) -> Bytes {
  Bytes(repeating: UInt8(truncatingIfNeeded: number * 31), count: 1 + Int(number * 37 % 3000))
}

/// A store on a disk that loses power again and again, and what it promised.
private struct Trial {
  let disk: DiskImage
  let random: SeededRandom
  let isRelaxed: Bool
  var acknowledged: Int64 = 0
  var attempted: Int64 = 0
  var rows = 0

  init(seed: UInt64, isRelaxed: Bool = false, faults: DiskFaults = DiskFaults()) {
    random = SeededRandom(seed: seed)
    disk = DiskImage(random: random)
    disk.faults = faults
    self.isRelaxed = isRelaxed
  }

  /// Writes until the power fails in one of the next operations, or the process dies in it.
  mutating func writeUntilEnd() {
    let operation = disk.operations + 1 + random.below(120)
    if random.below(4) == 0 { disk.crash(at: operation) } else { disk.cutPower(at: operation) }
    let lives = disk.lives
    while disk.lives == lives {
      do throws(SkerryError) {
        try writeOnce()
      } catch {
        // Opening or writing fell into the end; anything else shows up in `verify`.
        if disk.lives == lives { Issue.record(error) }
        return
      }
    }
  }

  private mutating func writeOnce() throws(SkerryError) {
    let options = Database.Options(vfs: disk.vfs, synchronous: isRelaxed ? .normal : .full)
    let file = try StoreFile(path: "/s.db", schema: schema, options: options)
    if isRelaxed { try file.database.execute("PRAGMA synchronous = OFF") }
    let reader = try file.reader()
    let insert = try file.database.prepare("INSERT INTO row VALUES (?, ?)")
    let next = try file.database.int("SELECT coalesce(max(number), 0) FROM row")
    // What a start shows is told to others, also if a process that died had not synced it.
    acknowledged = max(acknowledged, next)
    attempted = max(attempted, next)
    for _ in 0..<(1 + random.below(30)) {
      let last = try file.database.int("SELECT coalesce(max(number), 0) FROM row")
      let count = Int64(1 + random.below(5))
      attempted = max(attempted, last + count)
      try file.database.write { () throws(SkerryError) in
        for number in (last + 1)...(last + count) {
          insert.bind(1, number)
          insert.bind(2, body(number))
          try insert.run()
        }
      }
      acknowledged = last + count
      if try reader.int("SELECT max(number) FROM row") != acknowledged {
        Issue.record("a reader does not see what was committed")
      }
      if random.below(4) == 0 { try file.database.checkpoint(random.below(2) == 0 ? .passive : .truncate) }
    }
    if random.below(3) == 0 { try file.close() }
  }

  /// What is wrong after a cut; nil if all is well.
  mutating func verify() -> String? {
    do throws(SkerryError) {
      let file = try StoreFile(path: "/s.db", schema: schema, options: Database.Options(vfs: disk.vfs))
      try file.database.checkStructure(full: true)
      let rows = try file.database.prepare("SELECT number, body FROM row ORDER BY number")
      var last: Int64 = 0
      while try rows.step() {
        last += 1
        if rows.int(0) != last || rows.bytes(1) != body(last) { return "row \(last) is not what was written" }
      }
      if last < acknowledged { return "\(acknowledged) rows were acknowledged, \(last) are there" }
      if last > attempted { return "\(last) rows are there, \(attempted) were written" }
      acknowledged = last
      attempted = last
      self.rows = Int(last)
      // Short tables keep the test short.
      if last > 150 {
        try file.database.execute("DELETE FROM row")
        (acknowledged, attempted) = (0, 0)
      }
      return nil
    } catch {
      return "\(error)"
    }
  }
}

@Suite struct SQLiteTests {
  /// SQLite keeps its promise on this disk: 1,000 power cuts in 20 disks, each cut in the middle of an operation.
  @Test func fullSyncLosesNothing() throws {
    var cuts = 0
    for seed in 1...20 as ClosedRange<UInt64> {
      var trial = Trial(seed: seed)
      while trial.disk.powerCuts < 50 {
        trial.writeUntilEnd()
        // A second cut while the store recovers must not hurt either.
        if trial.random.below(4) == 0 {
          trial.disk.cutPower(at: trial.disk.operations + 1 + trial.random.below(8))
          let lives = trial.disk.lives
          let finding = trial.verify()
          if trial.disk.lives == lives, let finding { Issue.record("seed \(seed): \(finding)") }
          trial.disk.powerCut()
        }
        if let finding = trial.verify() {
          Issue.record("seed \(seed), cut \(trial.disk.powerCuts): \(finding)")
          break
        }
      }
      cuts += trial.disk.powerCuts
    }
    #expect(cuts >= 1000)
  }

  /// A process died in the sync of a commit, so that the kernel held it and the disk did not; the next start showed it to
  /// others, wrote nothing itself, and lost it in a power cut. Found by the test above with seeds 4, 6, 9, 14 and 19.
  @Test func whatAStartShowsStays() throws {
    var (shown, inside) = (0, 0)
    for seed in 1...60 as ClosedRange<UInt64> {
      let disk = DiskImage(random: SeededRandom(seed: seed))
      let options = Database.Options(vfs: disk.vfs)
      try {
        let file = try StoreFile(path: "/s.db", schema: schema, options: options)
        disk.crash(at: disk.operations + 1 + seed % 2)
        _ = try? file.database.execute("INSERT INTO row VALUES (1, x'01')")
      }()
      inside += disk.lives == 0 ? 0 : 1
      let seen = try StoreFile(path: "/s.db", schema: schema, options: options).database.int("SELECT count(*) FROM row")
      disk.powerCut()
      let kept = try StoreFile(path: "/s.db", schema: schema, options: options).database.int("SELECT count(*) FROM row")
      #expect(kept == seen, "seed \(seed)")
      shown += Int(seen)
    }
    #expect(shown > 10 && inside == 60, "\(shown) commits were shown, \(inside) crashes fell into one")
  }

  /// A new store's change to write-ahead logging is committed behind the pragma's row. When that failed, nobody heard of
  /// it: the database stayed empty beside a WAL that took acknowledged writes, and the next start deleted that WAL. Found
  /// by the device store's trial with seed 35.
  @Test func aFailedChangeToWriteAheadLoggingIsTold() throws {
    for operation in 1...12 {
      let disk = DiskImage(random: SeededRandom(seed: UInt64(operation)))
      let options = Database.Options(vfs: disk.vfs)
      // What was told; nil where an insert failed, which may or may not have taken effect.
      var told: Int64? = 0
      disk.fail(at: UInt64(operation))
      if let file = try? StoreFile(path: "/s.db", schema: schema, options: options) {
        do { try file.database.execute("INSERT INTO row VALUES (1, x'01')") } catch { told = nil }
        if told != nil { told = 1 }
      }
      disk.crash()
      let file = try StoreFile(path: "/s.db", schema: schema, options: options)
      let found = try file.database.int("SELECT count(*) FROM row")
      #expect(told == nil || told == found, "operation \(operation)")
    }
  }

  /// The pages of a commit reach the WAL in one write, and others see it only after the sync behind that.
  @Test func aCommitIsOneWriteAndOneSync() throws {
    let disk = DiskImage(random: SeededRandom(seed: 3))
    let file = try StoreFile(path: "/s.db", schema: schema, options: Database.Options(vfs: disk.vfs))
    let reader = try file.reader()
    try file.database.execute("INSERT INTO row VALUES (0, zeroblob(9000))")
    for number in 1...20 {
      let before = disk.operations
      try file.database.execute("INSERT INTO row VALUES (\(number), zeroblob(9000))")
      #expect(disk.operations == before + 2)
      #expect(try reader.int("SELECT max(number) FROM row") == number)
    }
    // More than is held at a time; some of it is read again before the commit.
    try file.database.execute("PRAGMA cache_size = 20")
    try file.database.write { () throws(SkerryError) in
      try file.database.execute("UPDATE row SET body = zeroblob(60000)")
      try file.database.execute("UPDATE row SET body = zeroblob(61000 + number)")
      #expect(try reader.int("SELECT max(length(body)) FROM row") == 9000)
    }
    #expect(try reader.int("SELECT min(length(body)) FROM row") == 61000)
    #expect(try reader.int("SELECT max(length(body)) FROM row") == 61020)
    try file.database.checkStructure(full: true)
  }

  /// The same workload where a promise is broken on purpose: the disk must show it, and soon.
  @Test(arguments: ["synchronous=OFF", "ignored syncs", "ignored syncs of directories"])
  func aBrokenPromiseIsFound(_ defect: String) throws {
    var faults = DiskFaults()
    faults.ignoresSyncs = defect == "ignored syncs"
    faults.ignoresDirectorySyncs = defect == "ignored syncs of directories"
    var found: String?
    for seed in 1...20 as ClosedRange<UInt64> where found == nil {
      var trial = Trial(seed: seed, isRelaxed: defect == "synchronous=OFF", faults: faults)
      for _ in 0..<10 where found == nil {
        trial.writeUntilEnd()
        found = trial.verify()
      }
    }
    #expect(found != nil, "20 seeds with \(defect) lost nothing")
  }

  /// After an unclean stop the store checks its pages, on this disk as on a real one.
  @Test func damageIsFoundAtTheNextStart() throws {
    let disk = DiskImage(random: SeededRandom(seed: 4))
    let options = Database.Options(vfs: disk.vfs)
    try {
      let file = try StoreFile(path: "/s.db", schema: schema, options: options)
      for number in 1...200 as ClosedRange<Int64> {
        let insert = try file.database.prepare("INSERT INTO row VALUES (?, ?)")
        insert.bind(1, number)
        insert.bind(2, body(number))
        try insert.run()
      }
      try file.database.checkpoint(.truncate)
    }()
    disk.crash()
    #expect(try StoreFile(path: "/s.db", schema: schema, options: options).wasUnclean)
    var image = disk.image
    let size = try #require(image["/s.db"]?.count)
    for page in stride(from: 4 * 4096, to: size, by: 4096) {
      image["/s.db"]?.replaceSubrange(page..<page + 100, with: Bytes(repeating: 0xff, count: 100))
    }
    disk.restore(image)
    #expect(throws: SkerryError.self) { _ = try StoreFile(path: "/s.db", schema: schema, options: options) }
  }

  @Test func aFullDiskAndFailingOperationsAreToldAndHarmless() throws {
    let disk = DiskImage(random: SeededRandom(seed: 8))
    let options = Database.Options(vfs: disk.vfs)
    var acknowledged: Int64 = 0
    var failures: Set<String> = []
    for round in 0..<60 {
      disk.faults = DiskFaults()
      let file = try StoreFile(path: "/s.db", schema: schema, options: options)
      try file.database.checkStructure(full: true)
      let stored = try file.database.int("SELECT coalesce(max(number), 0) FROM row")
      #expect(stored >= acknowledged)
      acknowledged = stored
      switch round % 3 {
      case 0: disk.faults.capacity = disk.usedBytes + 6000
      case 1: disk.faults.failing = [.write]
      default: disk.faults.failing = [.sync]
      }
      disk.faults.failsOneIn = 4
      do throws(SkerryError) {
        for _ in 0..<50 {
          let number = try file.database.int("SELECT coalesce(max(number), 0) FROM row") + 1
          try file.database.write { () throws(SkerryError) in
            let insert = try file.database.prepare("INSERT INTO row VALUES (?, ?)")
            insert.bind(1, number)
            insert.bind(2, body(number))
            try insert.run()
          }
          acknowledged = number
        }
      } catch {
        failures.insert(String(error.message.prefix(9)))
      }
      disk.faults = DiskFaults()
      if round % 2 == 0 { disk.powerCut() } else { disk.crash() }
    }
    #expect(failures == ["disk full", "input or "], "\(failures)")
  }

  @Test func locksHold() throws {
    let disk = DiskImage(random: SeededRandom(seed: 9))
    let options = Database.Options(vfs: disk.vfs)
    let file = try StoreFile(path: "/s.db", schema: schema, options: options)
    let second = try Database(path: "/s.db", options: options)
    try file.database.execute("BEGIN IMMEDIATE; INSERT INTO row VALUES (1, x'01')")
    #expect(throws: SkerryError.self) { try second.execute("BEGIN IMMEDIATE") }
    #expect(try second.int("SELECT count(*) FROM row") == 0)
    try second.execute("BEGIN")
    #expect(try second.int("SELECT count(*) FROM row") == 0)
    try file.database.execute("COMMIT")
    #expect(try second.int("SELECT count(*) FROM row") == 0, "a snapshot moved")
    let result = try file.database.checkpoint(.truncate)
    #expect(result.copied < result.frames, "a checkpoint went past a reader")
    try second.execute("COMMIT")
    #expect(try second.int("SELECT count(*) FROM row") == 1)
    try second.execute("BEGIN IMMEDIATE; INSERT INTO row VALUES (2, x'02'); COMMIT")
    // Whoever holds the lock and dies holds nothing.
    try second.execute("BEGIN IMMEDIATE; INSERT INTO row VALUES (3, x'03')")
    disk.crash()
    #expect(throws: SkerryError.self) { try second.execute("COMMIT") }
    let third = try StoreFile(path: "/s.db", schema: schema, options: options)
    #expect(third.wasUnclean)
    #expect(try third.database.int("SELECT count(*) FROM row") == 2)
    try third.database.execute("INSERT INTO row VALUES (4, x'04')")
  }
}
