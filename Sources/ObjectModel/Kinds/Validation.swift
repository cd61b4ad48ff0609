import Base

/// One thing that is wrong with an object, as Kubernetes words it: field, reason, message.
package struct FieldError: Sendable, Hashable, CustomStringConvertible {
  /// Status.details.causes[].reason.
  package enum Reason: String, Sendable {
    case required = "FieldValueRequired"
    case invalid = "FieldValueInvalid"
    case unsupported = "FieldValueNotSupported"
    case forbidden = "FieldValueForbidden"
    case duplicate = "FieldValueDuplicate"
    case notFound = "FieldValueNotFound"
    case tooLong = "FieldValueTooLong"
    case tooMany = "FieldValueTooMany"
  }
  package let reason: Reason
  package let field: String
  /// Without the field.
  package let message: String
  package var description: String { "\(field): \(message)" }
}

/// Collects what is wrong with an object. `field` arguments are paths such as `spec.containers[0].name`.
package struct Validation: Sendable {
  package private(set) var errors: [FieldError] = []
  /// Errors that are told of one object; more say nothing new and would swell the answer.
  package static let maxErrors = 50

  package init() {}

  package var isEmpty: Bool { errors.isEmpty }

  private mutating func add(_ reason: FieldError.Reason, _ field: String, _ message: String) {
    if errors.count < Self.maxErrors { errors.append(FieldError(reason: reason, field: field, message: message)) }
  }

  package mutating func required(_ field: String, _ detail: String = "") {
    add(.required, field, detail.isEmpty ? "Required value" : "Required value: \(detail)")
  }
  package mutating func invalid(_ field: String, _ value: Value, _ detail: String) {
    add(.invalid, field, "Invalid value: \(JSON.print(value)): \(detail)")
  }
  package mutating func invalid(_ field: String, _ value: String, _ problems: [String]) {
    for problem in problems { invalid(field, .string(value), problem) }
  }
  package mutating func unsupported(_ field: String, _ value: String, _ allowed: [String]) {
    let list = allowed.sorted().map { "\"\($0)\"" }.joined(separator: ", ")
    add(.unsupported, field, "Unsupported value: \"\(value)\": supported values: \(list)")
  }
  package mutating func forbidden(_ field: String, _ detail: String) { add(.forbidden, field, "Forbidden: \(detail)") }
  package mutating func duplicate(_ field: String, _ value: Value) {
    add(.duplicate, field, "Duplicate value: \(JSON.print(value))")
  }
  package mutating func notFound(_ field: String, _ value: String) { add(.notFound, field, "Not found: \"\(value)\"") }
  package mutating func tooLong(_ field: String, _ limit: Int) {
    add(.tooLong, field, "Too long: may not be more than \(limit) bytes")
  }

  // MARK: Rules that many fields share

  /// An optional choice.
  package mutating func choice(_ field: String, _ value: Value, _ allowed: [String]) {
    guard let text = value.string, !allowed.contains(text) else { return }
    unsupported(field, text, allowed)
  }
  /// An optional number that is not negative.
  package mutating func notNegative(_ field: String, _ value: Value) {
    if let number = value.int, number < 0 { invalid(field, value, "must be greater than or equal to 0") }
  }
  package mutating func port(_ field: String, _ value: Value) {
    if let number = value.int, !(1...65535).contains(number) {
      invalid(field, value, "must be between 1 and 65535, inclusive")
    }
  }
  package mutating func labels(_ field: String, _ value: Value) {
    guard value.object?.isEmpty == false else { return }
    for (key, label) in value.stringMap.sorted(by: { $0.key < $1.key }) {
      invalid(field, key, Names.qualifiedName(key))
      invalid(field, label, Names.labelValue(label))
    }
  }
  package mutating func selector(_ field: String, _ value: Value) -> LabelSelector? {
    do {
      return try LabelSelector(value)
    } catch {
      invalid(field, value, error.description)
      return nil
    }
  }
  package mutating func immutable(_ field: String, _ new: Value, _ old: Value) {
    if new != old { invalid(field, new, "field is immutable") }
  }
}

/// The rules for metadata that all kinds share.
/// Source: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/object-meta/
package enum MetadataRules {
  package static let maxOwners = 100
  package static let maxFinalizers = 64

  package static func validate(_ object: Object, kind: Kind, into errors: inout Validation) {
    let metadata = object.metadata
    let (name, namespace) = (metadata["name"].string ?? "", metadata["namespace"].string ?? "")
    if name.isEmpty {
      errors.required("metadata.name", "name or generateName is required")
    } else {
      errors.invalid("metadata.name", name, kind.nameRule(name))
    }
    if kind.isNamespaced {
      if namespace.isEmpty {
        errors.required("metadata.namespace")
      } else {
        errors.invalid("metadata.namespace", namespace, Names.label(namespace))
      }
    } else if !namespace.isEmpty {
      errors.forbidden("metadata.namespace", "not allowed on this type")
    }
    errors.labels("metadata.labels", metadata["labels"])
    if case .object(let fields) = metadata["annotations"], !fields.isEmpty {
      annotations(metadata["annotations"].stringMap, into: &errors)
    }
    owners(metadata["ownerReferences"], into: &errors)
    finalizers(object.finalizers, into: &errors)
  }

  private static func annotations(_ annotations: [String: String], into errors: inout Validation) {
    var size = 0
    for (key, value) in annotations.sorted(by: { $0.key < $1.key }) {
      errors.invalid("metadata.annotations", key, Names.qualifiedName(key))
      size += key.utf8.count + value.utf8.count
    }
    if size > Names.maxAnnotations { errors.tooLong("metadata.annotations", Names.maxAnnotations) }
  }

  private static func owners(_ value: Value, into errors: inout Validation) {
    guard let owners = value.array else { return }
    if owners.count > maxOwners {
      errors.invalid("metadata.ownerReferences", .int(Int64(owners.count)), "must have at most \(maxOwners) items")
    }
    var controller: OwnerReference?
    for (index, value) in owners.enumerated() {
      let (owner, path) = (OwnerReference(value), "metadata.ownerReferences[\(index)]")
      if owner.apiVersion.isEmpty { errors.required("\(path).apiVersion", "version must not be empty") }
      if owner.kind.isEmpty { errors.required("\(path).kind", "must not be empty") }
      if owner.name.isEmpty { errors.required("\(path).name", "must not be empty") }
      if owner.uid.isEmpty { errors.required("\(path).uid", "must not be empty") }
      guard owner.isController else { continue }
      if let first = controller {
        errors.invalid(
          "metadata.ownerReferences", value,
          "Only one reference can have Controller set to true. Found \"true\" in references for "
            + "\(first.kind)/\(first.name) and \(owner.kind)/\(owner.name)")
      }
      controller = owner
    }
  }

  private static func finalizers(_ finalizers: [String], into errors: inout Validation) {
    if finalizers.count > maxFinalizers {
      errors.invalid("metadata.finalizers", .int(Int64(finalizers.count)), "must have at most \(maxFinalizers) items")
    }
    for name in finalizers { errors.invalid("metadata.finalizers", name, Names.qualifiedName(name)) }
  }

  /// What nobody may change once an object is being deleted.
  package static func validateUpdate(_ new: Object, _ old: Object, into errors: inout Validation) {
    guard old.isBeingDeleted else { return }
    let added = new.finalizers.filter { !old.finalizers.contains($0) }
    if !added.isEmpty {
      errors.forbidden(
        "metadata.finalizers",
        "no new finalizers can be added if the object is being deleted, found new finalizers "
          + JSON.print(.array(added.map(Value.string))))
    }
  }
}
