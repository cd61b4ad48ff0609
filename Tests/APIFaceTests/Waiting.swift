import API
import Base
import EventLoop

/// Waits for something that rings, at most for `patience`.
@LoopActor final class Bell {
  static let patience = Duration.seconds(20)
  private(set) var rings = 0
  private var waiters: [Int: CheckedContinuation<Bool, Never>] = [:]
  private var next = 0

  func ring() {
    rings += 1
    let waiting = waiters
    waiters = [:]
    for waiter in waiting.values { waiter.resume(returning: true) }
  }

  /// Returns at the next ring; throws when none comes.
  func wait(for what: String) async throws {
    let id = next
    next += 1
    let timer = Loop.startShared().schedule(after: Self.patience) {
      self.waiters.removeValue(forKey: id)?.resume(returning: false)
    }
    let rang = await withCheckedContinuation { waiters[id] = $0 }
    Loop.startShared().cancel(timer)
    if !rang { throw SkerryError(.timeout, "\(what) did not come about within \(Self.patience)") }
  }

  /// Looks at each ring whether `condition` holds.
  func wait(for what: String, until condition: @LoopActor () -> Bool) async throws {
    while !condition() { try await wait(for: what) }
  }
}

/// Pulls a watch whenever it says that there may be more.
@LoopActor final class Puller {
  private let cursor: any WatchCursor
  private let bell = Bell()

  init(_ cursor: any WatchCursor) {
    self.cursor = cursor
    cursor.onAvailable = { [bell] in bell.ring() }
  }

  /// The next events, at least one; throws what ends the watch, or `timeout`.
  func next(limit: Int) async throws -> [WatchEvent] {
    while true {
      let heard = bell.rings
      let events = try cursor.next(limit: limit)
      if !events.isEmpty { return events }
      if bell.rings == heard { try await bell.wait(for: "an event of the watch") }
    }
  }

  /// Pulls until there are `count` events, `limit` at a time.
  func take(_ count: Int, limit: Int = 100) async throws -> [WatchEvent] {
    var events: [WatchEvent] = []
    while events.count < count { events += try await next(limit: limit) }
    return events
  }

  /// Why the watch ends, with nothing before it.
  func failure() async throws -> APIError {
    do {
      let events = try await next(limit: 10)
      throw SkerryError(.internal, "the watch goes on with \(events.count) events")
    } catch let error as APIError {
      return error
    }
  }
}
