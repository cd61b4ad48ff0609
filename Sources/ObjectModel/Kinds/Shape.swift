import Base

/// The JSON types of the fields that a kind knows. Fields beside them are kept as they are.
package indirect enum Shape: Sendable {
  case any
  case string
  case int
  case bool
  case number
  /// A number or text, as quantities are written.
  case quantity
  case intOrString
  case list(Shape)
  case map(Shape)
  case object(Members)

  /// Members of an object with their types. They are few, and compared rather than hashed: every write asks for each.
  package struct Members: Sendable, ExpressibleByDictionaryLiteral {
    private let members: [(key: String, shape: Shape)]
    package init(dictionaryLiteral elements: (String, Shape)...) { members = elements.map { (key: $0.0, shape: $0.1) } }

    private init(_ members: [(key: String, shape: Shape)]) { self.members = members }

    /// These and others.
    func and(_ others: Members) -> Members { Members(members + others.members) }

    package subscript(key: String) -> Shape? { members.first { $0.key == key }?.shape }
  }

  package static let strings = Shape.list(.string)
  package static let stringMap = Shape.map(.string)
  package static let quantities = Shape.map(.quantity)

  /// Where a value has another type than its field: the path and what is wrong; nil if all fits. Null fits
  /// everything, as an absent field.
  package func mismatch(_ value: Value, at path: String = "") -> String? {
    // Paths are made for what does not fit alone: nearly all does.
    fits(value) ? nil : found(value, at: path)
  }

  private func fits(_ value: Value) -> Bool {
    switch (self, value) {
    case (.any, _), (_, .null), (.string, .string), (.int, .int), (.bool, .bool), (.number, .int), (.number, .double),
      (.quantity, .int), (.quantity, .double), (.quantity, .string), (.intOrString, .int), (.intOrString, .string):
      true
    case (.int, .double(let number)): Int64(exactly: number) != nil
    case (.list(let element), .array(let values)): values.allSatisfy { element.fits($0) }
    case (.map(let element), .object(let fields)): fields.allSatisfy { element.fits($0.value) }
    case (.object(let shapes), .object(let fields)): fields.allSatisfy { shapes[$0.key]?.fits($0.value) ?? true }
    default: false
    }
  }

  /// The same, with the path of the first that does not fit.
  private func found(_ value: Value, at path: String) -> String? {
    switch (self, value) {
    case _ where fits(value): return nil
    case (.list(let element), .array(let values)):
      for (index, value) in values.enumerated() {
        if let found = element.found(value, at: "\(path)[\(index)]") { return found }
      }
      return nil
    case (.map(let element), .object(let fields)):
      for (key, value) in fields {
        if let found = element.found(value, at: "\(path)[\(key)]") { return found }
      }
      return nil
    case (.object(let shapes), .object(let fields)):
      for (key, value) in fields {
        if let found = shapes[key]?.found(value, at: path.isEmpty ? key : "\(path).\(key)") { return found }
      }
      return nil
    default: return "\(path.isEmpty ? "the object" : path): found \(Self.name(of: value)), expected \(expectation)"
    }
  }

  private var expectation: String {
    switch self {
    case .any: "anything"
    case .string: "a string"
    case .int: "an integer"
    case .bool: "a boolean"
    case .number: "a number"
    case .quantity: "a quantity (a number or a string)"
    case .intOrString: "an integer or a string"
    case .list: "an array"
    case .map, .object: "an object"
    }
  }

  private static func name(of value: Value) -> String {
    switch value {
    case .null: "null"
    case .bool: "a boolean"
    case .int: "an integer"
    case .double: "a number"
    case .string: "a string"
    case .array: "an array"
    case .object: "an object"
    }
  }

  /// metadata, as all kinds have it.
  package static let metadata = Shape.object([
    "name": .string, "generateName": .string, "namespace": .string, "uid": .string, "resourceVersion": .string,
    "generation": .int, "creationTimestamp": .string, "deletionTimestamp": .string, "deletionGracePeriodSeconds": .int,
    "labels": .stringMap, "annotations": .stringMap, "finalizers": .strings, "selfLink": .string,
    "ownerReferences": .list(
      .object([
        "apiVersion": .string, "kind": .string, "name": .string, "uid": .string, "controller": .bool,
        "blockOwnerDeletion": .bool,
      ])),
  ])

  /// spec.selector of workloads.
  package static let selector = Shape.object([
    "matchLabels": .stringMap,
    "matchExpressions": .list(.object(["key": .string, "operator": .string, "values": .strings])),
  ])

  /// status.conditions.
  package static let conditions = Shape.list(
    .object([
      "type": .string, "status": .string, "reason": .string, "message": .string, "lastTransitionTime": .string,
    ]))
}
