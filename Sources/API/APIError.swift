import Base

/// A Kubernetes `Status` of kind Failure, as every face answers it.
/// Source: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/
package struct APIError: Error, Sendable, Hashable, CustomStringConvertible {
  /// Kubernetes' reason words with their HTTP codes.
  package enum Reason: String, Sendable, CaseIterable {
    case badRequest = "BadRequest"
    case unauthorized = "Unauthorized"
    case forbidden = "Forbidden"
    case notFound = "NotFound"
    case alreadyExists = "AlreadyExists"
    case conflict = "Conflict"
    case gone = "Gone"
    case expired = "Expired"
    case invalid = "Invalid"
    case timeout = "Timeout"
    case tooManyRequests = "TooManyRequests"
    case requestEntityTooLarge = "RequestEntityTooLarge"
    case unsupportedMediaType = "UnsupportedMediaType"
    case methodNotAllowed = "MethodNotAllowed"
    case serviceUnavailable = "ServiceUnavailable"
    case internalError = "InternalError"

    package var code: Int64 {
      switch self {
      case .badRequest: 400
      case .unauthorized: 401
      case .forbidden: 403
      case .notFound: 404
      case .methodNotAllowed: 405
      case .alreadyExists, .conflict: 409
      case .gone, .expired: 410
      case .requestEntityTooLarge: 413
      case .unsupportedMediaType: 415
      case .invalid: 422
      case .tooManyRequests: 429
      case .internalError: 500
      case .serviceUnavailable: 503
      case .timeout: 504
      }
    }
  }
  package let reason: Reason
  package let message: String
  /// Status.details: `name`, `group`, `kind`, `causes[] {reason, message, field}`, `retryAfterSeconds`; or null.
  package let details: Value
  package init(_ reason: Reason, _ message: String, details: Value = .null) {
    self.reason = reason
    self.message = message
    self.details = details
  }
  package var description: String { message }

  package static func notFound(_ resource: String, _ name: String) -> APIError {
    APIError(
      .notFound, "\(resource) \"\(name)\" not found", details: ["name": .string(name), "kind": .string(resource)])
  }
  package static func forbidden(_ caller: Caller, verb: String, resource: String, scope: String = "") -> APIError {
    APIError(
      .forbidden, "\(resource) is forbidden: User \"\(caller.user)\" cannot \(verb) resource \"\(resource)\"\(scope)")
  }
}
