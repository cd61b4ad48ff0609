import API
import Base
import ObjectLog
import ObjectModel

/// A write that was decided on what is stored now, ready for the log.
struct PreparedWrite {
  let kind: Kind
  let reference: ObjectReference
  let change: Change
  /// What the answer shows.
  let body: Bytes
  let status: Bytes?
  /// Whether a conflict may be answered by deciding again: the caller named no revision.
  let isRetriable: Bool
  let isCreation: Bool
}

extension APIServer {
  // MARK: The four writes, alone and in a batch

  package func create(resource: String, namespace: String, object: Value, caller: Caller) async throws(APIError)
    -> APIObject
  {
    try await write(.create(resource: resource, namespace: namespace, object: object), caller)
  }

  package func update(
    _ reference: ObjectReference, object: Value, subresource: String, caller: Caller
  ) async throws(APIError) -> APIObject {
    try await write(.update(reference, object: object, subresource: subresource), caller)
  }

  package func patch(
    _ reference: ObjectReference, type: PatchType, patch: Value, subresource: String, caller: Caller
  ) async throws(APIError) -> APIObject {
    try await write(.patch(reference, type: type, patch: patch, subresource: subresource), caller)
  }

  package func delete(
    _ reference: ObjectReference, options: DeleteOptions, caller: Caller
  ) async throws(APIError) -> APIObject {
    try await write(.delete(reference, options), caller)
  }

  package func batch(_ items: [BatchItem], caller: Caller) async throws(APIError) -> [Result<APIObject, APIError>] {
    guard items.count <= limits.batchItems else {
      throw APIError(
        .requestEntityTooLarge, "the batch has \(items.count) items; at most \(limits.batchItems) are taken")
    }
    return await perform(items, caller)
  }

  private func write(_ item: BatchItem, _ caller: Caller) async throws(APIError) -> APIObject {
    if mode == .replica { return try single(await route([item], caller)) }
    let result = await withCheckedContinuation { continuation in
      attempt(item, caller, 0) { continuation.resume(returning: $0) }
    }
    return try result.get()
  }

  private func single(_ results: [Result<APIObject, APIError>]) throws(APIError) -> APIObject {
    guard let result = results.first else { throw APIError(.internalError, "a write was not answered") }
    return try result.get()
  }

  package func write(
    _ item: BatchItem, caller: Caller, completion: @escaping @LoopActor (Result<APIObject, APIError>) -> Void
  ) -> Task<Void, Never>? {
    guard mode == .replica else {
      attempt(item, caller, 0, completion)
      return nil
    }
    return spawn {
      completion(
        await self.route([item], caller).first ?? .failure(APIError(.internalError, "a write was not answered")))
    }
  }

  /// One write without a task: decided on what is published now, and again if somebody else was faster.
  private func attempt(
    _ item: BatchItem, _ caller: Caller, _ number: Int,
    _ completion: @escaping @LoopActor (Result<APIObject, APIError>) -> Void
  ) {
    log.expectChange()
    let write: PreparedWrite
    do throws(APIError) { write = try prepare(item, caller) } catch { return completion(.failure(error)) }
    let namespace = write.isCreation ? write.reference.namespace : nil
    if let namespace { creating[namespace, default: 0] += 1 }
    log.append([write.change]) { answers in
      if let namespace { self.created(in: namespace) }
      guard let answer = answers.first else {
        return completion(.failure(APIError(.internalError, "a write was not answered")))
      }
      if let result = self.outcome(write, answer, number) { return completion(result) }
      self.attempt(item, caller, number + 1, completion)
    }
  }

  private func created(in namespace: String) {
    creating[namespace] = creating[namespace].flatMap { $0 > 1 ? $0 - 1 : nil }
  }

  // MARK: One way for all

  /// Decides each item on what is published now and appends all as one group; what was overtaken by another writer is
  /// decided again. Items of one batch that name the same object meet each other as other writers would.
  private func perform(_ items: [BatchItem], _ caller: Caller) async -> [Result<APIObject, APIError>] {
    if mode == .replica { return await route(items, caller) }
    var results = [Result<APIObject, APIError>?](repeating: nil, count: items.count)
    var attempt = 0
    while case let pending = items.indices.filter({ results[$0] == nil }), !pending.isEmpty {
      var prepared: [(index: Int, write: PreparedWrite)] = []
      for index in pending {
        do throws(APIError) {
          prepared.append((index, try prepare(items[index], caller)))
        } catch {
          results[index] = .failure(error)
        }
      }
      let namespaces = prepared.filter(\.write.isCreation).map(\.write.reference.namespace)
      for namespace in namespaces { creating[namespace, default: 0] += 1 }
      let answers = await append(prepared.map(\.write.change))
      for namespace in namespaces { created(in: namespace) }
      for ((index, write), answer) in zip(prepared, answers) { results[index] = outcome(write, answer, attempt) }
      attempt += 1
    }
    return results.map { $0 ?? .failure(APIError(.internalError, "a write was not answered")) }
  }

  func append(_ changes: [Change]) async -> [ChangeResult] {
    if changes.isEmpty { return [] }
    return await withCheckedContinuation { continuation in
      log.append(changes) { continuation.resume(returning: $0) }
    }
  }

