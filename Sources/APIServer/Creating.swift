import API
import Base
import ObjectLog
import ObjectModel

extension APIServer {
  func prepareCreate(
    resource: String, namespace: String, _ value: Value, _ caller: Caller
  ) throws(APIError) -> PreparedWrite {
    let kind = try kind(resource)
    var object = try admit(value, kind)
    try place(&object, kind, namespace)
    // Asked before anything about what is stored is told.
    let named = ObjectReference(
      resource: resource, namespace: kind.isNamespaced ? object.namespace : "", name: object.name)
    try authorize(try request(.create, named, by: caller, object: object), caller)
    if object.metadata["resourceVersion"].string ?? "" != "" {
      throw APIError(.badRequest, "resourceVersion should not be set on objects to be created")
    }
    let generated = object.name.isEmpty ? object.metadata["generateName"].string ?? "" : ""
    if !generated.isEmpty { object.metadata["name"] = .string(Names.generate(generated, random: random)) }
    try checkNamespace(object, kind)
    complete(&object, kind)
    try validate(object, nil, kind)
    let reference = ObjectReference(resource: resource, namespace: named.namespace, name: object.name)
    let form = StoredForm(object, kind: kind)
    try check(form, kind, object.name)
    return PreparedWrite(
      kind: kind, reference: reference,
      change: Change(
        key: reference.key, guarding: .absent,
        operation: .put(body: form.body, status: form.status, meta: form.meta), seal: form.seal),
      body: form.body, status: form.status, isRetriable: !generated.isEmpty, isCreation: true)
  }

  /// The namespace of the call and that of the object must agree.
  private func place(_ object: inout Object, _ kind: Kind, _ namespace: String) throws(APIError) {
    guard kind.isNamespaced else {
      if !namespace.isEmpty {
        throw APIError(.badRequest, "namespace specified for \(kind.resource), which lies in no namespace")
      }
      return
    }
    if object.namespace.isEmpty {
      object.metadata["namespace"] = .string(namespace)
    } else if !namespace.isEmpty, namespace != object.namespace {
      throw APIError(
        .badRequest,
        "the namespace of the provided object does not match the namespace sent on the request "
          + "(\(object.namespace) and \(namespace))")
    }
  }

  private func checkNamespace(_ object: Object, _ kind: Kind) throws(APIError) {
    guard kind.isNamespaced, let owner = registry[resource: Namespace.resource] else { return }
    guard Names.label(object.namespace).isEmpty else { return }  // validation says so
    let key = ObjectReference(resource: Namespace.resource, name: object.namespace).key
    guard let found = try stored(key) else { throw Failures.notFound(owner, object.namespace) }
    let meta = try found.decodedMeta()
    if meta.isBeingDeleted || meta.fields["status.phase"] == "Terminating" {
      throw Failures.terminating(kind, object.name, object.namespace)
    }
  }

  /// What the server gives a new object.
  private func complete(_ object: inout Object, _ kind: Kind) {
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "generation", "resourceVersion"] {
      object.metadata.remove(field)
    }
    object.metadata["uid"] = .string(random.uuid())
    object.metadata["creationTimestamp"] = .string(Timestamp.format(scheduler.wall))
    if kind.countsGenerations { object.metadata["generation"] = 1 }
    object.value.remove("status")
    kind.defaults(&object)
    kind.admit(&object)
    let status = kind.initialStatus(object)
    if kind.hasStatus, !status.isNull { object.status = status }
  }

  func validate(_ new: Object, _ old: Object?, _ kind: Kind) throws(APIError) {
    var errors = Validation()
    MetadataRules.validate(new, kind: kind, into: &errors)
    kind.validate(new, &errors)
    if let old {
      MetadataRules.validateUpdate(new, old, into: &errors)
      kind.validateUpdate(new, old, &errors)
    }
    if !errors.isEmpty { throw Failures.invalid(kind, new.name, errors.errors) }
  }

  /// The namespaces that a cluster always has.
  package static let standardNamespaces = ["default", "kube-node-lease", "kube-public", "kube-system"]

  /// Makes the standard namespaces where they are missing. Call on a leader before serving.
  package func bootstrap() async throws(APIError) {
    let caller = Caller.controller("bootstrap")
    for name in Self.standardNamespaces {
      if try stored(ObjectReference(resource: Namespace.resource, name: name).key) != nil { continue }
      do throws(APIError) {
        _ = try await create(
          resource: Namespace.resource, namespace: "", object: ["metadata": ["name": .string(name)]], caller: caller)
      } catch  where error.reason == .alreadyExists {}
    }
  }
}
