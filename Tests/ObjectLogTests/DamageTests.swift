import Base
import EventLoop
import Glibc
import ObjectLog
import Store
import Testing

/// A log on a small file system of its own.
private final class TinyDisk {
  let path: String
  let mounted: Bool

  init(_ path: String, size: String) {
    self.path = path
    mounted = mount("tmpfs", path, "tmpfs", 0, "size=\(size)") == 0
    if !mounted { print("skipped: a full disk needs the right to mount a tmpfs") }
  }
  func resize(_ size: String) -> Bool { mount("tmpfs", path, "tmpfs", UInt(MS_REMOUNT), "size=\(size)") == 0 }
  deinit { if mounted { umount2(path, Int32(MNT_DETACH)) } }
}

private let canary = Bytes("canary-5b1f-in-the-clear".utf8)

@LoopActor private func openLog(
  _ path: String, sealing: (any Sealing)? = nil, limits: LogLimits = LogLimits()
) throws -> SQLiteObjectLog {
  try SQLiteObjectLog.open(
    SQLiteObjectLog.Configuration(path: path, sealing: sealing, limits: limits), scheduler: testScheduler(),
    random: SeededRandom(seed: 5))
}

@LoopActor private func failure(_ body: @LoopActor () throws -> Void) -> SkerryError? {
  do {
    try body()
    return nil
  } catch {
    return error as? SkerryError
  }
}

/// Writes bytes into the middle of a file.
private func overwrite(_ path: String, at offset: Int, _ bytes: Bytes) {
  let descriptor = open(path, O_WRONLY)
  #expect(pwrite(descriptor, bytes, bytes.count, off_t(offset)) == bytes.count)
  close(descriptor)
}

extension Bytes {
  fileprivate func firstIndex(of needle: Bytes) -> Int? {
    guard count >= needle.count else { return nil }
    return (0...(count - needle.count)).first {
      self[$0] == needle[0] && self[$0..<($0 + needle.count)].elementsEqual(needle)
    }
  }
}

@Suite struct DamageTests {
  @Test func aDamagedValueIsNamedAndTheRestGoesOn() async throws {
    let directory = try TemporaryDirectory()
    try await onLoop {
      var log = try openLog(directory.log)
      _ = await log.put("k/a/1", [1])
      _ = await log.put("k/a/2", canary)
      try await log.close()
      let offset = try #require(try readFile(directory.log).firstIndex(of: canary))
      overwrite(directory.log, at: offset + 3, [0])
      log = try openLog(directory.log)
      let error = failure { _ = try log.read("k/a/2", at: nil) }
      #expect(error?.code == .corrupt)
      #expect(error?.message.contains("k/a/2 at position 3 is damaged") == true)
      #expect(failure { _ = try log.list(prefix: "", at: nil, after: nil, limit: 10) }?.code == .corrupt)
      #expect(failure { _ = try log.entries(after: 1, prefix: "", limit: 10) }?.code == .corrupt)
      #expect(try log.read("k/a/1", at: nil)?.body == [1])
      #expect(await log.put("k/a/2", [2]).error?.code == .corrupt)
      #expect(await log.put("k/a/1", [2]).revision == 4)
      #expect(log.failure == nil)
      try await log.close()
      #expect(failure { _ = try LogCheck.run(path: directory.log) }?.code == .corrupt)
    }
  }

  @Test func aDamagedPageStopsTheStartAfterAnUncleanStop() async throws {
    let directory = try TemporaryDirectory()
    try await onLoop {
      let log = try openLog(directory.log)
      for index in 0..<100 { _ = await log.put("k/a/\(index)", Bytes(repeating: UInt8(index), count: 500)) }
      try await log.close()
      try Database(path: directory.log).execute("UPDATE store SET clean = 0; PRAGMA wal_checkpoint(TRUNCATE)")
      overwrite(directory.log, at: 6 * 4096, Bytes(repeating: 0xa5, count: 4096))
      let error = failure { _ = try openLog(directory.log) }
      #expect(error?.code == .corrupt)
      #expect(error?.message.contains("\(directory.log) is damaged") == true)
      #expect(error?.message.contains("restore a backup") == true)
    }
  }

