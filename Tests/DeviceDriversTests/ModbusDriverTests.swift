#if Devices
  import Base
  import DeviceConformance
  import DeviceSDK
  import EventLoop
  import Testing

  @testable import DeviceDrivers

  /// The driver against a server from other hands. Without its interpreter (scripts/venv.sh) there is nothing to ask.
  @Suite(.enabled(if: ModbusPeer.isAvailable, "needs .venv with pymodbus: run scripts/venv.sh"))
  struct ModbusDriverTests {
    static func property(
      _ name: String, _ type: ModelType, writable: Bool = false, minimum: Double? = nil, _ visitor: Value
    ) -> PropertyAssignment {
      PropertyAssignment(
        name: name, type: type, writable: writable, minimum: minimum, visitor: visitor, interval: 100)
    }
    static func holding(_ offset: Int, _ more: Value = [:]) -> Value {
      var visitor = more
      visitor["register"] = "HoldingRegister"
      visitor["offset"] = .int(Int64(offset))
      return visitor
    }

    /// Every table and type that the peer offers.
    static let properties: [PropertyAssignment] = [
      property("temperature", .float, holding(2, ["limit": 2])),
      property("signed", .int, holding(4, ["dataType": "int32", "isRegisterSwap": true])),
      property("huge", .int, holding(6, ["dataType": "uint64"])),
      property("setpoint", .int, writable: true, minimum: 5, holding(10, ["dataType": "uint16"])),
      property("negative", .double, holding(11, ["dataType": "int16", "scale": 0.1])),
      property("nibble", .int, writable: true, holding(12, ["dataType": "uint16", "mask": "0x00F0"])),
      property("flag", .boolean, writable: true, holding(12, ["dataType": "uint16", "bit": 0])),
      property("text", .string, writable: true, holding(13, ["limit": 2])),
      property("wide", .float, writable: true, holding(15, ["limit": 2])),
      property("present", .int, holding(20)),
      property("absent", .int, holding(21)),
      property("present2", .int, holding(22)),
      property("late", .int, holding(30)),
      property("halved", .int, writable: true, holding(40)),
      property("input", .int, ["register": "InputRegister", "offset": 3, "dataType": "uint16"]),
      property("coil", .boolean, writable: true, ["register": "CoilRegister", "offset": 3]),
      property("coil1", .boolean, ["register": "CoilRegister", "offset": 4]),
      property("discrete", .boolean, ["register": "DiscreteInputRegister", "offset": 2]),
      property("broken", .int, ["register": "HoldingRegister"]),
    ]

    static func device(_ port: Int, _ name: String = "peer", gap: Int = 0) -> DeviceAssignment {
      DeviceAssignment(
        device: "default/\(name)", uid: name, protocolName: "modbus",
        configuration: ["ip": "127.0.0.1", "port": .int(Int64(port)), "timeout": 3000, "maxGap": .int(Int64(gap))],
        properties: properties)
    }

    static let expected: [String: Sample] = [
      "temperature": Sample(type: .float32, value: 21.3), "signed": Sample(type: .int32, value: -2),
      "huge": Sample(type: .uint64, value: "18446744073709551615"), "negative": Sample(type: .float64, value: -0.5),
      "present": Sample(type: .int16, value: 7), "present2": Sample(type: .int16, value: 9),
      "input": Sample(type: .uint16, value: 103), "coil1": Sample(type: .bool, value: false),
      "discrete": Sample(type: .bool, value: true),
    ]

    /// With a gap allowed, groups span the address that is not there, so that each read falls back to single ones.
    @Test(arguments: [0, 4]) func passesTheSuite(_ gap: Int) async throws {
      let peer = try ModbusPeer(arguments: ["--stall", "30"])
      let unused = unusedPort()
      let failures = try await onLoop {
        var invalid = Self.device(peer.port, "odd")
        invalid.configuration = [:]
        let fixture = DriverFixture(
          device: Self.device(peer.port, gap: gap), expected: Self.expected, writable: ("setpoint", 20, 21),
          refusedValue: 4, readOnly: "input", refused: "absent", misconfigured: "broken", stalled: "late",
          unreachable: Self.device(unused, "away"), invalid: invalid, patience: .milliseconds(500))
        let driver = ModbusDriver(scheduler: Loop.startShared())
        return await DriverConformance(driver: driver, fixture: fixture, scheduler: Loop.startShared()).run()
      }
      #expect(failures.isEmpty, "\(failures.joined(separator: "\n"))")
    }

    @Test func neighboursAreReadInOneRequest() async throws {
      let peer = try ModbusPeer()
      try await onLoop {
        let connection = try ModbusDriver(scheduler: Loop.startShared()).connection(to: Self.device(peer.port))
        try await connection.open(deadline: .seconds(5))
        _ = await connection.read(
          ["temperature", "signed", "huge", "setpoint", "coil", "coil1"], deadline: .seconds(5))
        connection.close()
      }
      let served = peer.served()
      #expect(served.count == 2, "\(served)")
      #expect(served.contains { $0.contains("\"holding\", \"address\": 2,") }, "\(served)")
    }

    @Test func writesOfEachKindReadBack() async throws {
      let peer = try ModbusPeer()
      try await onLoop {
        let connection = try ModbusDriver(scheduler: Loop.startShared()).connection(to: Self.device(peer.port))
        try await connection.open(deadline: .seconds(5))
        defer { connection.close() }
        func write(_ name: String, _ value: Value) async throws(DriverError) -> WriteOutcome {
          try await connection.write(name, value: value, onlyIfDifferent: false, deadline: .seconds(5))
        }
        #expect(try await write("coil", false) == WriteOutcome(before: true, after: false, written: true))
        #expect(try await write("text", "abc") == WriteOutcome(before: "Spin", after: "abc", written: true))
        #expect(try await write("wide", "1.25") == WriteOutcome(before: 0.0, after: 1.25, written: true))
        // Bits of one register: each write leaves the others as they were (0xabcd at first).
        #expect(try await write("nibble", 1) == WriteOutcome(before: 12, after: 1, written: true))
        #expect(try await write("flag", "off") == WriteOutcome(before: true, after: false, written: true))
        let after = await connection.read(["nibble", "flag"], deadline: .seconds(5))
        #expect(try after["nibble"]?.get().value == 1)
        #expect(try after["flag"]?.get().value == false)
        // A device that changes what it is told.
        do throws(DriverError) {
          _ = try await write("halved", 8)
          Issue.record("a value that did not read back was accepted")
        } catch {
          #expect(error.kind == .readBack && error.message.contains("4"), "\(error)")
        }
      }
    }

    /// Between two polls the device restarts: the next read goes through without an error.
    @Test func aRestartedDeviceIsReadAgain() async throws {
      var peer: ModbusPeer? = try ModbusPeer()
      let port = try #require(peer?.port)
      let connection = try await onLoop {
        let connection = try ModbusDriver(scheduler: Loop.startShared()).connection(to: Self.device(port))
        try await connection.open(deadline: .seconds(5))
        let read = await connection.read(["present"], deadline: .seconds(5))
        #expect(try read["present"]?.get().value == 7)
        return connection
      }
      peer = nil
      try await onLoop {
        let read = await connection.read(["present"], deadline: .seconds(5))
        #expect(throws: DriverError.self) { try read["present"]?.get() }
      }
      peer = try ModbusPeer(arguments: ["--port", "\(port)"])
      let again = try await onLoop {
        defer { connection.close() }
        return await connection.read(["present"], deadline: .seconds(5))
      }
      #expect(try again["present"]?.get().value == 7)
      #expect(peer?.served().count == 1)
    }

    /// A device that does not answer holds up its own link alone: five reads of another one end before its first.
    @Test func aSilentDeviceStallsNobodyElse() async throws {
      let (silent, lively) = (try ModbusPeer(arguments: ["--stall", "30"]), try ModbusPeer())
      try await onLoop {
        let driver = ModbusDriver(scheduler: Loop.startShared())
        let first = try driver.connection(to: Self.device(silent.port, "silent"))
        let second = try driver.connection(to: Self.device(lively.port, "lively"))
        try await first.open(deadline: .seconds(5))
        try await second.open(deadline: .seconds(5))
        var ended = false
        let waiting = spawn {
          let read = await first.read(["late"], deadline: .seconds(5))
          ended = true
          return read
        }
        for _ in 0..<5 {
          let read = await second.read(["present"], deadline: .seconds(5))
          #expect(try read["present"]?.get().value == 7)
        }
        #expect(!ended, "the silent device ended first")
        let late = await waiting.value
        #expect(throws: DriverError.self) { try late["late"]?.get() }
        first.close()
        second.close()
      }
    }
  }
#endif
