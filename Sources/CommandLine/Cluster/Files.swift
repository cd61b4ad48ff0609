import Base
import Foundation
import Glibc

/// Plain files, with errors that name them.
enum Files {
  static func read(_ path: String, limit: Int) throws(SkerryError) -> Bytes {
    let file = open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { throw failure("cannot read", path) }
    defer { close(file) }
    return try read(descriptor: file, name: path, limit: limit)
  }

  static func read(descriptor: Int32, name: String, limit: Int) throws(SkerryError) -> Bytes {
    var out: Bytes = []
    var chunk = Bytes(repeating: 0, count: 64 * 1024)
    while true {
      let count = Glibc.read(descriptor, &chunk, chunk.count)
      if count < 0 && errno == EINTR { continue }
      guard count >= 0 else { throw failure("cannot read", name) }
      if count == 0 { return out }
      out += chunk[0..<count]
      guard out.count <= limit else {
        throw SkerryError(.limitExceeded, "\(name) has more than \(limit) bytes")
      }
    }
  }

  static func text(_ path: String, limit: Int = 1 << 20) throws(SkerryError) -> String {
    String(decoding: try read(path, limit: limit), as: UTF8.self)
  }

  static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

  static func isDirectory(_ path: String) throws(SkerryError) -> Bool {
    var info = stat()
    guard stat(path, &info) == 0 else { throw failure("cannot read", path) }
    return info.st_mode & S_IFMT == S_IFDIR
  }

  /// The names in a directory, sorted; hidden ones left out.
  static func list(_ path: String) throws(SkerryError) -> [String] {
    guard let names = try? FileManager.default.contentsOfDirectory(atPath: path) else {
      throw failure("cannot list", path)
    }
    return names.filter { !$0.hasPrefix(".") }.sorted()
  }

  /// Makes a directory and those above it.
  static func makeDirectory(_ path: String, mode: mode_t = 0o755) throws(SkerryError) {
    var sofar = path.hasPrefix("/") ? "" : "."
    for part in path.split(separator: "/") {
      sofar += "/\(part)"
      if mkdir(sofar, mode) != 0 && errno != EEXIST { throw failure("cannot make", sofar) }
    }
  }

  /// `path` as it is if absolute, else below `directory`.
  static func resolve(_ path: String, in directory: String) -> String {
    path.hasPrefix("/") ? path : "\(directory)/\(path)"
  }

  static func directory(of path: String) -> String {
    guard let slash = path.lastIndex(of: "/") else { return "." }
    return slash == path.startIndex ? "/" : String(path[..<slash])
  }

  static func failure(_ what: String, _ path: String) -> SkerryError {
    let number = errno
    return SkerryError(number == ENOENT ? .notFound : .system, "\(what) \(path): \(String(cString: strerror(number)))")
  }
}
