import Base
import Wire

/// The methods of the API's calls and the params of each, as OPEN carries them (proto-spec, "Calls").
///
/// Params are maps; members with their default value are left out, members that are not known are an error, since a
/// selector that a server overlooks would answer too much.
package enum CallMethod {
  package static let get = "get"
  package static let list = "list"
  package static let watch = "watch"
  package static let create = "create"
  package static let update = "update"
  package static let patch = "patch"
  package static let delete = "delete"
  package static let batch = "batch"
  package static let connect = "connect"
}

/// Takes the members of a call's params one by one; what is left over is refused.
package struct CallParams {
  private let method: String
  private var fields: Value.Fields

  package init(_ method: String, _ value: Value) throws(APIError) {
    guard let fields = value.object else {
      throw APIError(.badRequest, "\(method): the params are no map")
    }
    self.method = method
    self.fields = fields
  }

  package mutating func text(_ key: String, required: Bool = false) throws(APIError) -> String {
    if let text = try optionalText(key) { return text }
    guard !required else { throw missing(key) }
    return ""
  }

  package mutating func optionalText(_ key: String) throws(APIError) -> String? {
    guard let value = take(key) else { return nil }
    guard let text = value.string else { throw wrong(key, "a text") }
    return text
  }

  package mutating func int(_ key: String) throws(APIError) -> Int64? {
    guard let value = take(key) else { return nil }
    guard case .int(let number) = value else { throw wrong(key, "an integer") }
    return number
  }

  /// A revision or a position.
  package mutating func number(_ key: String) throws(APIError) -> UInt64? {
    guard let number = try int(key) else { return nil }
    guard number >= 0 else { throw wrong(key, "zero or more") }
    return UInt64(number)
  }

  package mutating func bool(_ key: String) throws(APIError) -> Bool {
    guard let value = take(key) else { return false }
    guard let flag = value.bool else { throw wrong(key, "a boolean") }
    return flag
  }

  /// Any value; null where there is none.
  package mutating func value(_ key: String) -> Value { take(key) ?? .null }

  package mutating func object(_ key: String) throws(APIError) -> Value {
    guard let value = take(key) else { throw missing(key) }
    guard value.object != nil else { throw wrong(key, "a map") }
    return value
  }

  package mutating func reference() throws(APIError) -> ObjectReference {
    ObjectReference(
      resource: try text("resource", required: true), namespace: try text("namespace"),
      name: try text("name", required: true))
  }

  /// Throws if members are left.
  package func finish() throws(APIError) {
    guard fields.isEmpty else {
      throw APIError(.badRequest, "\(method): unknown params \(fields.keys.joined(separator: ", "))")
    }
  }

  private mutating func take(_ key: String) -> Value? {
    let value = fields[key]
    fields[key] = nil
    return value
  }

  private func missing(_ key: String) -> APIError {
    APIError(.badRequest, "\(method): the param \(key) is missing")
  }

  private func wrong(_ key: String, _ expected: String) -> APIError {
    APIError(.badRequest, "\(method): the param \(key) must be \(expected)")
  }
}

extension Value {
  /// A map of the members that are not null.
  fileprivate static func params(_ members: [(String, Value?)]) -> Value {
    .object(Fields(members.compactMap { key, value in value.map { (key, $0) } }))
  }
  fileprivate static func text(_ text: String) -> Value? { text.isEmpty ? nil : .string(text) }
  /// Revisions and positions fit 63 bits: the log counts them in signed 64.
  fileprivate static func number(_ number: UInt64) -> Value { .int(Int64(clamping: number)) }
}

extension ObjectReference {
  fileprivate var members: [(String, Value?)] {
    [("resource", .string(resource)), ("namespace", .text(namespace)), ("name", .text(name))]
  }
  /// Of `get`.
  package var params: Value { .params(members) }
}

extension ListOptions {
  package var params: Value {
    .params([
      ("resource", .string(resource)), ("namespace", .text(namespace)), ("labels", .text(labelSelector)),
      ("fields", .text(fieldSelector)), ("limit", limit == 0 ? nil : .int(Int64(limit))),
      ("continue", .text(continuation)), ("revision", revision == 0 ? nil : .number(revision)),
    ])
  }

  package init(params: Value) throws(APIError) {
    var params = try CallParams(CallMethod.list, params)
    self.init(
      resource: try params.text("resource", required: true), namespace: try params.text("namespace"),
      labelSelector: try params.text("labels"), fieldSelector: try params.text("fields"),
      limit: Int(clamping: max(0, try params.int("limit") ?? 0)), continuation: try params.text("continue"),
      revision: try params.number("revision") ?? 0)
    try params.finish()
  }
}

