import API
import Base
import ObjectModel

/// What a list or watch selects: a kind, a namespace (empty: all), labels and fields, decided on extracted metadata.
/// A class, since a server has thousands of watches and most select the same.
final class Selection: Sendable {
  /// Selectable fields that every kind has, and that its objects' metadata need not be read for.
  static let name = "metadata.name"
  static let namespaceName = "metadata.namespace"

  let resource: String
  let namespace: String
  let labels: LabelSelector
  let fields: FieldSelector
  let prefix: String
  private let isNamespaced: Bool

  init(_ kind: Kind, namespace: String, labels: String, fields: String) throws(APIError) {
    resource = kind.resource
    isNamespaced = kind.isNamespaced
    self.namespace = kind.isNamespaced ? namespace : ""
    do throws(SelectorError) {
      self.labels = try LabelSelector(parsing: labels)
    } catch {
      throw APIError(.badRequest, "unable to parse label selector: \(error)")
    }
    do throws(SelectorError) {
      self.fields = try FieldSelector(parsing: fields)
    } catch {
      throw APIError(.badRequest, error.description)
    }
    for requirement in self.fields.requirements where !kind.isSelectable(requirement.field) {
      throw APIError(.badRequest, "field label not supported: \(requirement.field)")
    }
    prefix = self.namespace.isEmpty ? "\(kind.resource)/" : "\(kind.resource)/\(self.namespace)/"
  }

  var selectsAll: Bool { labels.isEmpty && fields.isEmpty }

  /// The one object that can match, when the selector names it.
  var single: ObjectReference? {
    guard let name = fields.required(Self.name) else { return nil }
    let space = fields.required(Self.namespaceName) ?? namespace
    if isNamespaced, space.isEmpty { return nil }
    return ObjectReference(resource: resource, namespace: isNamespaced ? space : "", name: name)
  }

  /// The field that has to have one value for anything to match, and the value; of several the one that fewest objects
  /// share. nil: the selection requires none.
  var pivot: (field: String, value: String)? {
    for field in [Self.name, "spec.nodeName"] {
      if let value = fields.required(field) { return (field, value) }
    }
    if let first = fields.requirements.first(where: \.equal) { return (first.field, first.value) }
    return namespace.isEmpty ? nil : (Self.namespaceName, namespace)
  }

  func matches(_ meta: ObjectMeta, _ reference: ObjectReference) -> Bool {
    guard labels.matches(meta.labels) else { return false }
    return fields.matches { field in
      switch field {
      case Self.name: reference.name
      case Self.namespaceName: reference.namespace
      default: meta.fields[field] ?? ""
      }
    }
  }
}
