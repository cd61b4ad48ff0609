import Base
import EventLoop
import Glibc
import ObjectModel

/// Containers by runc (any OCI runtime with runc's command line) over an overlay of their image.
@LoopActor final class RuncLauncher: Launcher {
  private let layout: RuntimeLayout
  private let tool: Tool
  private let images: ImageStore
  private let sandboxes: Sandboxes
  let runtimeProgram: String

  init(_ layout: RuntimeLayout, tool: Tool, images: ImageStore, sandboxes: Sandboxes, runc: String) {
    self.layout = layout
    self.tool = tool
    self.images = images
    self.sandboxes = sandboxes
    runtimeProgram = runc
  }

  var runtimeArguments: [String] { ["--root", layout.runcRoot] }

  private func runc(_ arguments: [String]) async throws(SkerryError) -> Bytes {
    try await tool.run([runtimeProgram] + runtimeArguments + arguments)
  }

  func prepare(_ config: ContainerConfig, _ record: ContainerRecord) async throws(SkerryError) {
    let image = try images.config(config.image)
    let sandbox = try sandboxes.record(config.sandboxID)
    let (lower, directory) = (images.rootfs(config.image), "\(layout.containers)/\(record.id)")
    let bundle = layout.bundle(record.id)
    let (namespaces, podMounts) = (sandboxes.namespaces(sandbox), sandboxes.mounts(sandbox))
    let cgroup = record.cgroupPath ?? layout.cgroup(sandbox: sandbox.id, container: record.id)
    try await blocking { () throws(SkerryError) in
      let status = Files.readText("/proc/self/status") ?? ""
      let spec = ContainerSpec(
        config: config, image: image,
        user: try UserLookup.resolve(image: image.user, security: config.security, rootfs: lower),
        capabilities: try Capabilities.set(
          for: config.security, available: Capabilities.available(status: status)), hostname: sandbox.hostname,
        rootfs: "\(directory)/rootfs", cgroupPath: cgroup, namespaces: namespaces, podMounts: podMounts,
        availableOpenFiles: Self.openFiles())
      let document = JSON.bytes(try spec.value())
      for name in ["upper", "work", "rootfs"] { try Files.makeDirectory("\(directory)/\(name)") }
      if !Mounts.isMountPoint("\(directory)/rootfs") {
        try Mounts.overlay(
          lower: lower, upper: "\(directory)/upper", work: "\(directory)/work", at: "\(directory)/rootfs")
      }
      try Files.makeDirectory(bundle, mode: 0o700)
      try Files.write("\(bundle)/config.json", document, mode: 0o600)
    }
  }

  private nonisolated static func openFiles() -> Int64 {
    var limit = rlimit()
    guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return 1024 }
    return Int64(clamping: limit.rlim_max)
  }

  func start(_ record: ContainerRecord) async throws(SkerryError) {
    _ = try await runc(["start", record.id])
  }

  func hasStarted(_ record: ContainerRecord) async throws(SkerryError) -> Bool {
    guard let output = try? await runc(["state", record.id]), let state = try? JSON.parse(output) else { return false }
    return state["status"].string == "running"
  }

  func signal(_ record: ContainerRecord, _ signal: Int32) async throws(SkerryError) {
    do throws(SkerryError) {
      _ = try await runc(["kill", record.id, "\(signal)"])
    } catch {
      // It may have ended meanwhile.
      if let pid = record.pid, Processes.isAlive(pid, startTicks: record.startTicks) { throw error }
    }
  }

  func discard(id: String) async throws(SkerryError) {
    if Files.exists("\(layout.runcRoot)/\(id)") { _ = try await runc(["delete", "--force", id]) }
    let (directory, bundle) = ("\(layout.containers)/\(id)", layout.bundle(id))
    try await blocking { () throws(SkerryError) in
      try Mounts.detach(directory)
      try Files.removeTree(bundle)
      for name in ["rootfs", "work", "upper"] { try Files.removeTree("\(directory)/\(name)") }
    }
  }

  func execArguments(_ record: ContainerRecord, _ request: ExecRequest) -> [String] {
    let terminal = request.tty ? ["--tty"] : []
    return [runtimeProgram] + runtimeArguments + ["exec"] + terminal + [record.id] + request.command
  }

  func knownIDs() async throws(SkerryError) -> [String] {
    let (root, bundles) = (layout.runcRoot, layout.bundles)
    return try await blocking { () throws(SkerryError) in
      try Files.makeDirectory(root, mode: 0o700)
      try Files.makeDirectory(bundles, mode: 0o700)
      return Array(Set(Files.list(root) + Files.list(bundles))).sorted()
    }
  }
}
