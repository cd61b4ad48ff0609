import Base

/// One direction of the way between two machines.
@LoopActor package final class SimPath {
  package var latency: Duration
  package var jitter: Duration
  /// Zero: without limit.
  package var bytesPerSecond: UInt64
  /// What is sent is held back, as lost packets are that TCP sends again, until the path is heard again.
  package private(set) var isSilent = false
  /// When the last byte that was sent is on its way: connections share the bandwidth.
  private var freeAt: UInt64 = 0
  private var held: [@LoopActor () -> Void] = []
  /// Bytes that entered this way.
  package private(set) var bytes: UInt64 = 0

  package init(latency: Duration, jitter: Duration, bytesPerSecond: UInt64) {
    self.latency = latency
    self.jitter = jitter
    self.bytesPerSecond = bytesPerSecond
  }

  /// When bytes that leave now arrive.
  func arrival(of count: Int, at now: UInt64, random: any RandomSource) -> UInt64 {
    bytes += UInt64(count)
    let start = max(now, freeAt)
    let takes = bytesPerSecond == 0 ? 0 : UInt64(count) * 1_000_000_000 / bytesPerSecond
    freeAt = start + takes
    let spread = UInt64(max(jitter.nanosecondCount, 0))
    return freeAt + UInt64(max(latency.nanosecondCount, 0)) + (spread > 0 ? random.below(spread + 1) : 0)
  }

  func hold(_ body: @escaping @LoopActor () -> Void) { held.append(body) }

  /// Silences the path, or lets through what was held back.
  func setSilent(_ silent: Bool) {
    isSilent = silent
    guard !silent else { return }
    let waiting = held
    held = []
    for body in waiting { body() }
  }
}

/// The way between an edge and the cloud: two directions and whether anything gets through at all.
@LoopActor package final class SimLink {
  package let up: SimPath
  package let down: SimPath
  /// No connection can be made; those that were there have been reset.
  package var isCut = false
  package init(up: SimPath, down: SimPath) {
    self.up = up
    self.down = down
  }
  package var isSilent: Bool { up.isSilent || down.isSilent }
}
