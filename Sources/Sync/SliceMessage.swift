import Base
import Wire

/// One object as it travels down a slice: the cloud's stored bytes, with every revision that belongs to them.
package struct SliceObject: Sendable, Hashable {
  package var key: String
  package var body: Bytes
  package var status: Bytes?
  package var meta: Bytes
  package var bodyRevision: UInt64
  package var statusRevision: UInt64
  package var createRevision: UInt64
  /// The cloud keeps it sealed, and so must the edge.
  package var sealed: Bool
  package var revision: UInt64 { max(bodyRevision, statusRevision) }
  package init(
    key: String, body: Bytes, status: Bytes?, meta: Bytes, bodyRevision: UInt64, statusRevision: UInt64,
    createRevision: UInt64, sealed: Bool
  ) {
    self.key = key
    self.body = body
    self.status = status
    self.meta = meta
    self.bodyRevision = bodyRevision
    self.statusRevision = statusRevision
    self.createRevision = createRevision
    self.sealed = sealed
  }
}

/// One entry of a position.
package enum SliceEntry: Sendable, Hashable {
  /// The object is in the slice and is now this.
  case put(SliceObject)
  /// The object was deleted or is no longer the node's business.
  case drop(key: String)
  /// Only the status changed, by what the node itself told: it is as the node makes it of what it told, if `check` says so.
  case told(key: String, statusRevision: UInt64, check: UInt32)
  /// The same of the object that the entry with this number of the node's status lane is about. It says also that the
  /// lane is applied through that number.
  case toldBy(number: UInt64, statusRevision: UInt64, check: UInt32)

  /// Tells a status' bytes from others: the upper half of the mixed 64-bit FNV-1a of the digest.
  package static func check(_ status: Bytes) -> UInt32 { UInt32(SliceDigest.mixedHash(status) >> 32) }
}