extension WatchOptions {
  package var params: Value {
    .params([
      ("resource", .string(resource)), ("namespace", .text(namespace)), ("labels", .text(labelSelector)),
      ("fields", .text(fieldSelector)), ("after", after.map { .number($0) }),
    ])
  }

  package init(params: Value) throws(APIError) {
    var params = try CallParams(CallMethod.watch, params)
    self.init(
      resource: try params.text("resource", required: true), namespace: try params.text("namespace"),
      labelSelector: try params.text("labels"), fieldSelector: try params.text("fields"),
      after: try params.number("after"))
    try params.finish()
  }
}

extension BatchItem {
  /// The method that does the same alone.
  package var method: String {
    switch self {
    case .create: CallMethod.create
    case .update: CallMethod.update
    case .patch: CallMethod.patch
    case .delete: CallMethod.delete
    }
  }

  /// The resource that the answer belongs to.
  package var resource: String {
    switch self {
    case .create(let resource, _, _): resource
    case .update(let reference, _, _), .patch(let reference, _, _, _), .delete(let reference, _): reference.resource
    }
  }

  /// Of the write's own call, and of its place in a batch.
  package var params: Value {
    switch self {
    case .create(let resource, let namespace, let object):
      .params([("resource", .string(resource)), ("namespace", .text(namespace)), ("object", object)])
    case .update(let reference, let object, let subresource):
      .params(reference.members + [("object", object), ("sub", .text(subresource))])
    case .patch(let reference, let type, let patch, let subresource):
      .params(
        reference.members + [
          ("type", .string(type.rawValue)), ("patch", patch), ("sub", .text(subresource)),
        ])
    case .delete(let reference, let options):
      .params(
        reference.members + [
          ("grace", options.gracePeriod.map { .int($0) }), ("uid", options.uid.map { .string($0) }),
          ("propagation", options.propagation.map { .string($0.rawValue) }),
          ("revision", options.revision.map { .number($0) }),
        ])
    }
  }

  /// The same of params that are still encoded: those of an update, of which there are most, are read without a tree of
  /// their own.
  package init(method: String, encoded params: CBORItem) throws(APIError) {
    if method == CallMethod.update, let update = try? Self.update(params) {
      self = update
    } else {
      // What is wrong is told there; params that do not decode are none.
      try self.init(method: method, params: (try? params.decoded()) ?? .null)
    }
  }

  /// nil, or an error, for anything but the params of an update as they should be.
  private static func update(_ params: CBORItem) throws(SkerryError) -> BatchItem? {
    var reader = params.reader
    var (resource, name, object): (String?, String?, Value?) = (nil, nil, nil)
    var (namespace, subresource) = ("", "")
    var last: CBORKey?
    for _ in 0..<(try reader.map()) {
      let key = try reader.key()
      if let last, !last.precedes(key) { return nil }
      last = key
      switch key {
      case "sub": subresource = try reader.text()
      case "name": name = try reader.text()
      case "object":
        guard reader.next == .map else { return nil }
        object = try reader.value()
      case "resource": resource = try reader.text()
      case "namespace": namespace = try reader.text()
      default: return nil
      }
    }
    try reader.finish()
    guard let resource, let name, let object else { return nil }
    return .update(
      ObjectReference(resource: resource, namespace: namespace, name: name), object: object, subresource: subresource)
  }

  package init(method: String, params: Value) throws(APIError) {
    var params = try CallParams(method, params)
    switch method {
    case CallMethod.create:
      self = .create(
        resource: try params.text("resource", required: true), namespace: try params.text("namespace"),
        object: try params.object("object"))
    case CallMethod.update:
      self = .update(
        try params.reference(), object: try params.object("object"), subresource: try params.text("sub"))
    case CallMethod.patch:
      let reference = try params.reference()
      let type = try params.text("type", required: true)
      guard let known = PatchType(rawValue: type) else {
        throw APIError(.unsupportedMediaType, "patch: the type \"\(type)\" is not supported")
      }
      self = .patch(reference, type: known, patch: params.value("patch"), subresource: try params.text("sub"))
    case CallMethod.delete: self = .delete(try params.reference(), try DeleteOptions(&params))
    default: throw APIError(.badRequest, "batch: \"\(method)\" is no write")
    }
    try params.finish()
  }
}

extension DeleteOptions {
  fileprivate init(_ params: inout CallParams) throws(APIError) {
    self.init()
    gracePeriod = try params.int("grace")
    uid = try params.optionalText("uid")
    revision = try params.number("revision")
    guard let word = try params.optionalText("propagation") else { return }
    guard let known = Propagation(rawValue: word) else {
      throw APIError(.badRequest, "delete: the propagation \"\(word)\" is not known")
    }
    propagation = known
  }
}
