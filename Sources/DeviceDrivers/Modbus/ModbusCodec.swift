import Base
import DeviceSDK

/// Registers to values and back: pure, one function each way.
///
/// Reading goes: byte order, word order, type, mask, scale, offset, reported type. Writing goes the other way.
/// Unswapped is Modbus' usual big-endian: most significant register first, most significant byte first.
extension ModbusPoint {
  // MARK: Reading

  /// The value of this point's registers (`count` of them, as they came).
  package func decode(_ registers: [UInt16]) throws(DriverError) -> Value {
    guard registers.count == count else {
      throw DriverError(.refused, "property \(name): \(registers.count) registers came, \(count) were asked for")
    }
    if raw == .string { return .string(try text(of: registers)) }
    let number = try interpret(bits(of: registers))
    return try report(number)
  }

  /// The value of a coil or discrete input.
  package func decode(bit: Bool) -> Value {
    switch reported {
    case .bool: .bool(bit)
    case .float32, .float64: .double(bit ? 1 : 0)
    case .string: .string(bit ? "true" : "false")
    default: .int(bit ? 1 : 0)
    }
  }

  /// The registers as one integer, most significant bit first.
  func bits(of registers: [UInt16]) -> UInt64 {
    var bits: UInt64 = 0
    for word in swapWords ? registers.reversed() : registers {
      bits = bits << 16 | UInt64(swapBytes ? word.byteSwapped : word)
    }
    return bits
  }

  private func interpret(_ bits: UInt64) throws(DriverError) -> Number {
    if let mask { return .unsigned((bits & mask) >> UInt64(mask.trailingZeroBitCount)) }
    switch raw {
    case .int16: return .signed(Int64(Int16(truncatingIfNeeded: bits)))
    case .int32: return .signed(Int64(Int32(truncatingIfNeeded: bits)))
    case .int64: return .signed(Int64(bitPattern: bits))
    case .uint16, .uint32, .uint64: return .unsigned(bits)
    case .bool: return .unsigned(bits)
    case .float32: return .real(Self.shortest(Float(bitPattern: UInt32(truncatingIfNeeded: bits))))
    case .float64: return .real(Double(bitPattern: bits))
    case .string: throw DriverError(.configuration, "property \(name): a text is no number")
    }
  }

  private func report(_ number: Number) throws(DriverError) -> Value {
    let scaled = isScaled ? Number.real(Self.scaled(number.double, by: scale) + offset) : number
    let value: Value? =
      switch reported {
      case .bool: .bool(scaled.double != 0)
      case .float32: Number.real(Self.shortest(Float(scaled.double))).value
      case .float64: Number.real(scaled.double).value
      case .string: scaled.value.map { .string($0.deviceText) }
      default: Self.whole(scaled)?.value
      }
    guard let value else {
      throw DriverError(.value, "property \(name): the registers hold \(scaled.double), which is no usable number")
    }
    return value
  }

  /// Multiplies, dividing by the inverse where that is a whole number, so that 213 × 0.1 is 21.3 and not
  /// 21.300000000000001.
  static func scaled(_ value: Double, by scale: Double) -> Double {
    let inverse = (1 / scale).rounded()
    if abs(inverse) > 1, abs(inverse * scale - 1) < 1e-12 { return value / inverse }
    return value * scale
  }

  /// The shortest decimal that names this float, as a double: 21.3, not 21.299999237060547.
  static func shortest(_ float: Float) -> Double {
    float.isFinite ? Double("\(float)") ?? Double(float) : Double(float)
  }

  private static func whole(_ number: Number) -> Number? {
    guard case .real(let double) = number else { return number }
    return Int64(exactly: double.rounded()).map { .signed($0) }
  }

  private func text(of registers: [UInt16]) throws(DriverError) -> String {
    var bytes: [UInt8] = []
    for word in registers {
      let ordered = swapBytes ? word.byteSwapped : word
      bytes.append(UInt8(ordered >> 8))
      bytes.append(UInt8(ordered & 0xff))
    }
    if let end = bytes.firstIndex(of: 0) { bytes.removeSubrange(end...) }
    guard let text = String(validating: bytes, as: UTF8.self) else {
      throw DriverError(.value, "property \(name): the registers hold bytes that are no UTF-8 text: \(bytes.hex)")
    }
    return text
  }

  // MARK: Writing

  /// The bit for a coil.
  package func encodeBit(_ value: Value) throws(DriverError) -> Bool {
    try checkWritable()
    guard let bit = value.deviceBool else { throw refused(value, "true or false") }
    return bit
  }

