#if Devices
  import Base
  import DeviceConformance
  import DeviceSDK
  import DeviceServices
  import EventLoop
  import Glibc
  import Testing

  /// The whole device side as it runs: devicecore and device-modbus as processes of their own, a Modbus server from
  /// other hands, and a double of edgecore.
  @Suite(
    .enabled(if: ModbusPeer.isAvailable, "needs .venv with pymodbus: run scripts/venv.sh"), .timeLimit(.minutes(2)))
  struct DeviceProcessTests {
    @Test func readingsCommandsAndDesiredValuesGoThrough() async throws {
      let peer = try ModbusPeer()
      try await onLoop {
        try await DeviceWorld(port: peer.port).run { world in
          try world.start(.core)
          try world.start(.driver)
          try await world.until("readings") { world.edge.good("counter").count >= 10 }
          #expect(world.edge.good("temperature").last == "21.3")
          #expect(world.edge.good("setpoint").last == "200")
          // A command reads and writes.
          let write = try await world.edge.command("w1", "setpoint", value: 250)
          #expect(write["state"] == "Done" && write["before"] == 200 && write["value"] == 250, "\(write)")
          #expect(try await world.edge.command("w1", "setpoint", value: 99)["value"] == 250, "the same id runs once")
          #expect(try await world.edge.command("r1", "setpoint")["value"] == 250)
          #expect(try await world.edge.command("bad", "counter", value: 1)["state"] == "Failed")
          // A desired value wins, and its reading tells so.
          world.apply(setpoint: "300")
          try await world.until("the desired value") { world.edge.good("setpoint").last == "300" }
          #expect(peer.served().contains { $0.contains("\"write\"") && $0.contains("[300]") })
          #expect(world.edge.gaps.isEmpty && world.edge.losses.isEmpty, "\(world.edge.gaps) \(world.edge.losses)")
        }
      }
    }

    /// The register counts its own reads and the peer logs what it served: the series equals that log, although
    /// devicecore is killed again and again.
    @Test func theSeriesEqualsThePeersLogOverKills() async throws {
      let peer = try ModbusPeer()
      try await onLoop {
        try await DeviceWorld(port: peer.port).run { world in
          try world.start(.core)
          try world.start(.driver)
          try await world.until("first readings") { world.edge.good("counter").count >= 10 }
          for _ in 0..<4 {
            let before = world.edge.good("counter").count
            try await world.kill(.core)
            try world.start(.core)
            try await world.until("readings after a kill") { world.edge.good("counter").count >= before + 10 }
          }
          // What was read is stored before the driver forgets it, so nothing is missing and nothing is there twice.
          try await world.terminate(.driver)
          let served = peer.served().filter { $0.contains("\"address\": 0,") }.count
          try await world.until("the last readings") { world.edge.good("counter").count >= served - 1 }
          let values = world.edge.good("counter")
          #expect(values == (1...values.count).map { "\($0)" })
          // The one answer that the driver may have held in its hand when it was told to end.
          #expect(values.count == served || values.count == served - 1, "\(values.count) of \(served)")
          #expect(world.edge.gaps.isEmpty && world.edge.losses.isEmpty, "\(world.edge.gaps) \(world.edge.losses)")
        }
      }
    }

    @Test func aKilledDriverComesBackAndThePeerMayGo() async throws {
      let first = try ModbusPeer()
      try await onLoop {
        try await DeviceWorld(port: first.port).run { world in
          try world.start(.core)
          try world.start(.driver)
          try await world.until("first readings") { world.edge.good("counter").count >= 5 }
          try await world.kill(.driver)
          try world.start(.driver)
          let before = world.edge.good("counter").count
          try await world.until("readings after a kill") { world.edge.good("counter").count >= before + 5 }
          first.stop()
          try await world.until("bad readings") {
            (world.edge.series["counter"] ?? []).suffix(3).allSatisfy { $0.quality.hasPrefix("Bad: ") }
          }
          let answer = try await world.edge.command("gone", "setpoint", value: 1)
          #expect(answer["state"] == "Failed" && answer["message"].string?.contains("127.0.0.1") == true, "\(answer)")
          let second = try ModbusPeer(arguments: ["--port", "\(first.port)"])
          try await world.until("good readings again") { world.edge.series["counter"]?.last?.quality == "Good" }
          second.stop()
        }
      }
    }

    @Test func aStartThatCannotWorkSaysWhy() async throws {
      try await onLoop {
        for (argv, words, status) in [
          (["devicecore", "--data", "/nonexistent/x/y"], "/nonexistent/x/y", 78),
          (["devicecore", "--colour", "red"], "colour", 78),
          (["devicecore", "--max-age", "soon"], "soon", 78),
          (["device-modbus", "--socket"], "needs a value", 78),
          (["modbus-simulator", "--port", "70000"], "65535", 1),
        ] as [([String], String, Int32)] {
          let result = try await Subprocess.run(
            [DeviceWorld.binaries + "/" + argv[0]] + argv.dropFirst(), deadline: .seconds(10), on: Loop.startShared())
          let said = String(decoding: result.output + result.errorOutput, as: UTF8.self)
          #expect(result.status == .exited(status) && said.contains(words), "\(argv): \(result.status) \(said)")
        }
      }
    }
  }

  /// The processes of one node's device side in a directory of their own.
  @LoopActor final class DeviceWorld {
    enum Part: String {
      case core = "devicecore"
      case driver = "device-modbus"
    }
    /// Where the products lie: beside this test bundle.
    nonisolated static let binaries: String = {
      var path = [CChar](repeating: 0, count: 4096)
      // The runner's own path; products lie in the same directory.
      let count = readlink("/proc/self/exe", &path, path.count - 1)
      let text = String(decoding: path[0..<max(0, count)].map { UInt8(bitPattern: $0) }, as: UTF8.self)
      return "/" + text.split(separator: "/").dropLast().joined(separator: "/")
    }()

    let loop = Loop.startShared()
    let edge: EdgeDouble
    private let directory: String
    private let port: Int
    private var children: [Part: Child] = [:]
    private var ended: [Part: EventLoop.ExitStatus] = [:]

    convenience init(port: Int) throws {
      try self.init(port: port, model: Self.model, device: nil)
    }

    /// With objects of one's own.
    convenience init(model: Value, device: Value) throws {
      try self.init(port: 0, model: model, device: device)
    }

    private init(port: Int, model: Value, device: Value?) throws {
      var template = Array("/tmp/skerry-devices-XXXXXX".utf8CString)
      directory = template.withUnsafeMutableBufferPointer { buffer in
        guard let base = buffer.baseAddress, let made = mkdtemp(base) else { return "/nonexistent" }
        return String(cString: made)
      }
      self.port = port
      edge = try EdgeDouble(socket: directory + "/edge.sock")
      edge.api.put(DeviceRegistry.models, model)
      if let device { edge.api.put(DeviceRegistry.devices, device) } else { apply(setpoint: nil) }
    }

    private static let model: Value = [
      "apiVersion": "devices.kubeedge.io/v1beta1", "kind": "DeviceModel",
      "metadata": ["name": "boiler-model", "namespace": "default"],
      "spec": [
        "properties": [
          ["name": "counter", "type": "INT", "accessMode": "ReadOnly"],
          ["name": "temperature", "type": "FLOAT", "accessMode": "ReadOnly"],
          ["name": "setpoint", "type": "INT", "accessMode": "ReadWrite", "minimum": "0", "maximum": "900"],
        ]
      ],
    ]

    /// Applies the Device, with a desired setpoint if there is one.
    func apply(setpoint: String?) {
      func property(_ name: String, _ offset: Int64, _ dataType: Value, desired: String? = nil) -> Value {
        var property: Value = [
          "name": .string(name), "collectCycle": 50,
          "visitors": [
            "protocolName": "modbus",
            "configData": ["register": "HoldingRegister", "offset": .int(offset), "dataType": dataType],
          ],
        ]
        if let desired { property["desired"] = ["value": .string(desired)] }
        return property
      }
      edge.api.put(
        DeviceRegistry.devices,
        [
          "apiVersion": "devices.kubeedge.io/v1beta1", "kind": "Device",
          "metadata": ["name": "boiler", "namespace": "default", "uid": "u1"],
          "spec": [
            "deviceModelRef": ["name": "boiler-model"], "nodeName": "n1",
            "protocol": [
              "protocolName": "modbus", "configData": ["ip": "127.0.0.1", "port": .int(Int64(port)), "timeout": 500],
            ],
            "properties": [
              property("counter", 0, "uint16"), property("temperature", 2, "float32"),
              property("setpoint", 10, "uint16", desired: setpoint),
            ],
          ],
        ])
    }

    func start(_ part: Part) throws {
      ended[part] = nil
      let socket = directory + "/drivers.sock"
      let arguments =
        part == .core
        ? ["--data", directory + "/data", "--edge-socket", directory + "/edge.sock", "--driver-socket", socket]
        : ["--socket", socket]
      children[part] = try Subprocess.spawn(
        [Self.binaries + "/" + part.rawValue] + arguments + ["--log-level", "error"], stderr: .inherit
      ) { [weak self] status in self?.ended[part] = status }
    }

    func kill(_ part: Part) async throws { try await end(part, SIGKILL) }

    /// Ends it in order.
    func terminate(_ part: Part) async throws {
      try await end(part, SIGTERM)
      #expect(ended[part] == .exited(0))
    }

    private func end(_ part: Part, _ signal: Int32) async throws {
      children[part]?.kill(signal)
      try await until("\(part) ends") { self.ended[part] != nil }
      children[part] = nil
    }

    /// Runs a test, and ends the processes however it went.
    func run(_ body: @LoopActor (DeviceWorld) async throws -> Void) async throws {
      do {
        try await body(self)
        await stop()
      } catch {
        await stop()
        throw error
      }
    }

    private func stop() async {
      for part in Array(children.keys) { try? await end(part, SIGTERM) }
      edge.close()
      _ = try? await Subprocess.run(["rm", "-rf", directory], deadline: .seconds(10), on: loop)
    }

    func until(_ what: Comment, _ condition: @LoopActor () -> Bool) async throws {
      let limit = loop.now + .seconds(40)
      while !condition() {
        guard loop.now < limit else {
          Issue.record(what)
          throw SkerryError(.timeout, "waited too long")
        }
        try await loop.sleep(for: .milliseconds(5))
      }
    }
  }
#endif
