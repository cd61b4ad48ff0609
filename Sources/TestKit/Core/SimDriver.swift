import Base
import EventLoop

/// Runs a store's blocking work in virtual time: each piece takes as long as its disk does, one after the other.
///
/// Confined to the simulation's one thread (the reason for `@unchecked Sendable`).
package final class SimDriver: SerialDriver, @unchecked Sendable {
  private let time: SimTime
  private let random: any RandomSource
  private let latency: ClosedRange<UInt64>
  private var queue: [@Sendable () -> Void] = []
  private var busy = false
  private var alive = true
  private var stopped = false
  /// What the disk takes for a piece besides, nanoseconds.
  package var stall: () -> UInt64 = { 0 }
  /// Looked at before each piece; false kills the process at that point.
  package var onStep: (@LoopActor () -> Bool)?

  /// `latency` is in nanoseconds.
  package init(_ time: SimTime, random: any RandomSource, latency: ClosedRange<UInt64>) {
    self.time = time
    self.random = random
    self.latency = latency
  }

  package func run(_ body: @escaping @Sendable () -> Void) {
    guard alive else { return time.bury(body) }
    guard !stopped else { return }
    queue.append(body)
    if !busy { arm() }
  }

  package func offer(_ body: @escaping @Sendable () -> Void) -> Bool {
    run(body)
    return !stopped
  }

  private func arm() {
    busy = true
    let wait = stall() + latency.lowerBound + random.below(latency.upperBound - latency.lowerBound + 1)
    time.schedule(at: time.now + wait, owner: self) { [self] in step() }
  }

  @LoopActor private func step() {
    busy = false
    guard alive, !queue.isEmpty else { return }
    if let onStep, !onStep() { return }
    let body = queue.removeFirst()
    body()
    if alive, !queue.isEmpty, !busy { arm() }
  }

  package func stop() {
    let rest = queue
    queue = []
    for body in rest { body() }
    stopped = true
  }

  /// The process died: what waits is never done.
  package func kill() {
    alive = false
    time.drop(owner: self)
    if !queue.isEmpty { time.bury(queue) }
    queue = []
  }
}
