import Base

extension Settings {
  /// A configuration file is read up to this size.
  package static let maxFileBytes = 1 << 20

  /// The settings of a process: `--key value`, `--key=value` or `--set key=value` on its command line, over the file
  /// that `--config` names.
  package init(arguments: [String]) throws(SkerryError) {
    var given: [(String, String)] = []
    var file: String?
    var rest = arguments[...]
    while let word = rest.popFirst() {
      guard word.hasPrefix("--"), word.count > 2 else {
        throw SkerryError(.invalidArgument, "unexpected argument \(word): say --key value, or --help")
      }
      let parts = word.dropFirst(2).split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      guard let value = parts.count == 2 ? String(parts[1]) : rest.popFirst() else {
        throw SkerryError(.invalidArgument, "\(word) needs a value")
      }
      switch parts[0] {
      case "config": file = value
      case "set":
        let pair = value.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        guard pair.count == 2 else { throw SkerryError(.invalidArgument, "--set takes KEY=VALUE, not \"\(value)\"") }
        given.append((String(pair[0]), String(pair[1])))
      default: given.append((String(parts[0]), value))
      }
    }
    try self.init(text: try file.map(Self.content) ?? "", source: file ?? "the command line")
    for (key, value) in given { override(key, value) }
  }

  private static func content(_ path: String) throws(SkerryError) -> String {
    guard let text = String(validating: try Files.read(path, limit: maxFileBytes), as: UTF8.self) else {
      throw SkerryError(.invalidArgument, "\(path) is no text in UTF-8")
    }
    return text
  }
}
