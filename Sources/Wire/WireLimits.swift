import Base

/// Bounds of one session. Each side tells the other those that bind it (`message`, `streams`, `credit`) in HELLO and
/// WELCOME; the rest bound what a peer can make this side hold.
package struct WireLimits: Sendable, Hashable {
  /// A frame with its header: it fits one TLS record (RFC 8446 section 5.1 allows 16,384 bytes of plaintext).
  package static let frameBytes = 16_384
  /// Length, type, flags and stream.
  package static let headerBytes = 8
  package static let framePayloadBytes = frameBytes - headerBytes
  /// A message counts at least this much against credit, so that empty messages cannot flood a receiver.
  package static let minMessageCost = 16
  /// The most credit a sender may hold; above it the receiver's arithmetic is broken.
  package static let maxCredit = 1 << 30

  /// The longest message, request or result that this side takes.
  package var messageBytes = 4 << 20
  /// Streams that the peer may have open here at once.
  package var streams = 1_024
  /// Bytes of messages that the peer may send on a new stream before it hears CREDIT.
  package var initialCredit = 65_536
  /// Bytes of messages that arrived in part, all streams together; stops a peer that starts messages and ends none.
  package var assemblyBytes = 16 << 20
  /// Connection-level frames that wait to leave (answers, credit, resets); stops a peer that asks and never reads.
  package var controlQueueBytes = 256 << 10
  /// Bytes of messages that wait to leave on one stream before `canSend` says no.
  package var streamSendBytes = 64 << 10
  /// Bytes of messages that wait to leave in the whole session before `canSend` says no.
  package var sessionSendBytes = 1 << 20
  /// From the connection's start to HELLO or WELCOME.
  package var helloTimeout: Duration = .seconds(10)

  package init() {}

  /// What a message of `count` bytes counts against credit.
  package static func cost(_ count: Int) -> Int { max(count, minMessageCost) }
}

/// In which order frames leave when the connection cannot take all: the lower the class, the sooner.
package enum Priority: UInt8, Sendable, Hashable, CaseIterable {
  /// Calls, replies, exec.
  case control = 0
  /// Watches, slices, the status lane.
  case status = 1
  /// Events and readings.
  case telemetry = 2
  /// Logs, port-forward, images, digests.
  case bulk = 3
}

/// The two clocks as the caller read them: machines never ask for time.
package struct Moment: Sendable {
  package var now: Instant
  package var wall: WallTime
  package init(now: Instant, wall: WallTime) {
    self.now = now
    self.wall = wall
  }
}
