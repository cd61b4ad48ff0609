import Base

/// A selector's text or object that cannot be read, with the reason.
package struct SelectorError: Error, Sendable, Hashable, CustomStringConvertible {
  package let description: String
  package init(_ description: String) { self.description = description }
}

/// Which labels an object must carry: all requirements hold. No requirements select everything.
/// Source: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/
package struct LabelSelector: Sendable, Hashable {
  package enum Operator: String, Sendable, Hashable {
    case isIn = "In"
    case notIn = "NotIn"
    case exists = "Exists"
    case doesNotExist = "DoesNotExist"
  }
  package struct Requirement: Sendable, Hashable {
    package var key: String
    package var condition: Operator
    /// Sorted, without repeats; empty for `exists` and `doesNotExist`.
    package var values: [String]
    package init(key: String, condition: Operator, values: [String] = []) {
      self.key = key
      self.condition = condition
      self.values = Array(Set(values)).sorted()
    }

    /// `notIn` also matches where the key is absent, as Kubernetes has it.
    package func matches(_ labels: [String: String]) -> Bool {
      let value = labels[key]
      switch condition {
      case .isIn: return value.map(values.contains) ?? false
      case .notIn: return value.map { !values.contains($0) } ?? true
      case .exists: return value != nil
      case .doesNotExist: return value == nil
      }
    }
  }

  package var requirements: [Requirement]
  /// Requirements of one selector; more are refused, so that matching stays cheap.
  package static let maxRequirements = 100

  package static let everything = LabelSelector(requirements: [])

  package init(requirements: [Requirement]) { self.requirements = requirements }

  /// Exactly these labels.
  package init(matching labels: [String: String]) {
    requirements = labels.sorted { $0.key < $1.key }.map {
      Requirement(key: $0.key, condition: .isIn, values: [$0.value])
    }
  }

  package var isEmpty: Bool { requirements.isEmpty }
  package func matches(_ labels: [String: String]) -> Bool { requirements.allSatisfy { $0.matches(labels) } }

  /// The object form: `{matchLabels, matchExpressions}`. Null and `{}` select everything; whoever means "nothing" by
  /// an absent selector checks that before.
  package init(_ value: Value) throws(SelectorError) {
    var requirements = LabelSelector(matching: value["matchLabels"].stringMap).requirements
    for expression in value["matchExpressions"].array ?? [] {
      let text = expression["operator"].string ?? ""
      guard let condition = Operator(rawValue: text) else {
        throw SelectorError("\"\(text)\" is not a valid label selector operator")
      }
      let values = (expression["values"].array ?? []).compactMap(\.string)
      let requirement = Requirement(key: expression["key"].string ?? "", condition: condition, values: values)
      try Self.check(requirement)
      requirements.append(requirement)
    }
    guard requirements.count <= Self.maxRequirements else {
      throw SelectorError("a selector has at most \(Self.maxRequirements) requirements")
    }
    self.requirements = requirements
  }

  static func check(_ requirement: Requirement) throws(SelectorError) {
    if let problem = Names.qualifiedName(requirement.key).first {
      throw SelectorError("invalid label key \"\(requirement.key)\": \(problem)")
    }
    switch requirement.condition {
    case .isIn, .notIn:
      if requirement.values.isEmpty { throw SelectorError("for 'in', 'notin' operators, values set can't be empty") }
    case .exists, .doesNotExist:
      if !requirement.values.isEmpty { throw SelectorError("values set must be empty for exists and does not exist") }
    }
    for value in requirement.values {
      if let problem = Names.labelValue(value).first {
        throw SelectorError("invalid label value: \"\(value)\": \(problem)")
      }
    }
  }
}

extension LabelSelector: CustomStringConvertible {
  /// The text form; parsing it gives the selector back.
  package var description: String {
    requirements.map { requirement in
      switch requirement.condition {
      case .isIn where requirement.values.count == 1: "\(requirement.key)=\(requirement.values[0])"
      case .notIn where requirement.values.count == 1: "\(requirement.key)!=\(requirement.values[0])"
      case .isIn: "\(requirement.key) in (\(requirement.values.joined(separator: ",")))"
      case .notIn: "\(requirement.key) notin (\(requirement.values.joined(separator: ",")))"
      case .exists: requirement.key
      case .doesNotExist: "!\(requirement.key)"
      }
    }.joined(separator: ",")
  }
}