  @Test func aTruncatedFileIsRefused() async throws {
    let directory = try TemporaryDirectory()
    try await onLoop {
      let log = try openLog(directory.log)
      for index in 0..<100 { _ = await log.put("k/a/\(index)", Bytes(repeating: UInt8(index), count: 500)) }
      try await log.close()
      for size in [5 * 4096, 4096, 1000, 0] {
        #expect(truncate(directory.log, off_t(size)) == 0)
        let error = failure { _ = try openLog(directory.log) }
        #expect(error?.code == .corrupt, "\(size) bytes left: \(error?.message ?? "opened")")
      }
    }
  }

  @Test func aNewerSchemaIsRefusedAndUntouched() async throws {
    let directory = try TemporaryDirectory()
    try await onLoop {
      let log = try openLog(directory.log)
      _ = await log.put("k/a/1", [1])
      try await log.close()
      try Database(path: directory.log).execute("PRAGMA user_version = 99; PRAGMA wal_checkpoint(TRUNCATE)")
      let before = try readFile(directory.log)
      let error = failure { _ = try openLog(directory.log) }
      #expect(error?.code == .unsupportedVersion)
      #expect(error?.message.contains("written by a newer version (schema 99") == true)
      #expect(try readFile(directory.log) == before)
    }
  }

  @Test func aLogIsOpenedInItsRoleAndByOne() async throws {
    let directory = try TemporaryDirectory()
    try await onLoop {
      let log = try openLog(directory.log)
      let second = failure { _ = try openLog(directory.log) }
      #expect(second?.code == .unavailable)
      try await log.close()
      let other = failure {
        _ = try SQLiteObjectLog.open(
          SQLiteObjectLog.Configuration(path: directory.log, role: .follower), scheduler: testScheduler(),
          random: SeededRandom(seed: 1))
      }
      #expect(other?.code == .invalidArgument)
      #expect(other?.message.contains("belongs to a leader") == true)
    }
  }

  @Test func aFullDiskStopsWritesKeepsReadsAndIsOvercome() async throws {
    let directory = try TemporaryDirectory()
    let disk = TinyDisk(directory.path, size: "1m")
    guard disk.mounted else { return }
    let resize = { disk.resize("64m") }
    try await onLoop {
      let log = try openLog(directory.log)
      var stops: [SkerryError] = []
      log.onFailure = { stops.append($0) }
      var written = 0
      var refused: SkerryError?
      while refused == nil, written < 5000 {
        let result = await log.put("k/a/\(written)", Bytes(repeating: 7, count: 2000))
        refused = result.error
        if result.revision != nil { written += 1 }
      }
      #expect(refused?.code == .unavailable)
      #expect(refused?.description.contains("disk full at \(directory.log): free space") == true)
      #expect(stops.count == 1 && log.failure?.code == .unavailable)
      #expect(await log.put("k/b/1", [1]).error?.code == .unavailable)
      #expect(try log.list(prefix: "k/", at: nil, after: nil, limit: 5000).objects.count > 0)
      #expect(try log.read("k/a/\(written - 1)", at: nil)?.body.count == 2000)
      await #expect(throws: SkerryError.self) { try await log.reopen() }
      #expect(await log.put("k/b/1", [1]).error?.code == .unavailable)
      #expect(resize())
      try await log.reopen()
      #expect(log.failure == nil)
      #expect(await log.put("k/b/1", [1]).revision == log.tail.position)
      for index in 0..<written { #expect(try log.read("k/a/\(index)", at: nil)?.revision == UInt64(index + 2)) }
      try await log.close()
      _ = try LogCheck.run(path: directory.log)
    }
  }

  @Test func backupAndRestoreBeginAnEpoch() async throws {
    let directory = try TemporaryDirectory()
    try await onLoop {
      let copy = directory.path + "/backup.db"
      var log = try openLog(directory.log)
      for index in 0..<20 { _ = await log.put("k/a/\(index)", [UInt8(index)]) }
      try await log.backup(to: copy)
      let report = try LogCheck.run(path: copy)
      #expect(report.objects == 20 && report.cursor == log.tail)
      await #expect(throws: SkerryError.self) { try await log.backup(to: copy) }
      for index in 0..<5 { _ = await log.put("k/a/\(index)", [99]) }
      let last = log.tail
      #expect(
        failure { _ = try LogRestore.run(from: copy, to: directory.log, random: SeededRandom(seed: 1)) }?.code
          == .unavailable)
      try await log.close()
      let restored = try LogRestore.run(from: copy, to: directory.log, random: SeededRandom(seed: 1))
      #expect(restored.log == last.log && restored.epoch > last.epoch)
      #expect(restored.position >= last.position + 1_000_000_000)
      log = try openLog(directory.log)
      #expect(log.tail == restored)
      #expect(try log.read("k/a/1", at: nil)?.body == [1])
      #expect(try log.read("k/a/1", at: nil)?.revision == 3)
      #expect(failure { _ = try log.entries(after: last.position, prefix: "", limit: 1) }?.code == .tooOld)
      #expect(await log.put("k/a/1", [5]).revision == restored.position + 1)
      #expect(try log.entries(after: restored.position, prefix: "", limit: 9).entries.map(\.previousRevision) == [3])
      try await log.close()
      let second = failure { _ = try LogRestore.run(from: copy, to: directory.log, random: SeededRandom(seed: 2)) }
      #expect(second?.code == .alreadyExists)
      #expect(try LogCheck.run(path: directory.path + "/log.db.replaced").cursor == last)
    }
  }

