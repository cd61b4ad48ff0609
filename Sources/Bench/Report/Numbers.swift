import Glibc

/// Numbers as people read them.
enum Numbers {
  /// Three significant digits, thousands apart.
  static func short(_ value: Double) -> String {
    guard value.isFinite else { return "–" }
    let size = abs(value)
    if size >= 1_000 { return grouped(value) }
    let digits = size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : size == 0 ? 0 : 3
    return fixed(value, digits)
  }

  static func fixed(_ value: Double, _ digits: Int) -> String {
    guard value.isFinite, abs(value) < 1e15 else { return "–" }
    let factor = pow(10, Double(digits))
    let scaled = Int64((abs(value) * factor).rounded())
    let whole = scaled / Int64(factor)
    let sign = value < 0 && scaled != 0 ? "-" : ""
    guard digits > 0 else { return "\(sign)\(whole)" }
    let rest = String(scaled % Int64(factor))
    return "\(sign)\(whole).\(String(repeating: "0", count: digits - rest.count))\(rest)"
  }

  private static func grouped(_ value: Double) -> String {
    guard abs(value) < 9e15 else { return "–" }
    let digits = String(Int64(abs(value).rounded()))
    var out = ""
    for (index, digit) in digits.enumerated() {
      if index > 0, (digits.count - index).isMultiple(of: 3) { out.append(",") }
      out.append(digit)
    }
    return (value < 0 ? "-" : "") + out
  }
}

extension Numbers {
  /// To base 10.
  static func log(_ value: Double) -> Double { log10(value) }
  static func power(_ exponent: Int) -> Double { pow(10, Double(exponent)) }
}
