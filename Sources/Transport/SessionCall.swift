import Base
import EventLoop
import Wire

extension Session {
  /// A unary call: one request, one answer. Throws with the callee's reason, `Timeout` after the deadline, `Cancelled`
  /// when the task is, `Disconnected` when the session ends first (whether the call was done is not known then).
  package func call(method: String, params: Value, deadline: Duration) async throws(CallError) -> Value {
    let bytes = try await callRaw(method: method, params: CBOR.encode(params), deadline: deadline)
    do { return try CBOR.decode(bytes) } catch {
      throw CallError(reason: "InternalError", message: "the answer to \(method) cannot be read: \(error)")
    }
  }

  /// The same with encoded params and an encoded result.
  package func callRaw(
    method: String, params: Bytes, priority: Priority = .control, deadline: Duration
  ) async throws(CallError) -> Bytes {
    let stream = open(method: method, params: params, priority: priority, last: true)
    return try await answer(of: stream, deadline: deadline)
  }

  /// Waits for a stream's END, within a deadline; breaks the stream off after it.
  package func answer(of stream: SessionStream, deadline: Duration) async throws(CallError) -> Bytes {
    let method = stream.method
    let timer = clock.schedule(after: deadline) {
      stream.giveUp(CallError(reason: "Timeout", message: "\(method) was not answered within \(deadline)"))
    }
    defer { clock.cancel(timer) }
    // The handler is not typed in what it throws, so the outcome is carried as a value.
    let outcome: Result<Bytes, CallError> = await withTaskCancellationHandler {
      await stream.settled()
    } onCancel: {
      spawn { stream.giveUp(CallError(reason: CallError.cancelled, message: "\(method) was cancelled")) }
    }
    return try outcome.get()
  }
}
