import Base
import DeviceSDK
import Testing

@testable import DeviceDrivers

/// Makes a point as a manifest would.
func point(
  _ type: ModelType = .int, writable: Bool = true, minimum: Double? = nil, maximum: Double? = nil, _ visitor: Value
) throws -> ModbusPoint {
  var visitor = visitor
  if visitor["register"].isNull { visitor["register"] = "HoldingRegister" }
  if visitor["offset"].isNull { visitor["offset"] = 0 }
  return try ModbusPoint(
    PropertyAssignment(
      name: "p", type: type, writable: writable, minimum: minimum, maximum: maximum, visitor: visitor, interval: 1000))
}

/// One row: how a property is declared, the registers on the device, the value that they mean.
struct Row: Sendable, CustomTestStringConvertible {
  var type: ModelType
  var visitor: Value
  var registers: [UInt16]
  var value: Value
  var reported: ValueType
  init(_ type: ModelType, _ visitor: Value, _ registers: [UInt16], _ value: Value, _ reported: ValueType) {
    self.type = type
    self.visitor = visitor
    self.registers = registers
    self.value = value
    self.reported = reported
  }
  var testDescription: String { "\(type) \(visitor) \(registers)" }
}

@Suite struct ModbusCodecTests {
  /// Each row holds in both directions.
  static let bothWays: [Row] = [
    Row(.int, ["dataType": "int16"], [0xfffe], -2, .int16),
    Row(.int, ["dataType": "uint16"], [0xfffe], 65534, .uint16),
    Row(.int, ["limit": 1], [0x8000], -32768, .int16),
    Row(.int, ["dataType": "int16", "isSwap": true], [0x3412], 0x1234, .int16),
    Row(.int, ["dataType": "int32"], [0x0001, 0x0002], 65538, .int32),
    Row(.int, ["dataType": "int32", "isRegisterSwap": true], [0x0002, 0x0001], 65538, .int32),
    Row(.int, ["dataType": "int32"], [0xffff, 0xfffe], -2, .int32),
    Row(.int, ["dataType": "uint32"], [0xffff, 0xfffe], 4_294_967_294, .uint32),
    Row(.int, ["dataType": "uint32", "isSwap": true], [0x3412, 0x7856], 0x1234_5678, .uint32),
    Row(.int, ["dataType": "uint32", "isSwap": true, "isRegisterSwap": true], [0x7856, 0x3412], 0x1234_5678, .uint32),
    Row(.int, ["limit": 4], [0xffff, 0xffff, 0xffff, 0xfffd], -3, .int64),
    Row(.int, ["dataType": "int64", "isRegisterSwap": true], [4, 3, 2, 1], 0x0001_0002_0003_0004, .int64),
    Row(
      .int, ["dataType": "uint64"], [0xffff, 0xffff, 0xffff, 0xffff], .string("18446744073709551615"), .uint64),
    Row(.int, ["dataType": "uint64"], [0, 0, 0, 7], 7, .uint64),
    // 21.5 is 0x41ac0000 and 21.3 is 0x41aa6666 in IEEE 754 binary32.
    Row(.float, ["dataType": "float32"], [0x41ac, 0x0000], 21.5, .float32),
    Row(.float, ["limit": 2], [0x41aa, 0x6666], 21.3, .float32),
    Row(.float, ["limit": 2, "isRegisterSwap": true], [0x6666, 0x41aa], 21.3, .float32),
    Row(.float, ["limit": 2, "isSwap": true], [0xaa41, 0x6666], 21.3, .float32),
    Row(.float, ["limit": 2, "isSwap": true, "isRegisterSwap": true], [0x6666, 0xaa41], 21.3, .float32),
    // -2.5 is 0xc004000000000000 in binary64.
    Row(.double, ["dataType": "float64"], [0xc004, 0, 0, 0], -2.5, .float64),
    Row(.double, ["dataType": "float64", "isRegisterSwap": true], [0, 0, 0, 0xc004], -2.5, .float64),
    // Scale and offset.
    Row(.float, ["dataType": "int16", "scale": 0.1], [213], 21.3, .float32),
    Row(.double, ["dataType": "int16", "scale": "0.1"], [3], 0.3, .float64),
    Row(.double, ["dataType": "int16", "scale": 0.5, "valueOffset": -40], [100], 10.0, .float64),
    Row(.int, ["dataType": "int16", "scale": 10], [7], 70, .int64),
    Row(.int, ["dataType": "uint16", "scale": 1.0], [7], 7, .uint16),
    // Bits and text.
    Row(.boolean, ["limit": 1], [1], true, .bool),
    Row(.boolean, ["dataType": "uint16"], [0], false, .bool),
    Row(.string, ["limit": 3], [0x5370, 0x696e, 0x0000], "Spin", .string),
    Row(.string, ["limit": 2, "isSwap": true], [0x7053, 0x6e69], "Spin", .string),
    Row(.string, ["dataType": "uint16"], [42], "42", .string),
  ]

