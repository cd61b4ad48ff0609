import Base
import Glibc
import Testing

@testable import ObjectModel

/// Golden objects of other hands, from the folder that SKERRY_REFERENCE names; without it there are no cases.
@Suite struct ReferenceTests {
  private static func read(_ path: String) -> Bytes? {
    guard let file = fopen(path, "rb") else { return nil }
    defer { fclose(file) }
    var (bytes, buffer) = (Bytes(), Bytes(repeating: 0, count: 1 << 16))
    while case let count = fread(&buffer, 1, buffer.count, file), count > 0 { bytes += buffer[..<count] }
    return bytes
  }

  private static func goldens() -> [(name: String, text: Bytes)] {
    guard let root = getenv("SKERRY_REFERENCE") else { return [] }
    let folder = String(cString: root) + "/fixtures/api-golden-1.32"
    guard let directory = opendir(folder) else { return [] }
    defer { closedir(directory) }
    var found: [(String, Bytes)] = []
    while let entry = readdir(directory) {
      let name = withUnsafeBytes(of: entry.pointee.d_name) { raw in
        String(decoding: raw.prefix { $0 != 0 }, as: UTF8.self)
      }
      if name.hasSuffix(".json"), let text = read("\(folder)/\(name)") { found.append((name, text)) }
    }
    return found
  }

  @Test func goldenObjectsPassThrough() throws {
    let goldens = Self.goldens()
    print("reference: \(goldens.count) cases")
    for (name, text) in goldens {
      let value = try JSON.parse(text)
      #expect(try JSON.parse(JSON.bytes(value, indent: 2)) == value, "\(name)")
      let object = Object(value)
      guard let kind = KindRegistry.standard.kind(apiVersion: object.apiVersion, kind: object.kind) else { continue }
      #expect(kind.mismatch(value) == nil, "\(name)")
      var defaulted = object
      kind.defaults(&defaulted)
      for (key, member) in object.value.object ?? [:] where key != "spec" && key != "data" && key != "stringData" {
        #expect(defaulted.value[key] == member || key == "metadata", "\(name) \(key)")
      }
      #expect(kind.row(object, now: WallTime(seconds: 0)).count == kind.columns.count)
    }
  }
}
