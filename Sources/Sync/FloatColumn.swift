import Base

/// A column of floats as integers: as decimals where all have few places, as what instruments show; else by their bits,
/// in an order that follows their size, so that near values have near numbers.
enum FloatColumn {
  /// How floats became integers: 0 to 9 decimal places, or their bits in single or double precision.
  enum Form: UInt64 {
    case decimal0, decimal1, decimal2, decimal3, decimal4, decimal5, decimal6, decimal7, decimal8, decimal9
    case single, double
  }

  private static let powers: [Double] = [1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9]
  /// Beyond it not every integer is a double.
  private static let exact = 9_007_199_254_740_992.0

  static func encode(
    _ values: [Double], form previousForm: inout Form?, shape: inout ColumnShape?, into writer: inout BitWriter
  ) {
    guard !values.isEmpty else { return }
    let form = best(values)
    if let previousForm { writer.flag(form == previousForm) }
    if form != previousForm { writer.bits(form.rawValue, 4) }
    previousForm = form
    NumberColumn.encode(values.map { integer($0, form) }, previous: &shape, into: &writer)
  }

  static func decode(
    _ count: Int, form previousForm: inout Form?, shape: inout ColumnShape?, from reader: inout BitReader
  ) throws(SkerryError) -> [Double] {
    guard count > 0 else { return [] }
    let form: Form
    if let previousForm, try reader.flag() {
      form = previousForm
    } else {
      guard let named = Form(rawValue: try reader.bits(4)) else { throw BitReader.corrupt("an unknown form of floats") }
      form = named
      previousForm = form
    }
    let integers = try NumberColumn.decode(count, previous: &shape, from: &reader)
    var values: [Double] = []
    values.reserveCapacity(integers.count)
    for integer in integers {
      guard let value = float(integer, form), value.isFinite else { throw BitReader.corrupt("a float that is none") }
      values.append(value)
    }
    return values
  }

  /// The form with the smallest integers that gives every value back, to the bit.
  private static func best(_ values: [Double]) -> Form {
    var places = 0
    for value in values {
      while places < powers.count, !isDecimal(value, places) { places += 1 }
      if places == powers.count { break }
    }
    // A large value with few places may not bear the places that a later one needs.
    if places < powers.count, values.allSatisfy({ isDecimal($0, places) }), let form = Form(rawValue: UInt64(places)) {
      return form
    }
    let single = values.allSatisfy { Double(Float($0)).bitPattern == $0.bitPattern }
    return single ? .single : .double
  }

  private static func isDecimal(_ value: Double, _ places: Int) -> Bool {
    let scaled = (value * powers[places]).rounded()
    guard abs(scaled) < exact else { return false }
    // By way of the integer, which has no negative zero.
    return (Double(Int64(scaled)) / powers[places]).bitPattern == value.bitPattern
  }

  private static func integer(_ value: Double, _ form: Form) -> Int64 {
    switch form {
    case .single:
      let bits = Float(value).bitPattern
      return Int64(Int32(bitPattern: bits & 0x8000_0000 == 0 ? bits : ~bits | 0x8000_0000))
    case .double:
      let bits = value.bitPattern
      return Int64(bitPattern: bits >> 63 == 0 ? bits : ~bits | 1 << 63)
    default: return Int64((value * powers[Int(form.rawValue)]).rounded())
    }
  }

  private static func float(_ integer: Int64, _ form: Form) -> Double? {
    switch form {
    case .single:
      guard let narrow = Int32(exactly: integer) else { return nil }
      let bits = UInt32(bitPattern: narrow)
      return Double(Float(bitPattern: narrow >= 0 ? bits : ~bits | 0x8000_0000))
    case .double:
      let bits = UInt64(bitPattern: integer)
      return Double(bitPattern: integer >= 0 ? bits : ~bits | 1 << 63)
    default: return Double(integer) / powers[Int(form.rawValue)]
    }
  }
}
