import Base
import EventLoop
import Glibc
import Logging

extension OCIRuntime {
  /// Removes everything that this data directory ever made on the machine: processes, mounts, namespaces, addresses,
  /// the bridge, its NAT rules, cgroups, records. Only unpacked images stay. Needs no state but the directory, so it
  /// also cleans up after a SIGKILL: a fresh `OCIRuntime` that was never recovered will do.
  package func tearDown() async throws(SkerryError) {
    supervisor.end()
    let layout = layout
    try await Processes.killMarked("\(layout.helperMark.name)=\(layout.helperMark.value)", scheduler)
    try await killContainers()
    try await Processes.killMarked("\(layout.monitorMark.name)=\(layout.monitorMark.value)", scheduler)
    try await releaseNetworks()
    try await blocking { () throws(SkerryError) in
      for path in [layout.root, layout.volatile] { try Mounts.detach(path) }
      for path in [layout.volatile, layout.containers, layout.sandboxes, layout.exits, layout.addresses] {
        try Files.removeTree(path)
      }
      try Files.removeFile(layout.networkFile)
    }
    try await removeCgroups()
    try await removeBridge()
    close()
  }

  /// A killed process leaves its cgroup a moment later.
  private nonisolated static let maxRounds = 400

  private func killContainers() async throws(SkerryError) {
    let parent = layout.cgroupParent
    let gone = try await poll(scheduler, rounds: Self.maxRounds) { () throws(SkerryError) in
      let found = Cgroups.processes(parent)
      for pid in found { kill(pid, SIGKILL) }
      return found.isEmpty
    }
    if !gone { throw SkerryError(.system, "processes in the cgroup \(parent) could not be killed") }
  }

  private func removeCgroups() async throws(SkerryError) {
    let parent = layout.cgroupParent
    let gone = try await poll(scheduler, rounds: Self.maxRounds) { () throws(SkerryError) in
      Cgroups.removeTree(parent)
      return !Cgroups.hierarchies().contains { Files.exists("\($0)\(parent)") }
    }
    if !gone { throw SkerryError(.system, "the cgroup \(parent) could not be removed; a process must still be in it") }
  }

  private func releaseNetworks() async throws(SkerryError) {
    let layout = layout
    let records = try await blocking { () throws(SkerryError) -> [SandboxRecord] in
      Files.list(layout.sandboxes).compactMap { id in
        (try? Records.read(layout.sandboxRecord(id))).flatMap { try? SandboxRecord($0) }
      }
    }
    if records.isEmpty { return }
    try await network.prepare()
    for record in records where !record.hostNetwork {
      do throws(SkerryError) {
        try await network.detach(
          record.id, portMappings: record.portMappings, namespace: sandboxStore.namespace(record.id, "net"))
      } catch {
        log.warning(RuntimeLog.cleanup, "the network of sandbox \(record.id) could not be released: \(error)")
      }
    }
  }

  private func removeBridge() async throws(SkerryError) {
    if Files.exists("/sys/class/net/\(layout.bridge)") { try await tool.run(["ip", "link", "delete", layout.bridge]) }
    try await network.removeRules()
  }
}