  @Test func sealedValuesAreNowhereInTheClear() async throws {
    let directory = try TemporaryDirectory()
    try await onLoop {
      let copy = directory.path + "/backup.db"
      let log = try openLog(directory.log, sealing: TestSealing())
      _ = await log.put("secrets/a/1", canary, seal: true)
      _ = await log.put("secrets/a/1", canary + [1], seal: true)
      let status = Change(
        key: "secrets/a/2", guarding: .any, operation: .put(body: [1], status: canary, meta: []), seal: true)
      _ = await log.append([status, Change(key: "secrets/a/1", guarding: .any, operation: .delete)])
      #expect(try log.read("secrets/a/1", at: 3)?.body == canary + [1])
      #expect(try log.read("secrets/a/1", at: 3)?.sealed == true)
      #expect(try log.read("secrets/a/2", at: nil)?.status == canary)
      #expect(try log.entries(after: 1, prefix: "", limit: 9).entries.map(\.object.sealed) == [true, true, true, true])
      try await log.backup(to: copy)
      for file in [directory.log, directory.log + "-wal", copy] {
        #expect(try readFile(file).firstIndex(of: canary) == nil, "\(file)")
      }
      // The same value unsealed is found: the search can fail.
      _ = await log.put("plain/a/1", canary)
      #expect(try readFile(directory.log + "-wal").firstIndex(of: canary) != nil)
      try await log.close()
      #expect(try LogCheck.run(path: copy, sealing: TestSealing()).sealed == 4)
      let blind = try openLog(directory.log)
      let error = failure { _ = try blind.read("secrets/a/2", at: nil) }
      #expect(error?.message.contains("without a key ring") == true)
      #expect(await blind.put("secrets/a/3", canary, seal: true).error?.code == .invalidArgument)
      try await blind.close()
    }
  }

  @Test func whatWasDeletedAndCompactedIsGoneFromTheFile() async throws {
    let directory = try TemporaryDirectory()
    try await onLoop {
      let log = try openLog(directory.log)
      _ = await log.put("k/a/1", canary)
      _ = await log.append([Change(key: "k/a/1", guarding: .any, operation: .delete)])
      _ = await log.put("k/a/2", [1])
      log.compact(through: log.tail.position)
      try await log.close()
      #expect(try readFile(directory.log).firstIndex(of: canary) == nil)
      #expect(try LogCheck.run(path: directory.log).versions == 1)
    }
  }
}

/// Enough of a cipher to tell sealed bytes from open ones, and one key's context from another's.
private struct TestSealing: Sealing {
  func seal(_ plain: Bytes, context: Bytes) throws(SkerryError) -> Bytes {
    [UInt8(truncatingIfNeeded: context.count)] + plain.map { $0 ^ 0x5a } + [context.reduce(0, ^)]
  }
  func open(_ sealed: Bytes, context: Bytes) throws(SkerryError) -> Bytes {
    guard sealed.first == UInt8(truncatingIfNeeded: context.count), sealed.last == context.reduce(0, ^) else {
      throw SkerryError(.corrupt, "sealed under another context")
    }
    return sealed.dropFirst().dropLast().map { $0 ^ 0x5a }
  }
}
