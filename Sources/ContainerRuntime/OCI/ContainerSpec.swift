import Base
import EventLoop

/// Builds the configuration of a container for runc: a value in, a value out
/// (github.com/opencontainers/runtime-spec/blob/v1.0.2/config.md).
struct ContainerSpec: Sendable {
  var config: ContainerConfig
  var image: ImageConfig
  var user: ProcessUser
  /// Already limited to what this machine's processes may have.
  var capabilities: [String]
  var hostname: String
  var rootfs: String
  var cgroupPath: String
  /// By OCI's name (`network`, `ipc`, `uts`): the namespace's file. What is absent is the machine's.
  var namespaces: [(type: String, path: String)]
  /// hosts, resolv.conf and the pod's shared memory, before the volumes.
  var podMounts: [Mount]

  static let defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
  /// Open files of one process: soft and hard, as Docker's default on systemd machines of today.
  static let maxOpenFiles: (soft: Int64, hard: Int64) = (1024, 524_288)
  /// Our own hard limit: only with CAP_SYS_RESOURCE could a container get more.
  var availableOpenFiles: Int64
  static let cpuPeriodMicroseconds: Int64 = 100_000

  func value() throws(SkerryError) -> Value {
    let argv = image.argv(command: config.command, arguments: config.arguments)
    guard !argv.isEmpty else {
      throw SkerryError(.invalidArgument, "container \(config.name): neither the pod nor the image says what to run")
    }
    return [
      "ociVersion": "1.0.2", "process": process(argv), "root": root, "mounts": .array(mounts), "linux": linux,
    ]
  }

  private var root: Value { ["path": .string(rootfs), "readonly": .bool(config.security.readOnlyRootFilesystem)] }

  private func process(_ argv: [String]) -> Value {
    let directory = config.workingDirectory.isEmpty ? image.workingDirectory : config.workingDirectory
    return [
      "terminal": .bool(config.tty),
      "user": [
        "uid": .int(user.uid), "gid": .int(user.gid),
        "additionalGids": .array(user.additionalGroups.map { .int($0) }),
      ],
      "args": .array(argv.map { .string($0) }), "env": .array(environment.map { .string($0) }),
      "cwd": .string(directory.isEmpty ? "/" : directory), "capabilities": capabilitySets,
      "noNewPrivileges": .bool(!config.security.privileged && !config.security.allowPrivilegeEscalation),
      "rlimits": [
        ["type": "RLIMIT_NOFILE", "soft": .int(min(Self.maxOpenFiles.soft, openFiles)), "hard": .int(openFiles)]
      ],
    ]
  }

  private var openFiles: Int64 { min(Self.maxOpenFiles.hard, availableOpenFiles) }

  /// The image's, then the pod's, the later of two with one name in the place of the earlier.
  private var environment: [String] {
    var order: [String] = []
    var values: [String: String] = [:]
    func set(_ name: String, _ value: String) {
      if values[name] == nil { order.append(name) }
      values[name] = value
    }
    set("PATH", Self.defaultPath)
    set("HOSTNAME", hostname)
    set("HOME", user.home)
    for entry in image.environment {
      guard let equals = entry.firstIndex(of: "=") else { continue }
      set(String(entry[..<equals]), String(entry[entry.index(after: equals)...]))
    }
    for (name, value) in config.environment { set(name, value) }
    if config.tty && values["TERM"] == nil { set("TERM", "xterm") }
    return order.map { "\($0)=\(values[$0] ?? "")" }
  }

  /// A process that is not root gets the set as its bounds only: what it may gain is nothing, since it cannot gain
  /// privileges.
  private var capabilitySets: Value {
    let set = Value.array(capabilities.map { .string($0) })
    if user.uid == 0 { return ["bounding": set, "effective": set, "permitted": set] }
    return ["bounding": set]
  }

  private var linux: Value {
    var linux: Value = [
      "cgroupsPath": .string(cgroupPath), "resources": resources,
      "namespaces": .array(
        [["type": "pid"], ["type": "mount"]]
          + namespaces.map { ["type": .string($0.type), "path": .string($0.path)] }),
    ]
    if config.security.privileged { return linux }
    linux["maskedPaths"] = .array(Self.maskedPaths.map { .string($0) })
    linux["readonlyPaths"] = .array(Self.readOnlyPaths.map { .string($0) })
    linux["seccomp"] = Seccomp.profile(capabilities: capabilities)
    return linux
  }

  /// What of /proc and /sys tells or changes too much about the machine.
  static let maskedPaths = [
    "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi",
    "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
  ]
  static let readOnlyPaths = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]

  // MARK: limits

  private var resources: Value {
    var resources: Value = ["pids": ["limit": .int(config.resources.pids)], "cpu": cpu]
    if let memory = config.resources.memoryBytes { resources["memory"] = ["limit": .int(memory)] }
    resources["devices"] = [["allow": .bool(config.security.privileged), "access": "rwm"]]
    return resources
  }

  /// As the kubelet does: shares from the request (else from the limit), quota from the limit.
  private var cpu: Value {
    let request = config.resources.cpuRequestMillis ?? config.resources.cpuMillis ?? 0
    var cpu: Value = ["shares": .int(min(262_144, max(2, request * 1024 / 1000)))]
    if let limit = config.resources.cpuMillis {
      cpu["quota"] = .int(max(1000, limit * Self.cpuPeriodMicroseconds / 1000))
      cpu["period"] = .int(Self.cpuPeriodMicroseconds)
    }
    return cpu
  }

  // MARK: mounts

  private var mounts: [Value] {
    let sys = config.security.privileged ? "rw" : "ro"
    var all: [Value] = [
      Self.mount("/proc", "proc", "proc", ["nosuid", "noexec", "nodev"]),
      Self.mount("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
      Self.mount(
        "/dev/pts", "devpts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
      Self.mount("/dev/mqueue", "mqueue", "mqueue", ["nosuid", "noexec", "nodev"]),
      Self.mount("/sys", "sysfs", "sysfs", ["nosuid", "noexec", "nodev", sys]),
      Self.mount("/sys/fs/cgroup", "cgroup", "cgroup", ["nosuid", "noexec", "nodev", "relatime", sys]),
    ]
    for mount in podMounts + config.mounts {
      // A later mount at the same place wins: a pod may bring its own /etc/hosts.
      all.removeAll { $0["destination"].string == mount.containerPath }
      all.append(
        Self.mount(mount.containerPath, "bind", mount.hostPath, ["rbind", "rprivate", mount.readOnly ? "ro" : "rw"]))
    }
    return all
  }

  private static func mount(_ at: String, _ type: String, _ source: String, _ options: [String]) -> Value {
    [
      "destination": .string(at), "type": .string(type), "source": .string(source),
      "options": .array(options.map { .string($0) }),
    ]
  }
}
