import API
import Base
import ObjectLog
import ObjectModel
import Wire

/// What most updates need of the object that they replace: those members of its body that are neither list nor map, and
/// what is in its metadata beside the system's fields. The rest, which is most of it, is stepped over.
struct StoredHead {
  /// Without metadata.
  private(set) var object = Object(.null)
  private(set) var uid = ""
  /// Where the encoded metadata lies in the stored body.
  private(set) var metadata = 0..<0
  /// The members of the metadata that are its writers' own.
  private var own: [(key: String, place: Range<Int>)] = []
  private var isBeingDeleted = false
  private let body: Bytes

  init(_ stored: StoredObject) throws(APIError) {
    body = stored.body
    do throws(SkerryError) {
      var reader = CBORReader(body)
      var fields = Value.Fields()
      let count = try reader.map()
      fields.reserveCapacity(count)
      for _ in 0..<count {
        let key = try reader.key()
        if key.is("metadata") {
          let start = reader.offset
          for _ in 0..<(try reader.map()) { try take(&reader) }
          metadata = start..<reader.offset
        } else if reader.next == .map || reader.next == .array {
          try reader.skip()
        } else {
          fields[key.text] = try reader.value()
        }
      }
      try reader.finish()
      object = Object(.object(fields))
    } catch {
      throw APIError(.internalError, "a stored object does not decode: \(error)")
    }
  }

  /// Takes in a member of the metadata.
  private mutating func take(_ reader: inout CBORReader) throws(SkerryError) {
    let key = try reader.key()
    switch key {
    case "uid": uid = try reader.text()
    case "deletionTimestamp":
      isBeingDeleted = true
      try reader.skip()
    case _ where SystemFields.contains(key): try reader.skip()
    default: own.append((key.text, try reader.skip()))
    }
  }

  /// Whether an update with this metadata, which names the object in full, leaves all metadata as it is stored.
  func keeps(_ new: Value, of reference: ObjectReference) -> Bool {
    guard !isBeingDeleted, case .object(let fields) = new, fields["name"]?.string == reference.name,
      fields["namespace"]?.string ?? "" == reference.namespace
    else { return false }
    var kept = 0
    for (key, value) in fields where key != "resourceVersion" && !SystemFields.contains(key) {
      guard let place = own.first(where: { $0.key == key })?.place,
        (try? CBORItem(body, in: place).decoded()) == value
      else { return false }
      kept += 1
    }
    return kept == own.count
  }
}

/// What of an object's metadata is the server's to set: an update has no say in it.
enum SystemFields {
  private static let names: [StaticString] = [
    "name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation",
    "generateName",
  ]
  static let all = Value.Fields(names.map { ($0.description, .null) })

  static func contains(_ field: String) -> Bool { all.contains(field) }
  static func contains(_ field: CBORKey) -> Bool { names.contains { field.is($0) } }
}
