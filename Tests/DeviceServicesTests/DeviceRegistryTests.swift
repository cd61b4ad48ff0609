import API
import APIServer
import Base
import DeviceConformance
import DeviceSDK
import DeviceServices
import EventLoop
import Logging
import ObjectLog
import ObjectModel
import Testing

/// The registry over an API server in memory, with a store, and with a driver once the bench's link is started.
@LoopActor private final class RegistryWorld {
  let loop = Loop.startShared()
  let server: APIServer
  let bench: DeviceBench
  let registry: DeviceRegistry
  var hub: DriverHub { bench.hub }
  var store: ReadingStore { bench.store }
  private let caller = Caller.controller("test")

  init(patience: Duration) async throws {
    let (random, logger) = (SeededRandom(seed: 1), quietLogger())
    server = APIServer(
      log: MemoryObjectLog(random: random), authorizer: HouseAuthorizer(logger: logger), scheduler: loop,
      random: random, logger: logger)
    try await server.bootstrap()
    bench = try DeviceBench()
    registry = DeviceRegistry(
      api: server, caller: caller, hub: bench.hub, desired: bench.desired, store: bench.store, scheduler: loop,
      random: random, logger: logger, modelPatience: patience)
    registry.start()
  }

  func make(_ resource: String, _ object: Value) async throws {
    _ = try await server.create(resource: resource, namespace: "default", object: object, caller: caller)
  }
  /// With a desired level if there is one.
  func makeDevice(level: String? = nil) async throws {
    var property: Value = ["name": "level", "visitors": ["protocolName": "memory", "configData": ["cell": "level"]]]
    if let level { property["desired"] = ["value": .string(level)] }
    try await make(
      Device.resource,
      [
        "metadata": ["name": "d"],
        "spec": [
          "deviceModelRef": ["name": "m"], "nodeName": "n1",
          "protocol": ["protocolName": "memory", "configData": ["bank": "a"]], "properties": [property],
        ],
      ])
  }
  func makeModel(accessMode: Value = "ReadOnly") async throws {
    try await make(
      DeviceModel.resource,
      [
        "metadata": ["name": "m"],
        "spec": ["protocol": "memory", "properties": [["name": "level", "type": "INT", "accessMode": accessMode]]],
      ])
  }
  func deleteModel() async throws {
    _ = try await server.delete(
      ObjectReference(resource: DeviceModel.resource, namespace: "default", name: "m"),
      options: DeleteOptions(), caller: caller)
  }

  func readings() async throws -> [Reading] {
    try await store.perform { log throws(SkerryError) in
      try log.page(incarnation: nil, after: 0, limit: 100)
    }?.readings.map(\.reading) ?? []
  }

  func until(_ what: String, _ condition: @LoopActor () async throws -> Bool) async throws {
    let end = loop.now + .seconds(20)
    while try await !condition() {
      if loop.now > end { throw SkerryError(.timeout, "waited in vain for \(what)") }
      try await loop.sleep(for: .zero)
    }
  }

  func end() async {
    registry.stop()
    server.stop()
    await bench.stop()
  }
}

@Suite(.timeLimit(.minutes(1))) struct DeviceRegistryTests {
  @Test func aNewDeviceWaitsForItsModelWithoutABadReading() async throws {
    try await onLoop {
      let world = try await RegistryWorld(patience: .seconds(60))
      try await world.makeDevice()
      // Another device's whole way says that the first was seen.
      try await world.make(
        Device.resource,
        [
          "metadata": ["name": "odd"],
          "spec": [
            "deviceModelRef": ["name": "m"], "nodeName": "n1", "protocol": ["protocolName": "memory"],
            "properties": [["name": "x"]],
          ],
        ])
      try await world.makeModel()
      try await world.until("the assignment") { world.hub.assignment("default/d") != nil }
      try await world.until("the odd device's bad reading") { try await !world.readings().isEmpty }
      #expect(try await world.readings().allSatisfy { $0.device == "default/odd" })
      // Once it was joined, the loss of the model is told at once.
      try await world.deleteModel()
      try await world.until("the end of the assignment") { world.hub.assignment("default/d") == nil }
      try await world.until("a bad reading") {
        try await world.readings().contains { $0.device == "default/d" && !$0.quality.isGood }
      }
      await world.end()
    }
  }

  @Test(arguments: [true, false]) func aDesiredValueReachesADriverThatWasThereBefore(modelFirst: Bool) async throws {
    try await onLoop {
      let world = try await RegistryWorld(patience: .seconds(60))
      world.bench.driver.banks["a"] = ["level": 1]
      var connected = false
      let applied = world.hub.onDriver
      world.hub.onDriver = { name in
        applied?(name)
        connected = true
      }
      world.bench.link.start()
      try await world.until("the driver") { connected }
      if modelFirst { try await world.makeModel(accessMode: "ReadWrite") }
      try await world.makeDevice(level: "7")
      if !modelFirst { try await world.makeModel(accessMode: "ReadWrite") }
      try await world.until("the desired value") { world.bench.driver.banks["a"]?["level"] == 7 }
      await world.end()
    }
  }

  @Test func aModelThatDoesNotComeIsTold() async throws {
    try await onLoop {
      let world = try await RegistryWorld(patience: .milliseconds(20))
      try await world.makeDevice()
      try await world.until("a bad reading") { try await !world.readings().isEmpty }
      let reading = try #require(try await world.readings().first)
      #expect(reading.property == "level" && "\(reading.quality)".contains("DeviceModel \"m\" is not known here"))
      try await world.makeModel()
      try await world.until("the assignment") { world.hub.assignment("default/d") != nil }
      await world.end()
    }
  }
}
