import Base
import Glibc

extension Files {
  /// Changes a file's permissions, whatever the umask says.
  package static func setMode(_ path: String, _ mode: UInt32) throws(SkerryError) {
    guard chmod(path, mode) == 0 else { throw failure("change the mode of", path) }
  }

  /// What a symbolic link points to; nil if there is none.
  package static func linkTarget(_ path: String) -> String? {
    var buffer = [CChar](repeating: 0, count: Int(PATH_MAX))
    let count = readlink(path, &buffer, buffer.count)
    return count < 0 ? nil : String(decoding: buffer[0..<count].map(UInt8.init(bitPattern:)), as: UTF8.self)
  }

  /// Makes or replaces a symbolic link in one step.
  package static func replaceLink(_ path: String, target: String) throws(SkerryError) {
    if linkTarget(path) == target { return }
    let temporary = "\(path).new"
    unlink(temporary)
    guard symlink(target, temporary) == 0 else { throw failure("link", temporary) }
    guard Glibc.rename(temporary, path) == 0 else { throw failure("rename to", path) }
  }
}

extension Files {
  /// True if files may be made in the directory.
  package static func isWritable(_ path: String) -> Bool { access(path, W_OK) == 0 }
}

extension Files {
  package enum Kind: Sendable {
    case file
    case directory
    /// A device, a pipe, a socket.
    case other
  }

  /// What a path leads to, links followed.
  package static func kind(_ path: String) throws(SkerryError) -> Kind {
    var info = stat()
    guard stat(path, &info) == 0 else { throw failure("read", path) }
    switch info.st_mode & S_IFMT {
    case S_IFREG: return .file
    case S_IFDIR: return .directory
    default: return .other
    }
  }

  /// A small file as text.
  package static func text(_ path: String, limit: Int = 1 << 20) throws(SkerryError) -> String {
    String(decoding: try read(path, limit: limit), as: UTF8.self)
  }

  /// The path from the root, without links; it has to be there.
  package static func absolute(_ path: String) throws(SkerryError) -> String {
    guard let real = realpath(path, nil) else { throw failure("resolve", path) }
    defer { free(real) }
    return String(cString: real)
  }
}
