import Base
import EventLoop
import Logging
import Sync
import Testing

@testable import EdgeAgent

@Suite struct RestoredLaneTests {
  /// Events that a cloud had taken and a backup of it has not are nowhere: the node says so, once, and only of events.
  @Test func whatARestoredCloudHasLostIsSaid() async throws {
    try await onLoop {
      _ = Loop.startShared()
      let random = SystemRandom()
      let directory = "/tmp/skerry-lane-\(random.bytes(8).hex)"
      try Files.makeDirectory(directory)
      defer { try? Files.removeTree(directory) }
      let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
      let outbox = try Outbox(path: "\(directory)/outbox.db", random: random, logger: logger)
      for lane in [Lane.events, .status] {
        for number in 1...5 { outbox.append(lane, .event(namespace: "default", object: ["n": .int(Int64(number))])) }
      }
      try await outbox.durable()
      for lane in [Lane.events, .status] {
        outbox.forget(lane, outbox.current, through: 5)
        outbox.cloudStands(lane, outbox.current, at: 5)
      }
      try await outbox.durable()
      #expect(!outbox.holds(.events))
      for _ in 0..<2 {
        for lane in [Lane.events, .status] { outbox.cloudStands(lane, outbox.current, at: 2) }
      }
      try await outbox.durable()
      #expect(try outbox.waiting(.events) == [.dropped(from: 3, to: 5, count: 3)])
      #expect(try outbox.waiting(.status) == [])
      #expect(outbox.holds(.events))
      outbox.close()
    }
  }
}
