import Base
import ObjectModel

/// Which objects a call names. `resource` is the plural with its group unless core: `pods`, `deployments.apps`,
/// `devices.devices.kubeedge.io`. The namespace is empty for cluster scope, and for "all namespaces" in list and watch.
package struct ObjectReference: Sendable, Hashable {
  package var resource: String
  package var namespace: String
  package var name: String
  package init(resource: String, namespace: String = "", name: String) {
    self.resource = resource
    self.namespace = namespace
    self.name = name
  }
  /// The key in the object log.
  package var key: String {
    // Appended, not interpolated, which takes ten times as long: each write asks for it several times.
    var key = resource
    key.reserveCapacity(resource.utf8.count + namespace.utf8.count + name.utf8.count + 2)
    key += "/"
    key += namespace
    key += "/"
    key += name
    return key
  }
}

/// One object as every face and cache handles it: the stored bytes as they are, decoded on demand.
package struct APIObject: Sendable, Hashable {
  package var reference: ObjectReference
  package var revision: UInt64
  /// Deterministic CBOR of the object without `status` and without `metadata.resourceVersion`.
  package var body: Bytes
  /// Deterministic CBOR of `.status`, if the kind has one and it was written.
  package var status: Bytes?
  package init(reference: ObjectReference, revision: UInt64, body: Bytes, status: Bytes?) {
    self.reference = reference
    self.revision = revision
    self.body = body
    self.status = status
  }
}

package struct ListOptions: Sendable {
  package var resource: String
  package var namespace: String
  /// Kubernetes' selector texts; empty selects all.
  package var labelSelector: String
  package var fieldSelector: String
  /// Objects a page; 0 means the server's page limit.
  package var limit: Int
  /// Opaque, from the page before.
  package var continuation: String
  /// List at exactly this revision (0: the newest).
  package var revision: UInt64
  package init(
    resource: String, namespace: String = "", labelSelector: String = "", fieldSelector: String = "", limit: Int = 0,
    continuation: String = "", revision: UInt64 = 0
  ) {
    self.resource = resource
    self.namespace = namespace
    self.labelSelector = labelSelector
    self.fieldSelector = fieldSelector
    self.limit = limit
    self.continuation = continuation
    self.revision = revision
  }
}

package struct ObjectList: Sendable {
  package var items: [APIObject]
  /// The revision that the listing is at: watch from here.
  package var revision: UInt64
  /// Not empty: more pages.
  package var continuation: String
  package init(items: [APIObject], revision: UInt64, continuation: String) {
    self.items = items
    self.revision = revision
    self.continuation = continuation
  }
}

package struct WatchOptions: Sendable {
  package var resource: String
  package var namespace: String
  package var labelSelector: String
  package var fieldSelector: String
  /// Changes after this revision; nil: the current state as `added` events first, then changes.
  package var after: UInt64?
  package init(
    resource: String, namespace: String = "", labelSelector: String = "", fieldSelector: String = "", after: UInt64?
  ) {
    self.resource = resource
    self.namespace = namespace
    self.labelSelector = labelSelector
    self.fieldSelector = fieldSelector
    self.after = after
  }
}

package struct WatchEvent: Sendable {
  package enum Kind: UInt8, Sendable {
    case added = 1
    case modified = 2
    case deleted = 3
    /// No object: everything up to `position` was delivered.
    case bookmark = 4
  }
  package var kind: Kind
  /// Where a watch that resumes after this event starts. On the cloud equal to the object's revision.
  package var position: UInt64
  /// nil for a bookmark.
  package var object: APIObject?
  /// What an item says before the object's bytes, where somebody encoded it for everybody already; see `ItemMessage`.
  package var head: Bytes?
  package init(kind: Kind, position: UInt64, object: APIObject?, head: Bytes? = nil) {
    self.kind = kind
    self.position = position
    self.object = object
    self.head = head
  }
}

/// A watch is a cursor: it holds a position and no queue. Whoever reads it pulls when there is room.
@LoopActor package protocol WatchCursor: AnyObject {
  /// Called on the loop when `next` may answer more, after it answered less than was asked. Set before the first `next`.
  var onAvailable: (@LoopActor () -> Void)? { get set }
  /// At most `limit` events, without waiting; empty when there is nothing now. Throws `expired` ("too old", with the
  /// revision to restart from) once, after which the cursor is dead.
  func next(limit: Int) throws(APIError) -> [WatchEvent]
  /// The same without a list: hands each event to `take` and answers how many there were.
  func deliver(limit: Int, _ take: (WatchEvent) -> Void) throws(APIError) -> Int
  /// What comes next, if it is events that other cursors see alike; nil: use `deliver`. Nothing moves before `pass`.
  func sharedRun() -> EventRun?
  /// Moves behind the run that `sharedRun` answered; false if there is nothing more now.
  func pass(_ run: EventRun) -> Bool
  /// Everything up to here was answered by `next`: what a bookmark may say. 0 where that is not known.
  var position: UInt64 { get }
  /// It tells its position by itself, as bookmarks among the events: whoever reads it need not.
  var hasBookmarks: Bool { get }
  func cancel()
  /// What `onAvailable` will touch. Who tells thousands of readers of the same thing fetches it ahead of each.
  func expect(_ touched: WorkingSet)
}

