import Base
import EventLoop
import ObjectModel

/// What is kept of a container on disk, written before it is made. Neither its environment nor its command is here:
/// either may hold a secret, and both are needed only until its start.
struct ContainerRecord: Sendable, Hashable, GroupedRecord {
  enum Phase: String, Sendable {
    /// Its directory stands; no process yet.
    case created
    /// conmon may have been started, and the process too.
    case starting
    case running
    case exited
    /// It ran, and nobody knows how it ended.
    case unknown
  }

  var id: String
  var sandboxID: String
  var name: String
  var attempt: Int
  var image: String
  var labels: [String: String]
  var logPath: String
  var cgroupPath: String?
  var stopSignal: Int32
  /// conmon's name for this start; unique.
  var token: String
  var phase: Phase
  var createdAt: WallTime
  var startedAt: WallTime?
  var finishedAt: WallTime?
  var pid: Int32?
  /// See `Processes.startTicks`.
  var startTicks: UInt64?
  var exitCode: Int32?
  var reason: String?

  var groups: [RecordGroup] { [.sandbox(sandboxID)] + (labels[RuntimeLabels.podUID].map { [.pod($0)] } ?? []) }

  var status: ContainerStatus {
    let state: ContainerStatus.State =
      switch phase {
      case .created, .starting: .created
      case .running: pid.map { .running(pid: $0) } ?? .unknown
      case .exited: .exited(code: exitCode ?? -1, reason: reason ?? "Error")
      case .unknown: .unknown
      }
    return ContainerStatus(
      id: id, sandboxID: sandboxID, name: name, attempt: attempt, image: image, state: state, createdAt: createdAt,
      startedAt: startedAt, finishedAt: finishedAt, logPath: logPath, cgroupPath: cgroupPath, labels: labels)
  }
}

extension ContainerRecord {
  /// The version of the record's form; a newer one is refused.
  static let version: Int64 = 1

  var value: Value {
    var value: Value = [
      "version": .int(Self.version), "id": .string(id), "sandbox": .string(sandboxID), "name": .string(name),
      "attempt": .int(Int64(attempt)), "image": .string(image), "labels": Value(labels), "log": .string(logPath),
      "stopSignal": .int(Int64(stopSignal)), "token": .string(token), "phase": .string(phase.rawValue),
      "createdAt": .int(createdAt.nanoseconds),
    ]
    value["cgroup"] = cgroupPath.map { .string($0) } ?? .null
    value["startedAt"] = startedAt.map { .int($0.nanoseconds) } ?? .null
    value["finishedAt"] = finishedAt.map { .int($0.nanoseconds) } ?? .null
    value["pid"] = pid.map { .int(Int64($0)) } ?? .null
    value["startTicks"] = startTicks.map { .int(Int64($0)) } ?? .null
    value["exitCode"] = exitCode.map { .int(Int64($0)) } ?? .null
    value["reason"] = reason.map { .string($0) } ?? .null
    return value
  }

  init(_ value: Value) throws(SkerryError) {
    guard value["version"].int == Self.version else {
      throw SkerryError(.unsupportedVersion, "the container record has version \(value["version"].int ?? 0), not 1")
    }
    guard let id = value["id"].string, let sandbox = value["sandbox"].string, let name = value["name"].string,
      let attempt = value["attempt"].int, let image = value["image"].string, let log = value["log"].string,
      let token = value["token"].string, let phase = Phase(rawValue: value["phase"].string ?? ""),
      let created = value["createdAt"].int, let stop = value["stopSignal"].int
    else { throw SkerryError(.corrupt, "the container record lacks fields") }
    self.id = id
    sandboxID = sandbox
    self.name = name
    self.attempt = Int(attempt)
    self.image = image
    labels = value["labels"].stringMap
    logPath = log
    cgroupPath = value["cgroup"].string
    stopSignal = Int32(truncatingIfNeeded: stop)
    self.token = token
    self.phase = phase
    createdAt = WallTime(nanoseconds: created)
    startedAt = value["startedAt"].int.map { WallTime(nanoseconds: $0) }
    finishedAt = value["finishedAt"].int.map { WallTime(nanoseconds: $0) }
    pid = value["pid"].int.map { Int32(truncatingIfNeeded: $0) }
    startTicks = value["startTicks"].int.map { UInt64(bitPattern: $0) }
    exitCode = value["exitCode"].int.map { Int32(truncatingIfNeeded: $0) }
    reason = value["reason"].string
  }
}

/// Records as JSON files, replaced durably.
enum Records {
  static func write(_ path: String, _ value: Value) throws(SkerryError) {
    try Files.writeDurably(path, JSON.bytes(value))
  }

  static func read(_ path: String) throws(SkerryError) -> Value {
    do {
      return try JSON.parse(try Files.read(path))
    } catch let error as SkerryError {
      throw error
    } catch {
      throw SkerryError(.corrupt, "\(path) is not JSON; remove it if it cannot be repaired", cause: error)
    }
  }
}
