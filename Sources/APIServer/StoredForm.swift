import API
import Base
import ObjectLog
import ObjectModel
import Wire

/// An object taken apart for the log: proto-spec/objects.md.
struct StoredForm {
  var body: Bytes
  var status: Bytes?
  var meta: Bytes
  var seal: Bool

  /// `object` is whole and valid; status is kept apart only for kinds that have one. `body` is the encoded body where
  /// it is known that only the status changed, `size` what the body had in bytes until now.
  init(_ object: Object, kind: Kind, body known: Bytes? = nil, size: Int = 0) {
    meta = Self.kept(ObjectMeta(object, kind: kind).encoded)
    seal = kind.isSealed(object)
    let status = object.status
    if let known {
      body = known
    } else {
      var value = object.value
      value.remove("status")
      if !value["metadata"]["resourceVersion"].isNull { value["metadata"].remove("resourceVersion") }
      body = Self.kept(CBOR.encode(value, capacity: max(size + 16, 128)))
    }
    self.status = kind.hasStatus && !status.isNull ? Self.kept(CBOR.encode(status)) : nil
  }

  /// A new body of a stored object that has no status, with the metadata as it is stored: `metadata` is where that lies
  /// in the stored body. It is not encoded again, and what is extracted of it is not extracted again.
  init(_ object: Object, kind: Kind, from stored: StoredObject, metadata place: Range<Int>) throws(APIError) {
    if kind.isPlacedByMetadata {
      meta = stored.meta
    } else {
      let fresh = ObjectMeta(object, kind: kind)
      var extracted = try stored.decodedMeta()
      (extracted.fields, extracted.node, extracted.references) = (fresh.fields, fresh.node, fresh.references)
      meta = Self.kept(extracted.encoded)
    }
    seal = kind.isSealed(object)
    var writer = CBORWriter(reservingCapacity: stored.body.count + 16)
    let fields = object.value.object ?? Value.Fields()
    writer.map(fields.count)
    for (key, member) in fields {
      writer.text(key)
      if key == "metadata" { writer.raw(stored.body, place) } else { writer.value(member) }
    }
    body = Self.kept(writer.bytes)
  }

  /// A stored object with another status. Its body stays as it is, unseen, and of its metadata only those selectable
  /// fields change that are read from what changed of the status, as their names say.
  init(_ stored: StoredObject, meta old: ObjectMeta, _ merge: StatusMerge, kind: Kind) {
    body = stored.body
    seal = stored.sealed
    status = Self.kept(merge.status)
    var fields = old.fields
    let object = Object(["status": merge.changed])
    for (name, read) in kind.selectableFields
    where merge.names.contains(where: { name == "status.\($0)" || name.hasPrefix("status.\($0).") }) {
      let value = read(object)
      fields[name] = value.isEmpty ? nil : value
    }
    if fields == old.fields {
      meta = stored.meta
    } else {
      var new = old
      new.fields = fields
      meta = Self.kept(new.encoded)
    }
  }

  /// Without the room that an encoder's buffer has grown to: the log's tail keeps thousands of these.
  private static func kept(_ bytes: Bytes) -> Bytes {
    bytes.capacity - bytes.count > bytes.count / 8 ? Bytes(bytes[...]) : bytes
  }

  var size: Int { body.count + (status?.count ?? 0) }
}

extension StoredObject {
  /// The object as a client sees it, with its resourceVersion.
  func decoded() throws(APIError) -> Object {
    do throws(SkerryError) {
      var value = try CBOR.decode(body)
      value["metadata"]["resourceVersion"] = .string(String(revision))
      if let status { value["status"] = try CBOR.decode(status) }
      return Object(value)
    } catch {
      throw APIError(.internalError, "a stored object does not decode: \(error)")
    }
  }

  func decodedMeta() throws(APIError) -> ObjectMeta {
    do throws(SkerryError) {
      return try ObjectMeta(decoding: meta)
    } catch {
      throw APIError(.internalError, "a stored object's metadata does not decode: \(error)")
    }
  }

  func answer(_ reference: ObjectReference) -> APIObject {
    APIObject(reference: reference, revision: revision, body: body, status: status)
  }
}
