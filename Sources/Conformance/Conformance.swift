/// A promise that was not kept, and where the suite asked for it.
package struct ConformanceFailure: Error, CustomStringConvertible {
  package let description: String
  package init(description: String) { self.description = description }
}

/// Throws a `ConformanceFailure` that names the caller's line, with `what` as its words.
package func check(
  _ held: Bool, _ what: @autoclosure () -> String, line: UInt = #line, file: StaticString = #fileID
) throws {
  if !held { throw ConformanceFailure(description: "\(file):\(line): \(what())") }
}

package func equal<T: Equatable>(
  _ found: T, _ wanted: T, _ what: String = "value", line: UInt = #line, file: StaticString = #fileID
) throws {
  try check(found == wanted, "\(what) is \(found), not \(wanted)", line: line, file: file)
}
