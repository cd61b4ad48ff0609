import Base
import EventLoop
import Glibc

/// Makes a cgroup and sets its limits, in either version. runc does this for containers; we do it for the cgroup of
/// a pod, which holds its containers' and every command's processes. Blocking.
struct CgroupWriter: Sendable {
  let version: CgroupReader.Version
  let mount: String

  static func machine(mount: String = Cgroups.mount) -> CgroupWriter {
    CgroupWriter(version: CgroupReader.machine(mount: mount).version, mount: mount)
  }

  private static let cpuPeriodMicroseconds: Int64 = 100_000

  /// Makes `path` where it is missing and writes the limits; nil leaves a controller as it is.
  func apply(_ path: String, pids: Int64?, memoryBytes: Int64? = nil, cpuMillis: Int64? = nil) throws(SkerryError) {
    let quota = cpuMillis.map { max(1000, $0 * Self.cpuPeriodMicroseconds / 1000) }
    switch version {
    case .v1:
      if let pids { try write("pids", path, "pids.max", "\(pids)") }
      if let memoryBytes { try write("memory", path, "memory.limit_in_bytes", "\(memoryBytes)") }
      if let quota {
        try write("cpu", path, "cpu.cfs_period_us", "\(Self.cpuPeriodMicroseconds)")
        try write("cpu", path, "cpu.cfs_quota_us", "\(quota)")
      }
    case .v2:
      try enable(path)
      if let pids { try Files.write("\(mount)\(path)/pids.max", "\(pids)") }
      if let memoryBytes { try Files.write("\(mount)\(path)/memory.max", "\(memoryBytes)") }
      if let quota { try Files.write("\(mount)\(path)/cpu.max", "\(quota) \(Self.cpuPeriodMicroseconds)") }
    }
  }

  private func write(_ controller: String, _ path: String, _ file: String, _ value: String) throws(SkerryError) {
    try Files.makeDirectory("\(mount)/\(controller)\(path)")
    try Files.write("\(mount)/\(controller)\(path)/\(file)", value)
  }

  /// In version 2 a cgroup has a controller's files only if every cgroup above it hands the controller down.
  private func enable(_ path: String) throws(SkerryError) {
    var above = mount
    for part in path.split(separator: "/") {
      let offered = Set((Files.readText("\(above)/cgroup.controllers") ?? "").split(whereSeparator: \.isWhitespace))
      let wanted = ["cpu", "memory", "pids"].filter { offered.contains(Substring($0)) }
      if !wanted.isEmpty {
        try Files.write("\(above)/cgroup.subtree_control", wanted.map { "+\($0)" }.joined(separator: " "))
      }
      above += "/\(part)"
      try Files.makeDirectory(above)
    }
  }
}
