import Base
import ContainerRuntime
import EdgeAgent
import EventLoop
import Glibc
import Logging
import ObjectLog
import ObjectModel
import Testing
import Wire

/// A node with a replica in memory and a runtime in memory.
@LoopActor private final class Node {
  let loop = Loop.startShared()
  let replica: MemoryObjectLog
  let runtime: FakeRuntime
  let manager: PodManager
  let recorder = Recorder()
  let directory: String
  private var position: UInt64 = 0
  private let log: LogID

  final class Recorder: PodReporter {
    var statuses: [String: Value] = [:]
    var gone: [String] = []
    var onChange: (() -> Void)?
    func podStatus(key: String, uid: String, status: Value) {
      statuses[uid] = status
      onChange?()
    }
    func podShown(key: String, uid: String, status: Value) {}
    func podGone(key: String, uid: String) {
      gone.append(uid)
      onChange?()
    }
    func event(regarding: Object, apiVersion: String, kind: String, type: String, reason: String, message: String) {}
  }

  init() throws {
    let random = SystemRandom()
    directory = "/tmp/skerry-agent-\(random.bytes(8).hex)"
    replica = MemoryObjectLog(role: .follower, random: random)
    log = LogID(random: random)
    runtime = FakeRuntime(scheduler: loop)
    manager = PodManager(
      replica: replica, runtime: runtime,
      volumes: PodVolumeStore(root: "\(directory)/pods", volatileRoot: "\(directory)/volatile"), reporter: recorder,
      scheduler: loop, logger: Logger(label: "test"),
      configuration: PodManager.Configuration(nodeName: "n1", hostIP: "10.0.0.1", logRoot: "\(directory)/logs"))
  }

  /// Joins the replica to a log, as the first session does.
  func join() async {
    position = 1
    await withCheckedContinuation { continuation in
      replica.replace(position: Cursor(log: log, epoch: 1, position: 1), objects: []) { error in
        #expect(error == nil)
        continuation.resume()
      }
    }
  }

  func apply(_ key: String, _ value: Value?) async {
    position += 1
    let old = try? replica.read(key, at: nil)
    let stored = value.map {
      StoredObject(
        body: CBOR.encode($0), status: nil, meta: [], bodyRevision: position, statusRevision: 0,
        createRevision: old?.createRevision ?? position)
    }
    guard let object = stored ?? old else { return }
    let type: EntryType = value == nil ? .deleted : old == nil ? .created : .modified
    let entry = Entry(
      position: position, index: 0, key: key, revision: position, previousRevision: old?.revision ?? 0, type: type,
      object: object, previousMeta: old?.meta)
    let cursor = Cursor(log: log, epoch: 1, position: position)
    await withCheckedContinuation { continuation in
      replica.apply(position: cursor, entries: [entry], privates: []) { error in
        #expect(error == nil)
        continuation.resume()
      }
    }
  }

  /// Waits until `condition` holds, looking whenever the node tells something; at most 10 s.
  func until(_ what: String, _ condition: @escaping @LoopActor () -> Bool) async throws {
    if condition() { return }
    let box = Waiting()
    try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
      box.continuation = continuation
      let timer = loop.schedule(after: .seconds(10)) {
        box.finish(SkerryError(.timeout, "timed out waiting until \(what)"))
      }
      recorder.onChange = {
        guard condition() else { return }
        self.loop.cancel(timer)
        box.finish(nil)
      }
    }
    recorder.onChange = nil
  }

  @LoopActor final class Waiting {
    var continuation: CheckedContinuation<Void, any Error>?
    func finish(_ error: (any Error)?) {
      guard let waiting = continuation else { return }
      continuation = nil
      if let error { waiting.resume(throwing: error) } else { waiting.resume() }
    }
  }

  func end() {
    manager.stop()
    try? Files.removeTree(directory)
  }
}

@Suite struct PodManagerTests {
  private static func pod(
    _ uid: String, name: String = "p", map: String = "c", deleted: Bool = false
  ) -> Value {
    var metadata: Value = ["name": .string(name), "namespace": "a", "uid": .string(uid)]
    if deleted {
      metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
      metadata["deletionGracePeriodSeconds"] = 1
    }
    return [
      "apiVersion": "v1", "kind": "Pod", "metadata": metadata,
      "spec": [
        "restartPolicy": "Always", "volumes": [["name": "v", "configMap": ["name": .string(map)]]],
        "containers": [
          [
            "name": "main", "image": "web:1",
            "env": [["name": "X", "valueFrom": ["configMapKeyRef": ["name": .string(map), "key": "x"]]]],
            "volumeMounts": [["name": "v", "mountPath": "/etc/c"]],
          ]
        ],
      ],
    ]
  }
  @LoopActor private static func phase(_ node: Node, _ uid: String) -> String? {
    node.recorder.statuses[uid]?["phase"].string
  }

  @Test func aPodRunsIsUpdatedAndGoes() async throws {
    try await onLoop {
      let node = try Node()
      defer { node.end() }
      try await node.manager.start()
      await node.join()
      await node.apply("pods/a/p", Self.pod("u1"))
      // Its ConfigMap is not there yet.
      try await node.until("the pod waits for its ConfigMap") {
        node.recorder.statuses["u1"]?["containerStatuses"][0]["state"]["waiting"]["message"].string?
          .contains("configmap \"c\" not found") == true
      }
      await node.apply("configmaps/a/c", ["metadata": ["name": "c"], "data": ["x": "1"]])
      try await node.until("the pod runs") { Self.phase(node, "u1") == "Running" }
      let path = "\(node.directory)/volatile/u1/files/v/x"
      #expect(Files.readText(path) == "1")
      await node.apply("configmaps/a/c", ["metadata": ["name": "c"], "data": ["x": "2"]])
      await node.apply("pods/a/p", Self.pod("u1", deleted: true))
      try await node.until("the pod is gone") { node.recorder.gone == ["u1"] }
      #expect(try await node.runtime.containers().isEmpty)
      #expect(try await node.runtime.sandboxes().isEmpty)
      #expect(!Files.exists("\(node.directory)/volatile/u1"))
    }
  }

