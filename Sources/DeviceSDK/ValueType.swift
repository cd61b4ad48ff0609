import Base

/// What a reading's value is. Integers and floats are told apart by width, so that a reader can pack a column and
/// a writer can check a range. The raw values are EdgeX's type words in lower case; they stand on the wire and on disk.
package enum ValueType: String, Sendable, CaseIterable {
  case bool, int16, uint16, int32, uint32, int64, uint64, float32, float64, string

  package var isInteger: Bool {
    switch self {
    case .int16, .uint16, .int32, .uint32, .int64, .uint64: true
    case .bool, .float32, .float64, .string: false
    }
  }
  package var isFloat: Bool { self == .float32 || self == .float64 }
  /// 16-bit words that a value of this type takes; 0 for a string, whose length is configured.
  package var words: Int {
    switch self {
    case .bool, .int16, .uint16: 1
    case .int32, .uint32, .float32: 2
    case .int64, .uint64, .float64: 4
    case .string: 0
    }
  }
  /// The smallest and largest integer that fits; nil for other types.
  package var integerRange: (low: Int64, high: UInt64)? {
    switch self {
    case .int16: (Int64(Int16.min), UInt64(Int16.max))
    case .uint16: (0, UInt64(UInt16.max))
    case .int32: (Int64(Int32.min), UInt64(Int32.max))
    case .uint32: (0, UInt64(UInt32.max))
    case .int64: (.min, UInt64(Int64.max))
    case .uint64: (0, .max)
    case .bool, .float32, .float64, .string: nil
    }
  }
}

/// The property types of KubeEdge's DeviceModel v1beta1 (spec.properties[].type).
/// Source: https://kubeedge.io/docs/developer/device_crd
package enum ModelType: String, Sendable, CaseIterable {
  case int = "INT"
  case float = "FLOAT"
  case double = "DOUBLE"
  case string = "STRING"
  case boolean = "BOOLEAN"
  case bytes = "BYTES"
  case stream = "STREAM"
}

/// A number as registers and texts have it, exact over the whole range of `int64` and `uint64`.
package enum Number: Sendable, Hashable {
  case signed(Int64)
  case unsigned(UInt64)
  case real(Double)

  package var double: Double {
    switch self {
    case .signed(let value): Double(value)
    case .unsigned(let value): Double(value)
    case .real(let value): value
    }
  }

  /// The number in JSON's data model. An unsigned integer beyond `Int64.max` becomes its decimal text, since a
  /// double would lose digits; the reading's type says that it is a number. Nil for NaN and the infinities.
  package var value: Value? {
    switch self {
    case .signed(let value): .int(value)
    case .unsigned(let value): Int64(exactly: value).map { .int($0) } ?? .string("\(value)")
    case .real(let value): value.isFinite ? .double(value) : nil
    }
  }

  /// The number that a value or its text names: desired values are texts in KubeEdge, command values may be either.
  package init?(_ value: Value) {
    switch value {
    case .int(let int): self = .signed(int)
    case .double(let double): self = .real(double)
    case .bool(let bool): self = .signed(bool ? 1 : 0)
    case .string(let text): self.init(text: text)
    case .null, .array, .object: return nil
    }
  }

  /// Decimal integers, `0x` integers and decimal fractions with exponent.
  package init?(text: String) {
    if let int = Int64(text) {
      self = .signed(int)
    } else if let unsigned = UInt64(text) {
      self = .unsigned(unsigned)
    } else if text.hasPrefix("0x") || text.hasPrefix("0X"), let hex = UInt64(text.dropFirst(2), radix: 16) {
      self = Int64(exactly: hex).map { .signed($0) } ?? .unsigned(hex)
    } else if let double = Double(text), double.isFinite {
      self = .real(double)
    } else {
      return nil
    }
  }
}

extension Value {
  /// `true`, `false`, `on`, `off`, 1 and 0, as values or texts.
  package var deviceBool: Bool? {
    switch self {
    case .bool(let bool): bool
    case .int(let int) where int == 0 || int == 1: int == 1
    case .string(let text):
      switch text.lowercased() {
      case "true", "on", "1": true
      case "false", "off", "0": false
      default: nil
      }
    default: nil
    }
  }

  /// The value as a twin shows it (KubeEdge's twin values are texts).
  package var deviceText: String {
    switch self {
    case .null: ""
    case .bool(let bool): bool ? "true" : "false"
    case .int(let int): "\(int)"
    case .double(let double): "\(double)"
    case .string(let text): text
    case .array, .object: "\(self)"
    }
  }
}

extension ModelType {
  /// What a property is reported as while its configuration cannot be used.
  package var fallback: ValueType {
    switch self {
    case .int: .int64
    case .float: .float32
    case .double: .float64
    case .boolean: .bool
    case .string, .bytes, .stream: .string
    }
  }
}
