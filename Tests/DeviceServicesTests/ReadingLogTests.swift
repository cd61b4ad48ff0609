import Base
import DeviceSDK
import Glibc
import Store
import Testing

@testable import DeviceServices

/// A directory of its own that goes away with the test.
final class Directory {
  let path: String
  init() {
    var template = Array("/tmp/skerry-device-XXXXXX".utf8CString)
    path = template.withUnsafeMutableBufferPointer { buffer in
      guard let base = buffer.baseAddress, let made = mkdtemp(base) else { return "/nonexistent" }
      return String(cString: made)
    }
  }
  deinit { remove() }
  func remove() {
    for suffix in ["", "-wal", "-shm", ".lock"] { unlink(file + suffix) }
    rmdir(path)
  }
  var file: String { path + "/readings.db" }
}

func incarnation(_ byte: UInt8) -> Bytes { Bytes(repeating: byte, count: 16) }

func readings(_ values: ClosedRange<Int64>, time: Int64 = 1000) -> [Reading] {
  values.map {
    Reading(device: "default/d", property: "counter", type: .uint16, value: .int($0), quality: .good, time: time)
  }
}

@Suite struct ReadingLogTests {
  private let directory = Directory()

  private func open(_ byte: UInt8, _ limits: ReadingLimits = ReadingLimits()) throws -> ReadingLog {
    try ReadingLog(path: directory.file, incarnation: incarnation(byte), now: 0, limits: limits)
  }

  /// Everything behind a position, page by page.
  private func drain(
    _ log: ReadingLog, _ start: Bytes? = nil, after: UInt64 = 0, limit: Int = 3
  ) throws -> [ReadingPage] {
    var pages: [ReadingPage] = []
    var (incarnation, position) = (start, after)
    while let page = try log.page(incarnation: incarnation, after: position, limit: limit) {
      pages.append(page)
      (incarnation, position) = (page.incarnation, page.through)
    }
    return pages
  }

  @Test func pagesAreContiguousAndInOrder() throws {
    let log = try open(1)
    #expect(try log.page(incarnation: nil, after: 0, limit: 10) == nil)
    try log.append([.init(readings: readings(1...2)), .init(readings: readings(3...7))])
    let pages = try drain(log)
    #expect(pages.map(\.after) == [0, 3, 6])
    #expect(pages.map(\.through) == [3, 6, 7])
    #expect(pages.flatMap { $0.readings.map(\.reading.value) } == (1...7).map { .int($0) })
    #expect(pages.flatMap { $0.readings.map(\.number) } == Array(1...7))
  }

  /// Small commits make one block longer; what is read, dropped and appended in between stays what it was.
  @Test func commitsShareABlock() throws {
    let log = try open(1)
    for value in 1...50 { try log.append([.init(readings: readings(Int64(value)...Int64(value)))]) }
    #expect(try log.database.int("SELECT count(*) FROM block") == 1)
    #expect(try drain(log, limit: 7).flatMap { $0.readings.map(\.reading.value) } == (1...50).map { .int($0) })
    #expect(try log.page(incarnation: incarnation(1), after: 48, limit: 9)?.readings.map(\.number) == [49, 50])
    let bytes = try log.database.int("SELECT sum(length(data)) FROM block")
    #expect(try log.bytes() == bytes + 32)
    #expect(bytes < 150)
    // The block that grows is dropped under it: the next reading begins another.
    try log.acknowledge(incarnation: incarnation(1), through: 50)
    while try log.retain(now: 1_000_000_000) {}
    try log.append([.init(readings: readings(51...51))])
    #expect(try log.page(incarnation: incarnation(1), after: 50, limit: 9)?.readings.map(\.number) == [51])
    #expect(try log.database.int("SELECT count(*) FROM block") == 1)
  }

  @Test func allKindsOfValuesComeBack() throws {
    let log = try open(1)
    let given = [
      Reading(device: "a/b", property: "f", type: .float32, value: 21.3, quality: .good, time: 5),
      Reading(device: "a/b", property: "s", type: .string, value: "ä", quality: .good, time: 6),
      Reading(device: "a/b", property: "b", type: .bool, value: true, quality: .good, time: 7),
      Reading(device: "a/c", property: "b", type: .bool, value: .null, quality: .bad("no answer"), time: 8),
    ]
    try log.append([.init(readings: given)])
    #expect(try drain(log, limit: 10).flatMap { $0.readings.map(\.reading) } == given)
  }

