import Base
import EventLoop
import Identity
import ObjectModel

/// Makes what a local cluster's daemons read: keys, certificates and configuration. What is there is kept.
@LoopActor struct LocalFiles {
  let cluster: LocalCluster
  let ports: LocalPorts
  let now: WallTime
  let random: any RandomSource

  func write() throws(SkerryError) {
    for path in [cluster.pki, cluster.cloud, cluster.logs] { try Files.makeDirectory(path, mode: 0o700) }
    let pki =
      ClusterPKI.exists(in: cluster.pki)
      ? try ClusterPKI.load(directory: cluster.pki)
      : try ClusterPKI.create(directory: cluster.pki, hosts: [], now: now, random: random)
    try writeAdministrator(pki)
    try writeCloud()
    for node in cluster.nodes { try writeNode(node, pki) }
  }

  private func writeAdministrator(_ pki: ClusterPKI) throws(SkerryError) {
    if !Files.exists("\(cluster.pki)/admin.key") {
      let client = try pki.issueClient(name: "admin", role: "admin", now: now, random: random)
      try PrivateFile.write(Bytes(client.certificatePEM.utf8), path: "\(cluster.pki)/admin.crt", mode: 0o644)
      try PrivateFile.write(Bytes(client.keyPEM.utf8), path: "\(cluster.pki)/admin.key")
    }
    var configuration = ClientConfiguration()
    configuration.set(
      .init(
        name: "local", server: "127.0.0.1:\(ports.api)", ca: "pki/ca.crt", cert: "pki/admin.crt", key: "pki/admin.key"))
    try configuration.save(cluster.config)
  }

  private func writeCloud() throws(SkerryError) {
    try writeSettings(
      "\(cluster.cloud)/cloudcore.yaml",
      [
        ("listen", "127.0.0.1:\(ports.api)"), ("operations", "127.0.0.1:\(ports.cloudOperations)"),
        ("data", "\(cluster.cloud)/data"), ("pki", cluster.pki), ("ready-file", "\(cluster.cloud)/ready.json"),
        // Everybody is on one machine: come back at once.
        ("reconnect-spread", "500ms"),
      ])
  }

  private func writeNode(_ node: String, _ pki: ClusterPKI) throws(SkerryError) {
    let directory = cluster.node(node)
    try Files.makeDirectory("\(directory)/devices", mode: 0o700)
    if !Files.exists("\(directory)/node.key") {
      let key = try KeyPair.generate()
      let certificate = try pki.authority.issue(
        publicKey: key.publicKey, subject: .node(node), usage: .client, lifetime: .seconds(30 * 86_400), now: now,
        random: random)
      try PrivateFile.write(Bytes(certificate.pem.utf8), path: "\(directory)/node.crt", mode: 0o644)
      try PrivateFile.write(Bytes(pki.authority.certificate.pem.utf8), path: "\(directory)/ca.crt", mode: 0o644)
      try PrivateFile.write(Bytes(key.pem.utf8), path: "\(directory)/node.key")
    }
    try writeSettings(
      cluster.edgeConfig(node),
      [
        ("node", node), ("cloud", "127.0.0.1:\(cloudPort(node))"), ("data", "\(directory)/data"),
        ("volatile", volatile(node)), ("ca", "\(directory)/ca.crt"), ("cert", "\(directory)/node.crt"),
        ("key", "\(directory)/node.key"), ("sealing-keys", "\(directory)/sealing.keys"),
        ("socket", "\(volatile(node))/edge.sock"), ("api", "127.0.0.1:0"), ("runtime", cluster.runtime),
        ("operations", "127.0.0.1:\(ports.edgeOperations[node] ?? 0)"), ("ready-file", "\(directory)/ready.json"),
      ])
  }

  /// A relay may stand between a node and the cloud: `DIR/nodes/NAME/cloud-port` holds its port.
  private func cloudPort(_ node: String) -> Int {
    let text = Files.readText("\(cluster.node(node))/cloud-port") ?? ""
    return Int(text.filter(\.isNumber)) ?? ports.api
  }

  /// On memory, and short: a Unix socket's path holds 107 bytes.
  func volatile(_ node: String) -> String {
    var hash: UInt64 = 0xcbf2_9ce4_8422_2325
    for byte in "\(cluster.directory)/\(node)".utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
    var bytes: Bytes = []
    bytes.append(bigEndian: hash)
    let base = Files.isWritable("/run") ? "/run" : "/dev/shm"
    return "\(base)/skerry-up-\(bytes.hex)"
  }

  private func writeSettings(_ path: String, _ pairs: [(String, String)]) throws(SkerryError) {
    let text = pairs.map { "\($0.0): \"\($0.1)\"\n" }.joined()
    try PrivateFile.write(Bytes(text.utf8), path: path, mode: 0o644)
  }

  /// The daemons in the order in which they are started.
  func daemons() throws(SkerryError) -> [LocalDaemon] {
    var daemons = [
      LocalDaemon(
        name: "cloudcore",
        argv: [try LocalCluster.program("cloudcore"), "--config", "\(cluster.cloud)/cloudcore.yaml"],
        readyFile: "\(cluster.cloud)/ready.json", metrics: "http://127.0.0.1:\(ports.cloudOperations)")
    ]
    for node in cluster.nodes {
      daemons.append(
        LocalDaemon(
          name: "edgecore/\(node)", argv: [try LocalCluster.program("edgecore"), "--config", cluster.edgeConfig(node)],
          readyFile: "\(cluster.node(node))/ready.json",
          metrics: "http://127.0.0.1:\(ports.edgeOperations[node] ?? 0)"))
    }
    return daemons + (try deviceDaemons())
  }

  private func deviceDaemons() throws(SkerryError) -> [LocalDaemon] {
    let node = cluster.deviceNode
    let driverSocket = "\(volatile(node))/devices.sock"
    return [
      LocalDaemon(
        name: "modbus-simulator",
        argv: [
          try LocalCluster.program("modbus-simulator"), "--port", "\(ports.modbus)", "--log",
          "\(cluster.logs)/modbus-served.log",
        ], readyFile: nil, metrics: nil),
      served(
        "devicecore/\(node)", port: ports.deviceOperations,
        [
          try LocalCluster.program("devicecore"), "--data", "\(cluster.node(node))/devices", "--edge-socket",
          "\(volatile(node))/edge.sock", "--driver-socket", driverSocket,
        ]),
      served(
        "device-modbus/\(node)", port: ports.driverOperations,
        [try LocalCluster.program("device-modbus"), "--socket", driverSocket]),
    ]
  }

  /// A daemon of the device tier with its metrics and ready file.
  private func served(_ name: String, port: Int, _ argv: [String]) -> LocalDaemon {
    let ready = "\(cluster.node(cluster.deviceNode))/\(name.prefix { $0 != "/" })-ready.json"
    return LocalDaemon(
      name: name, argv: argv + ["--operations", "127.0.0.1:\(port)", "--ready-file", ready], readyFile: ready,
      metrics: "http://127.0.0.1:\(port)")
  }
}