/// A message of the slice stream, hub to node. Drawn in proto-spec/sync.md; an array whose first element tells which.
///
/// ```
/// resume    [1, log id (16 bytes), epoch, position]        what follows are the changes after the node's cursor
/// begin     [2, log id (16 bytes), epoch, position]        a snapshot of the whole slice follows
/// object    [3, object]                                    in a snapshot: an object with its bytes
/// keep      [4, key, revision]                             in a snapshot: an object that the node has as it is
/// end       [5, position]                                  drop what the snapshot did not name
/// position  [6, position, [entry …]]                       everything that one or more changes did, to be applied at once
/// inventory [7]                                            the node is to send what it holds, then an empty message
/// object  = [key, body, status or null, meta, body revision, status revision, create revision, sealed], or a byte
///           string with that array packed (`Packing`), never of what is sealed
/// entry   = object, or key: dropped, or [key, status revision, check]: the status that the node told, or
///           [number, status revision, check] or, at the position itself, [number, check]: the same by the lane's number
/// ```
package enum SliceMessage: Sendable, Hashable {
  case resume(log: Bytes, epoch: UInt64, position: UInt64)
  case begin(log: Bytes, epoch: UInt64, position: UInt64)
  case object(SliceObject)
  case keep(key: String, revision: UInt64)
  case end(position: UInt64)
  case position(UInt64, [SliceEntry])
  case inventory

  /// Entries a position may hold on the wire; the hub cuts a backlog into positions below it.
  package static let maxEntries = 10_000

  package func encode() -> Bytes {
    var writer = CBORWriter()
    switch self {
    case .resume(let log, let epoch, let position):
      writer.array(4)
      writer.uint(1)
      writer.byteString(log)
      writer.uint(epoch)
      writer.uint(position)
    case .begin(let log, let epoch, let position):
      writer.array(4)
      writer.uint(2)
      writer.byteString(log)
      writer.uint(epoch)
      writer.uint(position)
    case .object(let object):
      writer.array(2)
      writer.uint(3)
      Self.write(object, to: &writer)
    case .keep(let key, let revision):
      writer.array(3)
      writer.uint(4)
      writer.text(key)
      writer.uint(revision)
    case .end(let position):
      writer.array(2)
      writer.uint(5)
      writer.uint(position)
    case .position(let position, let entries):
      writer.array(3)
      writer.uint(6)
      writer.uint(position)
      writer.array(entries.count)
      for entry in entries {
        switch entry {
        case .put(let object): Self.write(object, to: &writer)
        case .drop(let key): writer.text(key)
        case .told(let key, let revision, let check):
          writer.array(3)
          writer.text(key)
          writer.uint(revision)
          writer.uint(UInt64(check))
        case .toldBy(let number, let revision, let check):
          writer.array(revision == position ? 2 : 3)
          writer.uint(number)
          if revision != position { writer.uint(revision) }
          writer.uint(UInt64(check))
        }
      }
    case .inventory:
      writer.array(1)
      writer.uint(7)
    }
    return writer.bytes
  }

  package static func decode(_ bytes: Bytes) throws(SkerryError) -> SliceMessage {
    var reader = CBORReader(bytes)
    let count = try reader.array()
    let tag = try reader.uint()
    let expected: [UInt64: Int] = [1: 4, 2: 4, 3: 2, 4: 3, 5: 2, 6: 3, 7: 1]
    guard expected[tag] == count else {
      throw SkerryError(.protocolViolation, "slice message \(tag) with \(count) elements is not known here")
    }
    let message: SliceMessage
    switch tag {
    case 1: message = .resume(log: try reader.byteString(), epoch: try reader.uint(), position: try reader.uint())
    case 2: message = .begin(log: try reader.byteString(), epoch: try reader.uint(), position: try reader.uint())
    case 3: message = .object(try read(&reader))
    case 4: message = .keep(key: try reader.text(), revision: try reader.uint())
    case 5: message = .end(position: try reader.uint())
    case 6:
      let position = try reader.uint()
      let entries = try reader.array()
      guard entries <= maxEntries else {
        throw SkerryError(.limitExceeded, "a slice position with \(entries) entries; at most \(maxEntries) are taken")
      }
      var list: [SliceEntry] = []
      list.reserveCapacity(entries)
      for _ in 0..<entries {
        list.append(try entry(&reader, at: position))
      }
      message = .position(position, list)
    default: message = .inventory
    }
    try reader.finish()
    return message
  }

  private static func entry(_ reader: inout CBORReader, at position: UInt64) throws(SkerryError) -> SliceEntry {
    switch reader.next {
    case .text: return .drop(key: try reader.text())
    case .bytes: return .put(try read(&reader))
    default:
      let count = try reader.array()
      if count == 8 { return .put(try fields(&reader)) }
      guard count == 2 || count == 3 else {
        throw SkerryError(.protocolViolation, "a slice entry of \(count) elements")
      }
      guard count == 2 || reader.next == .uint else {
        return .told(key: try reader.text(), statusRevision: try reader.uint(), check: try check(&reader))
      }
      let number = try reader.uint()
      let revision = count == 2 ? position : try reader.uint()
      return .toldBy(number: number, statusRevision: revision, check: try check(&reader))
    }
  }

  private static func check(_ reader: inout CBORReader) throws(SkerryError) -> UInt32 {
    UInt32(try reader.uint(upTo: UInt64(UInt32.max)))
  }

  /// What is secret stays as it is: how well it packs would tell of it.
  private static func write(_ object: SliceObject, to writer: inout CBORWriter) {
    guard !object.sealed else { return writePlain(object, to: &writer) }
    var plain = CBORWriter()
    writePlain(object, to: &plain)
    let packed = Packing.pack(plain.bytes)
    if packed.count + 3 < plain.bytes.count { writer.byteString(packed) } else { writer.raw(plain.bytes) }
  }

  private static func writePlain(_ object: SliceObject, to writer: inout CBORWriter) {
    writer.array(8)
    writer.text(object.key)
    writer.byteString(object.body)
    if let status = object.status { writer.byteString(status) } else { writer.null() }
    writer.byteString(object.meta)
    writer.uint(object.bodyRevision)
    writer.uint(object.statusRevision)
    writer.uint(object.createRevision)
    writer.bool(object.sealed)
  }

  private static func read(_ reader: inout CBORReader) throws(SkerryError) -> SliceObject {
    guard reader.next == .bytes else {
      try reader.array(of: 8)
      return try fields(&reader)
    }
    var inner = CBORReader(try Packing.unpack(try reader.byteString()))
    try inner.array(of: 8)
    let object = try fields(&inner)
    try inner.finish()
    guard !object.sealed else { throw SkerryError(.protocolViolation, "\(object.key) is sealed and was packed") }
    return object
  }

  private static func fields(_ reader: inout CBORReader) throws(SkerryError) -> SliceObject {
    let key = try reader.text()
    let body = try reader.byteString()
    let status: Bytes? = reader.null() ? nil : try reader.byteString()
    return SliceObject(
      key: key, body: body, status: status, meta: try reader.byteString(), bodyRevision: try reader.uint(),
      statusRevision: try reader.uint(), createRevision: try reader.uint(), sealed: try reader.bool())
  }
}

/// What a node tells of its replica, node to hub, when the hub asks: pieces of `[[key, revision] …]` in key order,
/// ended by an empty piece.
package enum SliceInventory {
  /// Pairs a message.
  package static let piece = 500
  /// Keys a node may name in all; more is a protocol violation.
  package static let maxKeys = 100_000

  package static func encode(_ pairs: some Collection<(key: String, revision: UInt64)>) -> Bytes {
    var writer = CBORWriter()
    writer.array(pairs.count)
    for pair in pairs {
      writer.array(2)
      writer.text(pair.key)
      writer.uint(pair.revision)
    }
    return writer.bytes
  }

  package static func decode(_ bytes: Bytes) throws(SkerryError) -> [(key: String, revision: UInt64)] {
    var reader = CBORReader(bytes)
    let count = try reader.array()
    guard count <= maxKeys else { throw SkerryError(.limitExceeded, "an inventory piece with \(count) keys") }
    var pairs: [(key: String, revision: UInt64)] = []
    for _ in 0..<count {
      try reader.array(of: 2)
      pairs.append((try reader.text(), try reader.uint()))
    }
    try reader.finish()
    return pairs
  }
}
