/// The one error shape of the project: a code to branch on, a message for a person, and the cause below it.
///
/// Each layer adds context once, by wrapping (`cause`); the chain is printed once, at the top.
/// Messages say what went wrong, where, and what to do about it.
package struct SkerryError: Error, Sendable, CustomStringConvertible {
  /// A growable set of codes: switch with a default.
  package struct Code: Sendable, Hashable, CustomStringConvertible {
    package let name: String
    private init(_ name: String) { self.name = name }
    package var description: String { name }

    /// The input is malformed; sending it again cannot help.
    package static let invalidArgument = Code("invalidArgument")
    package static let notFound = Code("notFound")
    package static let alreadyExists = Code("alreadyExists")
    /// The guard of a change did not hold; read again and retry.
    package static let conflict = Code("conflict")
    /// The position asked for was compacted; restart from the revision in the message.
    package static let tooOld = Code("tooOld")
    package static let unauthenticated = Code("unauthenticated")
    package static let forbidden = Code("forbidden")
    package static let timeout = Code("timeout")
    /// The other side cannot be reached now; retry with backoff.
    package static let unavailable = Code("unavailable")
    /// A named limit was reached.
    package static let limitExceeded = Code("limitExceeded")
    /// Bytes that should be ours do not check out: a database, a seal, a checksum.
    package static let corrupt = Code("corrupt")
    package static let unsupportedVersion = Code("unsupportedVersion")
    /// The peer broke the protocol.
    package static let protocolViolation = Code("protocolViolation")
    /// The operating system refused: full disk, permissions, missing tool.
    package static let system = Code("system")
    package static let cancelled = Code("cancelled")
    package static let closed = Code("closed")
    /// A defect of this program.
    package static let `internal` = Code("internal")
  }

  package let code: Code
  package let message: String
  package let cause: (any Error)?
  package let file: StaticString
  package let line: UInt

  package init(
    _ code: Code, _ message: String, cause: (any Error)? = nil, file: StaticString = #fileID, line: UInt = #line
  ) {
    self.code = code
    self.message = message
    self.cause = cause
    self.file = file
    self.line = line
  }

  /// The message and those of every cause, outermost first, joined by `: `.
  package var description: String {
    guard let cause else { return message }
    return "\(message): \(cause)"
  }
}
