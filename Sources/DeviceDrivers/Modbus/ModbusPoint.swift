import Base
import DeviceSDK

/// The four tables of Modbus. Raw values are the register words of KubeEdge's visitors.
package enum ModbusTable: String, Sendable, CaseIterable {
  case coil = "CoilRegister"
  case discreteInput = "DiscreteInputRegister"
  case holding = "HoldingRegister"
  case input = "InputRegister"

  /// One bit an address instead of one 16-bit register.
  package var isBits: Bool { self == .coil || self == .discreteInput }
  package var isWritable: Bool { self == .coil || self == .holding }

  /// Addresses that one request may read (Modbus application protocol V1.1b3, sections 6.1 to 6.4).
  package var maxRead: Int { isBits ? 2000 : 125 }
  /// Registers that one request may write (section 6.12).
  package static let maxWriteRegisters = 123

  /// KubeEdge's words and, for convenience, the same without `Register` and EdgeX's `primaryTable` words.
  package init?(word: String) {
    let folded = word.lowercased().filter { $0 != "_" && $0 != "-" }
    switch folded {
    case "coilregister", "coil", "coils": self = .coil
    case "discreteinputregister", "discreteinput", "discreteinputs", "discreteinputsregister": self = .discreteInput
    case "holdingregister", "holding", "holdingregisters": self = .holding
    case "inputregister", "input", "inputregisters": self = .input
    default: return nil
    }
  }
}

/// Where a property lies in a Modbus device and how its registers become a value. Made from a visitor's configData;
/// docs/devices.md lists the fields.
package struct ModbusPoint: Sendable, Hashable {
  package var name: String
  package var table: ModbusTable
  package var address: Int
  /// Registers, or bits (always 1) in the bit tables.
  package var count: Int
  /// How the registers are read.
  package var raw: ValueType
  /// What is reported.
  package var reported: ValueType
  /// The two bytes of each register are exchanged (`isSwap`).
  package var swapBytes = false
  /// The least significant register comes first (`isRegisterSwap`).
  package var swapWords = false
  package var scale = 1.0
  /// Added after scaling (`valueOffset`).
  package var offset = 0.0
  /// The bits of the raw integer that are the value, moved down to bit 0 (`mask`, or `bit`).
  package var mask: UInt64?
  package var writable = false
  package var minimum: Double?
  package var maximum: Double?
  /// A write fails if the registers do not read back as written (`verify`, default true).
  package var verify = true

  package var isScaled: Bool { scale != 1 || offset != 0 }

  /// Addresses behind the last.
  package var end: Int { address + count }
}

extension ModbusPoint {
  /// Reads a property's visitor; the error names the field and the remedy.
  package init(_ property: PropertyAssignment) throws(DriverError) {
    let fields = VisitorFields(property: property.name, value: property.visitor)
    let word = try fields.text("register")
    guard let word, let table = ModbusTable(word: word) else {
      throw fields.bad("register", "one of \(ModbusTable.allCases.map(\.rawValue).joined(separator: ", "))")
    }
    guard let address = try fields.int("offset", in: 0...65535) else {
      throw fields.bad("offset", "the register's address, counted from 0")
    }
    let limit = try fields.int("limit", in: 1...table.maxRead).map(Int.init)
    let raw = try Self.rawType(property, fields, table: table, limit: limit)
    let reported = try Self.reportedType(property, raw: raw)
    self.init(name: property.name, table: table, address: Int(address), count: 1, raw: raw, reported: reported)
    if !table.isBits {
      if raw == .string {
        guard let limit else { throw fields.bad("limit", "the number of registers that hold the text") }
        guard limit <= ModbusTable.maxWriteRegisters else { throw fields.bad("limit", "at most 123 for a text") }
        count = limit
      } else {
        count = raw.words
        if let limit, limit != count {
          throw fields.bad("limit", "\(count), which is what \(raw.rawValue) takes, or leave it out")
        }
      }
    }
    try readConversion(fields)
    guard end <= 65536 else { throw fields.bad("offset", "at most \(65536 - count) for \(count) registers") }
    writable = property.writable && table.isWritable
    if property.writable, !table.isWritable {
      throw DriverError(
        .configuration,
        "property \(property.name): the model says ReadWrite, but \(table.rawValue) cannot be written; "
          + "use CoilRegister or HoldingRegister, or accessMode ReadOnly")
    }
    minimum = property.minimum
    maximum = property.maximum
    // Leave integers whole: their reported type follows the scale only where the model asks for fractions.
    if isScaled, self.reported.isInteger { self.reported = .int64 }
    if mask != nil, self.reported.isInteger, !isScaled { self.reported = .uint64 }
  }