extension WatchCursor {
  package func expect(_ touched: WorkingSet) {}
  package var position: UInt64 { 0 }
  package var hasBookmarks: Bool { false }
  package func sharedRun() -> EventRun? { nil }
  package func pass(_ run: EventRun) -> Bool { true }

  package func deliver(limit: Int, _ take: (WatchEvent) -> Void) throws(APIError) -> Int {
    let events = try next(limit: limit)
    for event in events { take(event) }
    return events.count
  }
}

package enum PatchType: String, Sendable {
  case merge = "application/merge-patch+json"
  case json = "application/json-patch+json"
}

package enum Propagation: String, Sendable {
  case background = "Background"
  case foreground = "Foreground"
  case orphan = "Orphan"
}

package struct DeleteOptions: Sendable {
  /// Seconds a pod gets to stop; nil: the object's own. 0: at once.
  package var gracePeriod: Int64?
  package var propagation: Propagation?
  /// Only if the object still has this uid or revision.
  package var uid: String?
  package var revision: UInt64?
  package init(gracePeriod: Int64? = nil, propagation: Propagation? = nil, uid: String? = nil, revision: UInt64? = nil)
  {
    self.gracePeriod = gracePeriod
    self.propagation = propagation
    self.uid = uid
    self.revision = revision
  }
}

/// One item of a batch; results come back in order, each on its own.
package enum BatchItem: Sendable {
  case create(resource: String, namespace: String, object: Value)
  case update(ObjectReference, object: Value, subresource: String)
  case patch(ObjectReference, type: PatchType, patch: Value, subresource: String)
  case delete(ObjectReference, DeleteOptions)
}

/// The product's API, the same in cloud and edge, in process (`APIServer`) and over a connection (`APIClient`).
/// Authorisation happens inside, before the log. Writes answer the object with its new revision.
///
/// `subresource` is empty for the object itself or `status`. Updates that carry `metadata.resourceVersion` are
/// guarded by it (conflict when stale).
@LoopActor package protocol API: AnyObject {
  func get(_ reference: ObjectReference, caller: Caller) async throws(APIError) -> APIObject
  func list(_ options: ListOptions, caller: Caller) async throws(APIError) -> ObjectList
  func watch(_ options: WatchOptions, caller: Caller) async throws(APIError) -> any WatchCursor
  func create(resource: String, namespace: String, object: Value, caller: Caller) async throws(APIError) -> APIObject
  func update(_ reference: ObjectReference, object: Value, subresource: String, caller: Caller) async throws(APIError)
    -> APIObject
  func patch(_ reference: ObjectReference, type: PatchType, patch: Value, subresource: String, caller: Caller)
    async throws(APIError) -> APIObject
  /// Answers the object: as it was, or, with finalizers or grace, as it now waits to go.
  func delete(_ reference: ObjectReference, options: DeleteOptions, caller: Caller) async throws(APIError) -> APIObject
  func batch(_ items: [BatchItem], caller: Caller) async throws(APIError) -> [Result<APIObject, APIError>]
  /// One of the four writes for hot paths: answers by `completion`, on the loop. The task, if there is one, can be
  /// cancelled like the calls above.
  func write(
    _ item: BatchItem, caller: Caller, completion: @escaping @LoopActor (Result<APIObject, APIError>) -> Void
  ) -> Task<Void, Never>?
  /// A call that is not about stored objects: `pods/log`, `pods/exec`, `devices/readings`, `tokens/create` ….
  /// `stream` is the duplex half that carries data besides the request; nil for a unary call.
  func connect(
    _ reference: ObjectReference, subresource: String, options: Value, stream: (any DuplexStream)?, caller: Caller
  )
    async throws(APIError) -> Value
}

extension API {
  package func write(
    _ item: BatchItem, caller: Caller, completion: @escaping @LoopActor (Result<APIObject, APIError>) -> Void
  ) -> Task<Void, Never>? {
    spawn {
      do throws(APIError) { completion(.success(try await self.perform(item, caller: caller))) } catch {
        completion(.failure(error))
      }
    }
  }

  private func perform(_ item: BatchItem, caller: Caller) async throws(APIError) -> APIObject {
    switch item {
    case .create(let resource, let namespace, let object):
      try await create(resource: resource, namespace: namespace, object: object, caller: caller)
    case .update(let reference, let object, let subresource):
      try await update(reference, object: object, subresource: subresource, caller: caller)
    case .patch(let reference, let type, let patch, let subresource):
      try await self.patch(reference, type: type, patch: patch, subresource: subresource, caller: caller)
    case .delete(let reference, let options): try await delete(reference, options: options, caller: caller)
    }
  }
}

/// Reaches a node that is connected to this cloud; implemented by the hub, used by the API server.
@LoopActor package protocol NodeConnector: AnyObject {
  /// Runs a call on the node (`pods/log`, `pods/exec`, `devices/command`), joining `stream` to it.
  /// Throws `serviceUnavailable` with the time last seen when the node is not connected.
  func connect(
    node: String, _ reference: ObjectReference, subresource: String, options: Value, stream: (any DuplexStream)?,
    caller: Caller
  ) async throws(APIError) -> Value
  /// Monotonic time of the last word from the node; nil if it was not heard since this hub started.
  func lastHeard(_ node: String) -> Instant?
}