  /// nil: decide again.
  private func outcome(
    _ write: PreparedWrite, _ answer: ChangeResult, _ attempt: Int
  ) -> Result<APIObject, APIError>? {
    switch answer {
    case .applied(let revision):
      return .success(
        APIObject(reference: write.reference, revision: revision, body: write.body, status: write.status))
    case .conflict:
      if write.isRetriable, attempt < (write.isCreation ? limits.nameRetries : limits.conflictRetries) { return nil }
      let name = write.reference.name
      return .failure(
        write.isCreation ? Failures.alreadyExists(write.kind, name) : Failures.modified(write.kind, name))
    case .failed(let error): return .failure(Failures.from(error))
    }
  }

  private func route(_ items: [BatchItem], _ caller: Caller) async -> [Result<APIObject, APIError>] {
    guard let writeRouter else {
      let error = APIError(
        .methodNotAllowed, "this API serves a replica and takes no writes: send them to the cloud's API")
      return items.map { _ in .failure(error) }
    }
    var results: [Result<APIObject, APIError>] = []
    for item in items {
      do throws(APIError) {
        try authorizeRouted(item, caller)
        results.append(.success(try await writeRouter.route(item, caller: caller)))
      } catch {
        results.append(.failure(error))
      }
    }
    return results
  }

  /// A routed write is authorised here as well, on what the replica knows.
  private func authorizeRouted(_ item: BatchItem, _ caller: Caller) throws(APIError) {
    switch item {
    case .create(let resource, let namespace, let object):
      let reference = ObjectReference(
        resource: resource, namespace: namespace, name: object["metadata"]["name"].string ?? "")
      try authorize(request(.create, reference, by: caller, object: Object(object)), caller)
    case .update(let reference, let object, let subresource):
      try authorize(request(.update, reference, subresource, by: caller, object: Object(object)), caller)
    case .patch(let reference, _, _, let subresource):
      try authorize(request(.patch, reference, subresource, by: caller), caller)
    case .delete(let reference, let options):
      try authorize(request(.delete, reference, by: caller, gracePeriod: options.gracePeriod), caller)
    }
  }

  private func prepare(_ item: BatchItem, _ caller: Caller) throws(APIError) -> PreparedWrite {
    switch item {
    case .create(let resource, let namespace, let object):
      return try prepareCreate(resource: resource, namespace: namespace, object, caller)
    case .update(let reference, let object, let subresource):
      return try prepareUpdate(reference, object, subresource, caller)
    case .patch(let reference, let type, let patch, let subresource):
      return try preparePatch(reference, type, patch, subresource, caller)
    case .delete(let reference, let options): return try prepareDelete(reference, options, caller)
    }
  }

  // MARK: What the preparations share

  /// The access request for a write, with what the authoriser must know of the stored object and of an event's subject.
  func request(
    _ verb: AccessRequest.Verb, _ reference: ObjectReference, _ subresource: String = "", by caller: Caller,
    stored: StoredObject? = nil, object: Object? = nil, gracePeriod: Int64? = nil
  ) throws(APIError) -> AccessRequest {
    var request = AccessRequest(
      verb, reference, subresource: subresource, object: object, gracePeriod: gracePeriod)
    // Only for nodes does it matter where an object is.
    if caller.node != nil || caller.groups.contains(Caller.nodesGroup) {
      let current = if let stored { stored } else { try self.stored(reference.key) }
      request.placedOn = try current?.decodedMeta().node
    }
    if reference.resource == Event.resource, let object { request.subject = try subject(of: Event(object)) }
    return request
  }

  private func subject(of event: Event) throws(APIError) -> AccessRequest.Subject? {
    let involved = event.involved
    guard
      let kind = registry.kind(apiVersion: involved["apiVersion"].string ?? "v1", kind: involved["kind"].string ?? "")
    else { return nil }
    let reference = ObjectReference(
      resource: kind.resource, namespace: kind.isNamespaced ? involved["namespace"].string ?? "" : "",
      name: involved["name"].string ?? "")
    guard let found = try stored(reference.key) else { return nil }
    return AccessRequest.Subject(key: reference.key, node: try found.decodedMeta().node)
  }

  /// Refuses what is not an object of this kind; answers it without nulls and with apiVersion and kind filled in.
  func admit(_ value: Value, _ kind: Kind) throws(APIError) -> Object {
    if value.isDeeper(than: limits.objectDepth) { throw tooDeep }
    if let mismatch = kind.mismatch(value) { throw Failures.wrongType(kind, mismatch) }
    var object = Object(value.withoutNulls())
    try complete("apiVersion", kind.apiVersion, of: &object, kind)
    try complete("kind", kind.kind, of: &object, kind)
    let metadata = object.metadata
    if !metadata["managedFields"].isNull { object.metadata.remove("managedFields") }
    if !metadata["selfLink"].isNull { object.metadata.remove("selfLink") }
    return object
  }

  private func complete(
    _ field: String, _ expected: String, of object: inout Object, _ kind: Kind
  ) throws(APIError) {
    let given = object.value[field].string ?? ""
    if given == expected { return }
    guard given.isEmpty else {
      throw APIError(
        .badRequest,
        "the \(field) in the data (\(given)) does not match the expected \(field) (\(expected)) of \(kind.resource)")
    }
    object.value[field] = .string(expected)
  }

  func check(_ form: StoredForm, _ kind: Kind, _ name: String) throws(APIError) {
    if form.size > limits.objectBytes { throw Failures.tooLarge(kind, name, form.size, limits.objectBytes) }
  }

  var tooDeep: APIError {
    APIError(.badRequest, "the object is nested deeper than \(limits.objectDepth) levels")
  }
}
