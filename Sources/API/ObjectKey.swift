import ObjectModel

/// An object's place within its resource: what caches and work queues are keyed by.
package struct ObjectKey: Sendable, Hashable, Comparable, CustomStringConvertible {
  /// Empty for cluster scope.
  package let namespace: String
  package let name: String

  package init(namespace: String = "", name: String) {
    self.namespace = namespace
    self.name = name
  }
  package init(_ reference: ObjectReference) {
    self.init(namespace: reference.namespace, name: reference.name)
  }
  package init(_ object: Object) {
    self.init(namespace: object.namespace, name: object.name)
  }

  package static func < (a: ObjectKey, b: ObjectKey) -> Bool {
    (a.namespace, a.name) < (b.namespace, b.name)
  }
  /// `namespace/name`, or the bare name for cluster scope.
  package var description: String { namespace.isEmpty ? name : "\(namespace)/\(name)" }

  package func reference(in resource: String) -> ObjectReference {
    ObjectReference(resource: resource, namespace: namespace, name: name)
  }
}