  @Test func aReaderGoesThroughIncarnationsInOrder() throws {
    do {
      let log = try open(1)
      try log.append([.init(readings: readings(1...4))])
      try log.close()
    }
    do {
      let log = try open(2)  // nothing was read from it
      try log.append([.init(readings: readings(5...6))])
    }
    let log = try open(3)
    try log.append([.init(readings: readings(7...7))])
    #expect(try log.incarnations().map(\.uid) == [1, 2, 3].map(incarnation))
    let pages = try drain(log)
    #expect(pages.map(\.incarnation) == [1, 1, 2, 3].map(incarnation))
    #expect(pages.map(\.after) == [0, 3, 0, 0])
    #expect(pages.flatMap { $0.readings.map(\.reading.value) } == (1...7).map { .int($0) })
    let rest = try drain(log, incarnation(2), after: 1)
    #expect(rest.flatMap { $0.readings.map(\.reading.value) } == [6, 7])
    #expect(throws: SkerryError.self) { try log.page(incarnation: incarnation(9), after: 0, limit: 1) }
  }

  @Test func acknowledgingMovesTheDurableCursor() throws {
    do {
      let log = try open(1)
      try log.append([.init(readings: readings(1...4))])
      try log.acknowledge(incarnation: incarnation(1), through: 3)
      try log.acknowledge(incarnation: incarnation(1), through: 2)
      #expect(throws: SkerryError.self) { try log.acknowledge(incarnation: incarnation(1), through: 5) }
    }
    do {
      let log = try open(2)
      let page = try #require(try log.page(incarnation: nil, after: 0, limit: 10))
      #expect(page.after == 3 && page.readings.map(\.number) == [4])
      try log.append([.init(readings: readings(5...5))])
      try log.acknowledge(incarnation: incarnation(2), through: 1)
      #expect(try log.page(incarnation: nil, after: 0, limit: 10) == nil)
      #expect(try log.backlog() == 0)
    }
  }

  @Test func aRepeatedBatchIsAppliedOnce() throws {
    let log = try open(1)
    let first = ReadingLog.Batch(driver: "modbus", run: [1], sequence: 1, lost: 0, readings: readings(1...1))
    let second = ReadingLog.Batch(driver: "modbus", run: [1], sequence: 2, lost: 0, readings: readings(2...2))
    try log.append([first])
    try log.append([first, second])
    #expect(try log.append([second]) == 2)
    // Another run counts anew.
    try log.append([ReadingLog.Batch(driver: "modbus", run: [2], sequence: 1, lost: 0, readings: readings(3...3))])
    #expect(try drain(log).flatMap { $0.readings.map(\.reading.value) } == [1, 2, 3])
  }

  @Test func whatADriverDroppedIsAnEntry() throws {
    let log = try open(1)
    try log.append([.init(readings: readings(1...2))])
    try log.append([.init(driver: "m", run: [1], sequence: 1, lost: 40, readings: readings(43...44))])
    let pages = try drain(log, limit: 10)
    #expect(pages.map(\.lost) == [nil, Loss(from: 3, to: 3, count: 40), nil])
    #expect(pages.map(\.through) == [2, 3, 5])
  }

  @Test func theBoundOnBytesLeavesALoss() throws {
    var limits = ReadingLimits()
    limits.rowsPerBlock = 2
    limits.maxBytes = 10 * 50
    let log = try open(1, limits)
    try log.append([.init(readings: readings(1...30))])
    try log.acknowledge(incarnation: incarnation(1), through: 3)
    while try log.retain(now: 1000) {}
    #expect(try log.bytes() <= limits.maxBytes)
    let pages = try drain(log, incarnation(1), after: 3, limit: 100)
    let loss = try #require(pages.first?.lost)
    #expect(loss.from == 4 && loss.count == loss.to - 3)
    #expect(pages.count == 2 && pages[1].after == loss.to && pages[1].through == 30)
    // A second drop extends the same loss.
    try log.append([.init(readings: readings(31...40))])
    while try log.retain(now: 1000) {}
    let again = try drain(log, incarnation(1), after: 3, limit: 100)
    #expect(again.compactMap(\.lost).count == 1)
    let longer = try #require(again.first?.lost)
    #expect(longer.from == 4 && longer.to > loss.to && longer.count == longer.to - 3)
    // A reader in the middle of it hears the rest.
    #expect(try log.page(incarnation: incarnation(1), after: 5, limit: 1)?.lost?.count == longer.to - 5)
  }

  @Test func readingsOfAWrongClockDoNotGoWhenItIsSetRight() throws {
    var limits = ReadingLimits()
    limits.maxAge = .seconds(10)
    let log = try open(1, limits)
    // Taken in 1970, without a cloud; then the clock shows today.
    try log.append([.init(readings: readings(1...4, time: 1000))])
    let today = (Version.released.seconds + 1_000_000) * 1000
    #expect(try !log.retain(now: today))
    #expect(try drain(log).flatMap { $0.readings.map(\.number) } == [1, 2, 3, 4])
    // What the cloud has goes as ever.
    try log.acknowledge(incarnation: incarnation(1), through: 4)
    while try log.retain(now: today) {}
    #expect(try log.bytes() == 0)
  }

