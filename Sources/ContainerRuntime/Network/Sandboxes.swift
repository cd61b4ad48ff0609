import Base
import EventLoop
import Glibc
import Logging

/// The pods' sandboxes: namespaces for network, IPC and host name that no process has to hold, since they are
/// mounted as files; the pod's addresses; and the files that its containers share.
@LoopActor final class Sandboxes {
  /// /dev/shm of a pod.
  nonisolated static let sharedMemory = "mode=1777,size=67108864"

  /// Processes of a whole pod, the commands run in it included: one pod's fork bomb must not take the machine's pids.
  nonisolated static let maxPids: Int64 = 4096

  let layout: RuntimeLayout
  private let tool: Tool
  private let network: PodNetwork
  private let scheduler: any Scheduler
  private let log: Logger
  private let gates = Gates()
  private(set) var records = RecordTable<SandboxRecord>()

  init(_ layout: RuntimeLayout, tool: Tool, network: PodNetwork, scheduler: any Scheduler, log: Logger) {
    self.layout = layout
    self.tool = tool
    self.network = network
    self.scheduler = scheduler
    self.log = log
  }

  var statuses: [SandboxStatus] { records.values.map { status($0) }.sorted { $0.id < $1.id } }
  func statuses(ofPod uid: String) -> [SandboxStatus] { records[.pod(uid)].map { status($0) } }

  func record(_ id: String) throws(SkerryError) -> SandboxRecord {
    guard let record = records[id] else { throw SkerryError(.notFound, "there is no sandbox \(id)") }
    return record
  }

  func directory(_ id: String) -> String { "\(layout.sandboxes)/\(id)" }
  func namespace(_ id: String, _ type: String) -> String { "\(layout.namespaces)/\(id)/\(type)" }
  func sharedMemory(_ id: String) -> String { "\(layout.shm)/\(id)" }

  private func status(_ record: SandboxRecord) -> SandboxStatus {
    SandboxStatus(
      id: record.id, podUID: record.podUID, ready: record.phase == .ready, addresses: record.addresses,
      networkNamespace: record.hostNetwork ? nil : namespace(record.id, "net"), createdAt: record.createdAt,
      labels: record.labels)
  }

  // MARK: run

  func run(_ config: SandboxConfig) async throws(SkerryError) -> SandboxStatus {
    try RuntimeLayout.check(id: config.id)
    return try await gates.with(config.id) { () throws(SkerryError) in
      if let found = records[config.id] {
        if found.phase == .ready { return status(found) }
        // It was taken down, or a run failed half-way: start from nothing.
        try await dismantle(found)
      }
      var record = SandboxRecord(config, createdAt: records[config.id]?.createdAt ?? scheduler.wall)
      try await save(record)
      do throws(SkerryError) {
        try await makeNamespaces(record)
        if !record.hostNetwork {
          record.addresses = try await network.attach(record, namespace: namespace(record.id, "net"))
        }
        try await writeFiles(record, config)
        record.phase = .ready
        try await save(record)
      } catch {
        do throws(SkerryError) { try await dismantle(record) } catch {
          log.warning(RuntimeLog.cleanup, "sandbox \(record.id) could not be taken down after a failure: \(error)")
        }
        throw SkerryError(error.code, "cannot make sandbox \(record.id)", cause: error)
      }
      return status(record)
    }
  }

