import Base
import EventLoop
import Glibc

/// Reads what a cgroup used. Version 1 has a hierarchy a controller, version 2 one for all; a machine may have both
/// with the controllers in either.
struct CgroupReader: Sendable {
  enum Version: Sendable, Hashable {
    case v1
    case v2
  }
  let version: Version
  /// Where the hierarchies are mounted.
  let mount: String

  /// The machine's: version 2 where its controllers are, at the usual place.
  static func machine(mount: String = "/sys/fs/cgroup") -> CgroupReader {
    // Only the root of a version 2 hierarchy has this file; in a mixed set-up `mount` is a tmpfs.
    let unified = Files.exists("\(mount)/cgroup.controllers")
    return CgroupReader(version: unified ? .v2 : .v1, mount: mount)
  }

  /// CPU time since the cgroup was made, and the memory that cannot be reclaimed at once: usage without the inactive
  /// file cache, as the kubelet's working set. Blocking.
  func stats(_ path: String) throws(SkerryError) -> ContainerStats {
    switch version {
    case .v1:
      let cpu = try number("\(mount)/cpuacct\(path)/cpuacct.usage")
      let used = try number("\(mount)/memory\(path)/memory.usage_in_bytes")
      let cache = try field("total_inactive_file", of: "\(mount)/memory\(path)/memory.stat")
      return ContainerStats(cpuNanoseconds: cpu, memoryBytes: used > cache ? used - cache : 0)
    case .v2:
      let cpu = try field("usage_usec", of: "\(mount)\(path)/cpu.stat")
      let used = try number("\(mount)\(path)/memory.current")
      let cache = try field("inactive_file", of: "\(mount)\(path)/memory.stat")
      return ContainerStats(cpuNanoseconds: cpu &* 1000, memoryBytes: used > cache ? used - cache : 0)
    }
  }

  /// How many processes the kernel has killed for memory there.
  func memoryKills(_ path: String) throws(SkerryError) -> UInt64 {
    switch version {
    case .v1: try field("oom_kill", of: "\(mount)/memory\(path)/memory.oom_control")
    case .v2: try field("oom_kill", of: "\(mount)\(path)/memory.events")
    }
  }

  /// The limits in force; nil where there is none.
  func limits(_ path: String) throws(SkerryError) -> (memoryBytes: UInt64?, pids: UInt64?, cpuMillis: UInt64?) {
    switch version {
    case .v1:
      let memory = try number("\(mount)/memory\(path)/memory.limit_in_bytes")
      let pids = try text("\(mount)/pids\(path)/pids.max")
      let quota = try text("\(mount)/cpu\(path)/cpu.cfs_quota_us")
      let period = try number("\(mount)/cpu\(path)/cpu.cfs_period_us")
      // No limit is the largest page-aligned number, and a quota of -1.
      return (memory > 1 << 62 ? nil : memory, UInt64(pids), UInt64(quota).map { $0 * 1000 / max(1, period) })
    case .v2:
      let memory = UInt64(try text("\(mount)\(path)/memory.max"))
      let pids = UInt64(try text("\(mount)\(path)/pids.max"))
      let parts = try text("\(mount)\(path)/cpu.max").split(separator: " ")
      guard parts.count == 2, let period = UInt64(parts[1]) else { throw Self.strange("\(mount)\(path)/cpu.max") }
      return (memory, pids, UInt64(parts[0]).map { $0 * 1000 / max(1, period) })
    }
  }

  private func text(_ path: String) throws(SkerryError) -> String {
    String(decoding: try Files.read(path, limit: 1 << 20), as: UTF8.self).filter { $0 != "\n" }
  }

  private func number(_ path: String) throws(SkerryError) -> UInt64 {
    guard let number = UInt64(try text(path)) else { throw Self.strange(path) }
    return number
  }

  /// Of a file with a name and a number a line.
  private func field(_ name: String, of path: String) throws(SkerryError) -> UInt64 {
    for line in String(decoding: try Files.read(path, limit: 1 << 20), as: UTF8.self).split(separator: "\n") {
      let parts = line.split(separator: " ")
      if parts.count == 2, parts[0] == name, let number = UInt64(parts[1]) { return number }
    }
    throw Self.strange("\(path) (\(name))")
  }

  private static func strange(_ path: String) -> SkerryError {
    SkerryError(.system, "\(path) does not hold what the kernel's documentation says")
  }
}

/// The machine's cgroups under one name, blocking.
enum Cgroups {
  static let mount = "/sys/fs/cgroup"

  /// Where each hierarchy of the machine is mounted.
  static func hierarchies() -> [String] {
    if CgroupReader.machine(mount: mount).version == .v2 { return [mount] }
    return Files.list(mount).map { "\(mount)/\($0)" }.filter { Files.isDirectory($0) }
  }

  /// Removes a cgroup and those below it from every hierarchy, as far as they are empty.
  static func removeTree(_ path: String) {
    for hierarchy in hierarchies() { remove("\(hierarchy)\(path)") }
  }

  private static func remove(_ directory: String) {
    for name in Files.list(directory) where Files.isDirectory("\(directory)/\(name)") {
      remove("\(directory)/\(name)")
    }
    rmdir(directory)
  }

  /// Processes in a cgroup and those below it, in any hierarchy.
  static func processes(_ path: String) -> Set<Int32> {
    var found: Set<Int32> = []
    for hierarchy in hierarchies() { collect("\(hierarchy)\(path)", &found) }
    return found
  }

  private static func collect(_ directory: String, _ found: inout Set<Int32>) {
    let text = Files.readText("\(directory)/cgroup.procs") ?? ""
    found.formUnion(text.split(separator: "\n").compactMap { Int32($0) })
    for name in Files.list(directory) where Files.isDirectory("\(directory)/\(name)") {
      collect("\(directory)/\(name)", &found)
    }
  }
}
