import Base
import EventLoop
import Glibc
import ObjectLog
import ObjectModel
import Wire

/// What the machine is and has, read from the system.
package struct NodeFacts: Sendable, Hashable {
  package var name: String
  package var address: String
  package var cpuCount: Int
  package var memoryBytes: Int64
  package var diskBytes: Int64
  package var maxPods: Int
  package var osImage: String
  package var kernelVersion: String
  package var machineID: String
  package var architecture: String
  package var runtime: String
  package var version: String
  package init(
    name: String, address: String, cpuCount: Int, memoryBytes: Int64, diskBytes: Int64, maxPods: Int, osImage: String,
    kernelVersion: String, machineID: String, architecture: String, runtime: String, version: String
  ) {
    self.name = name
    self.address = address
    self.cpuCount = cpuCount
    self.memoryBytes = memoryBytes
    self.diskBytes = diskBytes
    self.maxPods = maxPods
    self.osImage = osImage
    self.kernelVersion = kernelVersion
    self.machineID = machineID
    self.architecture = architecture
    self.runtime = runtime
    self.version = version
  }

  /// Reads `/proc`, `/etc/os-release` and `uname`. Blocking, and short.
  package static func read(
    name: String, address: String, dataDirectory: String, maxPods: Int, runtime: String, version: String
  ) -> NodeFacts {
    var system = utsname()
    uname(&system)
    func text(_ field: some Any) -> String {
      withUnsafeBytes(of: field) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    }
    var disk = statvfs()
    let found = statvfs(dataDirectory, &disk) == 0
    let memory = (Files.readText("/proc/meminfo") ?? "").split(separator: "\n").first { $0.hasPrefix("MemTotal:") }
    let kilobytes = memory?.split(separator: " ").dropFirst().first.flatMap { Int64($0) } ?? 0
    let release = (Files.readText("/etc/os-release") ?? "").split(separator: "\n")
    let pretty = release.first { $0.hasPrefix("PRETTY_NAME=") }?.dropFirst(12).filter { $0 != "\"" } ?? "Linux"
    let machine = text(system.machine)
    return NodeFacts(
      name: name, address: address, cpuCount: max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN))),
      memoryBytes: kilobytes * 1024, diskBytes: found ? Int64(disk.f_blocks) * Int64(disk.f_frsize) : 0,
      maxPods: maxPods, osImage: String(pretty), kernelVersion: text(system.release),
      machineID: (Files.readText("/etc/machine-id") ?? "").split(separator: "\n").first.map(String.init) ?? "",
      architecture: machine == "x86_64" ? "amd64" : machine == "aarch64" ? "arm64" : machine, runtime: runtime,
      version: version)
  }

  /// The Node's status as the node tells it. Pure.
  package func status(since: WallTime) -> Value {
    let resources: Value = [
      "cpu": .string(String(cpuCount)), "memory": .string("\(memoryBytes / 1024)Ki"),
      "ephemeral-storage": .string("\(diskBytes / 1024)Ki"), "pods": .string(String(maxPods)),
    ]
    let time = Value.string(Timestamp.format(since))
    func condition(_ type: String, _ status: String, _ reason: String, _ message: String) -> Value {
      [
        "type": .string(type), "status": .string(status), "reason": .string(reason), "message": .string(message),
        "lastHeartbeatTime": time, "lastTransitionTime": time,
      ]
    }
    return [
      "capacity": resources, "allocatable": resources,
      "addresses": [
        ["type": "InternalIP", "address": .string(address)], ["type": "Hostname", "address": .string(name)],
      ],
      "conditions": [
        condition("MemoryPressure", "False", "EdgeHasSufficientMemory", "edgecore has sufficient memory available"),
        condition("DiskPressure", "False", "EdgeHasNoDiskPressure", "edgecore has no disk pressure"),
        condition("PIDPressure", "False", "EdgeHasSufficientPID", "edgecore has sufficient PID available"),
        condition("Ready", "True", "EdgeReady", "edgecore is posting ready status"),
      ],
      "nodeInfo": [
        "architecture": .string(architecture), "bootID": "", "containerRuntimeVersion": .string(runtime),
        "kernelVersion": .string(kernelVersion), "kubeProxyVersion": "", "kubeletVersion": .string(version),
        "machineID": .string(machineID), "operatingSystem": "linux", "osImage": .string(osImage), "systemUUID": "",
      ],
    ]
  }
}

/// Tells the node's own status, and tells it again whenever the cloud shows something else: a node that was taken for
/// dead says so itself.
@LoopActor package final class NodeStatusReporter {
  private let facts: NodeFacts
  private let replica: any ObjectLog
  private let reporter: NodeReporter
  private let scheduler: any Scheduler
  private let since: WallTime
  private var observation: ObservationID?
  /// Conditions besides the usual ones, by type.
  private var conditions: [String: Value] = [:]
  private var key: String { "nodes//\(facts.name)" }

  package init(facts: NodeFacts, replica: any ObjectLog, reporter: NodeReporter, scheduler: any Scheduler) {
    self.facts = facts
    self.replica = replica
    self.reporter = reporter
    self.scheduler = scheduler
    since = scheduler.wall
  }

  package func start() {
    observation = replica.observe { [weak self] entries in
      guard let self, entries.contains(where: { $0.key == self.key }) else { return }
      self.look()
    }
    look()
  }

  /// Tells a condition of the node; told as "False" with that reason while nothing is the matter.
  package func set(condition type: String, isTrue: Bool, reason: String, message: String) {
    let (old, status) = (conditions[type], isTrue ? "True" : "False")
    if let old, old["status"].string == status, old["message"].string == message { return }
    // What never was the matter need not be said; what an earlier process said has to be taken back.
    if old == nil, !isTrue, !isShown(condition: type) { return }
    let time = Value.string(Timestamp.format(scheduler.wall))
    conditions[type] = [
      "type": .string(type), "status": .string(status), "reason": .string(reason), "message": .string(message),
      "lastHeartbeatTime": time, "lastTransitionTime": time,
    ]
    look()
  }

  /// Whether the cloud shows the condition as true.
  private func isShown(condition type: String) -> Bool {
    guard let stored = try? replica.read(key, at: nil), let bytes = stored.status,
      let status = try? CBOR.decode(bytes)
    else { return false }
    return (status["conditions"].array ?? []).contains { $0["type"].string == type && $0["status"].string == "True" }
  }

  package func stop() {
    if let observation { replica.cancelObservation(observation) }
  }

  private func look() {
    guard let stored = try? replica.read(key, at: nil), let body = try? CBOR.decode(stored.body) else { return }
    let shown = stored.status.flatMap { try? CBOR.decode($0) } ?? .null
    var own = facts.status(since: since)
    if !conditions.isEmpty {
      let more = conditions.sorted { $0.key < $1.key }.map(\.value)
      own["conditions"] = .array((own["conditions"].array ?? []) + more)
    }
    if !OwnStatus.isShown(own, in: shown) { reporter.assertAgain(key: key) }
    reporter.tell(key: key, uid: Object(body).uid, status: own)
  }
}
