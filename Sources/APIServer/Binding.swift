import API
import Base
import ObjectLog
import ObjectModel

extension APIServer {
  /// `pods/binding`: gives a pod to a node. One write names the node and says that the pod is scheduled, so that nobody
  /// sees one without the other.
  /// Source: https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/binding-v1/
  func prepareBinding(
    _ reference: ObjectReference, _ kind: Kind, _ stored: StoredObject, _ value: Value
  ) throws(APIError) -> PreparedWrite {
    let binding = try Binding(value, kind, reference)
    let old = try stored.decoded()
    if let uid = binding.uid, uid != old.uid {
      throw Failures.conflict(
        kind, reference.name, "Precondition failed: UID in precondition: \(uid), UID in object meta: \(old.uid)")
    }
    let pod = Pod(old)
    let path = "\(reference.namespace)/\(reference.name)"
    if old.isBeingDeleted {
      throw Failures.conflict(kind, reference.name, "pod \(path) is being deleted, cannot be assigned to a host")
    }
    if !pod.nodeName.isEmpty {
      throw Failures.conflict(kind, reference.name, "pod \(path) is already assigned to node \"\(pod.nodeName)\"")
    }
    if !(old.spec["schedulingGates"].array ?? []).isEmpty {
      throw Failures.conflict(kind, reference.name, "pod \(path) has non-empty .spec.schedulingGates")
    }
    var new = old
    new.metadata.remove("resourceVersion")
    new.spec["nodeName"] = .string(binding.node)
    Conditions.set(&new.status, Condition("PodScheduled", true), now: scheduler.wall)
    return try finish(reference, kind, stored, new, isRetriable: true)
  }
}

/// The body of a binding: which node, and optionally which pod exactly.
private struct Binding {
  let node: String
  let uid: String?

  init(_ value: Value, _ kind: Kind, _ reference: ObjectReference) throws(APIError) {
    var errors = Validation()
    let (target, metadata) = (value["target"], value["metadata"])
    if let type = target["kind"].string, !type.isEmpty, type != "Node" {
      errors.unsupported("target.kind", type, ["Node", "<empty>"])
    }
    node = target["name"].string ?? ""
    if node.isEmpty {
      errors.required("target.name")
    } else {
      errors.invalid("target.name", node, Names.subdomain(node))
    }
    if let name = metadata["name"].string, name != reference.name {
      errors.invalid("metadata.name", .string(name), "must be the name of the pod on the URL, \(reference.name)")
    }
    uid = metadata["uid"].string.flatMap { $0.isEmpty ? nil : $0 }
    if !errors.isEmpty { throw Failures.invalid(kind, reference.name, errors.errors) }
  }
}
