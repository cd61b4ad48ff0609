import Base

/// Kubernetes' fixed-point number for resources: `500m`, `1.5`, `64Mi`, `1e3`.
///
/// Held as an integer number of nano-units in 128 bits, which is exact for everything Kubernetes takes
/// (at most nine decimal places, at most 2^63-1 units); the text is kept in its written form's family.
/// Source: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
package struct Quantity: Sendable, Hashable, Comparable {
  /// How the canonical text is written.
  package enum Format: Sendable, Hashable {
    case decimalSI
    case binarySI
    case decimalExponent
  }

  private var nano: Int128
  package let format: Format

  /// Text beyond this is refused before any arithmetic.
  package static let maxLength = 64
  private static let unit: Int128 = 1_000_000_000
  private static let most = Int128(Int64.max) * unit

  private init(nano: Int128, format: Format) {
    self.nano = nano
    self.format = format
  }

  /// Whole units.
  package init(units: Int64, format: Format = .decimalSI) {
    self.init(nano: Int128(units) * Self.unit, format: format)
  }
  /// Thousandths: CPU's usual unit.
  package init(milli: Int64) { self.init(nano: Int128(milli) * 1_000_000, format: .decimalSI) }

  /// nil if the text is not a quantity.
  package init?(_ text: String) {
    let bytes = Array(text.utf8)
    guard !bytes.isEmpty, bytes.count <= Self.maxLength else { return nil }
    var index = 0
    let negative = bytes[0] == UInt8(ascii: "-")
    if negative || bytes[0] == UInt8(ascii: "+") { index = 1 }
    guard let number = Self.decimal(bytes, &index) else { return nil }
    guard let suffix = Self.suffix(String(decoding: bytes[index...], as: UTF8.self)) else { return nil }
    guard let nano = Self.scale(number, suffix) else { return nil }
    self.init(nano: negative ? -nano : nano, format: suffix.format)
  }

  /// A JSON number or string, as manifests write both (`cpu: 2`, `cpu: "500m"`).
  package init?(_ value: Value) {
    switch value {
    case .int(let number): self.init(String(number))
    case .double(let number): self.init(number.description)
    case .string(let text): self.init(text)
    default: return nil
    }
  }

  // MARK: Parsing

  private struct Decimal {
    var mantissa: Int128
    /// Digits after the point that the mantissa holds.
    var places: Int
  }

  private static func decimal(_ bytes: Bytes, _ index: inout Int) -> Decimal? {
    var number = Decimal(mantissa: 0, places: 0)
    var (digits, point) = (0, false)
    while index < bytes.count {
      let byte = bytes[index]
      if (0x30...0x39).contains(byte) {
        digits += 1
        if number.mantissa < 1_000_000_000_000_000_000_000_000_000 {
          number.mantissa = number.mantissa * 10 + Int128(byte - 0x30)
          if point { number.places += 1 }
        } else if !point {
          return nil
        }
      } else if byte == UInt8(ascii: "."), !point {
        point = true
      } else {
        break
      }
      index += 1
    }
    return digits > 0 ? number : nil
  }

  private struct Suffix {
    var format: Format
    var exponent: Int
  }

  private static let decimalSuffixes: [(String, Int)] = [
    ("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18),
  ]
  private static let binarySuffixes: [(String, Int)] = [
    ("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60),
  ]

  private static func suffix(_ text: String) -> Suffix? {
    if let (_, power) = decimalSuffixes.first(where: { $0.0 == text }) {
      return Suffix(format: .decimalSI, exponent: power)
    }
    if let (_, power) = binarySuffixes.first(where: { $0.0 == text }) {
      return Suffix(format: .binarySI, exponent: power)
    }
    guard text.hasPrefix("e") || text.hasPrefix("E"), let power = Int(text.dropFirst()), abs(power) <= 36 else {
      return nil
    }
    return Suffix(format: .decimalExponent, exponent: power)
  }

  /// Nano-units, rounded away from zero (as Kubernetes rounds up what is finer than a nano), capped at 2^63-1 units.
  private static func scale(_ number: Decimal, _ suffix: Suffix) -> Int128? {
    var value = number.mantissa
    if value == 0 { return 0 }
    var power = 9 - number.places
    if suffix.format == .binarySI {
      let (product, overflow) = value.multipliedReportingOverflow(by: Int128(1) << Int128(suffix.exponent))
      value = overflow ? .max : product
    } else {
      power += suffix.exponent
    }
    while power > 0 {
      let (product, overflow) = value.multipliedReportingOverflow(by: 10)
      if overflow { return most }
      value = product
      power -= 1
    }
    while power < 0 {
      value = value / 10 + (value % 10 == 0 ? 0 : 1)
      power += 1
    }
    return min(value, most)
  }

  // MARK: Values

  /// Whole units, rounded up.
  package var units: Int64 { Int64(clamping: Self.roundUp(nano, Self.unit)) }
  /// Thousandths, rounded up.
  package var milli: Int64 { Int64(clamping: Self.roundUp(nano, 1_000_000)) }
  package var isZero: Bool { nano == 0 }
  package var isNegative: Bool { nano < 0 }
  package var isInteger: Bool { nano % Self.unit == 0 }

  private static func roundUp(_ value: Int128, _ divisor: Int128) -> Int128 {
    let (quotient, rest) = value.quotientAndRemainder(dividingBy: divisor)
    return rest > 0 ? quotient + 1 : quotient
  }

  package static func < (a: Quantity, b: Quantity) -> Bool { a.nano < b.nano }
  package static func == (a: Quantity, b: Quantity) -> Bool { a.nano == b.nano }
  package func hash(into hasher: inout Hasher) { hasher.combine(nano) }
  /// Written as `a` is, or as `b` where `a` is nothing, so that a sum may start from zero.
  package static func + (a: Quantity, b: Quantity) -> Quantity {
    Quantity(nano: min(a.nano + b.nano, most), format: a.isZero ? b.format : a.format)
  }
  package static func - (a: Quantity, b: Quantity) -> Quantity { Quantity(nano: a.nano - b.nano, format: a.format) }
}

extension Quantity: CustomStringConvertible {
  /// Kubernetes' canonical text: no fraction, the largest suffix that leaves none.
  package var description: String {
    if nano == 0 { return "0" }
    if format == .binarySI, isInteger {
      let whole = nano / Self.unit
      if abs(whole) >= 1024 {
        for (suffix, power) in Self.binarySuffixes.reversed() where whole % (Int128(1) << Int128(power)) == 0 {
          return "\(whole >> Int128(power))\(suffix)"
        }
      }
      return "\(whole)"
    }
    var (mantissa, power) = (nano, -9)
    while power < 18, mantissa % 1000 == 0 {
      mantissa /= 1000
      power += 3
    }
    if format == .decimalExponent { return power == 0 ? "\(mantissa)" : "\(mantissa)e\(power)" }
    let suffix = Self.decimalSuffixes.first { $0.1 == power }?.0 ?? ""
    return "\(mantissa)\(suffix)"
  }
}
