import Base
import DeviceSDK
import Testing

@testable import DeviceDrivers

@Suite struct ModbusConfigurationTests {
  static let bad: [(ModelType, Value, String)] = [
    (.int, ["register": "Holding Tank", "offset": 1], "register"),
    (.int, ["register": "HoldingRegister", "offset": 70000], "offset"),
    (.int, ["register": "HoldingRegister", "offset": 65535, "dataType": "int32"], "offset"),
    (.int, ["register": "HoldingRegister"], "offset"),
    (.int, ["offset": 1], "register"),
    (.int, ["register": "HoldingRegister", "offset": 1, "limit": 3], "limit"),
    (.int, ["register": "HoldingRegister", "offset": 1, "limit": 1, "dataType": "int32"], "limit"),
    (.int, ["register": "HoldingRegister", "offset": 1, "limit": 126], "limit"),
    (.int, ["register": "HoldingRegister", "offset": 1, "dataType": "int24"], "dataType"),
    (.int, ["register": "HoldingRegister", "offset": 1, "scale": "much"], "scale"),
    (.int, ["register": "HoldingRegister", "offset": 1, "isSwap": "perhaps"], "isSwap"),
    (.int, ["register": "HoldingRegister", "offset": 1, "bit": 16], "bit"),
    (.int, ["register": "HoldingRegister", "offset": 1, "bit": 1, "mask": 2], "mask"),
    (.int, ["register": "HoldingRegister", "offset": 1, "mask": 0], "mask"),
    (.float, ["register": "HoldingRegister", "offset": 1, "limit": 2, "mask": 1], "mask"),
    (.string, ["register": "HoldingRegister", "offset": 1], "limit"),
    (.bytes, ["register": "HoldingRegister", "offset": 1, "dataType": "int16"], "BYTES"),
    (.boolean, ["register": "CoilRegister", "offset": 1, "scale": 2], "scale"),
    (.boolean, ["register": "DiscreteInputRegister", "offset": 1], "ReadWrite"),
  ]

  @Test(arguments: bad) func errorsNameThePropertyAndTheField(_ type: ModelType, _ visitor: Value, _ field: String) {
    let property = PropertyAssignment(name: "level", type: type, writable: true, visitor: visitor, interval: 1000)
    let error = #expect(throws: DriverError.self) { try ModbusPoint(property) }
    #expect(error?.kind == .configuration)
    #expect(error?.message.contains("level") == true)
    #expect(error?.message.contains(field) == true, "\(error?.message ?? "")")
  }

  @Test func numbersMayBeTexts() throws {
    let point = try point(
      .float, ["register": "HoldingRegister", "offset": "2", "limit": "1", "scale": "0.1", "isSwap": "true"])
    #expect(point.address == 2)
    #expect(point.scale == 0.1)
    #expect(point.swapBytes)
  }

  @Test func coilsAreBits() throws {
    let coil = try point(.boolean, ["register": "CoilRegister", "offset": 9, "limit": 1])
    #expect(coil.decode(bit: true) == true)
    #expect(try coil.encodeBit("off") == false)
    #expect(try point(.int, ["register": "CoilRegister"]).decode(bit: true) == 1)
  }

  @Test func addresses() throws {
    let tcp = try ModbusAddress(device: "d/x", ["ip": "10.0.0.5", "port": "1502", "slaveID": 3, "timeout": 250])
    #expect(tcp.link == .tcp(host: "10.0.0.5", port: 1502))
    #expect(tcp.unit == 3)
    #expect(tcp.timeout == .milliseconds(250))
    #expect(try ModbusAddress(device: "d/x", ["ip": "h"]).link == .tcp(host: "h", port: 502))
    let serial = try ModbusAddress(device: "d/x", ["serialPort": "/dev/ttyS0", "baudRate": 19200, "parity": "even"])
    #expect(
      serial.link
        == .serial(ModbusAddress.Serial(path: "/dev/ttyS0", baud: 19200, parity: "E", dataBits: 8, stopBits: 1)))
    for bad: Value in [[:], ["ip": ""], ["ip": "h", "port": 0], ["ip": "h", "slaveID": 300], ["serialPort": "x"]] {
      let error = #expect(throws: DriverError.self) { try ModbusAddress(device: "d/x", bad) }
      #expect(error?.message.contains("device d/x: spec.protocol.configData.") == true)
    }
  }
}

@Suite struct ModbusPlanTests {
  private func at(_ name: String, _ address: Int, _ dataType: String = "uint16", _ table: String = "HoldingRegister")
    throws -> ModbusPoint
  {
    var point = try point(
      .int, writable: false,
      ["register": .string(table), "offset": .int(Int64(address)), "dataType": .string(dataType)])
    point.name = name
    return point
  }

  @Test func neighboursShareARequest() throws {
    let requests = ModbusPlan.requests(for: [
      try at("c", 4), try at("a", 0, "float32".asInt), try at("b", 2), try at("d", 3),
    ])
    #expect(requests.map(\.address) == [0])
    #expect(requests.map(\.count) == [5])
    #expect(requests[0].points.map(\.name) == ["a", "b", "d", "c"])
  }

  @Test func gapsSplitUnlessAllowed() throws {
    let points = [try at("a", 0), try at("b", 5)]
    #expect(ModbusPlan.requests(for: points).count == 2)
    #expect(ModbusPlan.requests(for: points, gap: 3).count == 2)
    #expect(ModbusPlan.requests(for: points, gap: 4).map(\.count) == [6])
  }

  @Test func tablesAreKeptApart() throws {
    let points = [try at("a", 0), try at("b", 1, "uint16", "InputRegister"), try at("c", 1)]
    #expect(ModbusPlan.requests(for: points).map(\.table) == [.holding, .input])
  }

  @Test func noRequestIsLargerThanTheProtocolAllows() throws {
    let registers = try (0..<300).map { try at("p\($0)", $0) }
    #expect(ModbusPlan.requests(for: registers).map(\.count) == [125, 125, 50])
    let bits = try (0..<2001).map { try at("b\($0)", $0, "uint16", "CoilRegister") }
    #expect(ModbusPlan.requests(for: bits).map(\.count) == [2000, 1])
    // A value is never cut in two.
    let wide = try (0..<40).map { try at("w\($0)", $0 * 4, "int64") }
    #expect(ModbusPlan.requests(for: wide).map(\.count) == [124, 36])
  }

  @Test func overlapsAreReadOnce() throws {
    let requests = ModbusPlan.requests(for: [try at("a", 10, "uint32"), try at("b", 11), try at("c", 10)])
    #expect(requests.map(\.count) == [2])
    let samples = requests[0].samples(registers: [1, 2])
    #expect(try samples["a"]?.get().value == 65538)
    #expect(try samples["b"]?.get().value == 2)
    #expect(try samples["c"]?.get().value == 1)
    #expect(throws: DriverError.self) { try requests[0].samples(registers: [1])["b"]?.get() }
  }

  @Test func singleRequestsSeparateAGroup() throws {
    let group = ModbusPlan.requests(for: [try at("a", 0), try at("b", 1, "uint32")])
    #expect(ModbusPlan.single(group[0]).map(\.count) == [1, 2])
  }
}

extension String {
  /// The integer type of the same width: the plan only looks at widths.
  fileprivate var asInt: String { self == "float32" ? "uint32" : self }
}
