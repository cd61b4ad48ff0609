import API
import Base
import ObjectModel
import Transport

/// The API at the other end of whatever session stands: it outlives its connections.
///
/// A session comes either from `connect`, which is asked when a call needs one and again after a loss, or from somebody
/// else who keeps it and says so by `link`. Reads are asked again after a loss. Writes are not, since nobody knows
/// whether they were done: they throw `serviceUnavailable`, and the caller reads and decides. Watches resume by position,
/// without gap or repeat.
@LoopActor package final class ReconnectingAPIClient: API {
  /// Dials and returns a session whose handshake is done.
  package typealias Connect = @LoopActor () async throws(SkerryError) -> Session

  /// Reads that lost their connection are asked this often at most.
  package static let readAttempts = 4

  private let scheduler: any Scheduler
  private let random: any RandomSource
  private let retry: Backoff
  private let deadline: Duration
  let patience: Duration?
  private let connectOnce: Connect?

  private var client: APIClient?
  private var isConnecting = false
  package private(set) var isClosed = false
  private var waiters: [UInt64: CheckedContinuation<Result<APIClient, APIError>, Never>] = [:]
  private var nextWaiter: UInt64 = 0
  private var lastError: SkerryError?
  /// Connections so far.
  package private(set) var connections = 0

  /// `deadline` is a call's, from first to last byte; `patience` how long it waits for a connection before that, nil for
  /// as long as it takes. Without `connect` sessions come by `link` alone.
  package init(
    scheduler: any Scheduler, random: any RandomSource, deadline: Duration = .seconds(60),
    patience: Duration? = .seconds(60),
    retry: Backoff = Backoff(base: .milliseconds(100), cap: .seconds(30)), connect: Connect? = nil
  ) {
    self.scheduler = scheduler
    self.random = random
    self.deadline = deadline
    self.patience = patience
    self.retry = retry
    connectOnce = connect
  }

  /// Ends the connection for good; everything that waits fails.
  package func close() {
    isClosed = true
    client?.session.close()
    client = nil
    answerWaiters(.failure(Self.closed))
  }

  private static var closed: APIError { APIError(.serviceUnavailable, "the client was closed") }

  // MARK: the connection

  /// A session is ready and is used from here on, or nil: it is lost.
  package func link(_ session: Session?) {
    guard !isClosed else { return }
    client = nil
    if let session { use(session) }
  }

  private func use(_ session: Session) {
    let client = APIClient(session: session, deadline: deadline)
    connections += 1
    self.client = client
    answerWaiters(.success(client))
  }

  /// The client on a living session; waits for one no longer than `patience`.
  package func connected() async throws(APIError) -> APIClient { try await connected(within: patience) }

  func connected(within patience: Duration?) async throws(APIError) -> APIClient {
    if let client, client.session.takesCalls { return client }
    guard !isClosed else { throw Self.closed }
    client = nil
    let id = nextWaiter
    nextWaiter += 1
    let timer = patience.map { patience in
      scheduler.schedule(after: patience) {
        let reason = self.lastError.map { ": \($0)" } ?? ""
        self.answer(id, .failure(APIError(.serviceUnavailable, "no connection within \(patience)\(reason)")))
      }
    }
    defer { if let timer { scheduler.cancel(timer) } }
    let result = await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        waiters[id] = continuation
        connect()
      }
    } onCancel: {
      spawn { self.answer(id, .failure(APIError(.serviceUnavailable, "the call was cancelled"))) }
    }
    return try result.get()
  }

  private func answer(_ id: UInt64, _ result: Result<APIClient, APIError>) {
    waiters.removeValue(forKey: id)?.resume(returning: result)
  }

  private func answerWaiters(_ result: Result<APIClient, APIError>) {
    let waiting = waiters
    waiters = [:]
    for (_, waiter) in waiting { waiter.resume(returning: result) }
  }

  /// Tries until it stands or nobody waits any more; one attempt at a time.
  private func connect() {
    guard let connectOnce, !isConnecting else { return }
    isConnecting = true
    spawn {
      var attempt = 0
      while !self.waiters.isEmpty, !self.isClosed {
        do throws(SkerryError) {
          let session = try await connectOnce()
          guard !self.isClosed else {
            session.close()
            break
          }
          self.use(session)
        } catch {
          self.lastError = error
          if let final = Self.final(error) {
            self.answerWaiters(.failure(final))
          } else {
            await self.pause(attempt)
            attempt += 1
          }
        }
      }
      self.isConnecting = false
    }
  }

  /// Waits before retry number `attempt`.
  func pause(_ attempt: Int) async {
    try? await scheduler.sleep(for: retry.delay(attempt, random: random))
  }

  /// A failure that trying again cannot mend.
  private static func final(_ error: SkerryError) -> APIError? {
    switch error.code {
    case .forbidden: APIError(.forbidden, error.description)
    case .unauthenticated: APIError(.unauthorized, error.description)
    case .unsupportedVersion, .invalidArgument: APIError(.badRequest, error.description)
    default: nil
    }
  }

  /// Asks, and asks again when the connection was lost under the question.
  private func read<R>(_ body: @LoopActor (APIClient) async throws(APIError) -> R) async throws(APIError) -> R {
    var attempt = 1
    while true {
      let client = try await connected()
      do throws(APIError) { return try await body(client) } catch {
        guard !client.session.takesCalls, attempt < Self.readAttempts else { throw error }
        attempt += 1
      }
    }
  }

  // MARK: API

  package func get(_ reference: ObjectReference, caller: Caller) async throws(APIError) -> APIObject {
    try await read { client throws(APIError) in try await client.get(reference, caller: caller) }
  }

  package func list(_ options: ListOptions, caller: Caller) async throws(APIError) -> ObjectList {
    try await read { client throws(APIError) in try await client.list(options, caller: caller) }
  }

  package func watch(_ options: WatchOptions, caller: Caller) async throws(APIError) -> any WatchCursor {
    let watch = ResumingWatch(self, options, caller)
    try await watch.begin()
    return watch
  }

  package func create(
    resource: String, namespace: String, object: Value, caller: Caller
  ) async throws(APIError) -> APIObject {
    try await connected().create(resource: resource, namespace: namespace, object: object, caller: caller)
  }

  package func update(
    _ reference: ObjectReference, object: Value, subresource: String, caller: Caller
  ) async throws(APIError) -> APIObject {
    try await connected().update(reference, object: object, subresource: subresource, caller: caller)
  }

  package func patch(
    _ reference: ObjectReference, type: PatchType, patch: Value, subresource: String, caller: Caller
  ) async throws(APIError) -> APIObject {
    try await connected().patch(reference, type: type, patch: patch, subresource: subresource, caller: caller)
  }

  package func delete(
    _ reference: ObjectReference, options: DeleteOptions, caller: Caller
  ) async throws(APIError) -> APIObject {
    try await connected().delete(reference, options: options, caller: caller)
  }

  package func batch(_ items: [BatchItem], caller: Caller) async throws(APIError) -> [Result<APIObject, APIError>] {
    try await connected().batch(items, caller: caller)
  }

  package func connect(
    _ reference: ObjectReference, subresource: String, options: Value, stream: (any DuplexStream)?, caller: Caller
  ) async throws(APIError) -> Value {
    try await connected().connect(
      reference, subresource: subresource, options: options, stream: stream, caller: caller)
  }
}
