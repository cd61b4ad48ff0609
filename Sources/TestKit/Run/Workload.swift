import API
import APIClient
import Base
import EdgeAgent
import ObjectModel
import Transport

/// What operators do: they create, change and delete objects, bind pods to nodes and let them go, and note every answer.
@LoopActor package final class Workload {
  package static let caller = Caller(user: "operator", groups: [Caller.adminGroup], node: nil, origin: .inProcess)
  private unowned let world: SimWorld
  private let random: SeededRandom
  private var pods: [String: String] = [:]
  private var nextPod = 0
  private var nextEvent = 0
  private let names: Int
  package private(set) var writes: UInt64 = 0
  package private(set) var refused: UInt64 = 0

  package init(_ world: SimWorld) {
    self.world = world
    random = SeededRandom.stream(world.seed, "workload")
    names = max(4, min(40, world.knobs.edges * 2))
  }

  // MARK: At the start

  /// What the cluster has before anything goes wrong.
  package func furnish() async {
    for index in 0..<names where random.chance(80) { await createMap(index) }
    await create(
      "devicemodels.devices.kubeedge.io",
      [
        "apiVersion": "devices.kubeedge.io/v1beta1", "kind": "DeviceModel", "metadata": ["name": "counter"],
        "spec": ["protocol": "sim", "properties": [["name": "count", "type": "INT", "accessMode": "ReadOnly"]]],
      ])
    for node in world.nodes.prefix(world.knobs.devices) { await createDevice(node) }
    for node in world.nodes {
      for _ in 0..<world.knobs.podsPerEdge where random.chance(70) { await createPod(on: node.name) }
    }
  }

  private func createDevice(_ node: SimNode) async {
    let name = "device-\(node.name)"
    node.hasDevice = await create(
      "devices.devices.kubeedge.io",
      [
        "apiVersion": "devices.kubeedge.io/v1beta1", "kind": "Device", "metadata": ["name": .string(name)],
        "spec": [
          "nodeName": .string(node.name), "deviceModelRef": ["name": "counter"], "protocol": ["protocolName": "sim"],
          "properties": [["name": "count"]],
        ],
      ])
  }

  // MARK: While it runs

  package func start() {
    schedule(mean: world.knobs.writeEvery) { await self.act() }
    schedule(mean: .seconds(90)) { self.tellEvent() }
    schedule(mean: .seconds(120)) { await self.probe() }
  }

  private func schedule(mean: Duration, _ body: @escaping @LoopActor () async -> Void) {
    world.time.schedule(after: random.duration(mean / 10, mean * 19 / 10)) { [weak self] in
      guard let self, self.world.isWorking else { return }
      spawn { await body() }
      self.schedule(mean: mean, body)
    }
  }

  private func act() async {
    let index = random.between(0, names - 1)
    switch random.below(100) {
    case 0..<16: await createMap(missingMap ?? index)
    case 16..<40: await changeMap(index)
    case 40..<44: await delete(resource(index), name(of: index))
    case 44..<52: await recreateMap(index)
    case 52..<74: if let node = random.pick(world.nodes) { await createPod(on: node.name) }
    case 74..<90: await deletePod()
    case 90..<96: await relabelPod()
    default: if let node = random.pick(world.nodes.filter(\.hasDevice)) { await changeDevice(node) }
    }
  }

  private func name(of index: Int) -> String { "m\(index)" }
  private func resource(_ index: Int) -> String { index % 3 == 0 ? "secrets" : "configmaps" }

  private func data() -> Value {
    let text = random.bytes(random.between(4, random.chance(5) ? 4000 : 60)).hex
    return ["k": .string(text)]
  }

  private func map(_ index: Int) -> Value {
    let secret = index % 3 == 0
    var object: Value = [
      "apiVersion": "v1", "kind": secret ? "Secret" : "ConfigMap",
      "metadata": ["name": .string(name(of: index)), "labels": ["tier": random.chance(50) ? "a" : "b"]],
    ]
    object[secret ? "stringData" : "data"] = data()
    return object
  }

  /// One that does not exist, if any.
  private var missingMap: Int? {
    let states = world.validator.history.states
    return (0..<names).first { states["\(resource($0))/default/\(name(of: $0))"] == nil }
  }

  private func createMap(_ index: Int) async { _ = await create(resource(index), map(index)) }

  private func changeMap(_ index: Int) async {
    var patch: Value = [:]
    if random.chance(70) { patch[index % 3 == 0 ? "stringData" : "data"] = data() }
    if random.chance(40) { patch["metadata"] = ["labels": ["tier": random.chance(50) ? "a" : "b"]] }
    await self.patch(resource(index), name(of: index), patch)
  }

  private func recreateMap(_ index: Int) async {
    await delete(resource(index), name(of: index))
    await createMap(index)
  }

  private func createPod(on node: String) async {
    guard pods.values.filter({ $0 == node }).count < world.knobs.podsPerEdge + 2 else { return await deletePod() }
    let reused = random.chance(30) ? random.between(1, max(1, nextPod)) : nil
    if reused == nil { nextPod += 1 }
    let name = "p\(reused ?? nextPod)"
    guard pods[name] == nil else { return }
    var sources: [Value] = []
    var volumes: [Value] = []
    for _ in 0..<random.between(0, 3) {
      let index = random.between(0, names - 1)
      let (secret, object) = (index % 3 == 0, Value.string(self.name(of: index)))
      if random.chance(60) {
        sources.append(secret ? ["secretRef": ["name": object]] : ["configMapRef": ["name": object]])
      } else {
        let volume: Value = secret ? ["secret": ["secretName": object]] : ["configMap": ["name": object]]
        var named = volume
        named["name"] = .string("v\(volumes.count)")
        volumes.append(named)
      }
    }
    let done = await create(
      "pods",
      [
        "apiVersion": "v1", "kind": "Pod",
        "metadata": ["name": .string(name), "labels": ["tier": random.chance(50) ? "a" : "b"]],
        "spec": [
          "nodeName": .string(node), "terminationGracePeriodSeconds": .int(Int64(random.between(0, 5))),
          "containers": [["name": "c", "image": "registry.test/app:1", "envFrom": .array(sources)]],
          "volumes": .array(volumes),
        ],
      ])
    if done { pods[name] = node }
  }

  private func deletePod() async {
    guard let name = random.pick(pods.keys.sorted()) else { return }
    if await delete("pods", name) { pods[name] = nil }
  }

  private func relabelPod() async {
    guard let name = random.pick(pods.keys.sorted()) else { return }
    await patch("pods", name, ["metadata": ["labels": ["tier": random.chance(50) ? "a" : "b"]]])
  }

  private func changeDevice(_ node: SimNode) async {
    let value = Value.string(String(random.below(1000)))
    await patch(
      "devices.devices.kubeedge.io", "device-\(node.name)",
      ["spec": ["properties": [["name": "count", "desired": ["value": value]]]]])
  }

  private func tellEvent() {
    if let node = random.pick(world.nodes) { tellEvent(of: node) }
  }

  /// Something happens on a node that happens once.
  package func tellEvent(of node: SimNode) {
    guard let edge = node.edge, edge.process.isAlive else { return }
    nextEvent += 1
    let message = "once \(nextEvent)"
    let object = Object(["metadata": ["name": .string(node.name), "uid": .string(node.name)]])
    edge.reporter.event(
      regarding: object, apiVersion: "v1", kind: "Node", type: "Normal", reason: "Simulated", message: message)
    world.time.schedule(after: .milliseconds(300)) { [weak self] in
      guard let self, edge.process.isAlive, edge.holdsEvent(message) else { return }
      self.world.ledger.told(event: message, node: node.name)
    }
  }

  /// A node asks for a secret, as a stolen one would: it may see those that its pods refer to and no others.
  private func probe() async {
    guard let node = random.pick(world.nodes), let edge = node.edge, let session = edge.link.current, session.isReady
    else { return }
    let key = "secrets/default/m\(random.between(0, names / 3) * 3)"
    let (before, position) = (world.validator.history.model.sees(node.name, key), world.validator.history.position)
    do throws(APIError) {
      _ = try await APIClient(session: session).get(
        ObjectReference(resource: "secrets", namespace: "default", name: String(key.dropFirst(16))),
        caller: .node(node.name, origin: .network))
      // What it refers to may have changed under the question.
      let model = world.validator.history.model
      let changed = (model.deltas[node.name] ?? []).contains { $0.position >= position }
      world.judge.check(
        .authorised, before || changed || model.sees(node.name, key),
        "\(node.name) was given \(key), which is not its to see")
    } catch {
      if error.reason == .forbidden { world.judge.check(.authorised, true, "") }
    }
  }

  // MARK: Calls

  private var server: (any API)? {
    world.cloud?.process.isAlive == true && world.cloudServes ? world.cloud?.server : nil
  }

  /// Notes the answer, if the process that gave it still lived.
  private func write(
    _ what: String, _ body: @LoopActor (any API) async throws(APIError) -> APIObject
  ) async -> Bool {
    guard let server, let process = world.cloud?.process else { return false }
    let epoch = world.validator.history.epoch
    do throws(APIError) {
      let object = try await body(server)
      guard process.isAlive else { return false }
      writes += 1
      world.trace.note("\(what) -> \(object.revision)")
      world.validator.history.acknowledge(object.revision, epoch: epoch)
      return true
    } catch {
      refused += 1
      if error.reason != .notFound, error.reason != .alreadyExists {
        world.trace.note("\(what) -> \(error.reason.rawValue) \(error.message)")
      }
      return false
    }
  }

  @discardableResult
  private func create(_ resource: String, _ object: Value) async -> Bool {
    await write("create \(resource) \(object["metadata"]["name"].string ?? "")") { server throws(APIError) in
      try await server.create(resource: resource, namespace: "default", object: object, caller: Self.caller)
    }
  }

  @discardableResult
  private func patch(_ resource: String, _ name: String, _ patch: Value) async -> Bool {
    await write("patch \(resource) \(name)") { server throws(APIError) in
      try await server.patch(
        ObjectReference(resource: resource, namespace: "default", name: name), type: .merge, patch: patch,
        subresource: "", caller: Self.caller)
    }
  }

  @discardableResult
  private func delete(_ resource: String, _ name: String) async -> Bool {
    await write("delete \(resource) \(name)") { server throws(APIError) in
      try await server.delete(
        ObjectReference(resource: resource, namespace: "default", name: name), options: DeleteOptions(),
        caller: Self.caller)
    }
  }

  // MARK: At the end

  /// Makes every object that some pod waits for, so that each pod can run.
  package func complete() async {
    // The cloud's disk may have been full until a moment ago, and its log does not write yet.
    for _ in 0..<60 {
      for index in 0..<names { await createMap(index) }
      if missingMap == nil { return }
      await world.pass(.seconds(1))
    }
  }
}
