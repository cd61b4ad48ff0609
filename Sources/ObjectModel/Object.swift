import Base

/// A Kubernetes object: a value tree with the accessors that every kind shares. Fields that nobody here knows are
/// kept, since nothing is decoded into a closed type. Typed views of single kinds stand beside this file.
package struct Object: Sendable, Hashable {
  package var value: Value
  package init(_ value: Value) { self.value = value }

  package var apiVersion: String { value["apiVersion"].string ?? "" }
  package var kind: String { value["kind"].string ?? "" }
  package var metadata: Value {
    get { value["metadata"] }
    set { value["metadata"] = newValue }
    _modify { yield &value["metadata"] }
  }
  package var spec: Value {
    get { value["spec"] }
    set { value["spec"] = newValue }
    _modify { yield &value["spec"] }
  }
  package var status: Value {
    get { value["status"] }
    set { value["status"] = newValue }
    _modify { yield &value["status"] }
  }

  package var name: String { metadata["name"].string ?? "" }
  package var namespace: String { metadata["namespace"].string ?? "" }
  package var uid: String { metadata["uid"].string ?? "" }
  /// 0 when it is not known (an object that was never stored).
  package var resourceVersion: UInt64 { UInt64(metadata["resourceVersion"].string ?? "") ?? 0 }
  package var generation: Int64 { metadata["generation"].int ?? 0 }
  package var labels: [String: String] { metadata["labels"].stringMap }
  package var annotations: [String: String] { metadata["annotations"].stringMap }
  /// RFC 3339, or nil while it is not being deleted.
  package var deletionTimestamp: String? { metadata["deletionTimestamp"].string }
  package var isBeingDeleted: Bool { deletionTimestamp != nil }
  package var creationTimestamp: String { metadata["creationTimestamp"].string ?? "" }
  package var finalizers: [String] { (metadata["finalizers"].array ?? []).compactMap(\.string) }
  package var ownerReferences: [OwnerReference] { (metadata["ownerReferences"].array ?? []).map(OwnerReference.init) }
  /// The owner with `controller: true`.
  package var controllerReference: OwnerReference? { ownerReferences.first(where: \.isController) }
}

/// metadata.ownerReferences[].
package struct OwnerReference: Sendable, Hashable {
  package var apiVersion: String
  package var kind: String
  package var name: String
  package var uid: String
  package var isController: Bool
  package var blockOwnerDeletion: Bool

  package init(
    apiVersion: String, kind: String, name: String, uid: String, isController: Bool = true,
    blockOwnerDeletion: Bool = true
  ) {
    self.apiVersion = apiVersion
    self.kind = kind
    self.name = name
    self.uid = uid
    self.isController = isController
    self.blockOwnerDeletion = blockOwnerDeletion
  }

  package init(_ value: Value) {
    apiVersion = value["apiVersion"].string ?? ""
    kind = value["kind"].string ?? ""
    name = value["name"].string ?? ""
    uid = value["uid"].string ?? ""
    isController = value["controller"].bool ?? false
    blockOwnerDeletion = value["blockOwnerDeletion"].bool ?? false
  }

  package var value: Value {
    [
      "apiVersion": .string(apiVersion), "kind": .string(kind), "name": .string(name), "uid": .string(uid),
      "controller": .bool(isController), "blockOwnerDeletion": .bool(blockOwnerDeletion),
    ]
  }
}
