import API
import Base
import ObjectLog
import ObjectModel

/// The rules of going: finalizers, grace, a namespace's own finalizers.
enum Deletion {
  static let foreground = "foregroundDeletion"
  static let orphan = "orphan"

  /// Whether something still keeps an object that is being deleted.
  static func isHeld(_ object: Object) -> Bool {
    if !object.finalizers.isEmpty { return true }
    if object.metadata["deletionGracePeriodSeconds"].int ?? 0 > 0 { return true }
    return object.kind == "Namespace" && !Namespace(object).specFinalizers.isEmpty
  }
}

extension APIServer {
  func prepareDelete(
    _ reference: ObjectReference, _ options: DeleteOptions, _ caller: Caller
  ) throws(APIError) -> PreparedWrite {
    let kind = try kind(reference.resource)
    try check(reference, kind)
    let stored = try stored(reference.key)
    try authorize(
      try request(.delete, reference, by: caller, stored: stored, gracePeriod: options.gracePeriod), caller)
    guard let stored else { throw Failures.notFound(kind, reference.name) }
    let old = try stored.decoded()
    try checkPreconditions(options, old, stored, kind)
    if kind.kind == "Namespace", Self.standardNamespaces.contains(reference.name) {
      throw APIError(
        .forbidden, "namespaces \"\(reference.name)\" is forbidden: this namespace may not be deleted",
        details: Failures.details(kind, reference.name))
    }
    var new = old
    setFinalizers(&new, options.propagation)
    let grace = grace(old, options.gracePeriod, kind)
    let shortens = grace < old.metadata["deletionGracePeriodSeconds"].int ?? .max
    if !old.isBeingDeleted || shortens {
      new.metadata["deletionGracePeriodSeconds"] = .int(grace)
      new.metadata["deletionTimestamp"] = .string(Timestamp.format(scheduler.wall + .seconds(grace)))
      if !old.isBeingDeleted, kind.countsGenerations { new.metadata["generation"] = .int(old.generation + 1) }
    }
    if kind.kind == "Namespace" { new.status["phase"] = "Terminating" }
    new.metadata.remove("resourceVersion")
    let retriable = options.revision == nil
    if Deletion.isHeld(new) { return try finish(reference, kind, stored, new, isRetriable: retriable) }
    return PreparedWrite(
      kind: kind, reference: reference,
      change: Change(key: reference.key, guarding: .revision(stored.revision), operation: .delete),
      body: stored.body, status: stored.status, isRetriable: retriable, isCreation: false)
  }

  private func checkPreconditions(
    _ options: DeleteOptions, _ old: Object, _ stored: StoredObject, _ kind: Kind
  ) throws(APIError) {
    if let uid = options.uid, uid != old.uid {
      throw Failures.conflict(
        kind, old.name, "Precondition failed: UID in precondition: \(uid), UID in object meta: \(old.uid)")
    }
    if let revision = options.revision, revision != stored.revision {
      throw Failures.conflict(
        kind, old.name,
        "Precondition failed: ResourceVersion in precondition: \(revision), ResourceVersion in object meta: "
          + "\(stored.revision)")
    }
  }

  /// Foreground and orphan are finalizers that the garbage collector works off; the other one goes.
  private func setFinalizers(_ object: inout Object, _ propagation: Propagation?) {
    guard let propagation else { return }
    var finalizers = object.finalizers.filter { $0 != Deletion.foreground && $0 != Deletion.orphan }
    switch propagation {
    case .background: break
    case .foreground: finalizers.append(Deletion.foreground)
    case .orphan: finalizers.append(Deletion.orphan)
    }
    if finalizers.isEmpty {
      object.metadata.remove("finalizers")
    } else {
      object.metadata["finalizers"] = .array(finalizers.map(Value.string))
    }
  }

  /// Seconds that the object's node gets to stop it. A second deletion may only shorten them.
  private func grace(_ object: Object, _ asked: Int64?, _ kind: Kind) -> Int64 {
    guard let own = kind.gracePeriod(object) else { return 0 }
    var grace = own
    if let asked, own > 0 || object.isBeingDeleted { grace = asked < 0 ? 1 : asked }
    if let running = object.metadata["deletionGracePeriodSeconds"].int { grace = min(grace, running) }
    // Nothing that is asked for makes a time that cannot be written.
    return min(grace, Int64(Int32.max))
  }

  /// A namespace goes only when nothing is left in it, nor about to be: an object without its namespace could never
  /// be listed away. What was let in before the namespace began to go may still be on its way through the log.
  func checkEmpty(_ namespace: String, _ kind: Kind) throws(APIError) {
    if creating[namespace] != nil {
      throw Failures.conflict(kind, namespace, "objects are being created in it; try again")
    }
    for inner in registry.kinds where inner.isNamespaced {
      let prefix = "\(inner.resource)/\(namespace)/"
      let page = try logPage(prefix, Continuation(revision: log.tail.position, after: ""), limit: 1)
      if !page.objects.isEmpty {
        throw Failures.conflict(kind, namespace, "\(inner.resource) are left in it; delete them first")
      }
    }
  }
}
