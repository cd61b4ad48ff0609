import API
import Base
import Transport
import Wire

/// A watch at the other end of a session: what the server sent and nobody pulled yet waits here, within the credit
/// that this side gave; pulling gives credit back.
@LoopActor final class RemoteWatch: WatchCursor {
  var onAvailable: (@LoopActor () -> Void)?
  private(set) var position: UInt64 = 0

  private let stream: SessionStream
  private let resource: String
  private var inbox: [Bytes] = []
  private var start = 0
  /// Why there is no more; thrown once the inbox is empty.
  private var failure: APIError?
  private var isDead = false
  private var isEstablished = false
  private var waiter: CheckedContinuation<Void, Never>?

  init(_ stream: SessionStream, resource: String) {
    self.stream = stream
    self.resource = resource
    stream.manualCredit = true
    stream.onMessage = { [weak self] in self?.arrived($0) }
    stream.onRawEnd = { [weak self] in self?.ended($0) }
  }

  deinit {
    // Whoever lets a cursor go without `cancel` must not leave the server sending; the stream is reset on the loop.
    let stream = stream
    spawn { stream.reset("the watch was let go") }
  }

  /// Returns when the server says that the watch stands; throws what it answers instead.
  func established(deadline: Duration, scheduler: any Scheduler) async throws(APIError) {
    let timer = scheduler.schedule(after: deadline) { [weak self] in
      self?.ended(.failure(CallError(reason: "Timeout", message: "watch was not answered within \(deadline)")))
    }
    defer { scheduler.cancel(timer) }
    await withTaskCancellationHandler {
      while !isEstablished, failure == nil { await withCheckedContinuation { waiter = $0 } }
    } onCancel: {
      spawn { self.ended(.failure(CallError(reason: CallError.cancelled, message: "watch was cancelled"))) }
    }
    if !isEstablished, let failure {
      cancel()
      throw failure
    }
  }

  private func arrived(_ message: Bytes) {
    guard isEstablished else {
      // The first message only says where the watch starts.
      isEstablished = true
      stream.grant(WireLimits.cost(message.count))
      if let event = try? ItemMessage.event(message, resource: resource) { position = event.position }
      return wake()
    }
    inbox.append(message)
    onAvailable?()
  }

  private func ended(_ outcome: Result<Bytes, CallError>) {
    guard failure == nil, !isDead else { return }
    switch outcome {
    case .success: failure = APIError(.serviceUnavailable, "the server ended the watch")
    case .failure(let error): failure = APIError(error)
    }
    wake()
    if isEstablished { onAvailable?() }
  }

  private func wake() {
    let waiting = waiter
    waiter = nil
    waiting?.resume()
  }

  func next(limit: Int) throws(APIError) -> [WatchEvent] {
    guard !isDead else { return [] }
    var events: [WatchEvent] = []
    var cost = 0
    while events.count < limit, start < inbox.count {
      let message = inbox[start]
      inbox[start] = []
      start += 1
      cost += WireLimits.cost(message.count)
      do { events.append(try ItemMessage.event(message, resource: resource)) } catch {
        cancel()
        throw APIError(.internalError, "an event of the watch cannot be read: \(error)")
      }
    }
    if start == inbox.count {
      inbox.removeAll(keepingCapacity: true)
      start = 0
    }
    if cost > 0 { stream.grant(cost) }
    if let last = events.last { position = max(position, last.position) }
    if events.isEmpty, let failure {
      isDead = true
      throw failure
    }
    return events
  }

  func cancel() {
    guard !isDead else { return }
    isDead = true
    inbox = []
    onAvailable = nil
    stream.reset("the watch was cancelled")
  }
}
