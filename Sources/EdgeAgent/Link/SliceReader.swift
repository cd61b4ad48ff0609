import Base
import Logging
import Sync
import Transport
import Wire

/// Reads the slice stream of one session into the follower, one message after the other; credit goes back once a
/// message has been applied, so that a slow disk slows the hub and nothing piles up here.
@LoopActor final class SliceReader {
  private let stream: SessionStream
  private let follower: ReplicaFollower
  private let logger: Logger
  private var queue: [Bytes] = []
  private var busy = false
  /// The stream cannot be followed any further.
  private let onFailure: @LoopActor (SkerryError) -> Void

  init(
    stream: SessionStream, follower: ReplicaFollower, logger: Logger,
    onFailure: @escaping @LoopActor (SkerryError) -> Void
  ) {
    self.stream = stream
    self.follower = follower
    self.logger = logger
    self.onFailure = onFailure
    stream.manualCredit = true
    stream.onMessage = { [weak self] message in self?.received(message) }
    stream.onEnd = { result in
      if case .failure(let error) = result { onFailure(SkerryError(.unavailable, "the slice ended: \(error)")) }
    }
  }

  /// Everything that came was applied.
  var isIdle: Bool { !busy && queue.isEmpty }

  private func received(_ message: Bytes) {
    queue.append(message)
    guard !busy else { return }
    busy = true
    spawn { await self.drain() }
  }

  private func drain() async {
    while !queue.isEmpty {
      let message = queue.removeFirst()
      do throws(SkerryError) {
        try await follower.take(message) { (reply: Bytes) async throws(SkerryError) in
          try await self.stream.sendWaiting(reply)
        }
      } catch {
        queue = []
        busy = false
        stream.onMessage = nil
        if follower.needsWhole {
          stream.onEnd = nil
          logger.debug("the slice begins again: \(error)")
          return onFailure(error)
        }
        logger.error(EdgeLog.replicaApply, "the slice cannot be applied: \(error)")
        return onFailure(error)
      }
      stream.grant(WireLimits.cost(message.count))
    }
    busy = false
  }
}
