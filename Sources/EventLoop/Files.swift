import Base
import Glibc

/// Blocking file work, for `offload`. Every failure names the path and what the system said.
package enum Files {
  /// Files that are read whole (records, image configurations, manifests); more is refused.
  package static let maxFileBytes = 8 << 20

  package static func failure(_ what: String, _ path: String, _ number: Int32 = errno) -> SkerryError {
    let code: SkerryError.Code = number == ENOENT ? .notFound : .system
    return SkerryError(code, "cannot \(what) \(path): \(String(cString: strerror(number)))")
  }

  package static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

  package static func isDirectory(_ path: String) -> Bool {
    var info = stat()
    return lstat(path, &info) == 0 && info.st_mode & S_IFMT == S_IFDIR
  }

  /// Makes a directory and those above it. `durably`: their names survive a power cut, as a database in it must.
  package static func makeDirectory(
    _ path: String, mode: mode_t = 0o755, durably: Bool = false
  ) throws(SkerryError) {
    if isDirectory(path) { return }
    let parent = path.parentPath
    if parent != path && !exists(parent) { try makeDirectory(parent, mode: mode, durably: durably) }
    guard mkdir(path, mode) == 0 || errno == EEXIST else { throw failure("make directory", path) }
    if durably { try syncDirectory(parent) }
  }

  package static func read(_ path: String, limit: Int = maxFileBytes) throws(SkerryError) -> Bytes {
    let file = open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { throw failure("open", path) }
    defer { close(file) }
    return try readAll(file, path, limit)
  }

  package static func readAll(_ file: Int32, _ path: String, _ limit: Int) throws(SkerryError) -> Bytes {
    var out: Bytes = []
    var chunk = Bytes(repeating: 0, count: 65_536)
    while true {
      let count = Glibc.read(file, &chunk, chunk.count)
      if count < 0 && errno == EINTR { continue }
      guard count >= 0 else { throw failure("read", path) }
      if count == 0 { return out }
      out += chunk[0..<count]
      guard out.count <= limit else {
        throw SkerryError(.limitExceeded, "\(path) is larger than the \(limit) bytes that are read of such a file")
      }
    }
  }

  package static func readText(_ path: String, limit: Int = maxFileBytes) -> String? {
    guard let bytes = try? read(path, limit: limit) else { return nil }
    return String(decoding: bytes, as: UTF8.self)
  }

  package static func write(_ path: String, _ bytes: Bytes, mode: mode_t = 0o644) throws(SkerryError) {
    let file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode)
    guard file >= 0 else { throw failure("create", path) }
    defer { close(file) }
    try writeAll(file, path, bytes)
  }

  package static func write(_ path: String, _ text: String, mode: mode_t = 0o644) throws(SkerryError) {
    try write(path, Bytes(text.utf8), mode: mode)
  }

  private static func writeAll(_ file: Int32, _ path: String, _ bytes: Bytes) throws(SkerryError) {
    var offset = 0
    while offset < bytes.count {
      let count = bytes.withUnsafeBytes { Glibc.write(file, $0.baseAddress?.advanced(by: offset), $0.count - offset) }
      if count < 0 && errno == EINTR { continue }
      guard count > 0 else { throw failure("write", path) }
      offset += count
    }
  }

  /// Replaces a file so that after a crash or power cut either the old or the new bytes are there.
  package static func writeDurably(_ path: String, _ bytes: Bytes, mode: mode_t = 0o600) throws(SkerryError) {
    let temporary = "\(path).new"
    let file = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode)
    guard file >= 0 else { throw failure("create", temporary) }
    do throws(SkerryError) {
      defer { close(file) }
      try writeAll(file, temporary, bytes)
      guard fsync(file) == 0 else { throw failure("sync", temporary) }
    } catch {
      unlink(temporary)
      throw error
    }
    guard Glibc.rename(temporary, path) == 0 else { throw failure("rename to", path) }
    try syncDirectory(path.parentPath)
  }

  package static func syncDirectory(_ path: String) throws(SkerryError) {
    let directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard directory >= 0 else { throw failure("open", path) }
    defer { close(directory) }
    guard fsync(directory) == 0 else { throw failure("sync", path) }
  }

  /// The names in a directory, sorted; none if it is not there.
  package static func list(_ path: String) -> [String] {
    guard let directory = opendir(path) else { return [] }
    defer { closedir(directory) }
    var names: [String] = []
    while let entry = readdir(directory) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) {
        $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      if name != "." && name != ".." { names.append(name) }
    }
    return names.sorted()
  }

  package static func removeFile(_ path: String) throws(SkerryError) {
    guard unlink(path) == 0 || errno == ENOENT else { throw failure("remove", path) }
  }

  /// Removes a tree without following links and without crossing into another mount: what is mounted below is a
  /// caller's mistake and must not lose its files.
  package static func removeTree(_ path: String) throws(SkerryError) {
    var info = stat()
    guard lstat(path, &info) == 0 else {
      if errno == ENOENT { return }
      throw failure("look at", path)
    }
    try removeTree(path, info, device: info.st_dev)
  }

  private static func removeTree(_ path: String, _ info: stat, device: dev_t) throws(SkerryError) {
    guard info.st_mode & S_IFMT == S_IFDIR else { return try removeFile(path) }
    guard info.st_dev == device else {
      throw SkerryError(.conflict, "\(path) is another mount; it is not removed. Unmount it first")
    }
    for name in list(path) {
      let child = "\(path)/\(name)"
      var childInfo = stat()
      guard lstat(child, &childInfo) == 0 else { continue }
      try removeTree(child, childInfo, device: device)
    }
    guard rmdir(path) == 0 || errno == ENOENT else { throw failure("remove directory", path) }
  }

  /// Bytes of the regular files below `path`.
  package static func treeBytes(_ path: String) -> Int64 {
    var info = stat()
    guard lstat(path, &info) == 0 else { return 0 }
    if info.st_mode & S_IFMT == S_IFREG { return Int64(info.st_size) }
    guard info.st_mode & S_IFMT == S_IFDIR else { return 0 }
    return list(path).reduce(0) { $0 + treeBytes("\(path)/\($1)") }
  }

  /// Size and time of the last change of a file; nil if it is not there.
  package static func look(_ path: String) -> (bytes: Int64, modified: WallTime)? {
    var info = stat()
    guard stat(path, &info) == 0 else { return nil }
    let time = Int64(info.st_mtim.tv_sec) * 1_000_000_000 + Int64(info.st_mtim.tv_nsec)
    return (Int64(info.st_size), WallTime(nanoseconds: time))
  }

  /// The path without links, `.` and `..`; the path itself if it cannot be resolved.
  package static func resolved(_ path: String) -> String {
    guard let real = realpath(path, nil) else { return path }
    defer { free(real) }
    return String(cString: real)
  }
}

extension String {
  /// `/a/b` of `/a/b/c`; `/` of `/a`.
  package var parentPath: String {
    guard let slash = lastIndex(of: "/") else { return "." }
    return slash == startIndex ? "/" : String(self[..<slash])
  }
}

extension Files {
  package static func rename(_ old: String, to new: String) throws(SkerryError) {
    guard Glibc.rename(old, new) == 0 else { throw failure("rename \(old) to", new) }
    try syncDirectory(new.parentPath)
  }
}
