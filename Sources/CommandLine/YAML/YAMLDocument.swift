import Base

/// A YAML document as a value, with the line that each of its fields came from.
struct YAMLDocument: Sendable {
  let value: Value
  /// The line of the document's first node.
  let firstLine: Int
  /// Line by path, in the form of `Path`.
  let lines: [String: Int]

  /// The line of a field as messages name it (`spec.containers[0].image`), or of its nearest ancestor that is there.
  func line(of field: String) -> Int {
    var path = Path(field)
    while !path.components.isEmpty {
      if let line = lines[path.key] { return line }
      path.components.removeLast()
    }
    return firstLine
  }

  /// Where a field is: member names and array indices.
  struct Path: Sendable {
    var components: [String] = []
    var key: String { components.joined(separator: "\u{1f}") }
    init() {}

    /// Parses `a.b[0][key.with.dots].c`.
    init(_ text: String) {
      var current = ""
      var inBrackets = false
      func flush() {
        if !current.isEmpty { components.append(current) }
        current = ""
      }
      for character in text {
        switch character {
        case "[" where !inBrackets:
          flush()
          inBrackets = true
        case "]" where inBrackets:
          flush()
          inBrackets = false
        case "." where !inBrackets: flush()
        default: current.append(character)
        }
      }
      flush()
    }
  }
}

/// What is wrong with a YAML text, and where.
struct YAMLFailure: Error, CustomStringConvertible {
  let line: Int
  let message: String
  var description: String { "line \(line): \(message)" }
}
