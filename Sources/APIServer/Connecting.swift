import API
import Base
import ObjectLog
import ObjectModel

extension APIServer {
  /// Calls that the object's node answers, unless somebody registered for them here.
  private static let nodeCalls: [String: Set<String>] = [
    Pod.resource: ["log", "exec", "attach", "portforward"], Device.resource: ["command"],
  ]

  package func connect(
    _ reference: ObjectReference, subresource: String, options: Value, stream: (any DuplexStream)?, caller: Caller
  ) async throws(APIError) -> Value {
    var request = AccessRequest(.connect, reference, subresource: subresource)
    let known = registry[resource: reference.resource]
    let found = known == nil || reference.name.isEmpty ? nil : try stored(reference.key)
    request.placedOn = try found?.decodedMeta().node
    try authorize(request, caller)
    if let handler = handlers["\(reference.resource)/\(subresource)"] {
      return try await handler(reference, options, stream, caller)
    }
    guard let kind = known, Self.nodeCalls[kind.resource]?.contains(subresource) ?? false else {
      throw Failures.unknownResource("\(reference.resource)/\(subresource)")
    }
    try check(reference, kind)
    guard found != nil else { throw Failures.notFound(kind, reference.name) }
    guard let node = request.placedOn else {
      throw APIError(.badRequest, "\(kind.singular) \(reference.name) does not have a host assigned")
    }
    guard let connector else {
      throw APIError(.serviceUnavailable, "node \(node) cannot be reached from here: no hub is running")
    }
    return try await connector.connect(
      node: node, reference, subresource: subresource, options: options, stream: stream, caller: caller)
  }
}
