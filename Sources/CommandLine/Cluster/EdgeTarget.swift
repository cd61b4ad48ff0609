import Base
import EventLoop
import Foundation

/// A node's own API as `--edge` names it: a Unix socket, or HOST:PORT on loopback.
struct EdgeTarget: Sendable, Hashable {
  /// The socket of a node whose data directory is the packages'.
  static let defaultSocket = "/var/lib/skerry/edge.sock"
  /// Where a pod finds its token and its namespace.
  static let podFiles = "/var/run/secrets/skerry.io/edge"
  /// Stands for the value where `--edge` has none.
  static let byDefault = "default"

  /// `--edge` may stand without a value: then one is put behind it that says so, since the parser wants one.
  static func completed(_ arguments: [String]) -> [String] {
    var out: [String] = []
    for (index, argument) in arguments.enumerated() {
      if argument == "--" { return out + arguments[index...] }
      out.append(argument)
      guard argument == "--edge" else { continue }
      let next = index + 1 < arguments.count ? arguments[index + 1] : ""
      let isTarget = next == byDefault || next.contains(":") || next.hasPrefix("/") || next.hasPrefix(".")
      if !isTarget { out.append(byDefault) }
    }
    return out
  }

  /// What a connection needs: the place, and for all but the operator's socket a token and the node's CA.
  static func endpoint(_ globals: GlobalOptions, _ variables: [String: String]) throws(SkerryError) -> ClusterEndpoint {
    var place = globals.edge ?? byDefault
    if place == byDefault { place = variables["SKERRY_EDGE"] ?? defaultSocket }
    if place.hasPrefix("unix:") { place = String(place.dropFirst(5)) }
    let isSocket = place.hasPrefix("/") || place.hasPrefix(".")
    var endpoint = ClusterEndpoint(server: isSocket ? "unix:\(place)" : place)
    let tokenPath = globals.edgeToken ?? variables["SKERRY_EDGE_TOKEN_FILE"] ?? inPod("token")
    if let tokenPath { endpoint.token = try Files.text(tokenPath).trimmingCharacters(in: .whitespacesAndNewlines) }
    guard !isSocket else { return endpoint }
    guard let caPath = globals.edgeCa ?? variables["SKERRY_EDGE_CA"] ?? inPod("ca.crt") else {
      throw SkerryError(
        .invalidArgument,
        "\(place) needs the node's CA and a token: --edge-ca and --edge-token, both in DATA/edge-api of that edgecore")
    }
    endpoint.caPEM = try Files.text(caPath)
    return endpoint
  }

  private static func inPod(_ name: String) -> String? {
    let path = "\(podFiles)/\(name)"
    return FileManager.default.isReadableFile(atPath: path) ? path : nil
  }

  /// The namespace of the pod that this runs in.
  static func podNamespace() -> String? {
    guard let path = inPod("namespace") else { return nil }
    return try? Files.text(path).trimmingCharacters(in: .whitespacesAndNewlines)
  }
}
