import Base
import Glibc

/// The record of a run: a running hash of everything that happened, and on request every line of it.
@LoopActor package final class SimTrace {
  private let time: SimTime
  private let prints: Bool
  private var hash: UInt64 = 0x9e37_79b9_7f4a_7c15
  /// Lines that are kept for the report of a violation.
  private static let kept = 60
  private var last: [String] = []
  private var next = 0

  package init(_ time: SimTime, prints: Bool) {
    self.time = time
    self.prints = prints
  }

  package var digest: UInt64 { hash }

  package func mix(_ value: UInt64) {
    hash = (hash ^ value) &* 0xbf58_476d_1ce4_e5b9
    hash ^= hash >> 29
  }

  package func mix(_ bytes: Bytes) {
    mix(UInt64(bytes.count))
    bytes.withUnsafeBytes { raw in
      var offset = 0
      while offset + 8 <= raw.count {
        mix(raw.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
        offset += 8
      }
      var rest: UInt64 = 0
      while offset < raw.count {
        rest = rest << 8 | UInt64(raw[offset])
        offset += 1
      }
      mix(rest)
    }
  }

  /// What a reader of the trace should see. The text counts for the hash.
  package func note(_ text: @autoclosure () -> String) {
    let line = "\(stamp) \(text())"
    mix(Bytes(line.utf8))
    if last.count < Self.kept { last.append(line) } else { last[next % Self.kept] = line }
    next += 1
    if prints { write(line) }
  }

  /// The newest lines, oldest first.
  package var recent: [String] {
    last.count < Self.kept ? last : Array(last[(next % Self.kept)...] + last[..<(next % Self.kept)])
  }

  private var stamp: String {
    let micros = time.now / 1000
    let (seconds, rest) = (micros / 1_000_000, String(1_000_000 + micros % 1_000_000).dropFirst())
    return "\(seconds).\(rest)"
  }

  private func write(_ line: String) {
    var bytes = Bytes(line.utf8)
    bytes.append(0x0a)
    _ = bytes.withUnsafeBytes { Glibc.write(1, $0.baseAddress, $0.count) }
  }
}