  @Test(arguments: bothWays) func readsAndWrites(_ row: Row) throws {
    let point = try point(row.type, row.visitor)
    #expect(try point.decode(row.registers) == row.value)
    #expect(point.reported == row.reported)
    #expect(try point.encode(row.value) == row.registers)
  }

  /// Masks read some bits of a register and leave the others as they are when writing.
  @Test func masksReadAndKeepTheOtherBits() throws {
    let field = try point(.int, ["dataType": "uint16", "mask": "0x00F0"])
    #expect(try field.decode([0xabcd]) == 0xc)
    #expect(field.needsCurrent)
    #expect(try field.encode(3, current: [0xabcd]) == [0xab3d])
    #expect(throws: DriverError.self) { try field.encode(16, current: [0xabcd]) }
    let bit = try point(.boolean, ["dataType": "uint16", "bit": 9])
    #expect(try bit.decode([0x0200]) == true)
    #expect(try bit.decode([0xfdff]) == false)
    #expect(try bit.encode(false, current: [0xffff]) == [0xfdff])
    #expect(try bit.encode("on", current: [0x0001]) == [0x0201])
    let high = try point(.int, ["dataType": "uint32", "bit": 31, "isRegisterSwap": true])
    #expect(try high.decode([0, 0x8000]) == 1)
  }

  /// Desired values are texts in KubeEdge.
  @Test func textsAreAcceptedAsValues() throws {
    #expect(try point(.int, ["dataType": "int16"]).encode("-2") == [0xfffe])
    #expect(try point(.int, ["dataType": "uint16"]).encode("0x10") == [16])
    #expect(try point(.float, ["limit": 2]).encode("21.5") == [0x41ac, 0])
    #expect(try point(.float, ["dataType": "int16", "scale": 0.1]).encode("21.34") == [213])
    #expect(try point(.boolean, ["limit": 1]).encode("off") == [0])
  }

  static let refusals: [(ModelType, Value, Value, String)] = [
    (.int, ["dataType": "int16"], 32768, "fits int16"),
    (.int, ["dataType": "uint16"], -1, "fits uint16"),
    (.int, ["dataType": "int16"], 1.5, "whole number"),
    (.int, ["dataType": "int16"], "warm", "a number"),
    (.int, ["dataType": "uint64"], "18446744073709551616", "fits uint64"),
    (.float, ["limit": 2], 1e300, "fits float32"),
    (.boolean, ["limit": 1], 2, "true or false"),
    (.string, ["limit": 1], "abc", "2 bytes"),
  ]

  @Test(arguments: refusals) func refusesWhatDoesNotFit(
    _ type: ModelType, _ visitor: Value, _ value: Value, _ words: String
  )
    throws
  {
    let point = try point(type, visitor)
    let error = #expect(throws: DriverError.self) { try point.encode(value) }
    #expect(error?.kind == .value)
    #expect(error?.message.contains(words) == true, "\(error?.message ?? "")")
  }

  @Test func boundsOfTheModelHold() throws {
    let point = try point(.int, minimum: 10, maximum: 30, ["dataType": "int16"])
    #expect(try point.encode(10) == [10])
    #expect(throws: DriverError.self) { try point.encode(9) }
    #expect(throws: DriverError.self) { try point.encode(31) }
  }

  @Test func readOnlyPropertiesAreNotWritten() throws {
    let point = try point(.int, writable: false, ["dataType": "int16"])
    #expect(#expect(throws: DriverError.self) { try point.encode(1) }?.kind == .configuration)
  }

  @Test func notANumberIsNoValue() throws {
    let point = try point(.float, ["limit": 2])
    #expect(throws: DriverError.self) { try point.decode([0x7fc0, 0]) }
    #expect(throws: DriverError.self) { try point.decode([0x7f80, 0]) }
    #expect(throws: DriverError.self) { try point.decode([1]) }
    let text = try self.text()
    #expect(throws: DriverError.self) { try text.decode([0xffff]) }
  }
  private func text() throws -> ModbusPoint { try point(.string, ["limit": 1]) }

  @Test func everyFloatBitPatternSurvives() throws {
    let point = try point(.float, ["limit": 2])
    let random = SeededRandom(seed: 7)
    for _ in 0..<2000 {
      let float = Float(bitPattern: UInt32(truncatingIfNeeded: random.next()))
      guard float.isFinite else { continue }
      let registers = [UInt16(float.bitPattern >> 16), UInt16(float.bitPattern & 0xffff)]
      #expect(try point.encode(point.decode(registers)) == registers)
    }
  }
}
