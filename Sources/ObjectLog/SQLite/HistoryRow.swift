import Base
import Store

/// How a stored value is written.
enum Encoding: UInt8 {
  case plain = 1
  /// Body and status under the key ring; everything else stays readable.
  case sealed = 2
}

/// One row of the history table, as it is stored: values perhaps sealed, checked by its checksum.
struct HistoryRow {
  var place: Place
  var key: String
  var type: EntryType
  var revision: UInt64
  /// The place of the version that this one replaced.
  var previous: Place?
  var skip: VersionChain.Skip
  var previousRevision: UInt64
  var encoding: Encoding
  /// With body and status as stored.
  var object: StoredObject
  var previousMeta: Bytes?

  /// Columns of `history h` in the order of `decode`.
  static let columns = """
    h.place, h.key, h.type, h.revision, h.previous, h.previousRevision, h.bodyRevision, h.statusRevision,
    h.createRevision, h.encoding, h.sameMeta, h.checksum, h.previousMeta, h.meta, h.body, h.status, h.skip,
    h.skipLength
    """
  static let insert = """
    INSERT INTO history (place, key, type, revision, previous, previousRevision, bodyRevision, statusRevision,
      createRevision, encoding, sameMeta, checksum, previousMeta, meta, body, status, skip, skipLength)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)
    """

  /// Bytes of the values as stored, plus about what the rest takes.
  var size: UInt64 { UInt64(object.size + (previousMeta?.count ?? 0) + 64 + key.utf8.count) }

  /// The same of a row of the table under this name, in SQL.
  static func size(of row: String) -> String {
    """
    length(\(row).body) + ifnull(length(\(row).status), 0) + length(\(row).meta) + 64 + length(CAST(\(row).key AS BLOB))
      + CASE WHEN \(row).sameMeta THEN length(\(row).meta) ELSE ifnull(length(\(row).previousMeta), 0) END
    """
  }

  // MARK: Columns

  /// Reads the row that a statement stands on; `offset` is where its columns begin. A row that
  /// does not check out is `corrupt`, and the error names key and position.
  static func decode(_ statement: Statement, at offset: Int32, path: String) -> Result<HistoryRow, SkerryError> {
    let place = Place(raw: statement.uint(offset))
    let key = statement.string(offset + 1)
    guard let type = EntryType(rawValue: UInt8(truncatingIfNeeded: statement.int(offset + 2))),
      let encoding = Encoding(rawValue: UInt8(truncatingIfNeeded: statement.int(offset + 9)))
    else { return .failure(damage(key, place, path)) }
    let meta = statement.bytes(offset + 13)
    let previousMeta = statement.int(offset + 10) != 0 ? meta : statement.optionalBytes(offset + 12)
    let object = StoredObject(
      body: statement.bytes(offset + 14), status: statement.optionalBytes(offset + 15), meta: meta,
      bodyRevision: statement.uint(offset + 6), statusRevision: statement.uint(offset + 7),
      createRevision: statement.uint(offset + 8), sealed: encoding == .sealed)
    let row = HistoryRow(
      place: place, key: key, type: type, revision: statement.uint(offset + 3),
      previous: statement.place(offset + 4),
      skip: VersionChain.Skip(to: statement.place(offset + 16), length: statement.uint(offset + 17)),
      previousRevision: statement.uint(offset + 5), encoding: encoding, object: object, previousMeta: previousMeta)
    guard row.checksum == statement.uint(offset + 11) else { return .failure(damage(key, place, path)) }
    return .success(row)
  }

  private static func damage(_ key: String, _ place: Place, _ path: String) -> SkerryError {
    SkerryError(
      .corrupt,
      "\(path): the value of \(key) at position \(place.position) is damaged (its checksum does not match): restore a "
        + "backup, or write the object anew under another name")
  }

  /// The index names a version that the history does not have.
  static func missing(_ key: String, _ path: String) -> SkerryError {
    SkerryError(.corrupt, "\(path): the value of \(key) is missing from the history: restore a backup")
  }

