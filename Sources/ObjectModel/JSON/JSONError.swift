/// Why a text is not JSON that we take, and where.
package struct JSONError: Error, Sendable, Hashable, CustomStringConvertible {
  package let message: String
  /// From 1; columns count bytes.
  package let line: Int
  package let column: Int
  package init(message: String, line: Int, column: Int) {
    self.message = message
    self.line = line
    self.column = column
  }
  package var description: String { "line \(line), column \(column): \(message)" }
}

/// Strict JSON (RFC 8259) over `Value`, without Foundation.
///
/// Taken: exactly the grammar, UTF-8 only, no byte order mark, no repeated member names. Integers that fit 64 bits
/// stay integers; other numbers are doubles.
package enum JSON {
  /// Nesting beyond this is refused: it stops a stack overflow by `[[[[…`.
  package static let maxDepth = 128
  /// Bytes of one text: Kubernetes' own request limit (3 MiB). It stops a request from filling memory.
  package static let maxBytes = 3 << 20
}
