import Foundation

/// The working tree that these tests look at.
enum Repository {
  /// The package's directory: three levels above this file.
  static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent()

  struct File: Sendable, CustomTestName {
    /// Relative to the package's directory.
    let path: String
    let text: String
    var lines: [Substring] { text.split(separator: "\n", omittingEmptySubsequences: false) }
    var room: String { path.split(separator: "/").dropFirst().first.map(String.init) ?? "" }
    var testDescription: String { path }
  }

  /// Files below one directory whose names end so, hidden ones and build products left out.
  static func files(_ directory: String, _ suffixes: [String]) throws -> [File] {
    let base = root.appendingPathComponent(directory)
    guard let walk = FileManager.default.enumerator(at: base, includingPropertiesForKeys: nil) else { return [] }
    var files: [File] = []
    for case let url as URL in walk {
      let name = url.lastPathComponent
      if name.hasPrefix(".") || name == "__pycache__" || name == "node_modules" {
        walk.skipDescendants()
        continue
      }
      guard suffixes.contains(where: name.hasSuffix) else { continue }
      let path = String(url.standardizedFileURL.path.dropFirst(root.standardizedFileURL.path.count + 1))
      files.append(File(path: path, text: try String(contentsOf: url, encoding: .utf8)))
    }
    return files.sorted { $0.path < $1.path }
  }

  static func sources() throws -> [File] { try files("Sources", [".swift"]) }

  private static let scanned = Result { try sources().map { ($0, CodeLines($0.text)) } }
  /// Every source file with its code alone; read once.
  static func code() throws -> [(file: File, code: CodeLines)] { try scanned.get().map { (file: $0, code: $1) } }
}

/// So that a parameterised test names its argument by the file's path.
protocol CustomTestName: CustomStringConvertible { var testDescription: String { get } }
extension CustomTestName { var description: String { testDescription } }

/// Swift source with comments and string literals blanked out, line by line, so that a word in prose is no call.
struct CodeLines: Sendable {
  let text: String
  let lines: [String]

  init(_ source: String) {
    var scanner = Scanner(bytes: Array(source.utf8))
    scanner.run()
    text = String(decoding: scanner.out, as: UTF8.self)
    lines = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
  }

  private struct Scanner {
    static let quote = UInt8(ascii: "\"")
    static let slash = UInt8(ascii: "/")
    static let star = UInt8(ascii: "*")
    static let newline = UInt8(ascii: "\n")
    let bytes: [UInt8]
    var out: [UInt8] = []
    var index = 0
    init(bytes: [UInt8]) {
      self.bytes = bytes
      out.reserveCapacity(bytes.count)
    }

    func byte(_ ahead: Int) -> UInt8 { index + ahead < bytes.count ? bytes[index + ahead] : 0 }

    mutating func run() {
      while index < bytes.count {
        let (first, second) = (bytes[index], byte(1))
        if first == Self.slash, second == Self.slash {
          while index < bytes.count, bytes[index] != Self.newline { index += 1 }
        } else if first == Self.slash, second == Self.star {
          skip { first, second, _ in first == Self.star && second == Self.slash }
          index += 2
        } else if first == Self.quote, second == Self.quote, byte(2) == Self.quote {
          index += 3
          skip { $0 == Self.quote && $1 == Self.quote && $2 == Self.quote }
          index += 3
        } else if first == Self.quote {
          string()
        } else {
          out.append(first)
          index += 1
        }
      }
    }

    /// Up to the end mark, keeping line breaks so that numbers stay right.
    mutating func skip(to end: (UInt8, UInt8, UInt8) -> Bool) {
      while index < bytes.count, !end(bytes[index], byte(1), byte(2)) {
        if bytes[index] == Self.newline { out.append(Self.newline) }
        index += 1
      }
    }

    mutating func string() {
      index += 1
      while index < bytes.count, bytes[index] != Self.quote, bytes[index] != Self.newline {
        index += bytes[index] == UInt8(ascii: "\\") ? 2 : 1
      }
      if index < bytes.count, bytes[index] == Self.quote { index += 1 }
    }
  }
}
