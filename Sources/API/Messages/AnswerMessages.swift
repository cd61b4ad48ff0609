import Base
import ObjectModel
import Wire

extension APIError {
  /// As END carries it.
  package var call: CallError { CallError(reason: reason.rawValue, message: message, details: details) }

  /// The error of a call that came back with one, or whose stream broke.
  package init(_ error: CallError) {
    let reason =
      switch error.reason {
      case CallError.disconnected, CallError.cancelled: Reason.serviceUnavailable
      case CallError.limitExceeded: Reason.tooManyRequests
      case CallError.unknownMethod: Reason.methodNotAllowed
      default: Reason(rawValue: error.reason) ?? .internalError
      }
    self.init(reason, error.message, details: error.details)
  }
}

/// END of `list`: `{revision, continue}`.
package enum ListAnswer {
  package static func encode(_ list: ObjectList) -> Bytes {
    var fields: Value = ["revision": .int(Int64(clamping: list.revision))]
    if !list.continuation.isEmpty { fields["continue"] = .string(list.continuation) }
    return CBOR.encode(fields)
  }

  package static func decode(_ bytes: Bytes) throws(SkerryError) -> (revision: UInt64, continuation: String) {
    let value = try CBOR.decode(bytes)
    guard let revision = value["revision"].int.flatMap(UInt64.init(exactly:)) else {
      throw SkerryError(.invalidArgument, "the answer to list names no revision")
    }
    return (revision, value["continue"].string ?? "")
  }
}

/// The params and the answer of `batch`: items `{call, params}`, answered in order, each by an item or by an error map.
package enum BatchMessage {
  /// Writes in one batch; more come in several.
  package static let maxItems = 1_000

  package static func params(_ items: [BatchItem]) -> Value {
    ["items": .array(items.map { ["call": .string($0.method), "params": $0.params] })]
  }

  package static func items(_ params: Value) throws(APIError) -> [BatchItem] {
    var params = try CallParams(CallMethod.batch, params)
    guard let values = params.value("items").array else {
      throw APIError(.badRequest, "batch: the param items must be an array")
    }
    try params.finish()
    guard values.count <= maxItems else {
      throw APIError(.requestEntityTooLarge, "batch: \(values.count) items; at most \(maxItems) are allowed")
    }
    var items: [BatchItem] = []
    for value in values {
      items.append(try BatchItem(method: value["call"].string ?? "", params: value["params"]))
    }
    return items
  }

  package static func encode(_ results: [Result<APIObject, APIError>]) -> Bytes {
    var writer = CBORWriter(reservingCapacity: 4_096)
    writer.array(results.count)
    for result in results {
      switch result {
      case .success(let object): writer.raw(ItemMessage.encode(object))
      case .failure(let error): writer.value(error.call.value)
      }
    }
    return writer.bytes
  }

  package static func decode(
    _ bytes: Bytes, items: [BatchItem]
  ) throws(SkerryError) -> [Result<APIObject, APIError>] {
    var reader = CBORReader(bytes)
    try reader.array(of: items.count)
    var results: [Result<APIObject, APIError>] = []
    for item in items {
      if reader.next == .map {
        results.append(.failure(APIError(CallError(try reader.value()))))
      } else {
        results.append(.success(try ItemMessage.object(&reader, resource: item.resource)))
      }
    }
    try reader.finish()
    return results
  }
}

/// The params of `connect`.
package struct ConnectMessage: Sendable {
  package var reference: ObjectReference
  package var subresource: String
  package var options: Value
  /// Messages travel beside the request and its answer.
  package var isDuplex: Bool
  package init(reference: ObjectReference, subresource: String, options: Value, isDuplex: Bool) {
    self.reference = reference
    self.subresource = subresource
    self.options = options
    self.isDuplex = isDuplex
  }

  package var params: Value {
    var params: Value = ["resource": .string(reference.resource), "sub": .string(subresource)]
    if !reference.namespace.isEmpty { params["namespace"] = .string(reference.namespace) }
    if !reference.name.isEmpty { params["name"] = .string(reference.name) }
    if !options.isNull { params["options"] = options }
    if isDuplex { params["stream"] = true }
    return params
  }

  package init(params: Value) throws(APIError) {
    var params = try CallParams(CallMethod.connect, params)
    reference = ObjectReference(
      resource: try params.text("resource", required: true), namespace: try params.text("namespace"),
      name: try params.text("name"))
    subresource = try params.text("sub")
    options = params.value("options")
    isDuplex = try params.bool("stream")
    try params.finish()
  }
}
