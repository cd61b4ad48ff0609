import Base
import ContainerRuntime
import ObjectModel

/// How a pod reaches the API of its node: a socket and a token, mounted into every container unless the pod says
/// `automountServiceAccountToken: false`.
package struct PodEdgeAPI: Sendable {
  /// Where a container finds `token`, `namespace` and `ca.crt`.
  package static let files = "/var/run/secrets/skerry.io/edge"
  /// Where a container finds the socket: a directory, so that it is there again after edgecore's restart.
  package static let socketDirectory = "/var/run/skerry"
  package static let socketName = "edge.sock"
  /// Its name among the pod's volumes; no volume of a pod can be called so.
  static let volume = "_edge-api"

  private let credentials: EdgeCredentials
  private let directory: String

  /// `directory` is the host's directory of the socket for pods.
  package init(credentials: EdgeCredentials, directory: String) {
    self.credentials = credentials
    self.directory = directory
  }

  static func isWanted(by facts: PodFacts) -> Bool {
    facts.pod.spec["automountServiceAccountToken"].bool != false
  }

  func files(_ facts: PodFacts) -> [VolumeFile] {
    [
      VolumeFile(path: "ca.crt", bytes: Bytes(credentials.caPEM.utf8), mode: 0o644),
      VolumeFile(path: "namespace", bytes: Bytes(facts.namespace.utf8), mode: 0o644),
      VolumeFile(path: "token", bytes: Bytes(credentials.podToken(uid: facts.uid).utf8), mode: 0o644),
    ]
  }

  /// `files` is the volume's path on the host. Where a runtime has no mounts, the host's own paths are told.
  func add(to config: inout ContainerConfig, files: String, hasMounts: Bool) {
    var (secrets, socket) = (files, "\(directory)/\(Self.socketName)")
    if hasMounts {
      // What the pod mounts there itself is its own business.
      let taken = Set(config.mounts.map(\.containerPath))
      guard !taken.contains(Self.files), !taken.contains(Self.socketDirectory) else { return }
      config.mounts.append(Mount(hostPath: files, containerPath: Self.files, readOnly: true))
      config.mounts.append(Mount(hostPath: directory, containerPath: Self.socketDirectory, readOnly: true))
      (secrets, socket) = (Self.files, "\(Self.socketDirectory)/\(Self.socketName)")
    }
    for (key, value) in [("SKERRY_EDGE", socket), ("SKERRY_EDGE_TOKEN_FILE", "\(secrets)/token")]
    where !config.environment.contains(where: { $0.key == key }) {
      config.environment.append((key, value))
    }
  }
}
