import Base
import EventLoop

/// What every `ByteStream` must do. A case makes its own joined pair and throws what it found wrong.
@LoopActor package struct StreamConformance {
  package typealias Pair = (first: any ByteStream, second: any ByteStream)
  /// Makes two joined ends, both open and paused.
  package var makePair: () async throws -> Pair
  package var scheduler: any Scheduler

  package init(on scheduler: any Scheduler, makePair: @escaping () async throws -> Pair) {
    self.scheduler = scheduler
    self.makePair = makePair
  }

  /// All cases, with names for the messages.
  package func runAll() async throws {
    try await carriesBytesBothWays()
    try await holdsBackAWriterWhoseReaderIsPaused()
    try await keepsAHalfOpenDirectionUsable()
    try await writesAllBeforeItEnds()
    try await closesOnceAndThenSaysNothing()
    try await mayBeClosedWithinADelivery()
    try await survivesManySmallWrites()
  }

  private func require(_ condition: Bool, _ what: String, line: UInt = #line) throws(SkerryError) {
    if !condition { throw SkerryError(.internal, "stream conformance: \(what)", line: line) }
  }

  /// Bytes that repeat with a period that no buffer size divides.
  package nonisolated static func pattern(_ count: Int) -> Bytes {
    let period = Bytes(0..<251)
    var out: Bytes = []
    out.reserveCapacity(count + period.count)
    while out.count < count { out.append(contentsOf: period) }
    out.removeLast(out.count - count)
    return out
  }

  private func probes(reading: Bool = true) async throws -> (StreamProbe, StreamProbe) {
    let pair = try await makePair()
    let first = StreamProbe(pair.first, on: scheduler, reading: reading)
    return (first, StreamProbe(pair.second, on: scheduler, reading: reading))
  }

  package func carriesBytesBothWays() async throws {
    let (a, b) = try await probes()
    a.stream.write(Array("ping".utf8))
    try await b.wait("ping") { $0.text == "ping" }
    b.stream.write(Array("pong".utf8))
    try await a.wait("pong") { $0.text == "pong" }
    a.stream.close()
    try await b.wait("the end") { $0.ended || $0.closed }
    b.stream.close()
    try await a.wait("the close") { $0.closed }
  }

  package func holdsBackAWriterWhoseReaderIsPaused() async throws {
    let (a, b) = try await probes(reading: false)
    let data = Self.pattern(12 * 1024 * 1024)
    a.stream.write(data)
    try require(a.stream.pendingWriteBytes > 0, "12 MiB went to a paused reader at once")
    try require(a.drains == 0, "a drain was told inside of write")
    b.stream.resumeReading()
    try await b.wait("a first part") { $0.received.count > 0 }
    b.stream.pauseReading()
    let seen = b.received.count
    try await scheduler.sleep(for: .milliseconds(20))
    try require(b.received.count == seen, "a paused stream delivered")
    b.stream.resumeReading()
    try await b.wait("all bytes") { $0.received.count >= data.count }
    try require(b.received == data, "the bytes differ")
    try await a.wait("the drain") { $0.drains == 1 }
    try require(a.stream.pendingWriteBytes == 0, "bytes are pending after the drain")
    a.stream.close()
    b.stream.close()
    try await a.wait("the close") { $0.closed }
  }

  package func keepsAHalfOpenDirectionUsable() async throws {
    let (a, b) = try await probes()
    a.stream.write(Array("question".utf8))
    a.stream.finishWriting()
    a.stream.write(Array("ignored".utf8))
    try await b.wait("the end") { $0.ended }
    try require(b.text == "question", "the other side received \(b.text)")
    try require(!a.closed && !b.closed, "a half-closed stream closed")
    b.stream.write(Array("answer".utf8))
    try await a.wait("the answer") { $0.text == "answer" }
    b.stream.finishWriting()
    try await a.wait("the close") { $0.closed }
    try await b.wait("the close") { $0.closed }
    try require(a.error == nil && b.error == nil, "an orderly end gave \(String(describing: a.error ?? b.error))")
    try require(a.ended, "the end was not told before the close")
    try require(a.lateCalls + b.lateCalls == 0, "calls after the close")
  }

  package func writesAllBeforeItEnds() async throws {
    let (a, b) = try await probes(reading: false)
    let data = Self.pattern(3 * 1024 * 1024)
    a.stream.write(data)
    a.stream.finishWriting()
    b.stream.resumeReading()
    try await b.wait("the end") { $0.ended }
    try require(b.received == data, "\(b.received.count) of \(data.count) bytes came before the end")
    b.stream.close()
    a.stream.close()
    try await b.wait("the close") { $0.closed }
  }

  package func closesOnceAndThenSaysNothing() async throws {
    let (a, b) = try await probes()
    b.stream.write(Array("on its way".utf8))
    a.stream.close()
    try require(!a.closed, "the close was told inside of close")
    a.stream.close()
    a.stream.write([1])
    a.stream.resumeReading()
    a.stream.finishWriting()
    try await a.wait("the close") { $0.closed }
    try require(a.error == nil, "our own close gave \(String(describing: a.error))")
    try require(a.received.isEmpty, "bytes came after close")
    try await b.wait("the end or close") { $0.ended || $0.closed }
    b.stream.close()
    try await b.wait("the close") { $0.closed }
    try await scheduler.sleep(for: .milliseconds(5))
    try require(a.lateCalls + b.lateCalls == 0, "calls after the close")
    try require(a.stream.delegate == nil, "a closed stream holds its delegate")
  }

  package func mayBeClosedWithinADelivery() async throws {
    let (a, b) = try await probes()
    b.onBytes = { _ in b.stream.close() }
    a.stream.write(Self.pattern(3 << 20))
    try await b.wait("the close") { $0.closed }
    try require(b.received.count < 3 << 20, "all came in one piece: this case shows nothing")
    try require(b.lateCalls == 0, "calls after the close")
    a.stream.close()
    try await a.wait("the close") { $0.closed }
  }

  package func survivesManySmallWrites() async throws {
    let (a, b) = try await probes()
    let data = Self.pattern(200_000)
    var sent = 0
    var size = 1
    while sent < data.count {
      let end = min(sent + size, data.count)
      a.stream.write(Bytes(data[sent..<end]))
      sent = end
      size = size % 97 + 1
    }
    a.stream.finishWriting()
    try await b.wait("all bytes") { $0.ended }
    try require(b.received == data, "the bytes differ")
    b.stream.finishWriting()
    try await b.wait("the close") { $0.closed }
    try await a.wait("the close") { $0.closed }
  }
}
