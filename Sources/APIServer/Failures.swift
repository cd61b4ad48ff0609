import API
import Base
import ObjectModel

/// The API server's errors, worded as Kubernetes words them.
enum Failures {
  /// Whatever the log says, as the caller sees it.
  static func from(_ error: SkerryError) -> APIError {
    switch error.code {
    case .tooOld: APIError(.expired, error.description)
    case .limitExceeded: APIError(.tooManyRequests, error.description, details: ["retryAfterSeconds": 1])
    case .unavailable, .closed, .system: APIError(.serviceUnavailable, error.description)
    case .invalidArgument: APIError(.badRequest, error.description)
    default: APIError(.internalError, error.description)
    }
  }

  static func details(_ kind: Kind, _ name: String, _ more: Value.Fields = [:]) -> Value {
    var fields: Value.Fields = ["name": .string(name), "kind": .string(kind.plural)]
    if !kind.group.isEmpty { fields["group"] = .string(kind.group) }
    return .object(fields.merging(more))
  }

  static func unknownResource(_ resource: String) -> APIError {
    APIError(.notFound, "the server could not find the requested resource (\(resource))")
  }

  static func notFound(_ kind: Kind, _ name: String) -> APIError {
    APIError(.notFound, "\(kind.resource) \"\(name)\" not found", details: details(kind, name))
  }

  static func alreadyExists(_ kind: Kind, _ name: String) -> APIError {
    APIError(.alreadyExists, "\(kind.resource) \"\(name)\" already exists", details: details(kind, name))
  }

  static func modified(_ kind: Kind, _ name: String) -> APIError {
    conflict(
      kind, name,
      "the object has been modified; please apply your changes to the latest version and try again")
  }

  static func conflict(_ kind: Kind, _ name: String, _ why: String) -> APIError {
    APIError(
      .conflict, "Operation cannot be fulfilled on \(kind.resource) \"\(name)\": \(why)", details: details(kind, name))
  }

  static func invalid(_ kind: Kind, _ name: String, _ errors: [FieldError]) -> APIError {
    let texts = errors.map(\.description)
    let what = texts.count == 1 ? texts[0] : "[\(texts.joined(separator: ", "))]"
    let causes = errors.map { error -> Value in
      ["reason": .string(error.reason.rawValue), "message": .string(error.message), "field": .string(error.field)]
    }
    var fields: Value.Fields = ["name": .string(name), "kind": .string(kind.kind), "causes": .array(causes)]
    if !kind.group.isEmpty { fields["group"] = .string(kind.group) }
    return APIError(.invalid, "\(kind.qualifiedKind) \"\(name)\" is invalid: \(what)", details: .object(fields))
  }

  static func wrongType(_ kind: Kind, _ mismatch: String) -> APIError {
    APIError(
      .badRequest, "\(kind.kind) in version \"\(kind.version)\" cannot be handled as a \(kind.kind): \(mismatch)")
  }

  static func tooLarge(_ kind: Kind, _ name: String, _ size: Int, _ limit: Int) -> APIError {
    APIError(
      .requestEntityTooLarge, "\(kind.resource) \"\(name)\" has \(size) bytes; at most \(limit) are kept for an object",
      details: details(kind, name))
  }

  static func terminating(_ kind: Kind, _ name: String, _ namespace: String) -> APIError {
    let message = "namespace \(namespace) is being terminated"
    let cause: Value = [
      "reason": "NamespaceTerminating", "message": .string(message), "field": "metadata.namespace",
    ]
    return APIError(
      .forbidden,
      "\(kind.resource) \"\(name)\" is forbidden: unable to create new content in namespace \(namespace) because it is "
        + "being terminated", details: details(kind, name, ["causes": [cause]]))
  }

  /// `history` begins after `compacted`; a new listing is at `newest`.
  static func tooOld(_ position: UInt64, compacted: UInt64, newest: UInt64) -> APIError {
    APIError(
      .expired,
      "too old resource version: \(position) (\(compacted + 1)); list again and watch from revision \(newest)",
      details: ["restartRevision": .string(String(newest))])
  }
}