  func store(_ statement: Statement) throws(SkerryError) {
    let sameMeta = previousMeta.map { $0.hasSameBytes(as: object.meta) } ?? false
    statement.bind(1, place.raw)
    statement.bind(2, key)
    statement.bind(3, UInt64(type.rawValue))
    statement.bind(4, revision)
    if let previous { statement.bind(5, previous.raw) }
    statement.bind(6, previousRevision)
    statement.bind(7, object.bodyRevision)
    statement.bind(8, object.statusRevision)
    statement.bind(9, object.createRevision)
    statement.bind(10, UInt64(encoding.rawValue))
    statement.bind(11, sameMeta ? 1 as UInt64 : 0)
    statement.bind(12, checksum)
    statement.bind(13, sameMeta ? nil : previousMeta)
    statement.bind(14, object.meta)
    if let skip = skip.to { statement.bind(17, skip.raw) }
    statement.bind(18, skip.length)
    try statement.run(blob: object.body, at: 15, blob: object.status, at: 16)
  }

  private var checksum: UInt64 {
    var sum = Checksum()
    sum.add(place.raw)
    sum.add(key)
    sum.add(UInt64(type.rawValue) << 8 | UInt64(encoding.rawValue))
    sum.add(revision)
    sum.add(previous?.raw ?? .max)
    sum.add(skip.to?.raw ?? .max)
    sum.add(skip.length)
    sum.add(previousRevision)
    sum.add(object.bodyRevision)
    sum.add(object.statusRevision)
    sum.add(object.createRevision)
    sum.add(previousMeta)
    sum.add(object.meta)
    sum.add(object.body)
    sum.add(object.status)
    return sum.value
  }

  // MARK: Sealing

  /// The row of an entry, its values sealed if the object asks for it.
  static func sealing(
    _ entry: Entry, previous: Place?, skip: VersionChain.Skip, _ sealing: (any Sealing)?
  ) -> Result<HistoryRow, SkerryError> {
    var row = HistoryRow(
      place: Place(entry.position, entry.index), key: entry.key, type: entry.type, revision: entry.revision,
      previous: previous, skip: skip, previousRevision: entry.previousRevision, encoding: .plain, object: entry.object,
      previousMeta: entry.previousMeta)
    guard entry.object.sealed else { return .success(row) }
    guard let sealing else {
      return .failure(
        SkerryError(.invalidArgument, "\(entry.key) must be kept sealed, but this log was opened without a key ring"))
    }
    row.encoding = .sealed
    do throws(SkerryError) {
      row.object.body = try sealing.seal(entry.object.body, context: context(entry.key, "body"))
      if let status = entry.object.status {
        row.object.status = try sealing.seal(status, context: context(entry.key, "status"))
      }
      return .success(row)
    } catch {
      return .failure(SkerryError(error.code, "cannot seal \(entry.key)", cause: error))
    }
  }

  /// The object with its values opened.
  func opened(_ sealing: (any Sealing)?) -> Result<StoredObject, SkerryError> {
    guard encoding == .sealed else { return .success(object) }
    guard let sealing else {
      return .failure(
        SkerryError(.invalidArgument, "\(key) is sealed, but this log was opened without a key ring"))
    }
    do throws(SkerryError) {
      var plain = object
      plain.body = try sealing.open(object.body, context: Self.context(key, "body"))
      if let status = object.status { plain.status = try sealing.open(status, context: Self.context(key, "status")) }
      return .success(plain)
    } catch {
      return .failure(
        SkerryError(
          error.code,
          "cannot open the sealed value of \(key) at position \(place.position): is it the key ring that "
            + "it was written with?", cause: error))
    }
  }

  /// Binds a sealed value to its key, so that nobody can put it in another's place.
  private static func context(_ key: String, _ part: String) -> Bytes { Bytes(key.utf8) + [0] + Bytes(part.utf8) }

  func entry(_ object: StoredObject) -> Entry {
    Entry(
      position: place.position, index: place.index, key: key, revision: revision, previousRevision: previousRevision,
      type: type, object: object, previousMeta: previousMeta)
  }
}

extension Statement {
  /// The place in a column; nil for NULL.
  func place(_ column: Int32) -> Place? { isNull(column) ? nil : Place(raw: uint(column)) }
}
