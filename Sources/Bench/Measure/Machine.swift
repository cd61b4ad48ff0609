import Base
import EventLoop
import Glibc

/// What a result was measured on.
enum Machine {
  static var description: Value {
    let processors = (Files.readText("/proc/cpuinfo") ?? "").split(separator: "\n")
    let model = processors.first { $0.hasPrefix("model name") }?.split(separator: ":").last
    let release = (Files.readText("/etc/os-release") ?? "").split(separator: "\n")
      .first { $0.hasPrefix("PRETTY_NAME=") }?.dropFirst(12).filter { $0 != "\"" }
    let kernel = (Files.readText("/proc/sys/kernel/osrelease") ?? "").filter { !$0.isNewline }
    let load = (Files.readText("/proc/loadavg") ?? "").split(separator: " ").prefix(3).joined(separator: " ")
    return [
      "processor": .string(model.map { String($0.drop { $0 == " " }) } ?? "unknown"),
      "cores": .int(Int64(sysconf(Int32(_SC_NPROCESSORS_ONLN)))), "memory": .int(Int64(meminfo("MemTotal:"))),
      "system": .string(release.map { String($0) } ?? "Linux"), "kernel": .string(kernel), "load": .string(load),
    ]
  }

  /// Bytes that a new process may use without swapping.
  static var availableMemory: Int { meminfo("MemAvailable:") }

  private static func meminfo(_ name: String) -> Int {
    let line = (Files.readText("/proc/meminfo") ?? "").split(separator: "\n").first { $0.hasPrefix(name) }
    return (line?.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0) * 1024
  }

  /// Files that one process may hold open: the hard limit, which is also made the soft one.
  static func raiseFileLimit() -> Int {
    var limit = rlimit()
    guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return 1_024 }
    if limit.rlim_cur < limit.rlim_max {
      limit.rlim_cur = limit.rlim_max
      setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    }
    return Int(clamping: limit.rlim_cur)
  }

  /// Free bytes on the file system that holds `path`.
  static func freeDisk(_ path: String) -> Int {
    var disk = statvfs()
    return statvfs(path, &disk) == 0 ? Int(disk.f_bavail) * Int(disk.f_frsize) : 0
  }
}
