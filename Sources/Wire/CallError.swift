import Base

/// Why a call failed, as END and RESET carry it.
package struct CallError: Error, Sendable, Hashable, CustomStringConvertible {
  /// Kubernetes' reason words (`Forbidden`, `NotFound`, `Expired` …), or one of the words below when the stream
  /// itself broke.
  package var reason: String
  package var message: String
  /// As Status.details, or null.
  package var details: Value
  package init(reason: String, message: String, details: Value = .null) {
    self.reason = reason
    self.message = message
    self.details = details
  }
  package var description: String { message }

  /// The caller took its call back.
  package static let cancelled = "Cancelled"
  /// The session ended before the answer came; whether the call was done is not known.
  package static let disconnected = "Disconnected"
  /// A named limit of the protocol was reached.
  package static let limitExceeded = "LimitExceeded"
  /// The peer knows no such method.
  package static let unknownMethod = "UnknownMethod"

  /// `{reason, message, details}`, as END, RESET and the answer of a batch carry it.
  package var value: Value {
    var fields: Value = ["reason": .string(reason), "message": .string(message)]
    if !details.isNull { fields["details"] = details }
    return fields
  }

  package init(_ value: Value) {
    self.init(
      reason: value["reason"].string ?? "InternalError", message: value["message"].string ?? "no reason was given",
      details: value["details"])
  }
}
