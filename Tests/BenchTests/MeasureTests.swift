import Base
import Testing

@testable import Bench

@Suite struct MeasureTests {
  @Test func crcIsCastagnolis() {
    // RFC 3720, B.4: 32 bytes of zeros, of ones, and rising.
    func crc(_ bytes: Bytes) -> UInt32 { bytes.withUnsafeBytes { CRC32C.update(0, $0) } }
    #expect(crc(Bytes(repeating: 0, count: 32)) == 0x8a91_36aa)
    #expect(crc(Bytes(repeating: 0xff, count: 32)) == 0x62a8_ab43)
    #expect(crc(Bytes(0..<32)) == 0x46dd_794e)
    let text = Bytes("a longer text whose length is no multiple of eight".utf8)
    let (head, tail) = (Bytes(text[..<13]), Bytes(text[13...]))
    let first = crc(head)
    #expect(tail.withUnsafeBytes { CRC32C.update(first, $0) } == crc(text))
  }

  @Test func aPayloadIsFoundAndADamagedOneIsNot() throws {
    let payload = Payload(writer: 7, sequence: 1 << 40, time: 123_456_789)
    let bytes = payload.bytes(1_024)
    let message = Bytes("SKB SK some CBOR before it S".utf8) + bytes + [0xf6]
    try message.withUnsafeBytes { raw in
      let found = try #require(Payload.find(in: raw, length: 1_024))
      let read = try #require(Payload(found))
      #expect(read.writer == 7 && read.sequence == 1 << 40 && read.time == 123_456_789)
      #expect(Payload.find(in: raw, length: 1_026) == nil)
    }
    for position in [0, 20, 45, 60, 1_023] {
      var broken = bytes
      broken[position] ^= 1
      #expect(broken.withUnsafeBytes { Payload($0) == nil }, "a flipped bit at \(position) went unnoticed")
    }
  }

  @Test func receiversNoticeWhatIsWrong() {
    var (check, tally) = (EventCheck(), Tally())
    func take(_ sequence: UInt64, revision: UInt64, damage: Bool = false) {
      var bytes = Payload(writer: 3, sequence: sequence, time: 10).bytes(100)
      if damage { bytes[99] ^= 1 }
      bytes.withUnsafeBytes { raw in
        _ = check.take(raw, revision: revision, payloadBytes: 100, now: 30, into: &tally)
      }
    }
    take(1, revision: 5)
    take(2, revision: 6)
    #expect(tally.violations == 0 && tally.deliveries == 2 && tally.latency.count == 2)
    take(2, revision: 7)
    #expect(tally.repeats == 1)
    take(5, revision: 8)
    #expect(tally.gaps == 2)
    take(6, revision: 8)
    #expect(tally.disorder == 1)
    take(7, revision: 9, damage: true)
    #expect(tally.damaged == 1 && tally.violations == 5)
    let travelled = Tally(tally.value)
    #expect(travelled.violations == 5 && travelled.latency.count == tally.latency.count)
  }

  @Test func latestWinsMayLeaveOutAndNeverFallsBack() {
    var (check, tally) = (EventCheck(latestWins: true), Tally())
    for sequence in [1, 4, 9, 3] as [UInt64] {
      Payload(writer: 0, sequence: sequence, time: 0).bytes(64).withUnsafeBytes { raw in
        _ = check.take(raw, revision: 0, payloadBytes: 64, now: 1, into: &tally)
      }
    }
    #expect(tally.gaps == 0 && tally.repeats == 1 && tally.deliveries == 3)
  }

  @Test func latenciesTravelAndAdd() {
    var latency = Latency()
    for milliseconds in 1...1_000 { latency.record(UInt64(milliseconds) * 1_000_000) }
    var other = Latency(latency.value)
    other.add(latency)
    #expect(other.count == 2_000)
    let p99 = other.percentile(99).seconds
    #expect(abs(p99 - 0.99) < 0.002)
    var corrected = Latency()
    corrected.recordCorrected(10_000_000, interval: 1_000_000)
    #expect(corrected.count == 10, "what could not start while it waited counts too")
  }

  @Test func metricsAreRead() {
    let text = "HTTP/1.1 200 OK\r\n\r\n# HELP a_b An a.\n# TYPE a_b gauge\na_b_c 7\na_b 1234.0\na{x=\"1\"} 3\n"
    #expect(MetricsReader.parse(text, "a_b") == 1_234 && MetricsReader.parse(text, "a_b_c") == 7)
    #expect(MetricsReader.parse(text, "a") == nil && MetricsReader.parse("", "a") == nil)
  }

  @Test func countsOfTheKernelAreRead() {
    func line(_ count: String, _ call: String) -> String { "\(count),,syscalls:sys_enter_\(call),1000,100.00,,\n" }
    #expect(SyncCount.parse("# started\n" + line("3", "fsync") + line("4", "fdatasync"), events: 2) == 7)
    #expect(SyncCount.parse(line("<not counted>", "fsync") + line("4", "fdatasync"), events: 2) == 4)
    #expect(SyncCount.parse(line("<not supported>", "fsync") + line("4", "fdatasync"), events: 2) == nil)
    #expect(SyncCount.parse("perf: no permission", events: 2) == nil)
  }

  @Test func callgrindsOutputIsRead() throws {
    let text = """
      version: 1
      events: Ir
      fn=(1) main
      16 400
      cfn=(2) malloc
      calls=3 1
      16 200
      cfn=(3) free
      calls=9 1
      16 20
      fn=(4) other
      cfn=(2)
      calls=4 1
      1 1
      cfn=(5) realloc'2
      calls=1 1
      1 1
      totals: 12345
      """
    let cost = try MicroCommand.parse(text)
    #expect(cost.instructions == 12_345 && cost.allocations == 8)
    #expect(throws: SkerryError.self) { try MicroCommand.parse("nothing") }
  }
}
