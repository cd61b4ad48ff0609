import API
import Base
import ContainerRuntime
import EventLoop
import Logging
import ObjectLog
import ObjectModel
import Wire

/// Every pod of the node: one worker a uid, driven by the replica and by the runtime's events, never by the cloud.
@LoopActor package final class PodManager: PodHost {
  package struct Configuration: Sendable {
    package var nodeName: String
    package var hostIP: String
    /// Containers' logs: `<logRoot>/<pod uid>/<container>/<attempt>.log`.
    package var logRoot: String
    package init(nodeName: String, hostIP: String, logRoot: String) {
      self.nodeName = nodeName
      self.hostIP = hostIP
      self.logRoot = logRoot
    }
  }

  /// Pods a node runs; what is placed beyond it is not started and says so in the log.
  package nonisolated static let maxPods = 500
  /// All pods are looked at once in this time, whatever events were missed.
  static let resync = Duration.seconds(60)

  package let runtime: any ContainerRuntime
  package let volumes: PodVolumeStore
  package let scheduler: any Scheduler
  package let logger: Logger
  private let replica: any ObjectLog
  private let reporter: any PodReporter
  private let configuration: Configuration
  private var workers: [String: PodWorker] = [:]
  /// The uids of the workers of a pod's key: two while a pod that was made anew waits for the old one to go.
  private var uidsByKey: [String: Set<String>] = [:]
  /// Which workers' pods refer to a ConfigMap or Secret, by its key.
  private var users = ReferenceIndex()
  private var observation: ObservationID?
  private var resyncTimer: TimerID?
  /// How pods reach the edge API; nil: they do not.
  package var edgeAPI: PodEdgeAPI?
  /// A pod is done with and has no worker any more.
  package var onFinished: ((_ uid: String) -> Void)?

  package var logRoot: String { configuration.logRoot }
  package var nodeName: String { configuration.nodeName }
  package var hostIP: String { configuration.hostIP }

  package init(
    replica: any ObjectLog, runtime: any ContainerRuntime, volumes: PodVolumeStore, reporter: any PodReporter,
    scheduler: any Scheduler, logger: Logger, configuration: Configuration
  ) {
    self.replica = replica
    self.runtime = runtime
    self.volumes = volumes
    self.reporter = reporter
    self.scheduler = scheduler
    self.logger = logger
    self.configuration = configuration
  }

  /// Takes up what runs, then follows the replica. Needs no cloud.
  package func start() async throws(SkerryError) {
    try await runtime.recover()
    runtime.onEvent = { [weak self] id in self?.containerChanged(id) }
    observation = replica.observe { [weak self] entries in self?.published(entries) }
    try takeUpPods()
    try await takeUpOrphans()
    scheduleResync()
  }

  package func stop() {
    if let observation { replica.cancelObservation(observation) }
    if let resyncTimer { scheduler.cancel(resyncTimer) }
    runtime.onEvent = nil
    for worker in workers.values { worker.stop() }
    workers = [:]
    uidsByKey = [:]
  }

  private func takeUpPods() throws(SkerryError) {
    var after: String?
    while true {
      let page = try replica.list(prefix: "pods/", at: nil, after: after, limit: 500)
      for (key, object) in page.objects { consider(key, object) }
      guard page.more, let last = page.objects.last else { return }
      after = last.key
    }
  }

  /// What runs here and is in nobody's spec any more has to end; its worker knows it by its labels alone.
  private func takeUpOrphans() async throws(SkerryError) {
    var found: [String: [String: String]] = [:]
    for sandbox in try await runtime.sandboxes() { found[sandbox.podUID] = sandbox.labels }
    for container in try await runtime.containers() {
      if let uid = container.labels[PodLabels.podUID] { found[uid] = found[uid] ?? container.labels }
    }
    for uid in volumes.podUIDs() where found[uid] == nil { found[uid] = [PodLabels.podUID: uid] }
    for (uid, labels) in found where workers[uid] == nil {
      let namespace = labels[PodLabels.podNamespace] ?? ""
      let name = labels[PodLabels.podName] ?? uid
      let object = Object([
        "metadata": ["name": .string(name), "namespace": .string(namespace), "uid": .string(uid)],
        "spec": ["containers": []],
      ])
      add("pods/\(namespace)/\(name)", object)
    }
  }

  private func consider(_ key: String, _ stored: StoredObject) {
    do throws(SkerryError) {
      let object = try decode(stored)
      if let worker = workers[object.uid] {
        users.set(object, uid: object.uid)
        return worker.poke()
      }
      guard workers.count < Self.maxPods else {
        return logger.error(
          EdgeLog.podStep, "pod \(key) is not started: this node already runs its limit of \(Self.maxPods) pods")
      }
      add(key, object)
    } catch {
      logger.error(EdgeLog.podUnreadable, "pod \(key) in the replica cannot be read: \(error)")
    }
  }

  private func add(_ key: String, _ object: Object) {
    let worker = PodWorker(key: key, pod: object, host: self)
    workers[object.uid] = worker
    uidsByKey[key, default: []].insert(object.uid)
    users.set(object, uid: object.uid)
    worker.poke()
  }

  private func decode(_ stored: StoredObject) throws(SkerryError) -> Object {
    var value = try CBOR.decode(stored.body)
    if let status = stored.status { value["status"] = try CBOR.decode(status) }
    return Object(value)
  }

  // MARK: What happens

  private func published(_ entries: [Entry]) {
    for entry in entries {
      if entry.key.hasPrefix("pods/") {
        if entry.type != .deleted {
          shown(entry)
          consider(entry.key, entry.object)
        }
        // Also the old uid of a pod that was made anew under the same name: it has to go.
        for worker in workers(entry.key) { worker.poke() }
      } else {
        for uid in users[entry.key] { workers[uid]?.inputsChanged() }
      }
    }
  }

  private func workers(_ key: String) -> [PodWorker] { (uidsByKey[key] ?? []).compactMap { workers[$0] } }

  /// Somebody else may have changed what the node owns: then the worker, which is poked next, tells it again.
  private func shown(_ entry: Entry) {
    guard let bytes = entry.object.status, let status = try? CBOR.decode(bytes),
      let worker = workers(entry.key).first
    else { return }
    reporter.podShown(key: entry.key, uid: worker.uid, status: status)
  }

  private func containerChanged(_ id: String) {
    guard let uid = id.split(separator: "_").first else { return }
    workers[String(uid)]?.poke()
  }

  private func scheduleResync() {
    resyncTimer = scheduler.schedule(after: Self.resync) { [weak self] in
      guard let self else { return }
      for worker in self.workers.values { worker.poke() }
      self.scheduleResync()
    }
  }

  // MARK: PodHost

  package func pod(key: String, uid: String) throws(SkerryError) -> Object? {
    guard let stored = try replica.read(key, at: nil) else { return nil }
    let object = try decode(stored)
    return object.uid == uid ? object : nil
  }

  package func sources(namespace: String) -> PodSources {
    // Only what a pod names is read.
    PodSources(
      configMap: { [self] in object("configmaps/\(namespace)/\($0)") },
      secret: { [self] in object("secrets/\(namespace)/\($0)") })
  }

  /// nil if it is not there or cannot be read: either way the pod cannot have it.
  private func object(_ key: String) -> Object? {
    guard let stored = try? replica.read(key, at: nil) else { return nil }
    do throws(SkerryError) { return try decode(stored) } catch {
      logger.error(EdgeLog.podUnreadable, "\(key) in the replica cannot be read: \(error)")
      return nil
    }
  }

  package func credentials(for facts: PodFacts) -> RegistryCredentials? {
    let sources = sources(namespace: facts.namespace)
    for reference in facts.pod.spec["imagePullSecrets"].array ?? [] {
      guard let secret = sources.secret(reference["name"].string ?? "") else { continue }
      if let credentials = PullSecret.credentials(secret, image: facts.containers.first?.image ?? "") {
        return credentials
      }
    }
    return nil
  }

  package func statusChanged(key: String, uid: String, status: Value) {
    reporter.podStatus(key: key, uid: uid, status: status)
  }

  package func finished(key: String, uid: String, wasDeleted: Bool) {
    workers[uid] = nil
    uidsByKey[key]?.remove(uid)
    if uidsByKey[key]?.isEmpty == true { uidsByKey[key] = nil }
    users.remove(uid: uid)
    reporter.podGone(key: key, uid: uid)
    onFinished?(uid)
  }

  /// The pod of a uid that is on this node.
  package func pod(uid: String) -> Object? {
    guard let worker = workers[uid] else { return nil }
    return (try? pod(key: worker.key, uid: uid)) ?? nil
  }

  package func event(_ pod: Object, type: String, reason: String, message: String) {
    reporter.event(
      regarding: pod, apiVersion: "v1", kind: "Pod", type: type, reason: reason, message: message)
  }

  /// How many pods have a worker, for metrics.
  package var count: Int { workers.count }
}

/// Where the node's word on its pods goes.
@LoopActor package protocol PodReporter: AnyObject {
  func podStatus(key: String, uid: String, status: Value)
  /// The cloud shows this status.
  func podShown(key: String, uid: String, status: Value)
  func podGone(key: String, uid: String)
  func event(regarding: Object, apiVersion: String, kind: String, type: String, reason: String, message: String)
}

/// Secrets of type `kubernetes.io/dockerconfigjson`.
enum PullSecret {
  static func credentials(_ secret: Object, image: String) -> RegistryCredentials? {
    guard let text = secret.value["data"][".dockerconfigjson"].string, let bytes = Base64.decode(text),
      let config = try? JSON.parse(bytes)
    else { return nil }
    let registry = image.split(separator: "/").first.map(String.init) ?? ""
    let entry = config["auths"][registry]
    if let user = entry["username"].string, let password = entry["password"].string {
      return RegistryCredentials(username: user, password: password)
    }
    guard let auth = entry["auth"].string.flatMap(Base64.decode) else { return nil }
    let parts = String(decoding: auth, as: UTF8.self).split(separator: ":", maxSplits: 1).map(String.init)
    return parts.count == 2 ? RegistryCredentials(username: parts[0], password: parts[1]) : nil
  }
}
