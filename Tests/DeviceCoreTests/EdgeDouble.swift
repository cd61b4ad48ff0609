import API
import APIFace
import Base
import EventLoop
import ObjectModel
import Sync
import Transport
import Wire

/// edgecore as devicecore sees it: a Unix socket that serves devices and models, pulls readings and sends commands.
@LoopActor final class EdgeDouble {
  let loop = Loop.startShared()
  let api = ObjectShelf()
  private let service: APIService
  private let listener: StreamListener
  private(set) var session: Session?
  /// Every reading that was pulled, by `property`, in order.
  private(set) var series: [String: [(value: String, quality: String)]] = [:]
  /// How far the pulls got, as the cloud's cursor would know.
  private(set) var position: (incarnation: String, through: Int64)?
  private(set) var losses: [LanePayload] = []
  /// A page did not follow the one before.
  private(set) var gaps: [String] = []

  init(socket: String) throws {
    service = APIService(api: api, scheduler: loop)
    listener = try UnixListener.listen(path: socket)
    listener.onAccept = { [weak self] in self?.accept($0) }
  }

  func close() {
    listener.close()
    session?.close()
  }

  private func accept(_ stream: any ByteStream) {
    let session = Session(stream: stream, role: .server, hello: [:], scheduler: loop, random: SystemRandom())
    service.attach(session, caller: Caller.node("n1", origin: .edgeSocket))
    session.onReady = { [weak self, weak session] in
      guard let self, let session else { return }
      self.session = session
      pull(session)
    }
    session.onClose = { [weak self, weak session] _ in
      if self?.session === session { self?.session = nil }
    }
    session.start()
  }

  private func pull(_ session: Session) {
    var params: Value = ["limit": 50]
    if let position {
      params["incarnation"] = .string(position.incarnation)
      params["after"] = .int(position.through)
    }
    let stream = session.open(method: "readings.pull", params: params, priority: .telemetry)
    var table = SeriesTable()
    stream.onMessage = { [weak self] message in
      do throws(SkerryError) {
        switch try LaneMessage.decode(message) {
        case .readings(let packed): self?.take(try table.unpack(packed), session)
        case .batch(let batch): self?.take(batch, session)
        case .cursors, .applied: self?.gaps.append("no batch")
        }
      } catch {
        self?.gaps.append("\(error)")
      }
    }
  }

  private func take(_ batch: LaneBatch, _ session: Session) {
    let (incarnation, after) = (batch.incarnation.description, Int64(batch.after))
    let through = Int64(batch.through)
    if let position, position.incarnation == incarnation, position.through != after {
      gaps.append("after \(position.through) came \(after)")
    }
    if position?.incarnation != incarnation, after != 0 { gaps.append("\(incarnation) starts after \(after)") }
    position = (incarnation, through)
    for entry in batch.entries {
      if let lost = try? LanePayload.decode(entry.payload) { losses.append(lost) }
    }
    for reading in batch.readings {
      series[reading.property, default: []].append((reading.value, reading.quality))
    }
    spawn {
      _ = try? await session.call(
        method: "readings.ack", params: ["i": .string(incarnation), "t": .int(through)], deadline: .seconds(5))
    }
  }

  /// The values of good readings of a property.
  func good(_ property: String) -> [String] {
    (series[property] ?? []).filter { $0.quality == "Good" }.map(\.value)
  }

  func command(_ id: String, _ property: String, value: Value? = nil, deadline: Int64 = 5000) async throws -> Value {
    var params: Value = [
      "id": .string(id), "device": "default/boiler", "property": .string(property), "deadline": .int(deadline),
      "caller": "ann",
    ]
    if let value { params["value"] = value }
    guard let session else { throw SkerryError(.unavailable, "devicecore is not connected") }
    return try await session.call(method: "device.command", params: params, deadline: .seconds(15))
  }
}

/// Objects that can be listed and watched; nothing more of the API is needed here.
@LoopActor final class ObjectShelf: API {
  private var objects: [String: APIObject] = [:]
  fileprivate private(set) var log: [WatchEvent] = []
  private var revision: UInt64 = 0
  fileprivate var cursors: [ShelfCursor] = []

  func put(_ resource: String, _ value: Value) {
    revision += 1
    let object = Object(value)
    let reference = ObjectReference(resource: resource, namespace: object.namespace, name: object.name)
    let kind: WatchEvent.Kind = objects[reference.key] == nil ? .added : .modified
    let stored = APIObject(reference: reference, revision: revision, body: CBOR.encode(value), status: nil)
    objects[reference.key] = stored
    log.append(WatchEvent(kind: kind, position: revision, object: stored))
    for cursor in cursors { cursor.onAvailable?() }
  }

  func list(_ options: ListOptions, caller: Caller) async throws(APIError) -> ObjectList {
    let items = objects.values.filter { $0.reference.resource == options.resource }
    return ObjectList(items: items, revision: revision, continuation: "")
  }

  func watch(_ options: WatchOptions, caller: Caller) async throws(APIError) -> any WatchCursor {
    let cursor = ShelfCursor(self, options)
    cursors.append(cursor)
    return cursor
  }

  private var refusal: APIError { APIError(.methodNotAllowed, "the shelf only lists and watches") }
  func get(_ reference: ObjectReference, caller: Caller) async throws(APIError) -> APIObject { throw refusal }
  func create(
    resource: String, namespace: String, object: Value, caller: Caller
  ) async throws(APIError) -> APIObject { throw refusal }
  func update(
    _ reference: ObjectReference, object: Value, subresource: String, caller: Caller
  ) async throws(APIError) -> APIObject { throw refusal }
  func patch(
    _ reference: ObjectReference, type: PatchType, patch: Value, subresource: String, caller: Caller
  ) async throws(APIError) -> APIObject { throw refusal }
  func delete(
    _ reference: ObjectReference, options: DeleteOptions, caller: Caller
  ) async throws(APIError) -> APIObject { throw refusal }
  func batch(_ items: [BatchItem], caller: Caller) async throws(APIError) -> [Result<APIObject, APIError>] {
    throw refusal
  }
  func connect(
    _ reference: ObjectReference, subresource: String, options: Value, stream: (any DuplexStream)?, caller: Caller
  ) async throws(APIError) -> Value { throw refusal }
}

@LoopActor private final class ShelfCursor: WatchCursor {
  var onAvailable: (@LoopActor () -> Void)?
  private let shelf: ObjectShelf
  private let resource: String
  private(set) var position: UInt64

  init(_ shelf: ObjectShelf, _ options: WatchOptions) {
    self.shelf = shelf
    resource = options.resource
    position = options.after ?? 0
  }

  func next(limit: Int) throws(APIError) -> [WatchEvent] {
    let events = shelf.log.filter { $0.position > position && $0.object?.reference.resource == resource }.prefix(limit)
    position = events.last?.position ?? position
    return Array(events)
  }

  func cancel() { shelf.cursors.removeAll { $0 === self } }
}
