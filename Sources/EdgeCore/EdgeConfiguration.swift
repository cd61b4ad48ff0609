import Base
import EdgeAgent
import EventLoop
import Logging
import Wire

/// Everything about an edgecore that can be set; docs/operations.md lists each key with its default.
package struct EdgeConfiguration: Sendable {
  package enum Runtime: String, Sendable, CaseIterable {
    /// runc under conmon; needs root.
    case oci
    /// Plain processes, for machines without privileges.
    case process
  }

  package var node: String
  /// Addresses of the cloud, tried in turn.
  package var cloud: [HostPort]
  package var data: String
  /// What must stay on memory: files of Secrets and ConfigMaps.
  package var volatile: String
  package var ca: String
  package var certificate: String
  package var key: String
  /// Seals the replica's Secrets; outside the data directory.
  package var sealingKeys: String
  package var socket: String
  /// The edge API's TLS port on loopback.
  package var api: HostPort
  package var operations: HostPort
  /// The node's address as other machines reach it.
  package var address: String
  package var runtime: Runtime
  package var podSubnet: String?
  package var maxPods: Int
  /// How long what a cloud with another history does not know goes on.
  package var unknownGrace: Duration
  /// Uids besides root that may use the edge socket.
  package var socketUsers: Set<UInt32>
  package var labels: [String: String]
  package var logLevel: Logger.Level
  package var readyFile: String?
  /// How the node speaks with the cloud.
  package var profile: LinkProfile

  package init(_ settings: Settings) throws(SkerryError) {
    var settings = settings
    node = try settings.required("node")
    let targets = try settings.list("cloud")
    guard !targets.isEmpty else { throw SkerryError(.invalidArgument, "the configuration lacks cloud: [HOST:PORT]") }
    cloud = []
    for target in targets { cloud.append(try HostPort(target)) }
    data = try settings.required("data")
    volatile = try settings.string("volatile", or: "/run/skerry/\(node)")
    ca = try settings.required("ca")
    certificate = try settings.required("cert")
    key = try settings.required("key")
    sealingKeys = try settings.string("sealing-keys", or: "\(key.parentPath)/sealing.keys")
    socket = try settings.string("socket", or: "\(data)/edge.sock")
    api = try HostPort(try settings.string("api", or: "127.0.0.1:6444"))
    operations = try HostPort(try settings.string("operations", or: "127.0.0.1:6081"))
    address = try settings.string("address", or: "127.0.0.1")
    let name = try settings.string("runtime", or: "oci")
    guard let runtime = Runtime(rawValue: name) else {
      let known = Runtime.allCases.map(\.rawValue).joined(separator: ", ")
      throw SkerryError(.invalidArgument, "runtime: \"\(name)\" is none of \(known)")
    }
    self.runtime = runtime
    podSubnet = try settings.string("pod-subnet")
    maxPods = try settings.int("max-pods", or: 110, in: 1...PodManager.maxPods)
    unknownGrace = try settings.duration("unknown-grace", or: UnknownGrace.usual)
    socketUsers = []
    for user in try settings.list("socket-users") {
      guard let uid = UInt32(user) else { throw SkerryError(.invalidArgument, "socket-users: \"\(user)\" is no uid") }
      socketUsers.insert(uid)
    }
    labels = [:]
    for label in try settings.list("labels") {
      let parts = label.split(separator: "=", maxSplits: 1).map(String.init)
      guard parts.count == 2 else { throw SkerryError(.invalidArgument, "labels: \"\(label)\" is not KEY=VALUE") }
      labels[parts[0]] = parts[1]
    }
    logLevel = try LogLevel.parse(try settings.string("log-level", or: "info"))
    readyFile = try settings.string("ready-file")
    profile = try Self.profile(&settings)
    try settings.finish()
  }

  private static func profile(_ settings: inout Settings) throws(SkerryError) -> LinkProfile {
    let name = try settings.string("profile", or: LinkProfile.Name.default.rawValue)
    guard let known = LinkProfile.Name(rawValue: name) else {
      let names = LinkProfile.Name.allCases.map(\.rawValue).joined(separator: ", ")
      throw SkerryError(.invalidArgument, "profile: \"\(name)\" is none of \(names)")
    }
    var profile = LinkProfile(known)
    func rate(_ key: String) throws(SkerryError) -> Int? {
      let size = try settings.bytes(key, or: 0)
      return size > 0 ? Int(min(size, 1 << 40)) : nil
    }
    profile.rates.total = try rate("budget")
    for priority in [Priority.status, .telemetry, .bulk] {
      profile.rates.classes[priority] = try rate("budget-\(priority)")
    }
    return profile
  }
}
