import Base

/// Linux capabilities (capabilities(7)) of a container.
enum Capabilities {
  /// What Docker gives a container without a security context: enough for images as they are found, nothing that
  /// changes the machine.
  static let standard = [
    "CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
  ]

  /// Every one that the kernel of the time of writing knows, by number.
  static let all = [
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
    "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN",
    "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
  ]

  /// The set of a container. As in Kubernetes names come without `CAP_`, `ALL` means all, and what is added wins
  /// over what is dropped. `available` is what we have ourselves: runc refuses to give more.
  static func set(for security: SecurityConfig, available: Set<String>) throws(SkerryError) -> [String] {
    if security.privileged { return all.filter { available.contains($0) } }
    let drop = try names(security.dropCapabilities)
    let add = try names(security.addCapabilities)
    var set = Set(standard)
    set.subtract(drop)
    set.formUnion(add)
    return all.filter { set.contains($0) && available.contains($0) }
  }

  private static func names(_ given: [String]) throws(SkerryError) -> Set<String> {
    var names: Set<String> = []
    for name in given {
      let upper = name.uppercased()
      if upper == "ALL" {
        names.formUnion(all)
        continue
      }
      let full = upper.hasPrefix("CAP_") ? upper : "CAP_\(upper)"
      guard all.contains(full) else {
        throw SkerryError(.invalidArgument, "\"\(name)\" is not a capability; see capabilities(7)")
      }
      names.insert(full)
    }
    return names
  }

  /// The bounding set of this process, from the text of /proc/self/status.
  static func available(status: String) -> Set<String> {
    guard let line = status.split(separator: "\n").first(where: { $0.hasPrefix("CapBnd:") }),
      let mask = UInt64(line.dropFirst(7).filter { !$0.isWhitespace }, radix: 16)
    else { return [] }
    return Set(all.enumerated().filter { mask >> UInt64($0.offset) & 1 == 1 }.map(\.element))
  }
}