  private func makeNamespaces(_ record: SandboxRecord) async throws(SkerryError) {
    let types = record.hostNetwork ? ["ipc"] : ["net", "ipc", "uts"]
    let directory = "\(layout.namespaces)/\(record.id)"
    let shm = sharedMemory(record.id)
    let group = "\(layout.cgroupParent)/\(record.id)"
    try await blocking { () throws(SkerryError) in
      try CgroupWriter.machine().apply(group, pids: Self.maxPids)
      try Files.makeDirectory(directory, mode: 0o700)
      for type in types { try Files.write("\(directory)/\(type)", Bytes()) }
      try Files.makeDirectory(shm)
      if !Mounts.isMountPoint(shm) { try Mounts.tmpfs(at: shm, options: Self.sharedMemory) }
    }
    // unshare(1) mounts the new namespaces on these files; the shell sets the host name in the new one.
    let flags = types.map { "--\($0)=\(directory)/\($0)" }
    let command =
      record.hostNetwork ? ["true"] : ["sh", "-c", "echo \"$1\" > /proc/sys/kernel/hostname", "sh", record.hostname]
    try await tool.run(["unshare"] + flags + ["--"] + command)
  }

  private func writeFiles(_ record: SandboxRecord, _ config: SandboxConfig) async throws(SkerryError) {
    let directory = directory(record.id)
    try await blocking { () throws(SkerryError) in
      let hosts =
        record.hostNetwork
        ? Files.readText("/etc/hosts") ?? "" : PodFiles.hosts(record.hostname, addresses: record.addresses)
      let machine = Files.readText("/etc/resolv.conf") ?? ""
      try Files.write("\(directory)/hosts", hosts)
      try Files.write("\(directory)/hostname", "\(record.hostname)\n")
      try Files.write(
        "\(directory)/resolv.conf",
        PodFiles.resolver(servers: config.dnsServers, searches: config.dnsSearches, machine: machine))
    }
  }

  /// What each container of the sandbox gets mounted.
  func mounts(_ record: SandboxRecord) -> [Mount] {
    let directory = directory(record.id)
    return ["hosts", "hostname", "resolv.conf"].map {
      Mount(hostPath: "\(directory)/\($0)", containerPath: "/etc/\($0)", readOnly: false)
    } + [Mount(hostPath: sharedMemory(record.id), containerPath: "/dev/shm", readOnly: false)]
  }

  /// The namespaces that containers of the sandbox join, by OCI's names.
  func namespaces(_ record: SandboxRecord) -> [(type: String, path: String)] {
    let ipc = ("ipc", namespace(record.id, "ipc"))
    if record.hostNetwork { return [ipc] }
    return [("network", namespace(record.id, "net")), ipc, ("uts", namespace(record.id, "uts"))]
  }

  // MARK: stop, remove

  /// Takes network and namespaces down, keeps the record. Its containers have ended.
  func stop(_ id: String) async throws(SkerryError) {
    try await gates.with(id) { () throws(SkerryError) in
      guard var record = records[id], record.phase != .stopped else { return }
      try await dismantle(record)
      record.phase = .stopped
      record.addresses = []
      try await save(record)
    }
  }

  func remove(_ id: String) async throws(SkerryError) {
    try await gates.with(id) { () throws(SkerryError) in
      guard let record = records[id] else { return }
      try await dismantle(record)
      let shared = records.values.contains { $0.id != id && $0.logDirectory == record.logDirectory }
      let logs = shared || record.logDirectory.isEmpty ? nil : record.logDirectory
      let directory = directory(id)
      try await blocking { () throws(SkerryError) in
        if let logs { try Files.removeTree(logs) }
        try Files.removeTree(directory)
      }
      records[id] = nil
    }
  }

  /// Gives back all that a run may have made. Safe to repeat, and after a crash anywhere.
  private func dismantle(_ record: SandboxRecord) async throws(SkerryError) {
    if record.phase == .ready {
      // First on disk: a crash after the address was given back must not leave a sandbox that seems to have it.
      var leaving = record
      leaving.phase = .reserved
      try await save(leaving)
    }
    if !record.hostNetwork {
      try await network.detach(
        record.id, portMappings: record.portMappings, namespace: namespace(record.id, "net"))
    }
    let (namespaces, shm) = ("\(layout.namespaces)/\(record.id)", sharedMemory(record.id))
    let group = "\(layout.cgroupParent)/\(record.id)"
    try await blocking { () throws(SkerryError) in
      for path in [namespaces, shm] {
        try Mounts.detach(path)
        try Files.removeTree(path)
      }
      Cgroups.removeTree(group)
    }
  }

