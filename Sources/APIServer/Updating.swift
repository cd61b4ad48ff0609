import API
import Base
import ObjectLog
import ObjectModel

extension APIServer {
  func prepareUpdate(
    _ reference: ObjectReference, _ value: Value, _ subresource: String, _ caller: Caller
  ) throws(APIError) -> PreparedWrite {
    let kind = try kind(reference.resource)
    try check(reference, kind)
    try check(subresource, kind, isPatch: false)
    let stored = try stored(reference.key)
    let asked = try request(.update, reference, subresource, by: caller, stored: stored, object: Object(value))
    try authorize(asked, caller)
    guard let stored else {
      guard kind.createsOnUpdate, subresource.isEmpty else { throw Failures.notFound(kind, reference.name) }
      return try prepareCreate(resource: reference.resource, namespace: reference.namespace, value, caller)
    }
    if subresource == "binding" { return try prepareBinding(reference, kind, stored, value) }
    return try prepareChange(reference, kind, stored, stored.decoded(), value, subresource)
  }

  func preparePatch(
    _ reference: ObjectReference, _ type: PatchType, _ patch: Value, _ subresource: String, _ caller: Caller
  ) throws(APIError) -> PreparedWrite {
    let kind = try kind(reference.resource)
    try check(reference, kind)
    try check(subresource, kind, isPatch: true)
    let stored = try stored(reference.key)
    try authorize(try request(.patch, reference, subresource, by: caller, stored: stored), caller)
    guard let stored else { throw Failures.notFound(kind, reference.name) }
    let old = try stored.decoded()
    // The revision that is read counts only if the patch itself names one.
    var target = old
    target.metadata.remove("resourceVersion")
    let new = try apply(patch, type, to: target, kind)
    return try prepareChange(reference, kind, stored, old, new, subresource)
  }

  private func apply(_ patch: Value, _ type: PatchType, to object: Object, _ kind: Kind) throws(APIError) -> Value {
    switch type {
    case .merge:
      guard patch.object != nil else { throw APIError(.badRequest, "a merge patch is an object") }
      return MergePatch.apply(patch, to: object.value)
    case .json:
      do throws(JSONPatch.Failure) {
        return try JSONPatch.apply(patch, to: object.value)
      } catch {
        if error.kind == .malformed { throw APIError(.badRequest, "the patch is not valid: \(error)") }
        throw APIError(
          .invalid, "the server rejected our request due to an error in our request: \(error)",
          details: Failures.details(kind, object.name))
      }
    }
  }

  private func check(_ subresource: String, _ kind: Kind, isPatch: Bool) throws(APIError) {
    switch subresource {
    case "": return
    case "status" where kind.hasStatus: return
    case "finalize" where kind.kind == "Namespace": return
    case "binding" where kind.resource == Pod.resource && !isPatch: return
    default: throw Failures.unknownResource("\(kind.resource)/\(subresource)")
    }
  }

  /// Decides what becomes of `old` when somebody wants it to be `value`.
  func prepareChange(
    _ reference: ObjectReference, _ kind: Kind, _ stored: StoredObject, _ old: Object, _ value: Value,
    _ subresource: String
  ) throws(APIError) -> PreparedWrite {
    let wanted = try admit(value, kind)
    try checkIdentity(wanted, old, reference, kind)
    let revision = wanted.metadata["resourceVersion"].string ?? ""
    if !revision.isEmpty, revision != String(stored.revision) { throw Failures.modified(kind, reference.name) }
    var new: Object
    switch subresource {
    case "status":
      new = old
      new.status = wanted.status
      if wanted.status.isNull { new.value.remove("status") }
    case "finalize":
      new = old
      new.spec["finalizers"] = wanted.spec["finalizers"]
    default:
      new = wanted
      if kind.hasStatus, !old.status.isNull { new.status = old.status } else { new.value.remove("status") }
    }
    keepSystemFields(&new, old)
    if subresource.isEmpty {
      kind.defaults(&new)
      countGeneration(&new, old, kind)
    }
    // The body of a status write is the stored one; its types were checked above.
    let isStatus = subresource == "status"
    if !isStatus { try validate(new, old, kind) }
    return try finish(
      reference, kind, stored, new, body: isStatus ? stored.body : nil, isRetriable: revision.isEmpty)
  }

