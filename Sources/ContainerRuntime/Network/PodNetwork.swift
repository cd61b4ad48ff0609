import Base
import EventLoop
import Glibc
import ObjectModel

/// Gives sandboxes their network by the standard CNI plugins (github.com/containernetworking/cni, spec 1.0.0):
/// loopback; bridge with host-local addresses; portmap for host ports.
@LoopActor final class PodNetwork {
  /// Where distributions and the CNI project install plugins.
  nonisolated static let pluginDirectories = ["/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"]
  private static let interface = "eth0"

  private let layout: RuntimeLayout
  private let tool: Tool
  private let wanted: String?
  private var subnet: Subnet?
  private let gates = Gates()

  /// `subnet` is an operator's choice, such as `10.42.1.0/24`; without one it is chosen once and kept.
  init(_ layout: RuntimeLayout, tool: Tool, subnet: String?) {
    self.layout = layout
    self.tool = tool
    wanted = subnet
  }

  // MARK: the subnet

  /// The subnet of this data directory's pods: the operator's, else the one that was kept, else a free one.
  func prepare() async throws(SkerryError) {
    if let wanted {
      guard let given = Subnet(wanted), given.length <= 28 else {
        throw SkerryError(.invalidArgument, "podSubnet \"\(wanted)\" is not an IPv4 network such as 10.42.1.0/24")
      }
      subnet = given
      return
    }
    let layout = layout
    subnet = try await blocking { () throws(SkerryError) in
      if let text = (try? Records.read(layout.networkFile))?["podSubnet"].string, let kept = Subnet(text) {
        return kept
      }
      let routes = SubnetPlan.routes(Files.readText("/proc/net/route") ?? "")
      let chosen = try SubnetPlan.choose(seed: layout.seed, routes: routes)
      try Records.write(layout.networkFile, ["version": 1, "podSubnet": .string(chosen.description)])
      return chosen
    }
  }

  // MARK: attach and detach

  /// Joins the namespace `path` to the network; answers its addresses. What a failure leaves is for `detach`.
  func attach(_ record: SandboxRecord, namespace path: String) async throws(SkerryError) -> [String] {
    try await gates.with("cni") { () throws(SkerryError) in
      try await removeBrokenBridge()
      _ = try await call("loopback", "ADD", record.id, path, "lo", loopback)
      var result = try await call("bridge", "ADD", record.id, path, Self.interface, try bridge())
      if !record.portMappings.isEmpty {
        var config = portmap(record.portMappings)
        config["prevResult"] = result
        result = try await call("portmap", "ADD", record.id, path, Self.interface, config)
      }
      let addresses = (result["ips"].array ?? []).compactMap { $0["address"].string }
      guard !addresses.isEmpty else { throw SkerryError(.system, "the bridge plugin gave the pod no address") }
      return addresses.map { String($0.prefix { $0 != "/" }) }
    }
  }

  /// Takes back whatever `attach` has done for that id, also half; safe to repeat.
  func detach(_ id: String, portMappings: [PortMapping], namespace path: String) async throws(SkerryError) {
    try await gates.with("cni") { () throws(SkerryError) in
      // Without the namespace the plugins still give the address back.
      let there = try await blocking { () throws(SkerryError) in Mounts.isMountPoint(path) }
      let namespace = there ? path : ""
      do throws(SkerryError) {
        try await delete(id, portMappings, namespace)
      } catch {
        // The bridge plugin's DEL fails for good when its ADD was killed half-way through the NAT rules: it asks
        // iptables to delete a rule that was never made. Without rules, and with its first DEL having taken the
        // interface away, the second has nothing to fail at.
        try await removeRules(of: id)
        try await delete(id, portMappings, namespace)
      }
      // A DEL that was killed after it took the interface away, but before all NAT rules, leaves the rest for good: the
      // next one finds no interface, hence no address, and asks for nothing.
      try await removeRules(of: id)
    }
  }

  private func delete(_ id: String, _ portMappings: [PortMapping], _ namespace: String) async throws(SkerryError) {
    if !portMappings.isEmpty {
      _ = try await call("portmap", "DEL", id, namespace, Self.interface, portmap(portMappings))
    }
    _ = try await call("bridge", "DEL", id, namespace, Self.interface, try bridge())
  }

