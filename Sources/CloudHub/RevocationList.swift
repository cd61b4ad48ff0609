import Base
import EventLoop
import Identity

/// Who was revoked, as lines of a file beside the CA: the log has it too, but a log can come out of a backup.
///
/// ```
/// node NAME KEY        the SHA-256 of the key that the node's certificate was for, in hexadecimal
/// client NAME SECONDS  certificates of that client that begin then or before
/// ```
package struct RevocationList: Sendable {
  package enum Entry: Sendable, Hashable {
    case node(String, key: Bytes)
    case client(String, before: WallTime)

    var line: String {
      switch self {
      case .node(let name, let key): "node \(name) \(key.hex)"
      case .client(let name, let before): "client \(name) \(before.seconds)"
      }
    }

    init?(_ line: Substring) {
      let words = line.split(separator: " ").map(String.init)
      guard words.count == 3 else { return nil }
      if words[0] == "node", let key = Bytes(hex: words[2]) {
        self = .node(words[1], key: key)
      } else if words[0] == "client", let seconds = Int64(words[2]) {
        self = .client(words[1], before: WallTime(seconds: seconds))
      } else {
        return nil
      }
    }
  }

  /// Bytes of the file: about 100,000 entries.
  private static let maxBytes = 16 << 20

  package let path: String
  package init(path: String) { self.path = path }

  /// Throws for a line that says nothing known: a revocation must not be passed over.
  package func load() throws(SkerryError) -> [Entry] {
    guard Files.exists(path) else { return [] }
    let text = String(decoding: try Files.read(path, limit: Self.maxBytes), as: UTF8.self)
    var entries: [Entry] = []
    for line in text.split(separator: "\n") where !line.hasPrefix("#") {
      guard let entry = Entry(line) else {
        throw SkerryError(.corrupt, "\(path): \"\(line)\" is no revocation; correct the line or take it out")
      }
      entries.append(entry)
    }
    return entries
  }

  package func add(_ entry: Entry) throws(SkerryError) {
    let entries = try load()
    if !entries.contains(entry) { try write(entries + [entry]) }
  }

  package func remove(_ entry: Entry) throws(SkerryError) {
    let entries = try load()
    if entries.contains(entry) { try write(entries.filter { $0 != entry }) }
  }

  private func write(_ entries: [Entry]) throws(SkerryError) {
    let text = "# written by cloudcore: who was revoked\n" + entries.map { $0.line + "\n" }.joined()
    try PrivateFile.write(Bytes(text.utf8), path: path)
  }
}
