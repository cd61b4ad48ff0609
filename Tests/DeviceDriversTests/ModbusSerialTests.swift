#if Devices
  import Base
  import DeviceConformance
  import DeviceSDK
  import EventLoop
  import Testing

  @testable import DeviceDrivers

  /// Modbus RTU against a server from other hands, over two joined pseudo-terminals.
  @Suite(.enabled(if: ModbusPeer.isAvailable, "needs .venv with pymodbus and pyserial: run scripts/venv.sh"))
  struct ModbusSerialTests {
    private func device(
      _ path: String, _ name: String = "peer", timeout: Int64 = 1000, more: [(String, Value)] = []
    ) -> DeviceAssignment {
      var configuration: Value = ["serialPort": .string(path), "timeout": .int(timeout)]
      for (key, value) in more { configuration[key] = value }
      return DeviceAssignment(
        device: "default/\(name)", uid: name, protocolName: "modbus", configuration: configuration,
        properties: ModbusDriverTests.properties)
    }

    @Test func passesTheSuite() async throws {
      let peer = try ModbusPeer(arguments: ["--serial", "--stall", "1"])
      let failures = try await onLoop {
        var invalid = device(peer.path, "odd")
        invalid.configuration = ["serialPort": "ttyS0"]
        let fixture = DriverFixture(
          device: device(peer.path), expected: ModbusDriverTests.expected, writable: ("setpoint", 20, 21),
          refusedValue: 4, readOnly: "input", refused: "absent", misconfigured: "broken", stalled: "late",
          unreachable: device("/dev/there-is-no-such-line", "away"), invalid: invalid, patience: .milliseconds(500))
        let driver = ModbusDriver(scheduler: Loop.startShared())
        return await DriverConformance(driver: driver, fixture: fixture, scheduler: Loop.startShared()).run()
      }
      #expect(failures.isEmpty, "\(failures.joined(separator: "\n"))")
    }

    /// A pseudo-terminal takes speed and stop bits; parity and seven bits only real lines take.
    @Test func aLineHasOneSetting() async throws {
      let peer = try ModbusPeer(arguments: ["--serial", "--baud", "19200", "--stop", "2"])
      try await onLoop {
        let driver = ModbusDriver(scheduler: Loop.startShared())
        let settings: [(String, Value)] = [("baudRate", 19_200), ("stopBits", 2)]
        let connection = try driver.connection(to: device(peer.path, more: settings))
        try await connection.open(deadline: .seconds(5))
        let read = await connection.read(["huge", "coil1", "input"], deadline: .seconds(5))
        for name in ["huge", "coil1", "input"] { #expect(try read[name]?.get() == ModbusDriverTests.expected[name]) }
        // Another device on the line has to speak as the line does.
        let other = try driver.connection(to: device(peer.path, "other"))
        do throws(DriverError) {
          try await other.open(deadline: .seconds(5))
          Issue.record("one line was opened with two settings")
        } catch {
          #expect(error.kind == .configuration && error.message.contains("other settings"))
        }
        connection.close()
      }
    }

    /// An answer that comes after its time is not taken for that of the next request, which asks the same way.
    @Test func aLateAnswerIsNobodysAnswer() async throws {
      let peer = try ModbusPeer(arguments: ["--serial", "--stall", "0.6"])
      try await onLoop {
        let connection = try ModbusDriver(scheduler: Loop.startShared()).connection(to: device(peer.path, timeout: 400))
        try await connection.open(deadline: .seconds(5))
        defer { connection.close() }
        for _ in 0..<3 {
          let late = await connection.read(["late"], deadline: .seconds(5))
          if case .success = late["late"] { Issue.record("the stalled register was read") }
          // One register as well: only its content tells the answers apart.
          let next = await connection.read(["present"], deadline: .seconds(5))
          #expect(try next["present"]?.get().value == 7)
        }
      }
    }
  }
#endif
