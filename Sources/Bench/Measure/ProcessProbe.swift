import Base
import EventLoop
import Glibc

/// CPU time of a process, from the kernel.
struct CPUTime: Sendable {
  /// Nanoseconds on a processor, all threads.
  var total: UInt64 = 0
  var user: UInt64 = 0
  var system: UInt64 = 0

  static func - (a: CPUTime, b: CPUTime) -> CPUTime {
    CPUTime(
      total: a.total &- min(b.total, a.total), user: a.user &- min(b.user, a.user),
      system: a.system &- min(b.system, a.system))
  }
}

/// Memory of a process in bytes.
struct MemoryUse: Sendable {
  var pss = 0
  var rss = 0
  /// Pages that are its alone and were written.
  var privateDirty = 0
}

/// Reads what the kernel counts about one process. Everything is zero once it has gone.
struct ProcessProbe: Sendable {
  let pid: Int32

  private func text(_ name: String) -> String { Files.readText("/proc/\(pid)/\(name)") ?? "" }

  var isAlive: Bool { kill(pid, 0) == 0 && !text("stat").contains(") Z ") }

  /// User and system come in the kernel's ticks of 10 ms; the total is the scheduler's own nanoseconds where it tells them
  /// (its threads live as long as the daemon).
  var cpu: CPUTime {
    let stat = text("stat")
    guard let close = stat.lastIndex(of: ")") else { return CPUTime() }
    let fields = stat[stat.index(after: close)...].split(separator: " ")
    guard fields.count > 12, let user = UInt64(fields[11]), let system = UInt64(fields[12]) else { return CPUTime() }
    let tick = 1_000_000_000 / UInt64(max(1, sysconf(Int32(_SC_CLK_TCK))))
    var total: UInt64 = 0
    for task in Files.list("/proc/\(pid)/task") {
      total += text("task/\(task)/schedstat").split(separator: " ").first.flatMap { UInt64($0) } ?? 0
    }
    let ticks = (user + system) * tick
    return CPUTime(total: total > 0 ? total : ticks, user: user * tick, system: system * tick)
  }

  /// CPU of the threads by name.
  var threads: [String: UInt64] {
    var found: [String: UInt64] = [:]
    for task in Files.list("/proc/\(pid)/task") {
      let name = text("task/\(task)/comm").filter { !$0.isNewline }
      found[name, default: 0] += text("task/\(task)/schedstat").split(separator: " ").first.flatMap { UInt64($0) } ?? 0
    }
    return found
  }

  var memory: MemoryUse {
    var use = MemoryUse()
    for line in text("smaps_rollup").split(separator: "\n") {
      let words = line.split(separator: " ", omittingEmptySubsequences: true)
      guard words.count >= 2, let kilobytes = Int(words[1]) else { continue }
      switch words[0] {
      case "Pss:": use.pss = kilobytes * 1024
      case "Rss:": use.rss = kilobytes * 1024
      case "Private_Dirty:": use.privateDirty = kilobytes * 1024
      default: break
      }
    }
    return use
  }

  var descriptors: Int { Files.list("/proc/\(pid)/fd").count }

  /// Bytes that it caused to be written to storage, and its voluntary switches (wake-ups).
  var storageWritten: Int {
    let line = text("io").split(separator: "\n").first { $0.hasPrefix("write_bytes:") }
    return line?.split(separator: " ").last.flatMap { Int($0) } ?? 0
  }
  var wakeUps: Int {
    Files.list("/proc/\(pid)/task").reduce(0) { sum, task in
      let line = text("task/\(task)/status").split(separator: "\n").first { $0.hasPrefix("voluntary_ctxt_switches:") }
      return sum + (line?.split(whereSeparator: { $0 == "\t" || $0 == " " }).last.flatMap { Int($0) } ?? 0)
    }
  }

  /// The process that listens on a TCP port of this machine, if we may see it.
  static func listening(on port: Int) -> ProcessProbe? {
    var inodes: Set<String> = []
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
      for line in (Files.readText(table) ?? "").split(separator: "\n").dropFirst() {
        let fields = line.split(separator: " ", omittingEmptySubsequences: true)
        guard fields.count > 9, fields[3] == "0A", let colon = fields[1].lastIndex(of: ":"),
          Int(fields[1][fields[1].index(after: colon)...], radix: 16) == port
        else { continue }
        inodes.insert("socket:[\(fields[9])]")
      }
    }
    guard !inodes.isEmpty else { return nil }
    for pid in Files.list("/proc").compactMap({ Int32($0) }) {
      for descriptor in Files.list("/proc/\(pid)/fd") {
        if let target = Files.linkTarget("/proc/\(pid)/fd/\(descriptor)"), inodes.contains(target) {
          return ProcessProbe(pid: pid)
        }
      }
    }
    return nil
  }
}
