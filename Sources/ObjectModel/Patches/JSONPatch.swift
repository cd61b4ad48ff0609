import Base

/// JSON patch (RFC 6902) with JSON pointers (RFC 6901): operations in order, all or nothing.
package enum JSONPatch {
  package struct Failure: Error, Sendable, Hashable, CustomStringConvertible {
    package enum Kind: Sendable, Hashable {
      /// The patch is not well formed: a bad request.
      case malformed
      /// A path is missing or a test failed: the patch does not fit this object.
      case inapplicable
    }
    package let kind: Kind
    package let description: String
    init(_ kind: Kind, _ description: String) {
      self.kind = kind
      self.description = description
    }
  }

  /// Operations of one patch; Kubernetes' own limit.
  package static let maxOperations = 10_000
  /// Bytes (about) that all `copy` operations of one patch may add: it stops a patch that doubles the object sixty
  /// times. Kubernetes' own limit.
  package static let maxCopiedBytes = 3 << 20

  package static func apply(_ patch: Value, to document: Value) throws(Failure) -> Value {
    guard let operations = patch.array else { throw Failure(.malformed, "a JSON patch is an array of operations") }
    guard operations.count <= maxOperations else {
      throw Failure(.malformed, "the patch has \(operations.count) operations; at most \(maxOperations) are taken")
    }
    var (document, copied) = (document, 0)
    for (index, operation) in operations.enumerated() {
      try apply(operation, number: index, to: &document, copied: &copied)
    }
    return document
  }

  private static func apply(
    _ operation: Value, number: Int, to document: inout Value, copied: inout Int
  ) throws(Failure) {
    guard let name = operation["op"].string, let text = operation["path"].string else {
      throw Failure(.malformed, "operation \(number) needs \"op\" and \"path\"")
    }
    let path = try pointer(text)
    func value() throws(Failure) -> Value {
      guard let value = operation.object?["value"] else {
        throw Failure(.malformed, "operation \(number) (\(name)) needs \"value\"")
      }
      return value
    }
    func source() throws(Failure) -> (path: [String], text: String) {
      guard let from = operation["from"].string else {
        throw Failure(.malformed, "operation \(number) (\(name)) needs \"from\"")
      }
      return (try pointer(from), from)
    }
    switch name {
    case "add": try change(&document, path[...], text, .add(try value()))
    case "remove": try change(&document, path[...], text, .remove)
    case "replace": try change(&document, path[...], text, .replace(try value()))
    case "move":
      let from = try source()
      if path.starts(with: from.path), path.count > from.path.count {
        throw Failure(.malformed, "operation \(number): a value cannot move into itself")
      }
      let moved = try find(document, from.path, from.text)
      try change(&document, from.path[...], from.text, .remove)
      try change(&document, path[...], text, .add(moved))
    case "copy":
      let from = try source()
      let value = try find(document, from.path, from.text)
      copied += value.approximateSize
      guard copied <= maxCopiedBytes else {
        throw Failure(.malformed, "the patch copies more than \(maxCopiedBytes) bytes")
      }
      try change(&document, path[...], text, .add(value))
    case "test":
      let expected = try value()
      guard same(try find(document, path, text), expected) else {
        throw Failure(.inapplicable, "testing value \(text) failed")
      }
    default: throw Failure(.malformed, "operation \(number): unknown op \"\(name)\"")
    }
  }

  /// Numbers are equal by value (RFC 6902 section 4.6), so `1` equals `1.0`.
  private static func same(_ a: Value, _ b: Value) -> Bool {
    switch (a, b) {
    case (.int, .double), (.double, .int): a.double == b.double
    case (.array(let x), .array(let y)): x.count == y.count && zip(x, y).allSatisfy { same($0, $1) }
    case (.object(let x), .object(let y)):
      x.count == y.count && x.allSatisfy { member in y[member.key].map { same(member.value, $0) } ?? false }
    default: a == b
    }
  }

  private static func pointer(_ text: String) throws(Failure) -> [String] {
    if text.isEmpty { return [] }
    guard text.hasPrefix("/") else { throw Failure(.malformed, "the path \"\(text)\" must begin with '/'") }
    var tokens: [String] = []
    for part in text.utf8.dropFirst().split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false) {
      var (token, escaped) = (Bytes(), false)
      for byte in part {
        if escaped {
          guard byte == UInt8(ascii: "0") || byte == UInt8(ascii: "1") else {
            throw Failure(.malformed, "the path \"\(text)\" has a bad '~' escape")
          }
          token.append(byte == UInt8(ascii: "0") ? UInt8(ascii: "~") : UInt8(ascii: "/"))
          escaped = false
        } else if byte == UInt8(ascii: "~") {
          escaped = true
        } else {
          token.append(byte)
        }
      }
      if escaped { throw Failure(.malformed, "the path \"\(text)\" ends in '~'") }
      tokens.append(String(decoding: token, as: UTF8.self))
    }
    return tokens
  }

  /// An element's index: decimal without leading zeros, below `limit`.
  private static func index(_ token: String, below limit: Int) -> Int? {
    guard let index = Int(token), String(index) == token, index >= 0, index < limit else { return nil }
    return index
  }

  private static func missing(_ path: String) -> Failure {
    Failure(.inapplicable, "the path \"\(path)\" does not exist in the object")
  }

  private static func find(_ document: Value, _ path: [String], _ text: String) throws(Failure) -> Value {
    var value = document
    for token in path {
      switch value {
      case .object(let fields):
        guard let next = fields[token] else { throw missing(text) }
        value = next
      case .array(let values):
        guard let index = index(token, below: values.count) else { throw missing(text) }
        value = values[index]
      default: throw missing(text)
      }
    }
    return value
  }

  private enum Edit {
    case add(Value)
    case replace(Value)
    case remove
  }

  private static func change(
    _ document: inout Value, _ path: ArraySlice<String>, _ text: String, _ edit: Edit
  ) throws(Failure) {
    guard let token = path.first else {
      switch edit {
      case .add(let value), .replace(let value): document = value
      case .remove: document = .null
      }
      return
    }
    switch document {
    case .object(var fields):
      try change(&fields, token, path.dropFirst(), text, edit)
      document = .object(fields)
    case .array(var values):
      try change(&values, token, path.dropFirst(), text, edit)
      document = .array(values)
    default: throw missing(text)
    }
  }

  private static func change(
    _ fields: inout Value.Fields, _ token: String, _ rest: ArraySlice<String>, _ text: String, _ edit: Edit
  ) throws(Failure) {
    if !rest.isEmpty {
      guard var member = fields[token] else { throw missing(text) }
      try change(&member, rest, text, edit)
      fields[token] = member
      return
    }
    switch edit {
    case .add(let value): fields[token] = value
    case .replace(let value):
      guard fields[token] != nil else { throw missing(text) }
      fields[token] = value
    case .remove:
      guard fields[token] != nil else { throw missing(text) }
      fields[token] = nil
    }
  }

  private static func change(
    _ values: inout [Value], _ token: String, _ rest: ArraySlice<String>, _ text: String, _ edit: Edit
  ) throws(Failure) {
    if rest.isEmpty, case .add(let value) = edit {
      guard let index = token == "-" ? values.count : index(token, below: values.count + 1) else { throw missing(text) }
      values.insert(value, at: index)
      return
    }
    guard let index = index(token, below: values.count) else { throw missing(text) }
    if !rest.isEmpty { return try change(&values[index], rest, text, edit) }
    if case .replace(let value) = edit { values[index] = value } else { values.remove(at: index) }
  }
}

extension Value {
  /// About the bytes of its JSON; saturating, linear in its nodes.
  package var approximateSize: Int {
    switch self {
    case .null, .bool: 5
    case .int, .double: 9
    case .string(let text): text.utf8.count + 2
    case .array(let values): values.reduce(2) { $0 + $1.approximateSize + 1 }
    case .object(let fields): fields.reduce(2) { $0 + $1.key.utf8.count + $1.value.approximateSize + 4 }
    }
  }
}
