import Base
import Glibc

extension Settings {
  /// A configuration file is read up to this size.
  package static let maxFileBytes = 1 << 20

  /// The settings of a process: `--key value` or `--key=value` on its command line, over the file that `--config`
  /// names.
  package init(arguments: [String]) throws(SkerryError) {
    var given: [(String, String)] = []
    var file: String?
    var index = 0
    while index < arguments.count {
      let word = arguments[index]
      guard word.hasPrefix("--"), word.count > 2 else {
        throw SkerryError(.invalidArgument, "unexpected argument \(word): say --key value, or --help")
      }
      let parts = word.dropFirst(2).split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      let value: String
      if parts.count == 2 {
        value = String(parts[1])
      } else {
        index += 1
        guard index < arguments.count else { throw SkerryError(.invalidArgument, "\(word) needs a value") }
        value = arguments[index]
      }
      if parts[0] == "config" { file = value } else { given.append((String(parts[0]), value)) }
      index += 1
    }
    try self.init(text: try file.map(Self.content) ?? "", source: file ?? "the command line")
    for (key, value) in given { override(key, value) }
  }

  private static func content(_ path: String) throws(SkerryError) -> String {
    guard let file = fopen(path, "r") else {
      throw SkerryError(.system, "cannot read \(path): \(String(cString: strerror(errno)))")
    }
    defer { fclose(file) }
    var bytes = Bytes(repeating: 0, count: maxFileBytes)
    let count = fread(&bytes, 1, bytes.count, file)
    guard count < maxFileBytes, let text = String(validating: bytes[0..<count], as: UTF8.self) else {
      throw SkerryError(.invalidArgument, "\(path) is no text of less than \(maxFileBytes) bytes")
    }
    return text
  }
}
