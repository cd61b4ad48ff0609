import Base

/// A view of a Namespace (v1).
package struct Namespace: Sendable, Hashable {
  package var object: Object
  package init(_ object: Object) { self.object = object }

  package static let resource = "namespaces"
  /// The entry of spec.finalizers that the namespace controller removes when the namespace is empty.
  package static let finalizer = "kubernetes"

  package var name: String { object.name }
  package var isTerminating: Bool { object.isBeingDeleted || object.status["phase"].string == "Terminating" }
  package var specFinalizers: [String] {
    get { (object.spec["finalizers"].array ?? []).compactMap(\.string) }
    set { object.spec["finalizers"] = .array(newValue.map(Value.string)) }
  }
}
