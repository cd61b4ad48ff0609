import Base

/// What is kept of a sandbox on disk. It is written, as `reserved`, before anything of it is made, so that a start
/// after a crash knows what to take back.
struct SandboxRecord: Sendable, Hashable, GroupedRecord {
  enum Phase: String, Sendable {
    /// Namespaces and addresses may have been made.
    case reserved
    case ready
    /// Its network was taken down.
    case stopped
  }

  var id: String
  var podUID: String
  var podName: String
  var podNamespace: String
  var hostname: String
  var hostNetwork: Bool
  var portMappings: [PortMapping]
  var logDirectory: String
  var labels: [String: String]
  var phase: Phase
  var addresses: [String] = []
  var createdAt: WallTime

  var groups: [RecordGroup] { [.pod(podUID)] }

  init(_ config: SandboxConfig, createdAt: WallTime) {
    id = config.id
    podUID = config.podUID
    podName = config.podName
    podNamespace = config.podNamespace
    hostname = config.hostname
    hostNetwork = config.hostNetwork
    portMappings = config.portMappings
    logDirectory = config.logDirectory
    labels = config.labels
    phase = .reserved
    self.createdAt = createdAt
  }

  var value: Value {
    [
      "version": 1, "id": .string(id), "podUID": .string(podUID), "podName": .string(podName),
      "podNamespace": .string(podNamespace), "hostname": .string(hostname), "hostNetwork": .bool(hostNetwork),
      "logDirectory": .string(logDirectory), "labels": Value(labels), "phase": .string(phase.rawValue),
      "addresses": .array(addresses.map { .string($0) }), "createdAt": .int(createdAt.nanoseconds),
      "portMappings": .array(portMappings.map(\.value)),
    ]
  }

  init(_ value: Value) throws(SkerryError) {
    guard value["version"].int == 1 else {
      throw SkerryError(.unsupportedVersion, "the sandbox record has version \(value["version"].int ?? 0), not 1")
    }
    guard let id = value["id"].string, let podUID = value["podUID"].string, let created = value["createdAt"].int,
      let phase = Phase(rawValue: value["phase"].string ?? "")
    else { throw SkerryError(.corrupt, "the sandbox record lacks fields") }
    self.id = id
    self.podUID = podUID
    podName = value["podName"].string ?? ""
    podNamespace = value["podNamespace"].string ?? ""
    hostname = value["hostname"].string ?? ""
    hostNetwork = value["hostNetwork"].bool ?? false
    portMappings = (value["portMappings"].array ?? []).compactMap(PortMapping.init)
    logDirectory = value["logDirectory"].string ?? ""
    labels = value["labels"].stringMap
    self.phase = phase
    addresses = (value["addresses"].array ?? []).compactMap(\.string)
    createdAt = WallTime(nanoseconds: created)
  }
}

extension PortMapping {
  /// As the portmap plugin takes it in `runtimeConfig` (CNI conventions, "port mappings").
  var value: Value {
    [
      "hostPort": .int(Int64(hostPort)), "containerPort": .int(Int64(containerPort)),
      "protocol": .string(transport.lowercased()),
    ]
  }

  init?(_ value: Value) {
    guard let host = value["hostPort"].int, let container = value["containerPort"].int else { return nil }
    self.init(hostPort: Int(host), containerPort: Int(container), transport: value["protocol"].string ?? "tcp")
  }
}
