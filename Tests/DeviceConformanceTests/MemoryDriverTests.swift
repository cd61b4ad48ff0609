import Base
import DeviceConformance
import DeviceSDK
import EventLoop
import Testing

@Suite struct MemoryDriverTests {
  static func property(
    _ name: String, _ type: ModelType, writable: Bool = false, minimum: Double? = nil, _ visitor: Value
  ) -> PropertyAssignment {
    PropertyAssignment(
      name: name, type: type, writable: writable, minimum: minimum, visitor: visitor, interval: 100)
  }

  @LoopActor static func fixture() -> DriverFixture {
    func device(_ name: String, _ configuration: Value) -> DeviceAssignment {
      DeviceAssignment(
        device: "default/\(name)", uid: name, protocolName: "memory", configuration: configuration,
        properties: [
          property("level", .int, ["cell": "level"]), property("text", .string, ["cell": "text"]),
          property("setpoint", .int, writable: true, minimum: 0, ["cell": "setpoint"]),
          property("forbidden", .int, ["cell": "level", "fault": "refused"]),
          property("late", .int, ["cell": "level", "fault": "stall"]), property("broken", .int, [:]),
        ])
    }
    return DriverFixture(
      device: device("good", ["bank": "a"]),
      expected: ["level": Sample(type: .int64, value: 5), "text": Sample(type: .string, value: "hi")],
      writable: ("setpoint", 20, 21), refusedValue: -1, readOnly: "level", refused: "forbidden",
      misconfigured: "broken", stalled: "late", unreachable: device("away", ["bank": "b"]),
      invalid: device("odd", [:]), patience: .milliseconds(100))
  }

  @Test func passesTheSuite() async throws {
    let failures = try await onLoop {
      let driver = MemoryDriver(scheduler: Loop.startShared())
      driver.banks = ["a": ["level": 5, "text": "hi", "setpoint": 1]]
      return await DriverConformance(driver: driver, fixture: Self.fixture(), scheduler: Loop.startShared()).run()
    }
    #expect(failures.isEmpty, "\(failures.joined(separator: "\n"))")
  }

  /// The suite sees a driver that lies about what it wrote.
  @Test func theSuiteCanFail() async throws {
    let failures = try await onLoop {
      let driver = MemoryDriver(scheduler: Loop.startShared())
      driver.banks = ["a": ["level": 6, "setpoint": 1], "b": [:]]
      return await DriverConformance(driver: driver, fixture: Self.fixture(), scheduler: Loop.startShared()).run()
    }
    #expect(failures.contains { $0.hasPrefix("reading") })
    #expect(failures.contains { $0.hasPrefix("an outage") })
  }
}