  private func save(_ record: SandboxRecord) async throws(SkerryError) {
    let (path, value) = (layout.sandboxRecord(record.id), record.value)
    try await blocking { () throws(SkerryError) in
      try Files.makeDirectory(path.parentPath)
      try Records.write(path, value)
    }
    records[record.id] = record
  }

  // MARK: recovery

  /// Reads the records and takes back what a crash left between the lines: sandboxes that were half made, networks
  /// that a reboot took away, addresses that nobody holds.
  func recover() async throws(SkerryError) {
    let layout = layout
    let found = try await blocking { () throws(SkerryError) -> [(id: String, record: SandboxRecord?)] in
      for path in [layout.sandboxes, layout.addresses, layout.namespaces, layout.shm] {
        try Files.makeDirectory(path)
      }
      return Files.list(layout.sandboxes).map { id in
        let value = try? Records.read(layout.sandboxRecord(id))
        return (id, value.flatMap { try? SandboxRecord($0) })
      }
    }
    for (id, record) in found {
      guard var record, record.id == id else {
        log.warning(RuntimeLog.recordUnreadable, "sandbox \(id) has no readable record; what is left of it is removed")
        await discardUnknown(id)
        continue
      }
      records[id] = record
      if record.phase == .ready, try await isWhole(record) { continue }
      if record.phase == .stopped { continue }
      do throws(SkerryError) {
        try await dismantle(record)
        record.phase = .stopped
        record.addresses = []
        try await save(record)
      } catch {
        // It is reserved again: the next run or removal of it tries once more, and the other pods go on meanwhile.
        record.phase = .reserved
        records[id] = record
        log.warning(RuntimeLog.cleanup, "sandbox \(id) could not be taken down after a crash: \(error)")
      }
    }
    for id in Files.list(layout.namespaces) where records[id] == nil { await discardUnknown(id) }
    try await network.reclaim(known: Set(records.values.filter { $0.phase == .ready }.map(\.id)))
  }

  private func isWhole(_ record: SandboxRecord) async throws(SkerryError) -> Bool {
    let paths = namespaces(record).map(\.path) + [sharedMemory(record.id)]
    return try await blocking { () throws(SkerryError) in paths.allSatisfy { Mounts.isMountPoint($0) } }
  }

  private func discardUnknown(_ id: String) async {
    do throws(SkerryError) { try await discard(unknown: id) } catch {
      log.warning(RuntimeLog.cleanup, "what is left of sandbox \(id) could not be removed: \(error)")
    }
  }

  private func discard(unknown id: String) async throws(SkerryError) {
    // A host port that it may have had is unknown; portmap's DEL goes by the id.
    let mapping = PortMapping(hostPort: 1, containerPort: 1, transport: "tcp")
    try await network.detach(id, portMappings: [mapping], namespace: namespace(id, "net"))
    let paths = ["\(layout.namespaces)/\(id)", sharedMemory(id), directory(id)]
    try await blocking { () throws(SkerryError) in
      for path in paths {
        try Mounts.detach(path)
        try Files.removeTree(path)
      }
    }
  }
}

/// The text of the files under /etc that a pod gets.
enum PodFiles {
  static func hosts(_ hostname: String, addresses: [String]) -> String {
    var text = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
    for address in addresses { text += "\(address)\t\(hostname)\n" }
    return text
  }

  /// The pod's servers, else the machine's whole file (resolv.conf(5)).
  static func resolver(servers: [String], searches: [String], machine: String) -> String {
    guard !servers.isEmpty else { return machine }
    var text = servers.map { "nameserver \($0)\n" }.joined()
    if !searches.isEmpty { text += "search \(searches.joined(separator: " "))\n" }
    return text + "options ndots:5\n"
  }
}
