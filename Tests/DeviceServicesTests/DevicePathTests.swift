import Base
import DeviceConformance
import DeviceSDK
import DeviceServices
import EventLoop
import Testing

@Suite(.timeLimit(.minutes(1))) struct DevicePathTests {
  @Test func pollsBecomeNumberedReadings() async throws {
    try await onLoop {
      let bench = try DeviceBench()
      bench.driver.banks = ["a": ["level": 5, "setpoint": 1, "mute": 0]]
      bench.hub.assign(DeviceBench.device())
      bench.link.start()
      try await bench.until("five polls") { try await bench.readings(of: "level").count >= 5 }
      let all = try await bench.readings()
      #expect(all.map(\.number) == Array(1...UInt64(all.count)))
      #expect(all.allSatisfy { $0.reading.quality.isGood })
      #expect(try await bench.readings(of: "level").allSatisfy { $0.value == 5 && $0.type == .int64 })
      // A device that is let go is polled no more.
      bench.hub.remove("default/d")
      try await bench.until("the driver lets go") { bench.link.service.devices.isEmpty }
      await bench.stop()
    }
  }

  /// The cell counts the polls that it answered: the series has each number once, however often the line broke.
  @Test func eachReadingArrivesOnceOverBrokenConnections() async throws {
    try await onLoop {
      let bench = try DeviceBench()
      bench.driver.banks = ["a": ["level": 1]]
      bench.driver.onRead = { names in
        guard names.contains("level"), let level = bench.driver.banks["a"]?["level"]?.int else { return }
        bench.driver.banks["a"]?["level"] = .int(level + 1)
      }
      let level = PropertyAssignment(
        name: "level", type: .int, writable: false, visitor: ["cell": "level"], interval: 10)
      bench.hub.assign(DeviceBench.device("d", [level]))
      bench.link.start()
      for round in 1...4 {
        try await bench.until("readings of round \(round)") {
          try await bench.readings(of: "level").count >= round * 10
        }
        bench.cut()
      }
      bench.reachable = false
      bench.cut()
      let before = bench.driver.banks["a"]?["level"]?.int ?? 0
      try await bench.until("polls without devicecore") {
        (bench.driver.banks["a"]?["level"]?.int ?? 0) > before + 10
      }
      bench.reachable = true
      let goal = Int(bench.driver.banks["a"]?["level"]?.int ?? 0)
      try await bench.until("the rest") { try await bench.readings(of: "level").count >= goal }
      let values = try await bench.readings(of: "level").map(\.value)
      #expect(values == (1...Int64(values.count)).map { .int($0) })
      await bench.stop()
    }
  }

  @Test func aFailedPollIsABadReadingNeverSilence() async throws {
    try await onLoop {
      let bench = try DeviceBench()
      bench.driver.banks = ["a": ["level": 5, "setpoint": 1, "mute": 0]]
      bench.hub.assign(DeviceBench.device())
      bench.link.start()
      try await bench.until("a good reading") { try await !bench.readings(of: "level").isEmpty }
      let bank = bench.driver.banks.removeValue(forKey: "a")
      // The first failure, and then those while the device is left alone.
      try await bench.until("bad readings") {
        try await bench.readings(of: "level").count { !$0.quality.isGood } >= 5
      }
      let bad = try await bench.readings(of: "level").filter { !$0.quality.isGood }
      #expect(bad.allSatisfy { $0.value == .null && "\($0.quality)".contains("bank a is not there") })
      #expect(bad.contains { "\($0.quality)".contains("next try in") })
      bench.driver.banks["a"] = bank
      try await bench.until("the device is back") { try await bench.readings(of: "level").last?.quality.isGood == true }
      await bench.stop()
    }
  }

  @Test func onePropertyOrDeviceThatFailsLeavesTheOthers() async throws {
    try await onLoop {
      let bench = try DeviceBench()
      bench.driver.banks = ["a": ["level": 5]]
      func property(_ name: String, _ visitor: Value) -> PropertyAssignment {
        PropertyAssignment(name: name, type: .int, writable: false, visitor: visitor, interval: 20)
      }
      bench.hub.assign(
        DeviceBench.device(
          "d",
          [
            property("level", ["cell": "level"]), property("gone", ["cell": "gone"]), property("broken", [:]),
          ]))
      bench.hub.assign(DeviceBench.device("away", bank: "b"))
      var odd = DeviceBench.device("odd")
      odd.configuration = [:]
      bench.hub.assign(odd)
      bench.link.start()
      try await bench.until("readings") { try await bench.readings(of: "level").count >= 10 }
      #expect(try await bench.readings(of: "level").allSatisfy { $0.quality.isGood })
      #expect(try await bench.readings(of: "gone").allSatisfy { !$0.quality.isGood })
      // A configuration is told once, not at each poll.
      #expect(try await bench.readings(of: "broken").count == 1)
      let away = try await bench.readings(of: "level", device: "default/away")
      #expect(!away.isEmpty && away.allSatisfy { !$0.quality.isGood })
      #expect(try await bench.readings(of: "level", device: "default/odd").count == 1)
      await bench.stop()
    }
  }

  @Test func whatTheBoundDropsIsCounted() async throws {
    try await onLoop {
      let outbox = ReadingOutbox(run: Bytes(repeating: 1, count: 16), capacity: 100, logger: quietLogger())
      for index in 0..<250 { outbox.add(readings(Int64(index)...Int64(index))) }
      #expect(outbox.count <= 100)
      var batches: [ReadingOutbox.Batch] = []
      outbox.connected { batch in batches.append(batch) }
      let loop = Loop.startShared()
      let limit = loop.now + .seconds(5)
      while outbox.count > 0, loop.now < limit { try await loop.sleep(for: .milliseconds(1)) }
      let kept = batches.flatMap(\.readings)
      #expect(batches.map(\.sequence) == Array(1...UInt64(batches.count)))
      #expect(Int(batches.reduce(0) { $0 + $1.lost }) + kept.count == 250)
      #expect(kept.last?.value == 249)
    }
  }
}
