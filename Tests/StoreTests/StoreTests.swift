import Base
import Glibc
import Store
import Testing

private final class Directory {
  let path: String
  init() throws {
    var template = Array("/tmp/skerry-store-XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else { throw SkerryError(.system, "mkdtemp failed") }
    path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
  deinit {
    for name in ["", "-wal", "-shm", ".lock", ".copy", ".copy.partial", ".copy-journal", ".copy.partial-journal"] {
      unlink(file + name)
    }
    rmdir(path)
  }
  var file: String { path + "/store.db" }
}

private let first = Schema(
  name: "test store", applicationID: 0x5445_5354,
  migrations: ["CREATE TABLE items (name TEXT PRIMARY KEY, value BLOB)"])
private let second = Schema(
  name: "test store", applicationID: 0x5445_5354,
  migrations: first.migrations + ["ALTER TABLE items ADD COLUMN size INTEGER NOT NULL DEFAULT 7"])

private func failure(_ body: () throws -> Void) -> SkerryError? {
  do {
    try body()
    return nil
  } catch {
    return error as? SkerryError
  }
}

@Suite struct StoreTests {
  @Test func valuesComeBackAsTheyWent() throws {
    let directory = try Directory()
    let store = try StoreFile(path: directory.file, schema: first)
    let insert = try store.database.prepare("INSERT INTO items VALUES (?1, ?2)")
    let values: [(String, Bytes?)] = [
      ("a", [1, 2, 3]), ("empty", []), ("none", nil), ("", [0]), ("\u{e9}\u{0}x", [9]),
    ]
    try store.database.write { () throws(SkerryError) in
      for (name, value) in values {
        insert.bind(1, name)
        insert.bind(2, value)
        try insert.run()
      }
    }
    let select = try store.database.prepare("SELECT value FROM items WHERE name = ?1")
    for (name, value) in values {
      select.bind(1, name)
      #expect(try select.step())
      #expect(select.optionalBytes(0) == value)
      select.reset()
    }
    try store.close()
  }

  @Test func aFailedTransactionLeavesNothing() throws {
    let directory = try Directory()
    let store = try StoreFile(path: directory.file, schema: first)
    let error = failure {
      try store.database.write { () throws(SkerryError) in
        try store.database.execute("INSERT INTO items VALUES ('a', x'01')")
        throw SkerryError(.cancelled, "stop")
      }
    }
    #expect(error?.code == .cancelled)
    #expect(try store.database.int("SELECT count(*) FROM items") == 0)
    #expect(!store.database.inTransaction)
  }

  @Test func settingsHold() throws {
    let directory = try Directory()
    let store = try StoreFile(path: directory.file, schema: first)
    for database in [store.database, try store.reader()] {
      #expect(try database.intPragma("secure_delete") == 1)
      #expect(try database.intPragma("foreign_keys") == 1)
      #expect(try database.intPragma("cell_size_check") == 1)
      #expect(try database.textPragma("journal_mode") == "wal")
    }
    #expect(try store.database.intPragma("synchronous") == 2)
    #expect(try store.database.intPragma("wal_autocheckpoint") == 0)
    #expect(failure { try store.reader().execute("DELETE FROM items") }?.code == .system)
    var status = stat()
    #expect(stat(directory.file, &status) == 0 && status.st_mode & 0o777 == 0o600)
    #expect(stat(directory.file + "-wal", &status) == 0 && status.st_mode & 0o777 == 0o600)
  }

  @Test func oneDaemonOnly() throws {
    let directory = try Directory()
    var store: StoreFile? = try StoreFile(path: directory.file, schema: first)
    let error = failure { _ = try StoreFile(path: directory.file, schema: first) }
    #expect(error?.code == .unavailable)
    #expect(error?.message.contains("\(directory.file) is in use by another daemon (process \(getpid()))") == true)
    #expect(store?.isNew == true)
    store = nil
    #expect(try StoreFile(path: directory.file, schema: first).isNew == false)
  }

  @Test func schemasGoForwardOnly() throws {
    let directory = try Directory()
    var store: StoreFile? = try StoreFile(path: directory.file, schema: first)
    try store?.database.execute("INSERT INTO items VALUES ('a', x'01')")
    try store?.close()
    store = nil
    store = try StoreFile(path: directory.file, schema: second)
    #expect(try store?.database.int("SELECT size FROM items") == 7)
    #expect(store?.wasUnclean == false)
    try store?.close()
    store = nil
    let newer = failure { _ = try StoreFile(path: directory.file, schema: first) }
    #expect(newer?.code == .unsupportedVersion)
    #expect(newer?.message.contains("written by a newer version (schema 2, this program knows 1)") == true)
    let foreign = Schema(name: "other", applicationID: 1, migrations: [])
    #expect(failure { _ = try StoreFile(path: directory.file, schema: foreign) }?.code == .invalidArgument)
  }

  @Test func anUncleanStopIsNoticed() throws {
    let directory = try Directory()
    var store: StoreFile? = try StoreFile(path: directory.file, schema: first)
    store = nil
    store = try StoreFile(path: directory.file, schema: first)
    #expect(store?.wasUnclean == true)
    try store?.close()
    store = nil
    store = try StoreFile(path: directory.file, schema: first)
    #expect(store?.wasUnclean == false)
  }

  @Test func otherFilesAreRefused() throws {
    let directory = try Directory()
    let text = open(directory.file, O_WRONLY | O_CREAT, 0o600)
    let content = Bytes(repeating: 0x61, count: 8192)
    #expect(write(text, content, content.count) == content.count)
    close(text)
    let error = failure { _ = try StoreFile(path: directory.file, schema: first) }
    #expect(error?.code == .corrupt)
    #expect(error?.message.contains("\(directory.file) is not a database") == true)
    let missing = failure { _ = try StoreFile(path: directory.path + "/none/x.db", schema: first) }
    #expect(missing?.code == .system)
    #expect(missing?.message.contains("No such file or directory") == true)
  }

  @Test func anEmptiedFileIsNotANewOne() throws {
    let directory = try Directory()
    var store: StoreFile? = try StoreFile(path: directory.file, schema: first)
    try store?.close()
    store = nil
    #expect(truncate(directory.file, 0) == 0)
    let error = failure { _ = try StoreFile(path: directory.file, schema: first) }
    #expect(error?.code == .corrupt)
    #expect(error?.message.contains("is empty, but it held the test store") == true)
    unlink(directory.file + ".lock")
    #expect(try StoreFile(path: directory.file, schema: first).isNew)
  }

  @Test func aBackupIsTheStateAtItsLastStep() throws {
    let directory = try Directory()
    let store = try StoreFile(path: directory.file, schema: first)
    let insert = try store.database.prepare("INSERT INTO items VALUES (?1, zeroblob(3000))")
    for index in 0..<200 {
      insert.bind(1, "\(index)")
      try insert.run()
    }
    let backup = try Backup(of: store.database, to: directory.file + ".copy")
    #expect(try backup.step(pages: 10) == false)
    insert.bind(1, "late")
    try insert.run()
    #expect(access(directory.file + ".copy", F_OK) != 0)
    while try !backup.step(pages: 50) {}
    let copy = try Database.reader(path: directory.file + ".copy")
    #expect(try copy.int("SELECT count(*) FROM items") == 201)
    try copy.checkStructure(full: true)
    #expect(failure { _ = try Backup(of: store.database, to: directory.file + ".copy") }?.code == .alreadyExists)
  }

  /// Vectors of the reference implementation (xxHash 0.8, seed 0).
  @Test(arguments: [
    ("", 0xEF46_DB37_51D8_E999 as UInt64), ("a", 0xD24E_C4F1_A98C_6E5B), ("abc", 0x44BC_2CF5_AD77_0999),
    ("Nobody inspects the spammish repetition", 0xFBCE_A83C_8A37_8BF1),
  ])
  func checksums(_ text: String, _ hash: UInt64) {
    #expect(Array(text.utf8).withUnsafeBytes { Checksum.xxh64($0) } == hash)
  }
}
