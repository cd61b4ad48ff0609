import Base
import EventLoop
import FaultVFS
import Glibc
import ObjectLog
import Store
import Testing

/// Copies and restores, one after the other, until the power fails.
private func copyUntilCut(_ directory: String, seed: UInt64) throws {
  try PowerCutSwitch.install(PowerCutSwitch.Request("powercut,seed=\(seed),after=\(1 + seed * 37 % 600)"))
  var number = 0
  while true {
    number += 1
    let copy = "\(directory)/copy-\(seed)-\(number).db"
    let backup = try Backup(of: Database.reader(path: "\(directory)/log.db"), to: copy)
    while try !backup.step(pages: 3) {}
    _ = try LogRestore.run(
      from: copy, to: "\(directory)/restored-\(seed)-\(number).db", random: SeededRandom(seed: seed))
  }
}

@Suite struct BackupCutTests {
  /// A backup and a restored log have their names only when all of them is on disk.
  @Test func whatHasItsNameIsWhole() async throws {
    let directory = "/tmp/skerry-backup-\(SystemRandom().bytes(8).hex)"
    try Files.makeDirectory(directory)
    defer { try? Files.removeTree(directory) }
    try await makeLog("\(directory)/log.db")
    var (copies, restored) = (0, 0)
    for seed in 1...20 as ClosedRange<UInt64> {
      await #expect(processExitsWith: .signal(SIGKILL)) { [directory = directory as String, seed = seed as UInt64] in
        try copyUntilCut(directory, seed: seed)
      }
      for name in Files.list(directory) where name.hasSuffix(".db") && name != "log.db" {
        do {
          let report = try LogCheck.run(path: "\(directory)/\(name)")
          #expect(report.objects == 40, "\(name) has \(report.objects) objects")
        } catch {
          Issue.record("seed \(seed): \(name) is not whole: \(error)")
        }
        if name.hasPrefix("copy") { copies += 1 } else { restored += 1 }
      }
      for name in Files.list(directory) where !name.hasPrefix("log.db") { try Files.removeFile("\(directory)/\(name)") }
    }
    #expect(copies > 10 && restored > 10, "\(copies) copies and \(restored) restored logs were looked at")
  }

  private func makeLog(_ path: String) async throws {
    try await onLoop {
      let log = try SQLiteObjectLog.open(
        SQLiteObjectLog.Configuration(path: path), scheduler: Loop.startShared(), random: SeededRandom(seed: 2))
      let changes = (0..<40).map { number in
        Change(
          key: "k/a/\(number)", guarding: .any,
          operation: .put(body: Bytes(repeating: UInt8(number), count: 3000), status: nil, meta: [1]))
      }
      await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
        log.append(changes) { _ in continuation.resume() }
      }
      try await log.close()
    }
  }
}
