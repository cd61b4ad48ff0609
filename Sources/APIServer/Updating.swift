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
    let key = reference.key
    let stored = try stored(key)
    let asked = try request(.update, reference, subresource, by: caller, stored: stored, object: Object(value))
    try authorize(asked, caller)
    guard let stored else {
      guard kind.createsOnUpdate, subresource.isEmpty else { throw Failures.notFound(kind, reference.name) }
      return try prepareCreate(resource: reference.resource, namespace: reference.namespace, value, caller)
    }
    if subresource == "binding" { return try prepareBinding(reference, kind, stored, value) }
    let wanted = try admit(value, kind)
    if subresource.isEmpty, !kind.hasStatus, !kind.countsGenerations {
      let head = try StoredHead(stored)
      if head.keeps(wanted.metadata, of: reference), !kind.comparesBody(head.object) {
        return try prepareBody(reference, key, kind, stored, head, wanted)
      }
    }
    return try prepareChange(reference, kind, stored, stored.decoded(), wanted: wanted, subresource)
  }

  /// Decides what becomes of an object that is nothing but a body, where its metadata stays and its head says enough of
  /// what it was. What is stored of the metadata was validated when it came, and is not encoded again.
  private func prepareBody(
    _ reference: ObjectReference, _ key: String, _ kind: Kind, _ stored: StoredObject, _ head: StoredHead,
    _ wanted: Object
  ) throws(APIError) -> PreparedWrite {
    try checkIdentity(wanted, uid: head.uid, reference, kind)
    let isGuarded = try checkRevision(wanted, stored, kind, reference.name)
    var new = wanted
    new.value.remove("status")
    kind.defaults(&new)
    var errors = Validation()
    kind.validate(new, &errors)
    kind.validateUpdate(new, head.object, &errors)
    if !errors.isEmpty { throw Failures.invalid(kind, reference.name, errors.errors) }
    let form = try StoredForm(new, kind: kind, from: stored, metadata: head.metadata)
    try check(form, kind, reference.name)
    return PreparedWrite(
      kind: kind, reference: reference,
      change: Change(
        key: key, guarding: .revision(stored.revision),
        operation: .put(body: form.body, status: nil, meta: form.meta), seal: form.seal),
      body: form.body, status: nil, isRetriable: !isGuarded, isCreation: false)
  }

  /// Whether the object names the revision that it is to replace, which must then be the stored one.
  private func checkRevision(
    _ wanted: Object, _ stored: StoredObject, _ kind: Kind, _ name: String
  ) throws(APIError) -> Bool {
    guard let revision = wanted.metadata["resourceVersion"].string, !revision.isEmpty else { return false }
    guard revision == String(stored.revision) else { throw Failures.modified(kind, name) }
    return true
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
    try prepareChange(reference, kind, stored, old, wanted: admit(value, kind), subresource)
  }

  /// The same of what was admitted.
  private func prepareChange(
    _ reference: ObjectReference, _ kind: Kind, _ stored: StoredObject, _ old: Object, wanted: Object,
    _ subresource: String
  ) throws(APIError) -> PreparedWrite {
    try checkIdentity(wanted, uid: old.uid, reference, kind)
    let isGuarded = try checkRevision(wanted, stored, kind, reference.name)
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
      reference, kind, stored, new, body: isStatus ? stored.body : nil, isRetriable: !isGuarded)
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
    _ wanted: Object, uid stored: String, _ reference: ObjectReference, _ kind: Kind
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
    if let uid = metadata["uid"].string, !uid.isEmpty, uid != stored {
      throw Failures.conflict(
        kind, reference.name,
        "Precondition failed: UID in precondition: \(uid), UID in object meta: \(stored)")
    }
  }

  private func keepSystemFields(_ new: inout Object, _ old: Object) {
    let metadata = new.metadata.object ?? Value.Fields()
    var merged = metadata.taking(SystemFields.all, from: old.metadata.object ?? Value.Fields())
    merged["resourceVersion"] = nil
    new.metadata = .object(merged)
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
    let form = StoredForm(new, kind: kind, body: body, size: stored.body.count)
    try check(form, kind, reference.name)
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
