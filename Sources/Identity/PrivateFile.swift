import Base
import Glibc

/// Files that hold secrets: mode 0600, written whole or not at all, durable before success is reported.
package enum PrivateFile {
  /// Reads a file of at most `limit` bytes; throws `forbidden` if it is secret and its group or others have any access.
  package static func read(path: String, limit: Int, secret: Bool = true) throws(SkerryError) -> Bytes {
    let file = open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { throw failure("cannot read", path) }
    defer { close(file) }
    var info = stat()
    guard fstat(file, &info) == 0 else { throw failure("cannot read", path) }
    guard !secret || info.st_mode & 0o077 == 0 else {
      throw SkerryError(
        .forbidden, "\(path) holds a secret, but others than its owner may read it; run: chmod 600 \(path)")
    }
    guard info.st_size <= limit else {
      throw SkerryError(.limitExceeded, "\(path) has \(info.st_size) bytes; at most \(limit) are read")
    }
    var out: Bytes = []
    var chunk = Bytes(repeating: 0, count: 4_096)
    while out.count <= limit {
      let count = Glibc.read(file, &chunk, chunk.count)
      if count < 0 && errno == EINTR { continue }
      guard count >= 0 else { throw failure("cannot read", path) }
      if count == 0 { return out }
      out += chunk[0..<count]
    }
    throw SkerryError(.limitExceeded, "\(path) grew past \(limit) bytes while it was read")
  }

  /// Writes the file beside its place, syncs it and moves it there; with `replacing: false` an existing file is kept
  /// and `alreadyExists` thrown.
  package static func write(_ bytes: Bytes, path: String, replacing: Bool = true, mode: mode_t = 0o600)
    throws(SkerryError)
  {
    let draft = "\(path).\(getpid()).new"
    unlink(draft)
    let file = open(draft, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode)
    guard file >= 0 else { throw failure("cannot write", path) }
    defer { unlink(draft) }
    do throws(SkerryError) {
      try writeAll(bytes, to: file, path: path)
      // The umask may have taken bits away; the mode is what the caller said.
      guard fchmod(file, mode) == 0, fsync(file) == 0 else { throw failure("cannot write", path) }
    } catch {
      close(file)
      throw error
    }
    guard close(file) == 0 else { throw failure("cannot write", path) }
    if replacing {
      guard rename(draft, path) == 0 else { throw failure("cannot write", path) }
    } else {
      guard link(draft, path) == 0 else {
        if errno == EEXIST { throw SkerryError(.alreadyExists, "\(path) is there already; it is not overwritten") }
        throw failure("cannot write", path)
      }
    }
    try syncDirectory(of: path)
  }

  private static func writeAll(_ bytes: Bytes, to file: Int32, path: String) throws(SkerryError) {
    var done = 0
    while done < bytes.count {
      let count = bytes[done...].withUnsafeBytes { Glibc.write(file, $0.baseAddress, $0.count) }
      if count < 0 && errno == EINTR { continue }
      guard count > 0 else { throw failure("cannot write", path) }
      done += count
    }
  }

  private static func syncDirectory(of path: String) throws(SkerryError) {
    let slash = path.lastIndex(of: "/")
    let directory = slash.map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
    let handle = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard handle >= 0 else { throw failure("cannot sync", directory) }
    defer { close(handle) }
    guard fsync(handle) == 0 else { throw failure("cannot sync", directory) }
  }

  private static func failure(_ what: String, _ path: String) -> SkerryError {
    let number = errno
    let text = String(cString: strerror(number))
    return SkerryError(number == ENOENT ? .notFound : .system, "\(what) \(path): \(text)")
  }
}
