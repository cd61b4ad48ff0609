import Base
import EventLoop
import Glibc

/// Mounts of this machine, blocking.
enum Mounts {
  /// Mount points at or below `path`, the deepest and newest first: the order to unmount them in.
  static func below(_ path: String) -> [String] {
    // Field 5 of each line is the mount point, with octal escapes (proc(5)).
    guard let text = Files.readText("/proc/self/mountinfo", limit: 64 << 20) else { return [] }
    var points: [String] = []
    for line in text.split(separator: "\n") {
      let fields = line.split(separator: " ", maxSplits: 5)
      guard fields.count > 4 else { continue }
      let point = unescape(fields[4])
      if point == path || point.hasPrefix("\(path)/") { points.append(point) }
    }
    return points.reversed()
  }

  static func isMountPoint(_ path: String) -> Bool { below(path).contains(path) }

  private static func unescape(_ text: Substring) -> String {
    guard text.contains("\\") else { return String(text) }
    var out: Bytes = []
    let bytes = Array(text.utf8)
    var index = 0
    while index < bytes.count {
      if bytes[index] == UInt8(ascii: "\\"), index + 3 < bytes.count,
        let value = UInt8(String(decoding: bytes[(index + 1)...(index + 3)], as: UTF8.self), radix: 8)
      {
        out.append(value)
        index += 4
      } else {
        out.append(bytes[index])
        index += 1
      }
    }
    return String(decoding: out, as: UTF8.self)
  }

  static func overlay(lower: String, upper: String, work: String, at target: String) throws(SkerryError) {
    let options = "lowerdir=\(lower),upperdir=\(upper),workdir=\(work)"
    guard mount("overlay", target, "overlay", 0, options) == 0 else {
      throw Files.failure("mount an overlay at", target)
    }
  }

  static func tmpfs(at target: String, options: String) throws(SkerryError) {
    guard mount("tmpfs", target, "tmpfs", UInt(MS_NOSUID | MS_NODEV), options) == 0 else {
      throw Files.failure("mount a tmpfs at", target)
    }
  }

  /// Takes everything at or below `path` off, also what is busy: it goes when its last user does.
  static func detach(_ path: String) throws(SkerryError) {
    for point in below(path) {
      guard umount2(point, Int32(MNT_DETACH)) == 0 || errno == EINVAL || errno == ENOENT else {
        throw Files.failure("unmount", point)
      }
    }
  }
}
