import API
import Base

/// A watch that outlives its connection: after a loss it goes on behind the last event that was pulled.
@LoopActor final class ResumingWatch: WatchCursor {
  /// Objects a page of the first listing.
  private static let pageSize = 500

  var onAvailable: (@LoopActor () -> Void)?
  private(set) var position: UInt64 = 0

  private let owner: ReconnectingAPIClient
  private var options: WatchOptions
  private let caller: Caller
  private var inner: (any WatchCursor)?
  /// The current state as it was listed, for a watch that starts without a revision.
  private var listed: [WatchEvent] = []
  private var start = 0
  private var failure: APIError?
  private var isDead = false

  init(_ owner: ReconnectingAPIClient, _ options: WatchOptions, _ caller: Caller) {
    self.owner = owner
    self.options = options
    self.caller = caller
  }

  /// The first connection, whose refusal is the caller's to hear.
  func begin() async throws(APIError) {
    if options.after == nil { try await list() }
    try await attach(within: owner.patience)
  }

  /// The state at one revision as `added` events. They have no position to resume from; the bookmark behind them does.
  private func list() async throws(APIError) {
    var page = ListOptions(
      resource: options.resource, namespace: options.namespace, labelSelector: options.labelSelector,
      fieldSelector: options.fieldSelector, limit: Self.pageSize)
    repeat {
      let answer = try await owner.list(page, caller: caller)
      listed += answer.items.map { WatchEvent(kind: .added, position: 0, object: $0) }
      page.continuation = answer.continuation
      options.after = answer.revision
    } while !page.continuation.isEmpty
    listed.append(WatchEvent(kind: .bookmark, position: options.after ?? 0, object: nil))
  }

  private func attach(within patience: Duration?) async throws(APIError) {
    let cursor = try await owner.connected(within: patience).watch(options, caller: caller)
    guard !isDead else { return cursor.cancel() }
    position = max(position, options.after ?? 0)
    inner = cursor
    cursor.onAvailable = { [weak self] in self?.onAvailable?() }
  }

  func next(limit: Int) throws(APIError) -> [WatchEvent] {
    guard !isDead else { return [] }
    if start < listed.count { return takeListed(limit) }
    if let failure {
      cancel()
      throw failure
    }
    guard let inner else { return [] }
    do throws(APIError) {
      let events = try inner.next(limit: limit)
      for event in events { position = max(position, event.position) }
      options.after = max(options.after ?? 0, position)
      return events
    } catch {
      guard error.reason == .serviceUnavailable else {
        cancel()
        throw error
      }
      self.inner = nil
      resume()
      return []
    }
  }

  private func takeListed(_ limit: Int) -> [WatchEvent] {
    let end = min(start + limit, listed.count)
    let events = Array(listed[start..<end])
    start = end
    if start == listed.count {
      listed = []
      start = 0
    }
    return events
  }

  private func resume() {
    spawn { [weak self, owner] in
      var attempt = 0
      while let self, !self.isDead {
        do throws(APIError) {
          // A watch has no deadline: it goes on whenever there is a connection again.
          try await self.attach(within: nil)
          self.onAvailable?()
          return
        } catch {
          switch error.reason {
          case _ where owner.isClosed:
            self.failure = error
            self.onAvailable?()
            return
          case .serviceUnavailable, .tooManyRequests, .timeout:
            await owner.pause(attempt)
            attempt += 1
          default:
            self.failure = error
            self.onAvailable?()
            return
          }
        }
      }
    }
  }

  func cancel() {
    guard !isDead else { return }
    isDead = true
    inner?.cancel()
    inner = nil
    onAvailable = nil
    listed = []
    start = 0
  }
}
