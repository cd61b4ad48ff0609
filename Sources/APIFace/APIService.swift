import API
import Base
import EventLoop
import ObjectModel
import Transport
import Wire

/// The binary face of any `API`: decodes calls that arrive on sessions, calls, encodes the answers.
///
/// It builds nothing of the caller from a request: whoever authenticated the connection says who calls.
@LoopActor package final class APIService {
  package struct Limits: Sendable {
    /// Watches that one session may hold open; each is a cursor and little more.
    package var watchesPerSession = 512
    /// Calls of one session that are being answered at once.
    package var callsPerSession = 256
    /// A watch that was told nothing for this long is told its position.
    package var bookmarkInterval: Duration = .seconds(60)
    package init() {}
  }

  let api: any API
  let scheduler: any Scheduler
  let limits: Limits
  let calls: Counter
  let failures: Counter
  let events: Counter
  let watches: Gauge

  package init(api: any API, scheduler: any Scheduler, limits: Limits = Limits(), metrics: Metrics = Metrics()) {
    self.api = api
    self.scheduler = scheduler
    self.limits = limits
    calls = metrics.counter("skerry_api_calls_total", "Calls that arrived over connections.")
    failures = metrics.counter("skerry_api_call_failures_total", "Calls over connections that ended with an error.")
    events = metrics.counter("skerry_api_watch_events_total", "Events sent to watches over connections.")
    watches = metrics.gauge("skerry_api_watches", "Watches open over connections.")
  }

  /// Serves every stream that the session's peer opens; methods that are not the API's are refused.
  @discardableResult
  package func attach(_ session: Session, caller: Caller) -> ServedConnection {
    let connection = connection(caller: caller)
    session.onStream = { connection.answer($0) }
    return connection
  }

  /// For sessions that carry other methods too: their owner offers each stream to `serve`.
  package func connection(caller: Caller) -> ServedConnection { ServedConnection(self, caller: caller) }
}

/// The API's part of one session: who calls, and how much of the limits is in use.
@LoopActor package final class ServedConnection {
  private let service: APIService
  package let caller: Caller
  private var calls = 0
  private var watches = 0

  init(_ service: APIService, caller: Caller) {
    self.service = service
    self.caller = caller
  }

  private var api: any API { service.api }

  /// Answers the stream if its method is one of the API's; false leaves it to others.
  package func serve(_ stream: SessionStream) -> Bool {
    switch stream.method {
    case CallMethod.get: answer(stream) { call throws(APIError) in try await call.get(stream.params) }
    case CallMethod.create, CallMethod.update, CallMethod.patch, CallMethod.delete: write(stream)
    case CallMethod.batch:
      answer(stream) { call throws(APIError) in
        BatchMessage.encode(try await call.api.batch(BatchMessage.items(stream.params), caller: call.caller))
      }
    case CallMethod.connect: answer(stream) { call throws(APIError) in try await call.connect(stream) }
    case CallMethod.list: list(stream)
    case CallMethod.watch: watch(stream)
    default: return false
    }
    return true
  }

  /// The same, and refuses methods that are not the API's: for those who serve nothing else.
  package func answer(_ stream: SessionStream) {
    guard !serve(stream) else { return }
    stream.fail(CallError(reason: CallError.unknownMethod, message: "there is no method \"\(stream.method)\""))
  }

  // MARK: calls

  private func admit(_ stream: SessionStream) -> Bool {
    service.calls.add()
    guard calls < service.limits.callsPerSession else {
      fail(stream, APIError(.tooManyRequests, "more than \(service.limits.callsPerSession) calls at once on a session"))
      return false
    }
    return true
  }

  private func fail(_ stream: SessionStream, _ error: APIError) {
    service.failures.add()
    stream.fail(error.call)
  }

  /// Runs a call in a task of its own; it is cancelled when the caller takes it back.
  private func answer(
    _ stream: SessionStream, _ body: @escaping @LoopActor (ServedConnection) async throws(APIError) -> Bytes
  ) {
    guard admit(stream) else { return }
    calls += 1
    let task = spawn {
      do throws(APIError) { stream.finish(raw: try await body(self)) } catch { self.fail(stream, error) }
      self.calls -= 1
    }
    stream.onClose = { if stream.failure != nil { task.cancel() } }
  }

  private func get(_ params: Value) async throws(APIError) -> Bytes {
    var params = try CallParams(CallMethod.get, params)
    let reference = try params.reference()
    try params.finish()
    return ItemMessage.encode(try await api.get(reference, caller: caller))
  }

  /// A write needs no task here: it is answered when the log has it.
  private func write(_ stream: SessionStream) {
    guard admit(stream) else { return }
    let item: BatchItem
    do throws(APIError) { item = try BatchItem(method: stream.method, encoded: stream.encodedParams) } catch {
      return fail(stream, error)
    }
    stream.forgetParams()
    calls += 1
    let task = api.write(item, caller: caller) { result in
      self.calls -= 1
      switch result {
      case .success(let object):
        let (head, body, tail) = ItemMessage.pieces(object)
        stream.finish(head: head, shared: body, tail: tail)
      case .failure(let error): self.fail(stream, error)
      }
    }
    if let task { stream.onClose = { if stream.failure != nil { task.cancel() } } }
  }

  private func connect(_ stream: SessionStream) async throws(APIError) -> Bytes {
    let message = try ConnectMessage(params: stream.params)
    return CBOR.encode(
      try await api.connect(
        message.reference, subresource: message.subresource, options: message.options,
        stream: message.isDuplex ? stream.duplex : nil, caller: caller))
  }

  // MARK: list and watch

  private func list(_ stream: SessionStream) {
    guard admit(stream) else { return }
    calls += 1
    let task = spawn {
      do throws(APIError) {
        let list = try await self.api.list(ListOptions(params: stream.params), caller: self.caller)
        ListPump(list, stream).start()
      } catch {
        self.fail(stream, error)
      }
      self.calls -= 1
    }
    stream.onClose = { if stream.failure != nil { task.cancel() } }
  }

  private func watch(_ stream: SessionStream) {
    service.calls.add()
    guard watches < service.limits.watchesPerSession else {
      return fail(
        stream,
        APIError(.tooManyRequests, "more than \(service.limits.watchesPerSession) watches on a session"))
    }
    watches += 1
    service.watches.add(1)
    let pump = WatchPump(stream, service)
    stream.onClose = {
      pump.stop()
      self.watches -= 1
      self.service.watches.add(-1)
    }
    spawn {
      do throws(APIError) {
        let options = try WatchOptions(params: stream.params)
        stream.forgetParams()
        pump.start(try await self.api.watch(options, caller: self.caller), after: options.after ?? 0)
      } catch {
        self.fail(stream, error)
      }
    }
  }
}
