import API
import Base
import EventLoop
import ObjectModel
import Transport
import Wire

/// The API at the other end of a session. The caller parameter is not sent: the connection says who calls.
///
/// A call whose session ends throws `serviceUnavailable`; whether a write was done is not known then.
@LoopActor package final class APIClient: API {
  package let session: Session
  /// How long a call may take, from first to last byte; watches and duplex calls have no deadline.
  package let deadline: Duration

  package init(session: Session, deadline: Duration = .seconds(60)) {
    self.session = session
    self.deadline = deadline
  }

  package func get(_ reference: ObjectReference, caller: Caller) async throws(APIError) -> APIObject {
    try await object(CallMethod.get, reference.params, resource: reference.resource)
  }

  package func create(
    resource: String, namespace: String, object: Value, caller: Caller
  ) async throws(APIError) -> APIObject {
    try await write(.create(resource: resource, namespace: namespace, object: object))
  }

  package func update(
    _ reference: ObjectReference, object: Value, subresource: String, caller: Caller
  ) async throws(APIError) -> APIObject {
    try await write(.update(reference, object: object, subresource: subresource))
  }

  package func patch(
    _ reference: ObjectReference, type: PatchType, patch: Value, subresource: String, caller: Caller
  ) async throws(APIError) -> APIObject {
    try await write(.patch(reference, type: type, patch: patch, subresource: subresource))
  }

  package func delete(
    _ reference: ObjectReference, options: DeleteOptions, caller: Caller
  ) async throws(APIError) -> APIObject {
    try await write(.delete(reference, options))
  }

  package func batch(_ items: [BatchItem], caller: Caller) async throws(APIError) -> [Result<APIObject, APIError>] {
    let answer = try await call(CallMethod.batch, BatchMessage.params(items))
    return try readable { () throws(SkerryError) in try BatchMessage.decode(answer, items: items) }
  }

  package func list(_ options: ListOptions, caller: Caller) async throws(APIError) -> ObjectList {
    let stream = session.open(method: CallMethod.list, params: options.params, priority: .status, last: true)
    // Collected as they come, so that the deadline covers them all.
    var messages: [Bytes] = []
    stream.onMessage = { messages.append($0) }
    let end = try await answer(of: stream)
    return try readable { () throws(SkerryError) in
      let (revision, continuation) = try ListAnswer.decode(end)
      var items: [APIObject] = []
      items.reserveCapacity(messages.count)
      for message in messages { items.append(try ItemMessage.object(message, resource: options.resource)) }
      return ObjectList(items: items, revision: revision, continuation: continuation)
    }
  }

  package func watch(_ options: WatchOptions, caller: Caller) async throws(APIError) -> any WatchCursor {
    let stream = session.open(method: CallMethod.watch, params: options.params, priority: .status, last: true)
    let cursor = RemoteWatch(stream, resource: options.resource)
    try await cursor.established(deadline: deadline, scheduler: session.clock)
    return cursor
  }

  package func connect(
    _ reference: ObjectReference, subresource: String, options: Value, stream: (any DuplexStream)?, caller: Caller
  ) async throws(APIError) -> Value {
    let message = ConnectMessage(
      reference: reference, subresource: subresource, options: options, isDuplex: stream != nil)
    let end: Bytes
    if let stream {
      end = try await join(message, stream)
    } else {
      end = try await call(CallMethod.connect, message.params)
    }
    return try readable { () throws(SkerryError) in try CBOR.decode(end) }
  }

  /// A duplex call: the caller's stream is joined to ours until the answer is here.
  private func join(_ message: ConnectMessage, _ stream: any DuplexStream) async throws(APIError) -> Bytes {
    let ours = session.open(method: CallMethod.connect, params: message.params)
    let upward = spawn {
      do throws(SkerryError) {
        while let bytes = try await stream.receive() { try await ours.sendWaiting(bytes) }
        ours.finish()
      } catch {
        ours.reset(error.message)
      }
    }
    defer { upward.cancel() }
    let outcome: Result<Bytes, CallError> = await withTaskCancellationHandler {
      do throws(SkerryError) {
        while let bytes = try await ours.receive() { try await stream.send(bytes) }
        stream.finish()
      } catch {
        ours.reset(error.message)
        stream.reset(error.message)
      }
      return await ours.settled()
    } onCancel: {
      spawn { ours.reset("the call was cancelled") }
    }
    switch outcome {
    case .success(let bytes): return bytes
    case .failure(let error): throw APIError(error)
    }
  }

  // MARK: unary calls

  private func call(_ method: String, _ params: Value) async throws(APIError) -> Bytes {
    try await answer(of: session.open(method: method, params: params, last: true))
  }

  private func answer(of stream: SessionStream) async throws(APIError) -> Bytes {
    do throws(CallError) { return try await session.answer(of: stream, deadline: deadline) } catch {
      throw APIError(error)
    }
  }

  private func write(_ item: BatchItem) async throws(APIError) -> APIObject {
    try await object(item.method, item.params, resource: item.resource)
  }

  private func object(_ method: String, _ params: Value, resource: String) async throws(APIError) -> APIObject {
    let answer = try await call(method, params)
    return try readable { () throws(SkerryError) in try ItemMessage.object(answer, resource: resource) }
  }

  private func readable<R>(_ body: () throws(SkerryError) -> R) throws(APIError) -> R {
    do { return try body() } catch {
      throw APIError(.internalError, "the server's answer cannot be read: \(error)")
    }
  }
}
