import Base
import EventLoop
import Synchronization

/// The node's idea of the time, for everything on the node that asks for it.
///
/// A machine without a battery starts in 1970, and one with an empty battery anywhere. So the system's clock is believed
/// only if it is not before what is known for sure: the build of this program, the certificates that were made for this
/// node, and the time that was stored last. Until then time goes on from there. Once the cloud has told its time, that
/// counts wherever the system's clock differs by more than `tolerance`.
///
/// What is stored is a lower bound of the true time and nothing else, so that a clock which ran ahead for a while leaves
/// no trace.
package final class NodeClock: Scheduler {
  /// How far the system's clock may be from the cloud's and still be used as it is.
  package nonisolated static let tolerance = Duration.seconds(60)
  /// How often the time is stored.
  package nonisolated static let storeInterval = Duration.seconds(600)
  private nonisolated static let maxFile = 64

  private let base: any Scheduler
  private let path: String
  private let onStoreFailure: @Sendable (SkerryError) -> Void
  /// A lower bound of the time at the zero of the monotonic clock, and the cloud's time there (0: not heard).
  private let floor: Atomic<Int64>
  private let cloud = Atomic<Int64>(0)
  private let offsetGauge: Gauge

  /// Reads the time that was stored in `path`. `notBefore` are times at which the node's certificates were made.
  package init(
    _ base: any Scheduler, path: String, notBefore: [WallTime], metrics: Metrics,
    onStoreFailure: @escaping @Sendable (SkerryError) -> Void
  ) {
    self.base = base
    self.path = path
    self.onStoreFailure = onStoreFailure
    offsetGauge = metrics.gauge(
      "skerry_edge_clock_offset_seconds", "How far the system's clock is behind the cloud's (negative: ahead).")
    var known = notBefore + [Version.released]
    if let text = Files.readText(path, limit: Self.maxFile), let seconds = Int64(text.filter(\.isNumber)) {
      known.append(WallTime(seconds: seconds))
    }
    let least = known.max() ?? Version.released
    floor = Atomic(least.nanoseconds - Int64(clamping: base.now.nanoseconds))
  }

  package nonisolated var now: Instant { base.now }

  private nonisolated func moving(_ atZero: Int64) -> WallTime {
    WallTime(nanoseconds: atZero + Int64(clamping: base.now.nanoseconds))
  }

  /// Whether the system's clock may be right.
  package nonisolated var believesSystem: Bool {
    let system = base.wall
    let heard = cloud.load(ordering: .relaxed)
    guard heard != 0 else { return system >= moving(floor.load(ordering: .relaxed)) }
    let difference = moving(heard) - system
    return difference <= Self.tolerance && difference >= .zero - Self.tolerance
  }

  package nonisolated var wall: WallTime {
    if believesSystem { return base.wall }
    let heard = cloud.load(ordering: .relaxed)
    return moving(heard != 0 ? heard : floor.load(ordering: .relaxed))
  }

  /// How far the system's clock is behind the cloud's; nil before the cloud told its time.
  package nonisolated var offset: Duration? {
    let heard = cloud.load(ordering: .relaxed)
    return heard == 0 ? nil : moving(heard) - base.wall
  }

  package func schedule(after delay: Duration, _ action: @escaping @LoopActor () -> Void) -> TimerID {
    base.schedule(after: delay, action)
  }

  package func cancel(_ timer: TimerID) { base.cancel(timer) }

  // MARK: What is known

  /// The cloud's time, from its answer to our hello.
  @LoopActor package func heard(cloud time: WallTime) {
    let atZero = time.nanoseconds - Int64(clamping: base.now.nanoseconds)
    cloud.store(atZero, ordering: .relaxed)
    // Only the cloud may set it back: it is the one that everything else here is measured by.
    floor.store(atZero, ordering: .relaxed)
    offsetGauge.set(Int64((offset ?? .zero).seconds))
    store()
  }

  /// It is at least that late, as a certificate of our own authority says.
  @LoopActor package func atLeast(_ time: WallTime) {
    let atZero = time.nanoseconds - Int64(clamping: base.now.nanoseconds)
    if atZero > floor.load(ordering: .relaxed) { floor.store(atZero, ordering: .relaxed) }
  }

  /// Stores the time now and from time to time.
  @LoopActor package func start() {
    store()
    base.schedule(after: Self.storeInterval) { [weak self] in self?.start() }
  }

  @LoopActor private func store() {
    let (path, seconds) = (path, moving(floor.load(ordering: .relaxed)).seconds)
    spawn { [onStoreFailure] in
      do {
        try await offload { try Files.writeDurably(path, Bytes("\(seconds)\n".utf8), mode: 0o644) }
      } catch {
        onStoreFailure((error as? SkerryError) ?? SkerryError(.system, "cannot write \(path)", cause: error))
      }
    }
  }
}
