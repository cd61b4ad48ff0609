import Logging
import Synchronization

/// The documented codes of error lines (docs/operations.md lists each with its meaning and remedy).
///
/// A code is stable: scripts and alerts may match it. `E-` lines need somebody's attention, `W-` lines tell of
/// something the system handles by itself.
package struct LogCode: Sendable, Hashable, CustomStringConvertible {
  package let description: String
  package init(_ code: StaticString) { description = "\(code)" }
}

extension Logger {
  /// An error line with its documented code and the remedy in the message.
  package func error(_ code: LogCode, _ message: @autoclosure () -> Logger.Message, _ metadata: Logger.Metadata = [:]) {
    log(level: .error, message(), metadata: metadata.merging(["code": "\(code)"]) { $1 })
  }
  /// A warning line with its documented code.
  package func warning(_ code: LogCode, _ message: @autoclosure () -> Logger.Message, _ metadata: Logger.Metadata = [:])
  {
    log(level: .warning, message(), metadata: metadata.merging(["code": "\(code)"]) { $1 })
  }
}
