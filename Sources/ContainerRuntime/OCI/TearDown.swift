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
    try await blocking { () throws(SkerryError) in
      Processes.killMarked("\(layout.helperMark.name)=\(layout.helperMark.value)")
      try Self.killContainers(layout)
      Processes.killMarked("\(layout.monitorMark.name)=\(layout.monitorMark.value)")
    }
    try await releaseNetworks()
    try await blocking { () throws(SkerryError) in
      for path in [layout.root, layout.volatile] { try Mounts.detach(path) }
      for path in [layout.volatile, layout.containers, layout.sandboxes, layout.exits, layout.addresses] {
        try Files.removeTree(path)
      }
      try Files.removeFile(layout.networkFile)
      Self.removeCgroups(layout)
    }
    try await removeBridge()
    close()
  }

  /// A killed process leaves its cgroup a moment later.
  private nonisolated static let maxRounds = 400
  private nonisolated static let roundMicroseconds: UInt32 = 5_000

  private nonisolated static func killContainers(_ layout: RuntimeLayout) throws(SkerryError) {
    for _ in 0..<maxRounds {
      let found = Cgroups.processes(layout.cgroupParent)
      if found.isEmpty { return }
      for pid in found { kill(pid, SIGKILL) }
      usleep(roundMicroseconds)
    }
    throw SkerryError(.system, "processes in the cgroup \(layout.cgroupParent) could not be killed")
  }

  private nonisolated static func removeCgroups(_ layout: RuntimeLayout) {
    for _ in 0..<maxRounds {
      Cgroups.removeTree(layout.cgroupParent)
      if !Cgroups.hierarchies().contains(where: { Files.exists("\($0)\(layout.cgroupParent)") }) { return }
      usleep(roundMicroseconds)
    }
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
        log.warning("the network of sandbox \(record.id) could not be released: \(error)")
      }
    }
  }

  private func removeBridge() async throws(SkerryError) {
    if Files.exists("/sys/class/net/\(layout.bridge)") { try await tool.run(["ip", "link", "delete", layout.bridge]) }
    let saved = try await tool.run(["iptables-save", "-t", "nat"])
    for command in NATRules.removal(String(decoding: saved, as: UTF8.self), network: layout.networkName) {
      try await tool.run(["iptables", "-w", "-t", "nat"] + command)
    }
  }
}

/// What the CNI plugins leave in the NAT table when nobody took a sandbox down in order.
enum NATRules {
  /// The iptables commands that remove each rule with a comment of that network, and the chains that such rules jump
  /// to and that are the plugins' per-sandbox ones.
  static func removal(_ saved: String, network: String) -> [[String]] {
    var deletions: [[String]] = []
    var chains: [String] = []
    for line in saved.split(separator: "\n") where line.hasPrefix("-A ") {
      guard line.contains("name: \\\"\(network)\\\"") else { continue }
      let words = split(String(line))
      deletions.append(["-D"] + words.dropFirst())
      if let jump = words.firstIndex(of: "-j"), jump + 1 < words.count {
        let target = words[jump + 1]
        let shared = target.hasPrefix("CNI-HOSTPORT")
        if target.hasPrefix("CNI-"), !shared, !chains.contains(target) { chains.append(target) }
      }
    }
    return deletions + chains.map { ["-F", $0] } + chains.map { ["-X", $0] }
  }

  /// The words of a line of iptables-save: separated by spaces, with `"…"` around some and `\"` in them.
  static func split(_ line: String) -> [String] {
    var words: [String] = []
    var word = ""
    var (quoted, escaped, started) = (false, false, false)
    for character in line {
      if escaped {
        word.append(character)
        escaped = false
      } else if character == "\\" {
        escaped = true
      } else if character == "\"" {
        quoted.toggle()
        started = true
      } else if character == " " && !quoted {
        if started { words.append(word) }
        (word, started) = ("", false)
      } else {
        word.append(character)
        started = true
      }
    }
    if started { words.append(word) }
    return words
  }
}