  /// The plugin gives the bridge its own address once more, so that it does not change with its ports. Killed before
  /// that, the bridge falls back to the zero address with its last port, and every later ADD fails on it.
  private func removeBrokenBridge() async throws(SkerryError) {
    guard let address = Files.readText("/sys/class/net/\(layout.bridge)/address", limit: 64),
      address.allSatisfy({ $0 == "0" || $0 == ":" || $0 == "\n" })
    else { return }
    try await tool.run(["ip", "link", "delete", layout.bridge])
  }

  /// Removes the NAT rules and chains of one sandbox, or of all, by what they say of themselves.
  func removeRules(of id: String? = nil) async throws(SkerryError) {
    var chains: [String] = []
    if let id {
      // The plugins name a sandbox's chains by this; one that was just made has no rule yet to be found by.
      let sum = try await tool.run(["sha512sum"], input: Bytes("\(layout.networkName)\(id)".utf8))
      let hash = String(decoding: sum.prefix(24), as: UTF8.self)
      chains = ["CNI-\(hash)", "CNI-DN-\(hash.prefix(21))"]
    }
    let saved = String(decoding: try await tool.run(["iptables-save", "-t", "nat"]), as: UTF8.self)
    for command in NATRules.removal(saved, network: layout.networkName, id: id, more: chains) {
      try await tool.run(["iptables", "-w", "-t", "nat"] + command)
    }
  }

  /// Frees addresses that no sandbox in `known` holds. A plugin that was killed between making its reservation's
  /// file and writing the holder's id into it leaves an empty one, which no DEL can find.
  func reclaim(known: Set<String>) async throws(SkerryError) {
    let directory = "\(layout.addresses)/\(layout.networkName)"
    try await blocking { () throws(SkerryError) in
      for name in Files.list(directory) where name.utf8.first.map({ $0 >= 0x30 && $0 <= 0x39 }) == true {
        let holder = Files.readText("\(directory)/\(name)", limit: 4096) ?? ""
        let id = holder.split(whereSeparator: \.isNewline).first.map(String.init) ?? ""
        if !known.contains(id) { try Files.removeFile("\(directory)/\(name)") }
      }
    }
  }

  // MARK: configurations

  private let loopback: Value = ["cniVersion": "1.0.0", "name": "lo", "type": "loopback"]

  private func bridge() throws(SkerryError) -> Value {
    guard let subnet else { throw SkerryError(.internal, "the pod network was used before it was prepared") }
    return [
      "cniVersion": "1.0.0", "name": .string(layout.networkName), "type": "bridge", "bridge": .string(layout.bridge),
      "isGateway": true, "ipMasq": true, "hairpinMode": true,
      "ipam": [
        "type": "host-local", "dataDir": .string(layout.addresses), "routes": [["dst": "0.0.0.0/0"]],
        "ranges": [[["subnet": .string(subnet.description)]]],
      ],
    ]
  }

  private func portmap(_ mappings: [PortMapping]) -> Value {
    [
      "cniVersion": "1.0.0", "name": .string(layout.networkName), "type": "portmap",
      "capabilities": ["portMappings": true],
      "runtimeConfig": ["portMappings": .array(mappings.map(\.value))],
    ]
  }

  private func call(
    _ plugin: String, _ command: String, _ id: String, _ namespace: String, _ interface: String, _ config: Value
  ) async throws(SkerryError) -> Value {
    let directories = Self.pluginDirectories.filter { Files.exists($0) }
    guard let directory = directories.first(where: { Files.exists("\($0)/\(plugin)") }) else {
      throw SkerryError(
        .system, "the CNI plugin \(plugin) is in none of \(Self.pluginDirectories.joined(separator: ", ")): install it")
    }
    let environment = [
      "CNI_COMMAND": command, "CNI_CONTAINERID": id, "CNI_NETNS": namespace, "CNI_IFNAME": interface,
      "CNI_PATH": directories.joined(separator: ":"),
    ]
    do throws(SkerryError) {
      let output = try await tool.run(
        ["\(directory)/\(plugin)"], environment: environment, input: JSON.bytes(config))
      return output.isEmpty ? .null : try Self.parse(output)
    } catch {
      throw SkerryError(error.code, "CNI \(command) of plugin \(plugin) for sandbox \(id)", cause: error)
    }
  }

  private static func parse(_ output: Bytes) throws(SkerryError) -> Value {
    do { return try JSON.parse(output) } catch {
      throw SkerryError(.system, "the plugin's answer is not JSON", cause: error)
    }
  }
}
