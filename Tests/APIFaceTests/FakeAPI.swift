import API
import Base
import ObjectModel
import Wire

/// An API in a dictionary, with a log that never forgets unless told to; records who called.
@LoopActor final class FakeAPI: API {
  private(set) var callers: Set<Caller> = []
  private(set) var log: [WatchEvent] = []
  private(set) var objects: [String: APIObject] = [:]
  private(set) var revision: UInt64 = 0
  /// Watches from before this are too old.
  var compacted: UInt64 = 0
  var cursors: [FakeCursor] = []
  var onCreate: (@LoopActor (ObjectReference) -> Void)?
  /// Rings when a watch begins, is pulled or ends.
  let watched = Bell()

  private func admit(_ caller: Caller, _ verb: String, _ resource: String) throws(APIError) {
    callers.insert(caller)
    guard caller.user != "nobody" else { throw .forbidden(caller, verb: verb, resource: resource) }
  }

  private func publish(_ kind: WatchEvent.Kind, _ object: APIObject) {
    log.append(WatchEvent(kind: kind, position: object.revision, object: object))
    for cursor in cursors { cursor.onAvailable?() }
  }

  @discardableResult
  func put(_ reference: ObjectReference, _ value: Value) -> APIObject {
    revision += 1
    var body = value
    let status = body["status"]
    body.remove("status")
    body["metadata"]["name"] = .string(reference.name)
    if !reference.namespace.isEmpty { body["metadata"]["namespace"] = .string(reference.namespace) }
    let object = APIObject(
      reference: reference, revision: revision, body: CBOR.encode(body),
      status: status.isNull ? nil : CBOR.encode(status))
    let kind: WatchEvent.Kind = objects[reference.key] == nil ? .added : .modified
    objects[reference.key] = object
    publish(kind, object)
    return object
  }

  func get(_ reference: ObjectReference, caller: Caller) async throws(APIError) -> APIObject {
    try admit(caller, "get", reference.resource)
    guard let object = objects[reference.key] else { throw .notFound(reference.resource, reference.name) }
    return object
  }

  func list(_ options: ListOptions, caller: Caller) async throws(APIError) -> ObjectList {
    try admit(caller, "list", options.resource)
    let prefix = options.resource + "/"
    let keys = objects.keys.filter { $0.hasPrefix(prefix) && $0 > options.continuation }.sorted()
    let page = options.limit == 0 ? keys : Array(keys.prefix(options.limit))
    return ObjectList(
      items: page.compactMap { objects[$0] }, revision: revision,
      continuation: page.count < keys.count ? page.last ?? "" : "")
  }

  func watch(_ options: WatchOptions, caller: Caller) async throws(APIError) -> any WatchCursor {
    try admit(caller, "watch", options.resource)
    let cursor = FakeCursor(self, options)
    cursors.append(cursor)
    watched.ring()
    return cursor
  }

  func create(
    resource: String, namespace: String, object: Value, caller: Caller
  ) async throws(APIError) -> APIObject {
    try admit(caller, "create", resource)
    let name = object["metadata"]["name"].string ?? ""
    let reference = ObjectReference(resource: resource, namespace: namespace, name: name)
    guard objects[reference.key] == nil else {
      throw APIError(.alreadyExists, "\(resource) \"\(name)\" already exists")
    }
    let made = put(reference, object)
    onCreate?(reference)
    return made
  }

  func update(
    _ reference: ObjectReference, object: Value, subresource: String, caller: Caller
  ) async throws(APIError) -> APIObject {
    try admit(caller, "update", reference.resource)
    return put(reference, object)
  }

  func patch(
    _ reference: ObjectReference, type: PatchType, patch: Value, subresource: String, caller: Caller
  ) async throws(APIError) -> APIObject {
    try admit(caller, "patch", reference.resource)
    return put(reference, ["type": .string(type.rawValue), "patch": patch, "sub": .string(subresource)])
  }

  func delete(
    _ reference: ObjectReference, options: DeleteOptions, caller: Caller
  ) async throws(APIError) -> APIObject {
    try admit(caller, "delete", reference.resource)
    guard var object = objects.removeValue(forKey: reference.key) else {
      throw .notFound(reference.resource, reference.name)
    }
    revision += 1
    object.revision = revision
    publish(.deleted, object)
    return object
  }

  func batch(_ items: [BatchItem], caller: Caller) async throws(APIError) -> [Result<APIObject, APIError>] {
    var results: [Result<APIObject, APIError>] = []
    for item in items {
      do throws(APIError) {
        guard case .create(let resource, let namespace, let object) = item else {
          throw APIError(.badRequest, "only creates")
        }
        results.append(
          .success(try await create(resource: resource, namespace: namespace, object: object, caller: caller)))
      } catch {
        results.append(.failure(error))
      }
    }
    return results
  }

  /// `echo` sends back what comes; anything else answers its options.
  func connect(
    _ reference: ObjectReference, subresource: String, options: Value, stream: (any DuplexStream)?, caller: Caller
  ) async throws(APIError) -> Value {
    try admit(caller, "connect", reference.resource)
    guard let stream else { return ["options": options, "name": .string(reference.name)] }
    var count: Int64 = 0
    do throws(SkerryError) {
      while let message = try await stream.receive() {
        count += 1
        try await stream.send(message)
      }
    } catch {
      throw APIError(.internalError, error.message)
    }
    return .int(count)
  }
}

@LoopActor final class FakeCursor: WatchCursor {
  var onAvailable: (@LoopActor () -> Void)?
  private(set) var position: UInt64
  private(set) var isCancelled = false
  /// Events handed out.
  private(set) var pulled = 0
  private let api: FakeAPI
  private let options: WatchOptions

  init(_ api: FakeAPI, _ options: WatchOptions) {
    self.api = api
    self.options = options
    position = options.after ?? 0
  }

  func next(limit: Int) throws(APIError) -> [WatchEvent] {
    guard position >= api.compacted else {
      throw APIError(.expired, "too old resource version: \(position) (\(api.compacted))")
    }
    var events: [WatchEvent] = []
    for event in api.log where event.position > position && events.count < limit {
      position = event.position
      if event.object?.reference.resource == options.resource { events.append(event) }
    }
    pulled += events.count
    api.watched.ring()
    return events
  }

  func cancel() {
    isCancelled = true
    api.cursors.removeAll { $0 === self }
    api.watched.ring()
  }
}