  /// What a node says of an object's status, merged into it. Only the members of the status that it speaks of are decoded
  /// and checked: all else stays as it is.
  /// Not for what is being deleted: there a write may be the last.
  func prepareStatus(
    _ reference: ObjectReference, _ kind: Kind, _ stored: StoredObject, _ meta: ObjectMeta, _ words: [Value]
  ) throws(APIError) -> PreparedWrite {
    let merge: StatusMerge
    do throws(SkerryError) { merge = try StatusMerge(words, into: stored.status) } catch {
      throw APIError(.internalError, "a stored object's status does not decode: \(error)")
    }
    if merge.changed.isDeeper(than: limits.objectDepth - 1) { throw tooDeep }
    if let mismatch = kind.shape["status"]?.mismatch(merge.changed, at: "status") {
      throw Failures.wrongType(kind, mismatch)
    }
    let form = StoredForm(stored, meta: meta, merge, kind: kind)
    try check(form, kind, reference.name)
    return PreparedWrite(
      kind: kind, reference: reference,
      change: Change(
        key: reference.key, guarding: .revision(stored.revision),
        operation: .put(body: form.body, status: form.status, meta: form.meta), seal: form.seal),
      body: form.body, status: form.status, isRetriable: true, isCreation: false)
  }

  private func checkIdentity(
    _ wanted: Object, _ old: Object, _ reference: ObjectReference, _ kind: Kind
  ) throws(APIError) {
    let metadata = wanted.metadata
    let (name, namespace) = (metadata["name"].string ?? "", metadata["namespace"].string ?? "")
    if !name.isEmpty, name != reference.name {
      throw APIError(
        .badRequest, "the name of the object (\(name)) does not match the name on the URL (\(reference.name))")
    }
    if !namespace.isEmpty, namespace != reference.namespace {
      throw APIError(
        .badRequest,
        "the namespace of the object (\(namespace)) does not match the namespace on the request "
          + "(\(reference.namespace))")
    }
    if let uid = metadata["uid"].string, !uid.isEmpty, uid != old.uid {
      throw Failures.conflict(
        kind, reference.name,
        "Precondition failed: UID in precondition: \(uid), UID in object meta: \(old.uid)")
    }
  }

  private static let systemFields = [
    "name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation",
    "generateName",
  ]

  private func keepSystemFields(_ new: inout Object, _ old: Object) {
    let kept = old.metadata.object ?? Value.Fields()
    var metadata = new.metadata.object ?? Value.Fields()
    // Let go of first, so that it changes in place.
    new.metadata = .null
    for field in Self.systemFields { metadata[field] = kept[field].flatMap { $0.isNull ? nil : $0 } }
    metadata["resourceVersion"] = nil
    new.metadata = .object(metadata)
  }

  /// Generations count changes of everything but metadata and status.
  private func countGeneration(_ new: inout Object, _ old: Object, _ kind: Kind) {
    guard kind.countsGenerations else { return }
    func spec(_ object: Object) -> Value {
      var value = object.value
      let annotations = kind.annotationsCountAsSpec ? value["metadata"]["annotations"] : .null
      value.remove("status")
      value["metadata"] = annotations
      return value
    }
    if spec(new) != spec(old) { new.metadata["generation"] = .int(old.generation + 1) }
  }

  /// Stores what was decided: an object that waits to go and has nothing left to wait for goes.
  func finish(
    _ reference: ObjectReference, _ kind: Kind, _ stored: StoredObject, _ new: Object, body: Bytes? = nil,
    isRetriable: Bool
  ) throws(APIError) -> PreparedWrite {
    let form = try encode(new, kind, body: body, size: stored.body.count)
    let gone = new.isBeingDeleted && !Deletion.isHeld(new)
    if gone, kind.kind == "Namespace" { try checkEmpty(new.name, kind) }
    return PreparedWrite(
      kind: kind, reference: reference,
      change: Change(
        key: reference.key, guarding: .revision(stored.revision),
        operation: gone ? .delete : .put(body: form.body, status: form.status, meta: form.meta), seal: form.seal),
      body: form.body, status: form.status, isRetriable: isRetriable, isCreation: false)
  }
}
