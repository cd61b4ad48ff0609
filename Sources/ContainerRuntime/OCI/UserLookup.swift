import Base
import EventLoop
import Glibc

/// Who a container's process is.
struct ProcessUser: Sendable, Hashable {
  var uid: Int64 = 0
  var gid: Int64 = 0
  var additionalGroups: [Int64] = []
  var home = "/"
}

/// Resolves an image's `User` with the image's own /etc/passwd and /etc/group; blocking.
///
/// These files belong to whoever made the image. They are opened without following a link at `etc` or the file, so
/// that an image cannot make us read a file of the machine.
enum UserLookup {
  static let maxDatabaseBytes = 1 << 20

  static func resolve(image user: String, security: SecurityConfig, rootfs: String) throws(SkerryError) -> ProcessUser {
    let accounts = table(rootfs, "passwd")
    let groups = table(rootfs, "group")
    var result = try named(user, accounts, groups)
    if let uid = security.runAsUser {
      result = ProcessUser(uid: uid)
      if let account = accounts.first(where: { $0.count > 5 && $0[2] == "\(uid)" }) {
        result.gid = Int64(account[3]) ?? 0
        result.home = account[5]
      }
    }
    if let gid = security.runAsGroup { result.gid = gid }
    if security.runAsNonRoot && result.uid == 0 {
      throw SkerryError(.invalidArgument, "runAsNonRoot is set and the image or runAsUser would run it as root")
    }
    let name = accounts.first { $0.count > 2 && $0[2] == "\(result.uid)" }?[0]
    for group in groups where group.count > 3 {
      guard let name, group[3].split(separator: ",").contains(Substring(name)), let gid = Int64(group[2]) else {
        continue
      }
      if !result.additionalGroups.contains(gid) && gid != result.gid { result.additionalGroups.append(gid) }
    }
    for gid in security.supplementalGroups where !result.additionalGroups.contains(gid) {
      result.additionalGroups.append(gid)
    }
    return result
  }

  private static func named(_ user: String, _ accounts: [[String]], _ groups: [[String]]) throws(SkerryError)
    -> ProcessUser
  {
    let parts = user.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
    var result = ProcessUser()
    let name = parts.first.flatMap { $0.isEmpty ? nil : $0 } ?? "0"
    if let account = accounts.first(where: { $0.count > 5 && ($0[0] == name || $0[2] == name) }) {
      result.uid = Int64(account[2]) ?? 0
      result.gid = Int64(account[3]) ?? 0
      result.home = account[5].isEmpty ? "/" : account[5]
    } else if let uid = Int64(name), uid >= 0 {
      result.uid = uid
    } else {
      throw SkerryError(.invalidArgument, "the image runs as user \"\(name)\", which its /etc/passwd does not have")
    }
    guard parts.count == 2, !parts[1].isEmpty else { return result }
    if let group = groups.first(where: { $0.count > 2 && ($0[0] == parts[1] || $0[2] == parts[1]) }) {
      result.gid = Int64(group[2]) ?? 0
    } else if let gid = Int64(parts[1]), gid >= 0 {
      result.gid = gid
    } else {
      throw SkerryError(.invalidArgument, "the image runs as group \"\(parts[1])\", which its /etc/group does not have")
    }
    return result
  }

  private static func table(_ rootfs: String, _ name: String) -> [[String]] {
    let etc = open("\(rootfs)/etc", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
    guard etc >= 0 else { return [] }
    defer { close(etc) }
    // Not blocking, since it may be a FIFO.
    let file = openat(etc, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
    guard file >= 0 else { return [] }
    defer { close(file) }
    guard let bytes = try? Files.readAll(file, name, maxDatabaseBytes) else { return [] }
    return String(decoding: bytes, as: UTF8.self).split(separator: "\n").map {
      $0.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
    }
  }
}
