#if Devices
  import Base
  import DeviceServices
  import EventLoop
  import Glibc
  import ObjectModel
  import Testing
  import Yams

  /// The manifests in `examples/` against the simulator that they are written for.
  @Suite(.timeLimit(.minutes(1))) struct ExampleTests {
    @Test func theExamplesFitTheSimulator() async throws {
      let model = try Self.manifest("device-model.yaml")
      var device = try Self.manifest("device.yaml")
      #expect(DeviceConfiguration.join(device: Object(device), model: Object(model)).problems.isEmpty)
      try await onLoop {
        let simulator = try SimulatorProcess()
        let port = try await simulator.port()
        device["spec"]["protocol"]["configData"]["port"] = .int(Int64(port))
        defer { simulator.stop() }
        try await DeviceWorld(model: model, device: device).run { world in
          try world.start(.core)
          try world.start(.driver)
          try await world.until("readings of all") {
            ["temperature", "counter", "heater", "setpoint"].allSatisfy { !world.edge.good($0).isEmpty }
          }
          try await world.until("the desired setpoint") { world.edge.good("setpoint").last == "300" }
          #expect(world.edge.good("counter").prefix(2) == ["1", "2"] || world.edge.good("counter") == ["1"])
          let off = try await world.edge.command("off", "heater", value: "off")
          #expect(off["state"] == "Done" && off["before"] == true && off["value"] == false, "\(off)")
          let outside = try await world.edge.command("hot", "setpoint", value: 950)
          #expect(outside["state"] == "Failed" && outside["message"].string?.contains("900") == true, "\(outside)")
        }
      }
    }

    private static func manifest(_ name: String) throws -> Value {
      // …/Tests/DeviceCoreTests/ExampleTests.swift
      let root = "/" + #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
      guard let file = fopen(root + "/examples/" + name, "r") else {
        throw SkerryError(.notFound, "no examples/\(name)")
      }
      defer { fclose(file) }
      var bytes = [UInt8](repeating: 0, count: 1 << 16)
      let count = fread(&bytes, 1, bytes.count, file)
      return value(try Yams.load(yaml: String(decoding: bytes[0..<count], as: UTF8.self)))
    }

    private static func value(_ any: Any?) -> Value {
      switch any {
      case let bool as Bool: .bool(bool)
      case let int as Int: .int(Int64(int))
      case let double as Double: .double(double)
      case let text as String: .string(text)
      case let list as [Any]: .array(list.map { value($0) })
      case let map as [String: Any]: .object(Value.Fields(map.map { ($0.key, value($0.value)) }))
      default: .null
      }
    }
  }

  /// The simulator on a port that the kernel chose.
  @LoopActor final class SimulatorProcess {
    private let child: Child
    private let portFile: String

    init() throws {
      portFile = "/tmp/skerry-simulator-\(SystemRandom().uuid())"
      child = try Subprocess.spawn(
        [DeviceWorld.binaries + "/modbus-simulator", "--port", "0", "--port-file", portFile]
      ) { _ in }
    }

    func port() async throws -> Int {
      let loop = Loop.startShared()
      let limit = loop.now + .seconds(10)
      while loop.now < limit {
        if let file = fopen(portFile, "r") {
          var port: CInt = 0
          var bytes = [UInt8](repeating: 0, count: 16)
          let count = fread(&bytes, 1, bytes.count, file)
          fclose(file)
          for byte in bytes[0..<count] where byte != 10 { port = port * 10 + CInt(byte) - 48 }
          if count > 0, bytes[count - 1] == 10 { return Int(port) }
        }
        try await loop.sleep(for: .milliseconds(5))
      }
      throw SkerryError(.timeout, "the simulator does not listen")
    }

    func stop() {
      child.kill(SIGTERM)
      unlink(portFile)
    }
  }
#endif
