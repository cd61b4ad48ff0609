import API
import Base
import ObjectModel

/// What a node may do: read its slice, write what is its own.
@LoopActor package struct NodeRules {
  let node: String
  let graph: (any NodeGraph)?

  /// Whether a label places pods by what an operator says of a node; a node must not say it of itself.
  package nonisolated static func isReserved(label: String) -> Bool {
    reservedLabels.contains { label.hasPrefix($0) }
  }

  func allows(_ request: AccessRequest) -> Bool {
    switch request.reference.resource {
    case Node.resource: allowsNode(request)
    case Pod.resource: allowsPlaced(request, mayDelete: true)
    case Device.resource: allowsPlaced(request, mayDelete: false)
    case ConfigMap.resource, Secret.resource, DeviceModel.resource: allowsReferred(request)
    case Lease.resource: allowsLease(request)
    case Event.resource: allowsEvent(request)
    default: false
    }
  }

  private nonisolated static let reservedLabels = ["node-role.kubernetes.io/", "node-restriction.kubernetes.io/"]

  private func allowsNode(_ request: AccessRequest) -> Bool {
    switch request.verb {
    case .get: return request.reference.name == node
    case .list, .watch: return request.fields.required("metadata.name") == node
    case .create:
      guard request.reference.name == node, let object = request.object else { return false }
      return !object.labels.keys.contains(where: Self.isReserved)
    case .update, .patch: return request.reference.name == node && request.subresource == "status"
    case .delete, .connect: return false
    }
  }

  private func allowsPlaced(_ request: AccessRequest, mayDelete: Bool) -> Bool {
    switch request.verb {
    case .get: request.placedOn == node
    case .list, .watch: request.fields.required("spec.nodeName") == node
    case .update, .patch: request.subresource == "status" && request.placedOn == node
    case .delete: mayDelete && request.gracePeriod == 0 && request.placedOn == node
    case .create, .connect: false
    }
  }

  private func allowsReferred(_ request: AccessRequest) -> Bool {
    var reference = request.reference
    switch request.verb {
    case .get: break
    case .list, .watch:
      guard let name = request.fields.required("metadata.name"), !reference.namespace.isEmpty else { return false }
      // A namespace in the selector would name another object than the call does.
      guard request.fields.required("metadata.namespace") ?? reference.namespace == reference.namespace else {
        return false
      }
      reference.name = name
    default: return false
    }
    return graph?.mayRead(node: node, key: reference.key) ?? false
  }

  private func allowsLease(_ request: AccessRequest) -> Bool {
    guard request.reference.namespace == Lease.nodeNamespace else { return false }
    switch request.verb {
    case .get, .create, .update, .patch: return request.reference.name == node
    case .list, .watch: return request.fields.required("metadata.name") == node
    case .delete, .connect: return false
    }
  }

  /// Events say where they come from; they are about what is placed here, or about what is gone already.
  private func allowsEvent(_ request: AccessRequest) -> Bool {
    switch request.verb {
    case .create, .update:
      guard let object = request.object, object.value["source"]["host"].string == node else { return false }
      guard let subject = request.subject else { return true }
      return subject.node == node
    default: return false
    }
  }
}
