import Base
import Store
import Wire

/// How a command ended.
package enum CommandState: String, Sendable {
  /// It was written down and given to the driver; not ended yet.
  case running = "Running"
  case done = "Done"
  /// The deadline passed before it was begun: it was not and will not be run.
  case expired = "Expired"
  /// It was begun and its end is not known: devicecore or the driver died, or the deadline passed meanwhile.
  case unknown = "Unknown"
  /// It was refused or failed, and the message says why.
  case failed = "Failed"
}

/// One row of the audit: who did what to a device, when, and what came of it.
package struct AuditEntry: Sendable, Hashable {
  /// The command's id; empty for a desired value.
  package var command: String
  package var device: String
  package var property: String
  /// `command` or `desired`.
  package var origin: String
  /// The user that asked, as edgecore authenticated it.
  package var caller: String
  /// `read` or `write`.
  package var verb: String
  /// What was to be written.
  package var value: Value
  package var state: CommandState
  package var before: Value = .null
  package var after: Value = .null
  package var message = ""
  /// Milliseconds since 1970.
  package var started: Int64
  package var finished: Int64 = 0

  package init(
    command: String, device: String, property: String, origin: String, caller: String, verb: String, value: Value,
    state: CommandState, message: String = "", started: Int64
  ) {
    self.command = command
    self.device = device
    self.property = property
    self.origin = origin
    self.caller = caller
    self.verb = verb
    self.value = value
    self.state = state
    self.message = message
    self.started = started
  }
}

extension ReadingLog {
  /// What `begin` found.
  package enum Begun: Sendable, Hashable {
    /// New: the row with this id stands; run it and then `finish`.
    case begun(Int64)
    /// The same id was asked before: this is what is known of it, and nothing is to be run.
    case repeated(AuditEntry)
  }

  /// Writes a command down before it is run, so that after a crash its end is known to be unknown. Durable on return.
  package func begin(_ entry: AuditEntry) throws(SkerryError) -> Begun {
    if !entry.command.isEmpty, let known = try audit(command: entry.command) { return .repeated(known) }
    let insert = try database.prepare(
      """
      INSERT INTO audit (command, device, property, origin, caller, verb, value, state, message, started, finished)
      VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
      """)
    if entry.command.isEmpty { insert.bind(1, null: ()) } else { insert.bind(1, entry.command) }
    insert.bind(2, entry.device)
    insert.bind(3, entry.property)
    insert.bind(4, entry.origin)
    insert.bind(5, entry.caller)
    insert.bind(6, entry.verb)
    insert.bind(7, Self.bytes(entry.value))
    insert.bind(8, entry.state.rawValue)
    insert.bind(9, entry.message)
    insert.bind(10, entry.started)
    insert.bind(11, entry.finished)
    try insert.run()
    return .begun(try database.int("SELECT last_insert_rowid()"))
  }

  /// Notes how a command ended.
  package func finish(
    _ id: Int64, state: CommandState, before: Value, after: Value, message: String, now: Int64
  ) throws(SkerryError) {
    let update = try database.prepare(
      "UPDATE audit SET state = ?2, before = ?3, after = ?4, message = ?5, finished = ?6 WHERE id = ?1")
    update.bind(1, id)
    update.bind(2, state.rawValue)
    update.bind(3, Self.bytes(before))
    update.bind(4, Self.bytes(after))
    update.bind(5, message)
    update.bind(6, now)
    try update.run()
  }

  /// What is known of a command; nil if it was never seen (or its row has gone by the bound).
  package func audit(command: String) throws(SkerryError) -> AuditEntry? {
    let select = try database.prepare(Self.columns + " WHERE command = ?1")
    select.bind(1, command)
    defer { select.reset() }
    return try select.step() ? try Self.entry(select) : nil
  }

  /// The newest rows, newest first; `device` empty: of all devices.
  package func audit(device: String = "", limit: Int) throws(SkerryError) -> [AuditEntry] {
    let select = try database.prepare(Self.columns + " WHERE ?1 = '' OR device = ?1 ORDER BY id DESC LIMIT ?2")
    select.bind(1, device)
    select.bind(2, Int64(limit))
    defer { select.reset() }
    var entries: [AuditEntry] = []
    while try select.step() { entries.append(try Self.entry(select)) }
    return entries
  }

  private static let columns = """
    SELECT coalesce(command, ''), device, property, origin, caller, verb, value, state, before, after, message, started,
    finished FROM audit
    """

  private static func entry(_ row: Statement) throws(SkerryError) -> AuditEntry {
    var entry = AuditEntry(
      command: row.string(0), device: row.string(1), property: row.string(2), origin: row.string(3),
      caller: row.string(4), verb: row.string(5), value: try value(row.optionalBytes(6)),
      state: CommandState(rawValue: row.string(7)) ?? .unknown, message: row.string(10), started: row.int(11))
    entry.before = try value(row.optionalBytes(8))
    entry.after = try value(row.optionalBytes(9))
    entry.finished = row.int(12)
    return entry
  }

  private static func bytes(_ value: Value) -> Bytes? { value.isNull ? nil : CBOR.encode(value) }

  private static func value(_ bytes: Bytes?) throws(SkerryError) -> Value {
    guard let bytes else { return .null }
    return try CBOR.decode(bytes)
  }
}
