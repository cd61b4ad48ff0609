import Base
import EventLoop
import Glibc
import Identity
import ObjectModel

/// A cluster on this machine below one directory: what is in it, and how its daemons are started.
///
/// ```
/// DIR/config.yaml                  the administrator's context
/// DIR/pki/                         CA, serving certificate, sealing keys, admin.crt, admin.key
/// DIR/ports.json                   the ports that were chosen, kept over restarts
/// DIR/run.json                     pids of what `up` started: what `down` ends
/// DIR/cloud/                       cloudcore.yaml, data/, ready.json
/// DIR/nodes/NAME/                  edgecore.yaml, node.key, node.crt, data/, devices/
/// DIR/logs/                        a file a daemon
/// ```
struct LocalCluster: Sendable {
  let directory: String
  let nodes: [String]
  let runtime: String
  /// The node that has the sensor.
  var deviceNode: String { nodes[0] }

  init(directory: String, nodes: [String], runtime: String) {
    self.directory = directory
    self.nodes = nodes
    self.runtime = runtime
  }

  var pki: String { "\(directory)/pki" }
  var config: String { "\(directory)/config.yaml" }
  var cloud: String { "\(directory)/cloud" }
  var runFile: String { "\(directory)/run.json" }
  var logs: String { "\(directory)/logs" }
  func node(_ name: String) -> String { "\(directory)/nodes/\(name)" }
  func edgeConfig(_ name: String) -> String { "\(node(name))/edgecore.yaml" }

  /// Where the daemons' programs are: beside this one.
  static func program(_ name: String) throws(SkerryError) -> String {
    guard let own = Files.linkTarget("/proc/self/exe"), let slash = own.lastIndex(of: "/") else {
      throw SkerryError(.system, "cannot tell where this program is; is /proc mounted?")
    }
    let path = "\(own[..<slash])/\(name)"
    guard Files.exists(path) else {
      throw SkerryError(.notFound, "\(path) is missing; build it: make build")
    }
    return path
  }
}

/// A daemon of a local cluster.
struct LocalDaemon: Sendable {
  /// `cloudcore`, `edgecore/n1`, `devicecore/n1`, `device-modbus/n1`, `modbus-simulator`.
  var name: String
  var argv: [String]
  /// Written by the daemon once it serves; nil for those that say nothing.
  var readyFile: String?
  /// Base URL of metrics and health.
  var metrics: String?
}

/// The ports that a local cluster uses, chosen once.
struct LocalPorts: Sendable {
  var api: Int
  var cloudOperations: Int
  var modbus: Int
  /// Metrics of the device tier's daemons.
  var deviceOperations: Int
  var driverOperations: Int
  /// By node.
  var edgeOperations: [String: Int]

  static func load(_ cluster: LocalCluster) throws(SkerryError) -> LocalPorts? {
    let path = "\(cluster.directory)/ports.json"
    guard Files.exists(path) else { return nil }
    let value: Value
    do { value = try JSON.parse(try Files.read(path)) } catch {
      throw SkerryError(.corrupt, "\(path) cannot be read; remove it to choose new ports", cause: error)
    }
    func port(_ value: Value) -> Int { Int(clamping: value.int ?? 0) }
    var edges: [String: Int] = [:]
    for node in cluster.nodes { edges[node] = port(value["edges"][node]) }
    return LocalPorts(
      api: port(value["api"]), cloudOperations: port(value["cloud"]), modbus: port(value["modbus"]),
      deviceOperations: port(value["devices"]), driverOperations: port(value["driver"]), edgeOperations: edges)
  }

  func store(_ cluster: LocalCluster) throws(SkerryError) {
    var edges: Value = [:]
    for (node, port) in edgeOperations { edges[node] = .int(Int64(port)) }
    let value: Value = [
      "api": .int(Int64(api)), "cloud": .int(Int64(cloudOperations)), "modbus": .int(Int64(modbus)),
      "devices": .int(Int64(deviceOperations)), "driver": .int(Int64(driverOperations)), "edges": edges,
    ]
    try Files.writeDurably(
      "\(cluster.directory)/ports.json", Bytes(JSON.print(value).utf8), mode: 0o600)
  }

  /// Ports that are free now, all different: held open together while they are chosen.
  @LoopActor static func choose(_ nodes: [String]) throws(SkerryError) -> LocalPorts {
    var listeners: [StreamListener] = []
    defer { for listener in listeners { listener.close() } }
    func free() throws(SkerryError) -> Int {
      let listener = try TCPListener.listen(host: "127.0.0.1", port: 0)
      listeners.append(listener)
      return listener.boundPort
    }
    var edges: [String: Int] = [:]
    for node in nodes { edges[node] = try free() }
    return LocalPorts(
      api: try free(), cloudOperations: try free(), modbus: try free(),
      deviceOperations: try free(), driverOperations: try free(), edgeOperations: edges)
  }
}
