import Base

/// All that the system knows of one kind. Adding a kind is one such value in `KindRegistry.standard`.
///
/// The functions are pure: time and randomness come as arguments where they are needed.
package struct Kind: Sendable {
  /// A column of the table that `get` prints.
  package struct Column: Sendable {
    package let name: String
    /// `string`, `integer` or `date`.
    package let type: String
    /// 0: always; 1: only in wide output.
    package let priority: Int
    package let cell: @Sendable (Object, WallTime) -> Value
    package init(
      _ name: String, type: String = "string", wide: Bool = false, _ cell: @escaping @Sendable (Object) -> Value
    ) {
      self.name = name
      self.type = type
      priority = wide ? 1 : 0
      self.cell = { object, _ in cell(object) }
    }
    package init(
      _ name: String, type: String = "string", wide: Bool = false,
      at cell: @escaping @Sendable (Object, WallTime) -> Value
    ) {
      self.name = name
      self.type = type
      priority = wide ? 1 : 0
      self.cell = cell
    }
    package static let name = Column("Name") { .string($0.name) }
    package static let age = Column(
      "Age", at: { .string(HumanDuration.age(of: $0.metadata["creationTimestamp"].string, now: $1)) })
  }

  /// Empty for the core group.
  package let group: String
  package let version: String
  package let kind: String
  package let plural: String
  package let singular: String
  package var shortNames: [String] = []
  package var categories: [String] = []
  package var isNamespaced = true
  /// Whether `status` is a part of its own, written through the subresource.
  package var hasStatus = false
  /// Whether metadata.generation counts changes of the spec.
  package var countsGenerations = false
  /// Whether a change of annotations counts as one too (Deployment).
  package var annotationsCountAsSpec = false
  /// Whether an update may create (Lease, Event).
  package var createsOnUpdate = false
  /// Body members beside `metadata` and `status`, with their types.
  package var shape: Shape.Members = [:]
  package var columns: [Column] = [.name, .age]
  package var nameRule: @Sendable (String) -> [String] = { Names.subdomain($0) }
  /// Fills in what the user left out; runs on every write of the body.
  package var defaults: @Sendable (inout Object) -> Void = { _ in }
  /// What a new object gets beside its defaults (a pod's default tolerations): on creation only.
  package var admit: @Sendable (inout Object) -> Void = { _ in }
  /// The status of a new object; whatever the user sent is dropped.
  package var initialStatus: @Sendable (Object) -> Value = { _ in .null }
  package var validate: @Sendable (Object, inout Validation) -> Void = { _, _ in }
  /// new, old.
  package var validateUpdate: @Sendable (Object, Object, inout Validation) -> Void = { _, _, _ in }
  /// Whether `validateUpdate` looks at more of the old object than its metadata and those members of its body that are
  /// neither list nor map; told by these.
  package var comparesBody: @Sendable (Object) -> Bool = { _ in true }
  /// Field selectors beyond `metadata.name` and `metadata.namespace`; an absent field is empty.
  package var selectableFields: [String: @Sendable (Object) -> String] = [:]
  /// The node that the object is placed on, if any: it and what it refers to are in that node's slice.
  package var node: @Sendable (Object) -> String? = { _ in nil }
  /// Log keys of the objects that it refers to and that its node therefore may read.
  package var references: @Sendable (Object) -> [String] = { _ in [] }
  /// Whether selectable fields, node and references are read from the metadata alone: where that stays as it is, so does
  /// all that is extracted of an object.
  package var isPlacedByMetadata = false
  /// Whether the stored bytes are sealed.
  package var isSealed: @Sendable (Object) -> Bool = { _ in false }
  /// Seconds that a deletion leaves the object's node to stop it; nil: it goes at once.
  package var gracePeriod: @Sendable (Object) -> Int64? = { _ in nil }

  package init(
    group: String = "", version: String = "v1", kind: String, plural: String, singular: String? = nil
  ) {
    self.group = group
    self.version = version
    self.kind = kind
    self.plural = plural
    self.singular = singular ?? kind.lowercased()
  }

  /// `v1`, `apps/v1`.
  package var apiVersion: String { group.isEmpty ? version : "\(group)/\(version)" }
  /// `pods`, `deployments.apps`: the first part of log keys, and what errors name.
  package var resource: String { group.isEmpty ? plural : "\(plural).\(group)" }
  /// `Pod`, `Deployment.apps`: what validation errors name.
  package var qualifiedKind: String { group.isEmpty ? kind : "\(kind).\(group)" }

  /// Where the object's members have types that the kind does not take; nil if all fit.
  package func mismatch(_ object: Value) -> String? {
    guard case .object(let fields) = object else { return Shape.object([:]).mismatch(object) }
    for (key, value) in fields {
      let shape: Shape? =
        switch key {
        case "apiVersion", "kind": .string
        case "metadata": .metadata
        default: self.shape[key]
        }
      if let found = shape?.mismatch(value, at: key) { return found }
    }
    return nil
  }

  /// The cells of one row, in the order of `columns`.
  package func row(_ object: Object, now: WallTime, wide: Bool = true) -> [Value] {
    columns.filter { wide || $0.priority == 0 }.map { $0.cell(object, now) }
  }

  /// A selectable field's value; nil if the kind does not have it.
  package func field(_ name: String, of object: Object) -> String? {
    switch name {
    case "metadata.name": object.name
    case "metadata.namespace": object.namespace
    default: selectableFields[name]?(object)
    }
  }

  /// Whether a field selector may name the field.
  package func isSelectable(_ field: String) -> Bool {
    field == "metadata.name" || field == "metadata.namespace" || selectableFields[field] != nil
  }
}
