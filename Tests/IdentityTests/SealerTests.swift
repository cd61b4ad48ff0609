import Base
import Glibc
import Identity
import Testing

@Suite struct SealerTests {
  let ring = KeyRing(random: SeededRandom(seed: 1))

  @Test(arguments: [0, 1, 15, 16, 17, 4_096, 1_000_000])
  func whatIsSealedOpens(length: Int) throws {
    let sealer = Sealer(ring: ring, random: SeededRandom(seed: 2))
    let plain = SeededRandom(seed: 3).bytes(length)
    let sealed = try sealer.seal(plain, context: [9])
    #expect(sealed.count == length + Sealer.overhead)
    #expect(Sealer.keyID(of: sealed) == 1)
    #expect(try sealer.open(sealed, context: [9]) == plain)
    #expect(try sealer.seal(plain, context: [9]) != sealed, "a nonce is drawn for each value")
  }

  @Test func nothingElseOpens() throws {
    let sealer = Sealer(ring: ring, random: SeededRandom(seed: 2))
    let sealed = try sealer.seal(Bytes("secret".utf8), context: Bytes("secrets/default/a".utf8))
    #expect(throws: SkerryError.self) { try sealer.open(sealed, context: Bytes("secrets/default/b".utf8)) }
    for index in sealed.indices {
      var bad = sealed
      bad[index] ^= 0x80
      #expect(throws: SkerryError.self, "byte \(index)") {
        try sealer.open(bad, context: Bytes("secrets/default/a".utf8))
      }
    }
    for length in 0..<sealed.count {
      #expect(throws: SkerryError.self) { try sealer.open(Bytes(sealed[0..<length]), context: []) }
    }
  }

  @Test func theNewestKeySealsAndAnyOpens() throws {
    let old = try Sealer(ring: ring, random: SeededRandom(seed: 2)).seal([1], context: [])
    var rotated = ring
    try rotated.rotate(random: SeededRandom(seed: 5))
    let sealer = Sealer(ring: rotated, random: SeededRandom(seed: 4))
    #expect(try sealer.open(old, context: []) == [1])
    let new = try sealer.seal([2], context: [])
    #expect(Sealer.keyID(of: new) == 2)
    #expect { try Sealer(ring: ring, random: SeededRandom(seed: 2)).open(new, context: []) } throws: {
      ($0 as? SkerryError)?.code == .notFound
    }
    #expect(try KeyRing(text: rotated.text).keys.map(\.id) == [1, 2])
  }

  @Test(arguments: ["", "# only a comment\n", "1 00", "0 \(String(repeating: "0", count: 64))", "x y\n", "1\n"])
  func badKeyFilesAreRefused(text: String) {
    #expect(throws: SkerryError.self) { try KeyRing(text: text) }
  }

  @Test func repeatedIDsAreRefused() {
    let line = "1 \(String(repeating: "0", count: 64))\n"
    #expect(throws: SkerryError.self) { try KeyRing(text: line + line) }
  }

  @Test func aKeyFileIsForItsOwnerOnly() throws {
    let directory = try makeTemporaryDirectory()
    defer { removeTemporaryDirectory(directory) }
    let path = directory + "/keys"
    let made = try KeyRing.loadOrCreate(path: path, random: SeededRandom(seed: 1))
    var info = stat()
    #expect(stat(path, &info) == 0 && info.st_mode & 0o777 == 0o600)
    #expect(try KeyRing.loadOrCreate(path: path, random: SeededRandom(seed: 2)).text == made.text)
    chmod(path, 0o640)
    #expect { try KeyRing.load(path: path) } throws: { ($0 as? SkerryError)?.code == .forbidden }
    #expect { try KeyRing.load(path: path + "x") } throws: { ($0 as? SkerryError)?.code == .notFound }
    #expect { try PrivateFile.write([1], path: path, replacing: false) } throws: {
      ($0 as? SkerryError)?.code == .alreadyExists
    }
    try PrivateFile.write([1], path: path)
    #expect(try PrivateFile.read(path: path, limit: 10) == [1])
    #expect { try PrivateFile.read(path: path, limit: 0) } throws: { ($0 as? SkerryError)?.code == .limitExceeded }
  }
}

/// A new directory for one test.
func makeTemporaryDirectory() throws -> String {
  let base = getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
  var template = Array("\(base)/skerry-identity-XXXXXX".utf8CString)
  guard mkdtemp(&template) != nil else { throw SkerryError(.system, "mkdtemp: \(String(cString: strerror(errno)))") }
  return String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
}

/// Removes a directory of plain files.
func removeTemporaryDirectory(_ path: String) {
  guard let handle = opendir(path) else { return }
  while let entry = readdir(handle) {
    let name = withUnsafePointer(to: &entry.pointee.d_name) {
      $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
    }
    if name != "." && name != ".." { unlink("\(path)/\(name)") }
  }
  closedir(handle)
  rmdir(path)
}