  @Test func aCrashIsRestartedAndCounted() async throws {
    try await onLoop {
      let node = try Node()
      defer { node.end() }
      try await node.manager.start()
      await node.join()
      await node.apply("configmaps/a/c", ["metadata": ["name": "c"], "data": ["x": "1"]])
      await node.apply("pods/a/p", Self.pod("u1"))
      try await node.until("the pod runs") { Self.phase(node, "u1") == "Running" }
      node.runtime.exit("u1_main_0", code: 3)
      try await node.until("it runs again") {
        let status = node.recorder.statuses["u1"]?["containerStatuses"][0] ?? .null
        return status["restartCount"].int == 1 && !status["state"]["running"].isNull
      }
      let last = node.recorder.statuses["u1"]?["containerStatuses"][0]["lastState"]["terminated"] ?? .null
      #expect(last["exitCode"].int == 3)
    }
  }

  @Test func aPodMadeAnewUnderTheSameNameReplacesTheOld() async throws {
    try await onLoop {
      let node = try Node()
      defer { node.end() }
      try await node.manager.start()
      await node.join()
      await node.apply("configmaps/a/c", ["metadata": ["name": "c"], "data": ["x": "1"]])
      await node.apply("pods/a/p", Self.pod("u1"))
      try await node.until("the first runs") { Self.phase(node, "u1") == "Running" }
      await node.apply("pods/a/p", Self.pod("u2"))
      try await node.until("the second runs and the first is gone") {
        Self.phase(node, "u2") == "Running" && node.recorder.gone == ["u1"]
      }
    }
  }

  @Test func aConfigMapThatChangesReachesThePodsThatUseItAlone() async throws {
    try await onLoop {
      let node = try Node()
      defer { node.end() }
      try await node.manager.start()
      await node.join()
      let listings = node.runtime.listings
      for map in ["c", "d"] { await node.apply("configmaps/a/\(map)", Self.map(map, "1")) }
      await node.apply("pods/a/p", Self.pod("u1"))
      await node.apply("pods/a/q", Self.pod("u2", name: "q", map: "d"))
      try await node.until("both run") { Self.phase(node, "u1") == "Running" && Self.phase(node, "u2") == "Running" }
      let (mine, others) = (node.runtime.looks["u1"], node.runtime.looks["u2"])
      await node.apply("configmaps/a/c", Self.map("c", "2"))
      await node.apply("configmaps/a/unused", Self.map("unused", "1"))
      // The pod looks again and is told of; nothing tells of the others.
      try await node.until("the pod was looked at") { node.runtime.looks["u1"] != mine }
      #expect(node.runtime.looks["u2"] == others)
      // What the whole node has is asked for at its start alone.
      #expect(node.runtime.listings == listings)
    }
  }

  @Test func aPodFindsItsConfigMapAmongMany() async throws {
    try await onLoop {
      let node = try Node()
      defer { node.end() }
      try await node.manager.start()
      await node.join()
      for number in 0..<1_100 { await node.apply("configmaps/a/m\(number)", Self.map("m\(number)", "1")) }
      await node.apply("configmaps/a/z", Self.map("z", "1"))
      await node.apply("pods/a/p", Self.pod("u1", map: "z"))
      try await node.until("the pod runs") { Self.phase(node, "u1") == "Running" }
    }
  }

  private static func map(_ name: String, _ value: String) -> Value {
    ["metadata": ["name": .string(name), "namespace": "a"], "data": ["x": .string(value)]]
  }

  @Test func whatNoPodNamesIsRemovedAtTheStart() async throws {
    try await onLoop {
      let node = try Node()
      defer { node.end() }
      _ = try await node.runtime.runSandbox(
        SandboxConfig(
          id: "old-0", podName: "gone", podNamespace: "a", podUID: "old", hostname: "gone", logDirectory: "/tmp/none",
          labels: [PodLabels.podUID: "old", PodLabels.podName: "gone", PodLabels.podNamespace: "a"]))
      try await node.manager.start()
      try await node.until("the orphan is gone") { node.recorder.gone == ["old"] }
      #expect(try await node.runtime.sandboxes().isEmpty)
    }
  }
}

@Suite struct OwnStatusTests {
  @Test func conditionsCountByTypeAndStatusAndForeignFieldsNotAtAll() {
    let own: Value = [
      "phase": "Running", "conditions": [["type": "Ready", "status": "True", "lastTransitionTime": "a"]],
    ]
    var shown: Value = [
      "phase": "Running", "qosClass": "Burstable",
      "conditions": [["type": "PodScheduled", "status": "True"], ["type": "Ready", "status": "True"]],
    ]
    #expect(OwnStatus.isShown(own, in: shown))
    shown["conditions"] = [["type": "Ready", "status": "False"]]
    #expect(!OwnStatus.isShown(own, in: shown))
    shown["conditions"] = own["conditions"]
    shown["phase"] = "Unknown"
    #expect(!OwnStatus.isShown(own, in: shown))
  }
}
