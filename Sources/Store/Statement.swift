import Base
import CSQLite

/// A prepared statement, kept for the life of its connection and used again and again.
///
/// Parameters are numbered from 1, columns from 0, as in SQLite. Bind, `step` until it answers false, and read
/// columns between. After the last row, after an error and after `run` it is reset by itself; who stops before the
/// last row calls `reset`.
package final class Statement {
  private let raw: OpaquePointer
  /// Keeps the connection open as long as the statement lives.
  private let database: Database

  init(_ raw: OpaquePointer, database: Database) {
    self.raw = raw
    self.database = database
  }

  deinit { sqlite3_finalize(raw) }

  // MARK: Parameters

  package func bind(_ index: Int32, _ value: Int64) { sqlite3_bind_int64(raw, index, value) }

  /// Positions and counters: kept as SQLite's signed 64 bits.
  package func bind(_ index: Int32, _ value: UInt64) { sqlite3_bind_int64(raw, index, Int64(bitPattern: value)) }

  package func bind(_ index: Int32, null: Void) { sqlite3_bind_null(raw, index) }

  package func bind(_ index: Int32, _ text: String) {
    var text = text
    text.withUTF8 { bindText(index, UnsafeRawBufferPointer($0)) }
  }

  /// Text given as bytes: a bound of a key range need not be whole UTF-8.
  package func bind(_ index: Int32, text bytes: Bytes) { bytes.withUnsafeBytes { bindText(index, $0) } }

  private func bindText(_ index: Int32, _ bytes: UnsafeRawBufferPointer) {
    // An empty buffer may have no address, which SQLite would take for NULL.
    guard let base = bytes.baseAddress else {
      sqlite3_bind_text(raw, index, "", 0, skerry_sqlite_transient())
      return
    }
    sqlite3_bind_text64(
      raw, index, base.assumingMemoryBound(to: CChar.self), UInt64(bytes.count), skerry_sqlite_transient(),
      UInt8(SQLITE_UTF8))
  }

  /// Binds a copy of the bytes; NULL for nil.
  package func bind(_ index: Int32, _ blob: Bytes?) {
    guard let blob else {
      sqlite3_bind_null(raw, index)
      return
    }
    blob.withUnsafeBytes { bindBlob(index, $0, skerry_sqlite_transient()) }
  }

  private func bindBlob(_ index: Int32, _ bytes: UnsafeRawBufferPointer, _ lifetime: sqlite3_destructor_type?) {
    guard let base = bytes.baseAddress, bytes.count > 0 else {
      sqlite3_bind_zeroblob(raw, index, 0)
      return
    }
    sqlite3_bind_blob64(raw, index, base, UInt64(bytes.count), lifetime)
  }

  /// Binds bytes without a copy and runs the statement to its end inside, while they are sure to stay in place.
  package func run(
    blob: Bytes, at index: Int32, blob second: Bytes?, at secondIndex: Int32
  ) throws(SkerryError) {
    let outcome: Result<Void, SkerryError> = blob.withUnsafeBytes { first in
      bindBlob(index, first, nil)
      guard let second else {
        sqlite3_bind_null(raw, secondIndex)
        return Result { () throws(SkerryError) in try run() }
      }
      return second.withUnsafeBytes { second in
        bindBlob(secondIndex, second, nil)
        return Result { () throws(SkerryError) in try run() }
      }
    }
    try outcome.get()
  }

  // MARK: Running

  /// Goes to the next row; false at the end.
  package func step() throws(SkerryError) -> Bool {
    let code = sqlite3_step(raw)
    switch code {
    case SQLITE_ROW: return true
    case SQLITE_DONE:
      reset()
      return false
    default:
      let error = database.failure(code, doing: String(cString: sqlite3_sql(raw)))
      reset()
      throw error
    }
  }

  /// Runs to the end; rows are passed over.
  package func run() throws(SkerryError) {
    while try step() {}
  }

  /// Ends the run and forgets the parameters.
  package func reset() {
    sqlite3_reset(raw)
    sqlite3_clear_bindings(raw)
  }

  // MARK: Columns

  package func isNull(_ column: Int32) -> Bool { sqlite3_column_type(raw, column) == SQLITE_NULL }

  package func int(_ column: Int32) -> Int64 { sqlite3_column_int64(raw, column) }

  package func uint(_ column: Int32) -> UInt64 { UInt64(bitPattern: sqlite3_column_int64(raw, column)) }

  /// The column's text; bytes that are not UTF-8 are replaced.
  package func string(_ column: Int32) -> String {
    guard let text = sqlite3_column_text(raw, column) else { return "" }
    let count = Int(sqlite3_column_bytes(raw, column))
    return String(decoding: UnsafeBufferPointer(start: text, count: count), as: UTF8.self)
  }

  /// A copy of the column's bytes; empty for NULL.
  package func bytes(_ column: Int32) -> Bytes {
    withBytes(column) { Bytes($0) }
  }

  /// A copy of the column's bytes; nil for NULL.
  package func optionalBytes(_ column: Int32) -> Bytes? { isNull(column) ? nil : bytes(column) }

  /// The column's bytes where SQLite holds them; valid inside `body` only.
  package func withBytes<R>(_ column: Int32, _ body: (UnsafeRawBufferPointer) -> R) -> R {
    guard let base = sqlite3_column_blob(raw, column) else { return body(UnsafeRawBufferPointer(start: nil, count: 0)) }
    return body(UnsafeRawBufferPointer(start: base, count: Int(sqlite3_column_bytes(raw, column))))
  }
}