  /// True when writing needs the registers' present content, because only some of their bits change.
  package var needsCurrent: Bool { mask != nil }

  /// The registers that hold `value`. `current` is their present content where `needsCurrent` says so.
  package func encode(_ value: Value, current: [UInt16] = []) throws(DriverError) -> [UInt16] {
    try checkWritable()
    if raw == .string { return try registers(ofText: value) }
    let number = try parse(value)
    try checkBounds(number, value)
    let unscaled = isScaled ? Number.real(Self.unscaled(number.double - offset, by: scale)) : number
    var bits = try pattern(unscaled, value)
    if let mask {
      guard current.count == count else { throw DriverError(.refused, "property \(name): the register was not read") }
      bits = self.bits(of: current) & ~mask | bits
    }
    return registers(of: bits)
  }

  private func checkWritable() throws(DriverError) {
    guard writable else {
      throw DriverError(.configuration, "property \(name) is read-only: its model's accessMode is not ReadWrite")
    }
  }

  private func refused(_ value: Value, _ remedy: String) -> DriverError {
    DriverError(.value, "property \(name): cannot write \"\(value.deviceText)\": give \(remedy)")
  }

  private func parse(_ value: Value) throws(DriverError) -> Number {
    if reported == .bool || raw == .bool {
      guard let bool = value.deviceBool else { throw refused(value, "true or false") }
      return .signed(bool ? 1 : 0)
    }
    guard let number = Number(value) else { throw refused(value, "a number") }
    return number
  }

  private func checkBounds(_ number: Number, _ value: Value) throws(DriverError) {
    if let minimum, number.double < minimum { throw refused(value, "at least \(minimum) (the model's minimum)") }
    if let maximum, number.double > maximum { throw refused(value, "at most \(maximum) (the model's maximum)") }
  }

  static func unscaled(_ value: Double, by scale: Double) -> Double {
    let inverse = (1 / scale).rounded()
    if abs(inverse) > 1, abs(inverse * scale - 1) < 1e-12 { return value * inverse }
    return value / scale
  }

  /// The bits of a number in the raw type (and in the mask).
  private func pattern(_ number: Number, _ value: Value) throws(DriverError) -> UInt64 {
    if raw.isFloat, mask == nil {
      if raw == .float64 { return number.double.bitPattern }
      let float = Float(number.double)
      guard float.isFinite else { throw refused(value, "a number that fits float32") }
      return UInt64(float.bitPattern)
    }
    guard let whole = Self.whole(number) ?? nil else { throw refused(value, "a number that fits \(raw.rawValue)") }
    if case .real(let double) = number, abs(double - whole.double) > 1e-6 {
      guard isScaled else { throw refused(value, "a whole number") }
    }
    if let mask {
      let shift = UInt64(mask.trailingZeroBitCount)
      guard case .some(let bits) = Self.unsigned(whole), bits <= mask >> shift else {
        throw refused(value, "a whole number from 0 to \(mask >> shift)")
      }
      // A mask with holes keeps them clear.
      guard bits << shift & ~mask == 0 else { throw refused(value, "a number within the mask's bits") }
      return bits << shift
    }
    let type = raw == .bool ? ValueType.uint16 : raw
    guard let range = type.integerRange else { throw refused(value, "a number") }
    switch whole {
    case .signed(let signed) where signed >= range.low && (signed < 0 || UInt64(signed) <= range.high):
      return UInt64(bitPattern: signed)
    case .unsigned(let unsigned) where unsigned <= range.high: return unsigned
    default: throw refused(value, "a number that fits \(raw.rawValue) (\(range.low) to \(range.high) unscaled)")
    }
  }

  private static func unsigned(_ number: Number) -> UInt64? {
    switch number {
    case .signed(let value): UInt64(exactly: value)
    case .unsigned(let value): value
    case .real: nil
    }
  }

  private func registers(of bits: UInt64) -> [UInt16] {
    var words = (0..<count).reversed().map { index in
      let word = UInt16(truncatingIfNeeded: bits >> UInt64(index * 16))
      return swapBytes ? word.byteSwapped : word
    }
    if swapWords { words.reverse() }
    return words
  }

  private func registers(ofText value: Value) throws(DriverError) -> [UInt16] {
    var bytes = Array(value.deviceText.utf8)
    guard bytes.count <= count * 2 else { throw refused(value, "at most \(count * 2) bytes of text") }
    bytes += Array(repeating: 0, count: count * 2 - bytes.count)
    return (0..<count).map { index in
      let word = UInt16(bytes[index * 2]) << 8 | UInt16(bytes[index * 2 + 1])
      return swapBytes ? word.byteSwapped : word
    }
  }
}