  @Test func ageDropsExportedSoonerThanOthers() throws {
    var limits = ReadingLimits()
    limits.keepExported = .seconds(1)
    limits.maxAge = .seconds(10)
    limits.rowsPerBlock = 2
    let log = try open(1, limits)
    try log.append([.init(readings: readings(1...4, time: 1000))])
    try log.acknowledge(incarnation: incarnation(1), through: 2)
    #expect(try !log.retain(now: 3000))
    #expect(try drain(log).flatMap { $0.readings.map(\.number) } == [3, 4])
    // Who asks for what was acknowledged and dropped hears that it is gone.
    #expect(try log.page(incarnation: incarnation(1), after: 0, limit: 9)?.lost == Loss(from: 1, to: 2, count: 2))
    #expect(try !log.retain(now: 20_000))
    #expect(try drain(log).map(\.lost) == [Loss(from: 3, to: 4, count: 2)])
    #expect(try log.bytes() == 0)
  }

  /// A commit that fails changes nothing: the next one goes on with the next number.
  @Test func aFullDiskLosesNothingThatWasAcknowledged() throws {
    let log = try open(1)
    try log.append([.init(readings: readings(1...3))])
    let pages = try log.database.intPragma("page_count")
    try log.database.execute("PRAGMA max_page_count = \(pages)")
    let long = (10..<60).map { number in
      Reading(
        device: "default/new", property: "text", type: .string,
        value: .string("\(number)" + String(repeating: "x", count: 1000)), quality: .good, time: 1)
    }
    let error = #expect(throws: SkerryError.self) {
      try log.append([.init(readings: long)])
    }
    #expect(error?.message.contains("disk full") == true, "\(error?.message ?? "")")
    #expect(try drain(log).flatMap { $0.readings.map(\.number) } == [1, 2, 3])
    try log.database.execute("PRAGMA max_page_count = 100000")
    try log.append([.init(readings: [long[0]] + readings(5...5))])
    #expect(try drain(log).flatMap { $0.readings.map(\.number) } == [1, 2, 3, 4, 5])
    #expect(try drain(log).last?.readings.last?.reading.value == 5)
  }

  @Test func oldIncarnationsGoWhenTheyAreEmptyAndExported() throws {
    var limits = ReadingLimits()
    limits.keepExported = .seconds(1)
    do {
      let log = try open(1, limits)
      try log.append([.init(readings: readings(1...4))])
      try log.acknowledge(incarnation: incarnation(1), through: 4)
      _ = try log.retain(now: 100_000)
    }
    #expect(try open(2).incarnations().map(\.uid) == [incarnation(2)])
  }
}

@Suite struct CommandAuditTests {
  private let directory = Directory()

  private func open(_ byte: UInt8) throws -> ReadingLog {
    try ReadingLog(path: directory.file, incarnation: incarnation(byte), now: 0)
  }
  private func entry(_ id: String, _ state: CommandState = .running) -> AuditEntry {
    AuditEntry(
      command: id, device: "default/d", property: "setpoint", origin: "command", caller: "ann", verb: "write",
      value: 21, state: state, started: 5)
  }

  @Test func anIdRunsOnce() throws {
    let log = try open(1)
    guard case .begun(let row) = try log.begin(entry("c1")) else {
      Issue.record("a new command was not begun")
      return
    }
    guard case .repeated(let running) = try log.begin(entry("c1")) else {
      Issue.record("a repeated command was begun")
      return
    }
    #expect(running.state == .running)
    try log.finish(row, state: .done, before: 20, after: 21, message: "", now: 9)
    guard case .repeated(let done) = try log.begin(entry("c1")) else {
      Issue.record("a finished command was begun again")
      return
    }
    #expect(done.state == .done && done.before == 20 && done.after == 21 && done.finished == 9)
    #expect(done.caller == "ann" && done.value == 21 && done.started == 5)
  }

  @Test func aCommandThatWasRunningAtACrashIsUnknown() throws {
    do { _ = try open(1).begin(entry("c1")) }
    let log = try open(2)
    let found = try #require(try log.audit(command: "c1"))
    #expect(found.state == .unknown && !found.message.isEmpty)
  }

  @Test func desiredWritesHaveNoIdAndAreAllKept() throws {
    let log = try open(1)
    _ = try log.begin(entry("", .done))
    _ = try log.begin(entry("", .done))
    #expect(try log.audit(limit: 10).count == 2)
    #expect(try log.audit(device: "default/other", limit: 10).isEmpty)
  }
}
