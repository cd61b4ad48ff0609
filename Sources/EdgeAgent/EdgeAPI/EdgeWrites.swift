import API
import Base
import ObjectLog
import ObjectModel
import Sync
import Wire

/// The writes of a node's own API: statuses of what is placed on the node go into the status lane, so that they count
/// with the cloud away. Everything else is written in the cloud.
@LoopActor package final class EdgeWrites: WriteRouter {
  private let view: EdgeView
  private let outbox: Outbox
  private let registry: KindRegistry
  private let nodeName: String

  package init(view: EdgeView, outbox: Outbox, nodeName: String, registry: KindRegistry = .standard) {
    self.view = view
    self.outbox = outbox
    self.nodeName = nodeName
    self.registry = registry
  }

  package func route(_ item: BatchItem, caller: Caller) async throws(APIError) -> APIObject {
    switch item {
    case .update(let reference, let object, "status"):
      return try await write(reference) { _ in object }
    case .patch(let reference, let type, let patch, "status"):
      return try await write(reference) { (old: Value) throws(APIError) in
        switch type {
        case .merge: return MergePatch.apply(patch, to: old)
        case .json:
          do throws(JSONPatch.Failure) { return try JSONPatch.apply(patch, to: old) } catch {
            throw APIError(.badRequest, "the patch is not valid: \(error)")
          }
        }
      }
    default:
      throw APIError(
        .methodNotAllowed, "a node's API takes statuses and device commands; write everything else in the cloud")
    }
  }

  private func write(
    _ reference: ObjectReference, _ change: (Value) throws(APIError) -> Value
  ) async throws(APIError) -> APIObject {
    guard let kind = registry[resource: reference.resource], kind.hasStatus, let stored = view.object(reference.key)
    else { throw APIError(.notFound, "\(reference.resource) \"\(reference.name)\" is not on this node") }
    let (old, uid) = try decode(stored)
    let new = try change(old)
    let revision = new["metadata"]["resourceVersion"].string ?? ""
    guard revision.isEmpty || revision == String(stored.revision) else {
      throw APIError(
        .conflict, "\(reference.resource) \"\(reference.name)\" has been modified; apply your changes to the latest")
    }
    if let mismatch = kind.mismatch(new) { throw APIError(.badRequest, "the status is not valid: \(mismatch)") }
    let fields = Self.difference(old["status"], new["status"])
    guard let count = fields.object?.count, count > 0 else { return answer(reference, stored) }
    let all = view.wrote(key: reference.key, uid: uid, fields: fields)
    outbox.append(
      .status, subject: "\(reference.key) \(uid) written", .status(key: reference.key, uid: uid, fields: all))
    do throws(SkerryError) { try await outbox.durable() } catch {
      throw APIError(.serviceUnavailable, "the status waits in memory, since the outbox cannot be written: \(error)")
    }
    return answer(reference, view.object(reference.key) ?? stored)
  }

  private func decode(_ stored: StoredObject) throws(APIError) -> (Value, uid: String) {
    let meta: ObjectMeta
    var value: Value
    do throws(SkerryError) {
      meta = try ObjectMeta(decoding: stored.meta)
      value = try CBOR.decode(stored.body)
      value["metadata"]["resourceVersion"] = .string(String(stored.revision))
      if let status = stored.status { value["status"] = try CBOR.decode(status) }
    } catch {
      throw APIError(.internalError, "a stored object does not decode: \(error)")
    }
    guard meta.node == nodeName else {
      throw APIError(.forbidden, "a node writes the status of what is placed on it, and of nothing else")
    }
    return (value, meta.uid)
  }

  private func answer(_ reference: ObjectReference, _ stored: StoredObject) -> APIObject {
    APIObject(reference: reference, revision: stored.revision, body: stored.body, status: stored.status)
  }

  /// The members of a status that a write changed, those that it took away as null.
  static func difference(_ old: Value, _ new: Value) -> Value {
    var fields: Value = [:]
    for (key, value) in new.object ?? [:] where old[key] != value { fields[key] = value }
    for (key, _) in old.object ?? [:] where new[key].isNull { fields[key] = .null }
    return fields
  }
}