  private mutating func readConversion(_ fields: VisitorFields) throws(DriverError) {
    swapBytes = try fields.bool("isSwap") ?? false
    swapWords = try fields.bool("isRegisterSwap") ?? false
    // KubeEdge's own manifests say `scale: 0` where nothing is meant.
    if let given = try fields.double("scale"), given != 0 { scale = given }
    offset = try fields.double("valueOffset") ?? 0
    verify = try fields.bool("verify") ?? true
    if let bit = try fields.int("bit", in: 0...Int64(max(1, raw.words) * 16 - 1)) { mask = 1 << UInt64(bit) }
    if let text = try fields.text("mask") {
      guard mask == nil else { throw fields.bad("mask", "either mask or bit, not both") }
      let bits: UInt64? =
        switch Number(text: text) {
        case .signed(let value) where value > 0: UInt64(value)
        case .unsigned(let value): value
        default: nil
        }
      guard let bits else { throw fields.bad("mask", "a positive integer such as 0x00F0") }
      mask = bits
    }
    if mask != nil, table.isBits || !(raw.isInteger || raw == .bool) {
      throw fields.bad("mask", "only on integer registers")
    }
    if isScaled, table.isBits || raw == .string || raw == .bool {
      throw fields.bad("scale", "left out: a \(table.isBits ? "bit" : raw.rawValue) is not scaled")
    }
    if raw == .string, swapWords { throw fields.bad("isRegisterSwap", "left out: a text's registers are in order") }
  }

  /// `dataType` where it is given; else what the model's type and the number of registers suggest.
  private static func rawType(
    _ property: PropertyAssignment, _ fields: VisitorFields, table: ModbusTable, limit: Int?
  ) throws(DriverError) -> ValueType {
    if table.isBits { return .bool }
    if let word = try fields.text("dataType") {
      guard let type = ValueType(rawValue: word.lowercased()) else {
        throw fields.bad("dataType", "one of \(ValueType.allCases.map(\.rawValue).joined(separator: ", "))")
      }
      return type
    }
    switch (property.type, limit) {
    case (.int, nil), (.int, 1): return .int16
    case (.int, 2): return .int32
    case (.int, 4): return .int64
    case (.float, 1), (.double, 1): return .int16
    case (.float, nil), (.float, 2), (.double, 2): return .float32
    case (.float, 4), (.double, nil), (.double, 4): return .float64
    case (.boolean, nil), (.boolean, 1): return .bool
    case (.string, _): return .string
    default:
      throw fields.bad("limit", "1, 2 or 4 registers, or say dataType")
    }
  }

  private static func reportedType(
    _ property: PropertyAssignment, raw: ValueType
  ) throws(DriverError) -> ValueType {
    switch property.type {
    case .boolean: return .bool
    case .string: return .string
    case .float where raw != .string: return .float32
    case .double where raw != .string: return .float64
    case .int where raw.isInteger: return raw
    case .int where raw == .bool: return .uint16
    case .int where raw.isFloat: return .int64
    default:
      throw DriverError(
        .configuration,
        "property \(property.name): the model's type \(property.type.rawValue) cannot be made of "
          + "\(raw.rawValue) registers; change the model's type or dataType")
    }
  }
}

/// The fields of a visitor's configData with their errors. Numbers may be written as texts, as in KubeEdge.
struct VisitorFields {
  let property: String
  let value: Value

  func bad(_ field: String, _ remedy: String) -> DriverError {
    let given = value[field].isNull ? "is missing" : "cannot be \"\(value[field].deviceText)\""
    return DriverError(.configuration, "property \(property): visitors.configData.\(field) \(given): say \(remedy)")
  }

  func text(_ field: String) throws(DriverError) -> String? {
    switch value[field] {
    case .null: return nil
    case .string(let text): return text
    case .int(let int): return "\(int)"
    case .double(let double): return "\(double)"
    case .bool, .array, .object: throw bad(field, "a text or a number")
    }
  }

  func int(_ field: String, in range: ClosedRange<Int64>) throws(DriverError) -> Int64? {
    guard let text = try text(field) else { return nil }
    guard case .signed(let int)? = Number(text: text), range.contains(int) else {
      throw bad(field, "a whole number from \(range.lowerBound) to \(range.upperBound)")
    }
    return int
  }

  func int(_ field: String, in range: ClosedRange<Int>) throws(DriverError) -> Int64? {
    try int(field, in: Int64(range.lowerBound)...Int64(range.upperBound))
  }

  func double(_ field: String) throws(DriverError) -> Double? {
    guard let text = try text(field) else { return nil }
    guard let number = Number(text: text) else { throw bad(field, "a number") }
    return number.double
  }

  func bool(_ field: String) throws(DriverError) -> Bool? {
    if value[field].isNull { return nil }
    guard let bool = value[field].deviceBool else { throw bad(field, "true or false") }
    return bool
  }
}
