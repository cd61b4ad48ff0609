import API
import APIServer
import Base
import EventLoop
import Logging
import ObjectLog
import ObjectModel
import Testing

@LoopActor private final class World {
  let scheduler = ManualScheduler()
  let server: APIServer
  let recorder: EventRecorder
  let metrics = Metrics()
  let admin = Caller(user: "admin", groups: [Caller.adminGroup], node: nil, origin: .network)
  let subject = EventSubject(apiVersion: "v1", kind: "Pod", namespace: "default", name: "web", uid: "u1")

  init(limits: EventRecorder.Limits = .init()) async throws {
    var logger = Logger(label: "test")
    logger.logLevel = .critical
    let random = SeededRandom(seed: 1)
    server = APIServer(
      log: MemoryObjectLog(random: random), authorizer: HouseAuthorizer(logger: logger), scheduler: scheduler,
      random: random, logger: logger)
    try await server.bootstrap()
    recorder = EventRecorder(
      api: server, caller: .controller("test"), component: "tester", limits: limits, scheduler: scheduler,
      metrics: metrics, logger: logger)
  }

  /// Everything that was recorded, when it is written.
  func events(_ count: Int) async throws -> [Object] {
    for _ in 0..<10_000 {
      let list = try await server.list(ListOptions(resource: "events"), caller: admin)
      let events = try list.items.map { try $0.decoded() }
      if events.reduce(0, { $0 + Int($1.value["count"].int ?? 0) }) >= count { return events }
      await Task.yield()
    }
    throw SkerryError(.timeout, "fewer than \(count) events were written")
  }
}

@Suite struct EventRecorderTests {
  @Test func anEventSaysWhatHappenedToWhom() async throws {
    try await onLoop {
      let world = try await World()
      world.recorder.record(world.subject, .warning, reason: "Broken", message: "it broke")
      let event = try #require(try await world.events(1).first)
      #expect(event.namespace == "default")
      #expect(event.name.hasPrefix("web."))
      #expect(event.value["involvedObject"]["uid"] == "u1")
      #expect(event.value["type"] == "Warning")
      #expect(event.value["reason"] == "Broken")
      #expect(event.value["message"] == "it broke")
      #expect(event.value["source"]["component"] == "tester")
      #expect(event.value["count"] == 1)
    }
  }

  @Test func repeatsAreCountedInOne() async throws {
    try await onLoop {
      let world = try await World()
      for _ in 0..<3 {
        world.recorder.record(world.subject, .normal, reason: "Again", message: "same")
        world.scheduler.advance(.seconds(1))
      }
      _ = try await world.events(3)
      world.recorder.record(world.subject, .normal, reason: "Again", message: "same")
      let events = try await world.events(4)
      #expect(events.count == 1)
      #expect(events[0].value["count"] == 4)
      #expect(events[0].value["firstTimestamp"] != events[0].value["lastTimestamp"])
    }
  }

  @Test func aSubjectHasABudget() async throws {
    try await onLoop {
      var limits = EventRecorder.Limits()
      limits.burst = 5
      limits.refill = .seconds(10)
      let world = try await World(limits: limits)
      for number in 0..<20 {
        world.recorder.record(world.subject, .normal, reason: "Loop", message: "number \(number)")
      }
      #expect(try await world.events(5).count == 5)
      world.scheduler.advance(.seconds(20))
      for number in 20..<40 {
        world.recorder.record(world.subject, .normal, reason: "Loop", message: "number \(number)")
      }
      #expect(try await world.events(7).count == 7)
      #expect(world.metrics.text().contains("skerry_events_dropped_total{component=\"tester\"} 33"))
      // Another subject is not affected.
      var other = world.subject
      other.uid = "u2"
      world.recorder.record(other, .normal, reason: "Loop", message: "mine")
      #expect(try await world.events(8).count == 8)
    }
  }

  @Test func anEventThatExpiredIsMadeAnew() async throws {
    try await onLoop {
      let world = try await World()
      world.recorder.record(world.subject, .normal, reason: "Again", message: "same")
      let first = try await world.events(1)[0]
      let reference = ObjectReference(resource: "events", namespace: "default", name: first.name)
      _ = try await world.server.delete(reference, options: DeleteOptions(), caller: world.admin)
      world.recorder.record(world.subject, .normal, reason: "Again", message: "same")
      world.recorder.record(world.subject, .normal, reason: "Other", message: "to wait for")
      _ = try await world.events(1)
      world.recorder.record(world.subject, .normal, reason: "Again", message: "same")
      let events = try await world.events(2)
      #expect(events.contains { $0.value["reason"] == "Again" && $0.name != first.name })
    }
  }

  @Test func longMessagesAreCut() async throws {
    try await onLoop {
      let world = try await World()
      world.recorder.record(world.subject, .normal, reason: "Long", message: String(repeating: "x", count: 5000))
      let event = try #require(try await world.events(1).first)
      #expect(event.value["message"].string?.count == 1024)
    }
  }
}
