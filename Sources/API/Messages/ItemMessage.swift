import Base
import Wire

/// One object or event as it travels: `[kind, position, revision, body, status]`, a CBOR array (proto-spec, "Items").
/// Body and status are embedded as they are stored; status and, in a bookmark, body are null where there is none.
package enum ItemMessage {
  /// Beside the kinds of `WatchEvent`: an object that is an answer, or a line of a list.
  private static let plain: UInt64 = 0
  private static let null: Bytes = [0xf6]

  /// The message in three pieces, so that the stored bytes are not copied before they are framed.
  package static func pieces(_ event: WatchEvent) -> (head: Bytes, body: Bytes, tail: Bytes) {
    guard let head = event.head, let object = event.object else {
      return pieces(UInt64(event.kind.rawValue), event.position, event.object)
    }
    return (head, object.body, object.status ?? null)
  }

  /// What every watch that sees this change says before the object's bytes.
  package static func head(_ kind: WatchEvent.Kind, position: UInt64, revision: UInt64) -> Bytes {
    head(UInt64(kind.rawValue), position, revision)
  }

  private static func head(_ kind: UInt64, _ position: UInt64, _ revision: UInt64) -> Bytes {
    var writer = CBORWriter(reservingCapacity: 20)
    writer.array(5)
    writer.uint(kind)
    writer.uint(position)
    writer.uint(revision)
    return writer.bytes
  }

  package static func pieces(_ object: APIObject) -> (head: Bytes, body: Bytes, tail: Bytes) {
    pieces(plain, object.revision, object)
  }

  private static func pieces(
    _ kind: UInt64, _ position: UInt64, _ object: APIObject?
  ) -> (head: Bytes, body: Bytes, tail: Bytes) {
    (head(kind, position, object?.revision ?? 0), object?.body ?? null, object?.status ?? null)
  }

  /// The message in one piece.
  package static func encode(_ object: APIObject) -> Bytes { joined(pieces(object)) }

  package static func encode(_ event: WatchEvent) -> Bytes { joined(pieces(event)) }

  private static func joined(_ pieces: (head: Bytes, body: Bytes, tail: Bytes)) -> Bytes {
    var whole = Bytes()
    whole.reserveCapacity(pieces.head.count + pieces.body.count + pieces.tail.count)
    whole += pieces.head
    whole += pieces.body
    whole += pieces.tail
    return whole
  }

  /// An object that answers a call; `resource` is what was asked for.
  package static func object(_ bytes: Bytes, resource: String) throws(SkerryError) -> APIObject {
    let (kind, _, object) = try read(bytes, resource)
    guard kind == plain, let object else { throw SkerryError(.invalidArgument, "the answer is no object") }
    return object
  }

  package static func event(_ bytes: Bytes, resource: String) throws(SkerryError) -> WatchEvent {
    let (kind, position, object) = try read(bytes, resource)
    guard let known = WatchEvent.Kind(rawValue: UInt8(kind)), (object == nil) == (known == .bookmark) else {
      throw SkerryError(.invalidArgument, "an item of kind \(kind) is no event")
    }
    return WatchEvent(kind: known, position: position, object: object)
  }

  private static func read(
    _ bytes: Bytes, _ resource: String
  ) throws(SkerryError) -> (kind: UInt64, position: UInt64, object: APIObject?) {
    var reader = CBORReader(bytes)
    let item = try read(&reader, resource)
    try reader.finish()
    return item
  }

  /// An object among others, in the answer of a batch.
  static func object(_ reader: inout CBORReader, resource: String) throws(SkerryError) -> APIObject {
    guard let object = try read(&reader, resource).object else {
      throw SkerryError(.invalidArgument, "the answer is no object")
    }
    return object
  }

  private static func read(
    _ reader: inout CBORReader, _ resource: String
  ) throws(SkerryError) -> (kind: UInt64, position: UInt64, object: APIObject?) {
    try reader.array(of: 5)
    let kind = try reader.uint(upTo: 255)
    let position = try reader.uint()
    let revision = try reader.uint()
    if reader.null() {
      try reader.skip()
      return (kind, position, nil)
    }
    let body = try reader.raw()
    let status = reader.null() ? nil : try reader.raw()
    let (namespace, name) = try names(body)
    let reference = ObjectReference(resource: resource, namespace: namespace, name: name)
    return (kind, position, APIObject(reference: reference, revision: revision, body: body, status: status))
  }

  /// `metadata.namespace` and `metadata.name` of an encoded object, without decoding the rest.
  package static func names(_ body: Bytes) throws(SkerryError) -> (namespace: String, name: String) {
    var (namespace, name) = ("", "")
    var reader = CBORReader(body)
    for _ in 0..<(try reader.map()) {
      guard try reader.text() == "metadata" else {
        try reader.skip()
        continue
      }
      for _ in 0..<(try reader.map()) {
        switch try reader.text() {
        case "name": name = try reader.text()
        case "namespace": namespace = try reader.text()
        default: try reader.skip()
        }
      }
      return (namespace, name)
    }
    return (namespace, name)
  }
}
