import Base
import EventLoop
import Glibc

/// What /proc tells about processes, blocking.
enum Processes {
  /// The start of a process in clock ticks since boot: with its pid the identity of a process, since pids are used
  /// again. Nil when there is no such process, or it is a zombie.
  static func startTicks(_ pid: Int32) -> UInt64? {
    guard pid > 0, let text = Files.readText("/proc/\(pid)/stat") else { return nil }
    // The name in parentheses may hold anything: fields are counted from the last `)`; the state is field 3.
    guard let end = text.lastIndex(of: ")") else { return nil }
    let fields = text[text.index(after: end)...].split(separator: " ")
    guard fields.count > 19, fields[0] != "Z", fields[0] != "X" else { return nil }
    return UInt64(fields[19])
  }

  static func isAlive(_ pid: Int32, startTicks ticks: UInt64?) -> Bool {
    guard let now = startTicks(pid) else { return false }
    return ticks == nil || now == ticks
  }

  /// When a process with that start tick was started, by the machine's clock.
  static func startTime(ticks: UInt64) -> WallTime? {
    guard let text = Files.readText("/proc/stat"),
      let line = text.split(separator: "\n").first(where: { $0.hasPrefix("btime ") }),
      let boot = Int64(line.dropFirst(6))
    else { return nil }
    let perSecond = UInt64(max(1, sysconf(Int32(_SC_CLK_TCK))))
    return WallTime(nanoseconds: boot * 1_000_000_000 + Int64(ticks * 1_000_000_000 / perSecond))
  }

  /// Every process whose environment at its start held `NAME=value`; such marks are inherited, so they also find
  /// the children of a helper whose parent was killed.
  static func marked(_ mark: String) -> [Int32] {
    let wanted = Bytes(mark.utf8)
    return all().filter { pid in
      guard let environment = try? Files.read("/proc/\(pid)/environ", limit: 4 << 20) else { return false }
      return environment.split(separator: 0).contains { $0.elementsEqual(wanted) }
    }
  }

  /// CPU time and resident memory of some processes together.
  static func stats(_ pids: [Int32]) -> ContainerStats {
    let perSecond = UInt64(max(1, sysconf(Int32(_SC_CLK_TCK))))
    let pageBytes = UInt64(max(1, sysconf(Int32(_SC_PAGESIZE))))
    var total = ContainerStats(cpuNanoseconds: 0, memoryBytes: 0)
    for pid in pids {
      guard let text = Files.readText("/proc/\(pid)/stat"), let end = text.lastIndex(of: ")") else { continue }
      // utime and stime are fields 14 and 15, the resident pages field 24; the state, field 3, is the first here.
      let fields = text[text.index(after: end)...].split(separator: " ").map { UInt64($0) ?? 0 }
      guard fields.count > 21 else { continue }
      total.cpuNanoseconds += (fields[11] + fields[12]) * 1_000_000_000 / perSecond
      total.memoryBytes += fields[21] * pageBytes
    }
    return total
  }

  static func all() -> [Int32] { Files.list("/proc").compactMap { Int32($0) } }

  /// Kills every process with the mark, and those that they start meanwhile, until none is left.
  @LoopActor static func killMarked(_ mark: String, _ scheduler: any Scheduler) async throws(SkerryError) {
    let gone = try await poll(scheduler, rounds: maxKillRounds) { () throws(SkerryError) in
      let found = marked(mark).filter { $0 != getpid() && startTicks($0) != nil }
      for pid in found { kill(pid, SIGKILL) }
      return found.isEmpty
    }
    if !gone { throw SkerryError(.system, "processes marked \(mark) cannot be killed; they are stuck in the kernel") }
  }

  /// Stops hunting processes that cannot die (stuck in the kernel).
  private static let maxKillRounds = 400
}
