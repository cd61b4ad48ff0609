import API
import Base

/// The edge's API through whichever session stands now. A call without one waits for the next, so that informers go
/// on at once when edgecore comes back, instead of after their backoff.
@LoopActor package final class LinkedAPI: API {
  private var current: (any API)?
  private var closed = false
  private var waiting: [CheckedContinuation<Void, Never>] = []

  package init() {}

  /// A session is ready, or nil: it is lost.
  package func link(_ api: (any API)?) {
    current = api
    if api != nil { wake() }
  }

  /// Calls that wait, and all that come, fail.
  package func close() {
    closed = true
    current = nil
    wake()
  }

  private func wake() {
    let waiters = waiting
    waiting = []
    for waiter in waiters { waiter.resume() }
  }

  private func api() async throws(APIError) -> any API {
    while true {
      if let current { return current }
      guard !closed else { throw APIError(.serviceUnavailable, "devicecore stops") }
      await withCheckedContinuation { waiting.append($0) }
    }
  }

  package func get(_ reference: ObjectReference, caller: Caller) async throws(APIError) -> APIObject {
    try await api().get(reference, caller: caller)
  }

  package func list(_ options: ListOptions, caller: Caller) async throws(APIError) -> ObjectList {
    try await api().list(options, caller: caller)
  }

  package func watch(_ options: WatchOptions, caller: Caller) async throws(APIError) -> any WatchCursor {
    try await api().watch(options, caller: caller)
  }

  package func create(
    resource: String, namespace: String, object: Value, caller: Caller
  ) async throws(APIError) -> APIObject {
    try await api().create(resource: resource, namespace: namespace, object: object, caller: caller)
  }

  package func update(
    _ reference: ObjectReference, object: Value, subresource: String, caller: Caller
  ) async throws(APIError) -> APIObject {
    try await api().update(reference, object: object, subresource: subresource, caller: caller)
  }

  package func patch(
    _ reference: ObjectReference, type: PatchType, patch: Value, subresource: String, caller: Caller
  ) async throws(APIError) -> APIObject {
    try await api().patch(reference, type: type, patch: patch, subresource: subresource, caller: caller)
  }

  package func delete(
    _ reference: ObjectReference, options: DeleteOptions, caller: Caller
  ) async throws(APIError) -> APIObject {
    try await api().delete(reference, options: options, caller: caller)
  }

  package func batch(_ items: [BatchItem], caller: Caller) async throws(APIError) -> [Result<APIObject, APIError>] {
    try await api().batch(items, caller: caller)
  }

  package func connect(
    _ reference: ObjectReference, subresource: String, options: Value, stream: (any DuplexStream)?, caller: Caller
  ) async throws(APIError) -> Value {
    try await api().connect(
      reference, subresource: subresource, options: options, stream: stream, caller: caller)
  }
}
