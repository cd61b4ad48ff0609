import Base
import FaultVFS
import Glibc
import Store
import Testing

private let schema = Schema(
  name: "test", applicationID: 78, migrations: ["CREATE TABLE row (number INTEGER PRIMARY KEY, body BLOB NOT NULL)"])

private func body(_ number: Int64) -> Bytes {
  Bytes(repeating: UInt8(truncatingIfNeeded: number * 31), count: 1 + Int(number * 37 % 6000))
}

/// What one process does until the power fails. Acknowledgements go to a file outside of SQLite, which the kernel keeps.
private func writeUntilCut(_ directory: String, seed: UInt64, after: UInt64? = nil, isRelaxed: Bool = false) throws {
  let operation = after ?? 1 + seed * 7 % 90
  try PowerCutSwitch.install(PowerCutSwitch.Request("powercut,seed=\(seed),after=\(operation)"))
  let acknowledged = open(directory + "/acks", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
  let random = SeededRandom(seed: seed)
  while true {
    let options = Database.Options(synchronous: isRelaxed ? .normal : .full)
    let file = try StoreFile(path: directory + "/s.db", schema: schema, options: options)
    if isRelaxed { try file.database.execute("PRAGMA synchronous = OFF") }
    let reader = try file.reader()
    let insert = try file.database.prepare("INSERT INTO row VALUES (?, ?)")
    for _ in 0..<20 {
      let last = try reader.int("SELECT coalesce(max(number), 0) FROM row")
      try file.database.write { () throws(SkerryError) in
        for number in (last + 1)...(last + 1 + Int64(random.below(4))) {
          insert.bind(1, number)
          insert.bind(2, body(number))
          try insert.run()
        }
      }
      let line = Bytes("\(try reader.int("SELECT max(number) FROM row"))\n".utf8)
      _ = line.withUnsafeBytes { write(acknowledged, $0.baseAddress, $0.count) }
      if random.below(6) == 0 { try file.database.checkpoint(random.below(2) == 0 ? .passive : .truncate) }
    }
    if random.below(2) == 0 { try file.close() }
  }
}

/// What is wrong with the store after the cut; nil if all is well.
private func verify(_ directory: String) -> String? {
  do {
    let text = try String(decoding: read(directory + "/acks"), as: UTF8.self)
    let acknowledged = text.split(separator: "\n").compactMap { Int64($0) }.last ?? 0
    let file = try StoreFile(path: directory + "/s.db", schema: schema)
    try file.database.checkStructure(full: true)
    let rows = try file.database.prepare("SELECT number, body FROM row ORDER BY number")
    var last: Int64 = 0
    while try rows.step() {
      last += 1
      if rows.int(0) != last || rows.bytes(1) != body(last) { return "row \(last) is not what was written" }
    }
    if last > 200 { try file.database.execute("DELETE FROM row") }
    return last < acknowledged ? "\(acknowledged) rows were acknowledged, \(last) are there" : nil
  } catch {
    return "\(error)"
  }
}

private func read(_ path: String) throws -> Bytes {
  let file = open(path, O_RDONLY | O_CLOEXEC)
  guard file >= 0 else { return [] }
  defer { close(file) }
  var buffer = Bytes(repeating: 0, count: 1 << 20)
  let count = buffer.withUnsafeMutableBytes { Glibc.read(file, $0.baseAddress, $0.count) }
  return Bytes(buffer.prefix(max(count, 0)))
}

/// A directory of one test; it goes when the test is over.
private final class TemporaryDirectory: Sendable {
  let path: String
  init() throws {
    var template = Array("/tmp/skerry-vfs-XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else { throw SkerryError(.system, "mkdtemp failed") }
    path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
  deinit {
    for name in ["acks", "s.db", "s.db-wal", "s.db-shm", "s.db-journal", "s.db.lock"] { unlink("\(path)/\(name)") }
    rmdir(path)
  }
}

@Suite struct ProcessTests {
  @Test func realFilesKeepWhatWasSynced() async throws {
    let directory = try TemporaryDirectory()
    for seed in 1...40 as ClosedRange<UInt64> {
      await #expect(processExitsWith: .signal(SIGKILL)) { [path = directory.path as String, seed = seed as UInt64] in
        try writeUntilCut(path, seed: seed)
      }
      if let finding = verify(directory.path) {
        Issue.record("seed \(seed): \(finding)")
        return
      }
    }
  }

  /// A store that never was is there whole after the cut, or not at all.
  @Test func aFirstStartIsSafe() async throws {
    for seed in 0..<26 as Range<UInt64> {
      let directory = try TemporaryDirectory()
      for cut in 0..<2 as Range<UInt64> {
        await #expect(processExitsWith: .signal(SIGKILL)) {
          [path = directory.path as String, seed = (seed + cut * 26) as UInt64] in
          try writeUntilCut(path, seed: seed, after: 1 + seed % 26)
        }
        if let finding = verify(directory.path) { Issue.record("seed \(seed), cut \(cut): \(finding)") }
      }
    }
  }

  /// The same without syncs loses something soon, so the test above can fail.
  @Test func realFilesLoseWhatWasNotSynced() async throws {
    var found: String?
    for seed in 1...40 as ClosedRange<UInt64> where found == nil {
      let directory = try TemporaryDirectory()
      for cut in 0..<3 as Range<UInt64> where found == nil {
        await #expect(processExitsWith: .signal(SIGKILL)) {
          [path = directory.path as String, seed = (seed * 3 + cut) as UInt64] in
          try writeUntilCut(path, seed: seed, isRelaxed: true)
        }
        found = verify(directory.path)
      }
    }
    #expect(found != nil)
  }

  @Test func theSwitchIsReadStrictly() throws {
    let request = try PowerCutSwitch.Request("powercut,seed=5,after=17")
    #expect(request.seed == 5 && request.after == 17 && !request.ignoresSyncs)
    #expect(try PowerCutSwitch.Request("powercut,seed=5,after=17,syncs=ignored").ignoresSyncs)
    for text in [
      "", "powercut", "powercut,seed=5", "powercut,seed=5,after=0", "powercut,seed=5,after=x", "other,seed=5,after=1",
      "powercut,syncs=ignored", "powercut,seed=5,after=1,syncs=all", "powercut,seed=5,after=1,after=2",
      "powercut,seed=5,after=1,more=2", "powercut,seed=-1,after=1",
    ] {
      #expect(throws: SkerryError.self, "\(text) was taken") { try PowerCutSwitch.Request(text) }
    }
  }
}
