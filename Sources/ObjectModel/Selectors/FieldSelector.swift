import Base

/// Conditions on an object's selectable fields: `=`, `==` and `!=`, joined by commas; `\` escapes `,`, `=` and `\`.
package struct FieldSelector: Sendable, Hashable, CustomStringConvertible {
  package struct Requirement: Sendable, Hashable {
    package var field: String
    package var equal: Bool
    package var value: String
    package init(field: String, equal: Bool = true, value: String) {
      self.field = field
      self.equal = equal
      self.value = value
    }
  }
  package var requirements: [Requirement]
  /// Requirements of one selector; more are refused.
  package static let maxRequirements = 32

  package static let everything = FieldSelector(requirements: [])
  package init(requirements: [Requirement]) { self.requirements = requirements }

  package init(parsing text: String) throws(SelectorError) {
    requirements = []
    for term in Self.split(text) where !term.isEmpty {
      requirements.append(try Self.requirement(term))
      guard requirements.count <= Self.maxRequirements else {
        throw SelectorError("a field selector has at most \(Self.maxRequirements) requirements")
      }
    }
  }

  package var isEmpty: Bool { requirements.isEmpty }

  /// `field` answers the value of a field of the object; an absent field is the empty string.
  package func matches(_ field: (String) -> String) -> Bool {
    requirements.allSatisfy { (field($0.field) == $0.value) == $0.equal }
  }

  /// The value that a field must have for anything to match, if the selector names one.
  package func required(_ field: String) -> String? {
    requirements.first { $0.field == field && $0.equal }?.value
  }

  package var description: String {
    requirements.map { "\($0.field)\($0.equal ? "=" : "!=")\(Self.escape($0.value))" }.joined(separator: ",")
  }

  package static func escape(_ value: String) -> String {
    var out = ""
    for character in value {
      if character == "\\" || character == "," || character == "=" { out.append("\\") }
      out.append(character)
    }
    return out
  }

  /// Cuts at commas that are not escaped; escapes stay in.
  private static func split(_ text: String) -> [String] {
    var (terms, term, escaped) = ([String](), "", false)
    for character in text {
      if character == ",", !escaped {
        terms.append(term)
        term = ""
      } else {
        term.append(character)
      }
      escaped = character == "\\" && !escaped
    }
    return terms + [term]
  }

  private static func requirement(_ term: String) throws(SelectorError) -> Requirement {
    let bytes = Array(term.utf8)
    for index in bytes.indices {
      let next = index + 1 < bytes.count ? bytes[index + 1] : 0
      switch bytes[index] {
      case UInt8(ascii: "!") where next == UInt8(ascii: "="):
        return try make(bytes[..<index], equal: false, bytes[(index + 2)...], term)
      case UInt8(ascii: "="):
        let width = next == UInt8(ascii: "=") ? 2 : 1
        return try make(bytes[..<index], equal: true, bytes[(index + width)...], term)
      default: continue
      }
    }
    throw SelectorError("invalid selector: '\(term)'; can't understand '\(term)'")
  }

  private static func make(
    _ field: ArraySlice<UInt8>, equal: Bool, _ escaped: ArraySlice<UInt8>, _ term: String
  ) throws(SelectorError) -> Requirement {
    var (value, pending) = (Bytes(), false)
    for byte in escaped {
      if pending {
        guard Array("\\,=".utf8).contains(byte) else {
          throw SelectorError("invalid field selector: invalid escape sequence in '\(term)'")
        }
        value.append(byte)
        pending = false
      } else if byte == UInt8(ascii: "\\") {
        pending = true
      } else if byte == UInt8(ascii: "=") {
        throw SelectorError("invalid field selector: unescaped '=' in the value of '\(term)'")
      } else {
        value.append(byte)
      }
    }
    if pending { throw SelectorError("invalid field selector: '\(term)' ends in an escape") }
    let name = String(decoding: field, as: UTF8.self)
    let trimmed = name.drop(while: { $0 == " " })
    return Requirement(field: String(trimmed), equal: equal, value: String(decoding: value, as: UTF8.self))
  }
}
