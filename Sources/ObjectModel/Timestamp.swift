import Base

extension WallTime {
  /// As `metadata.creationTimestamp` is written: RFC 3339 in UTC with whole seconds, `2026-01-31T08:15:00Z`.
  package var rfc3339: String {
    let (days, second) = floorDivide(seconds, 86_400)
    let (year, month, day) = Self.civil(days)
    func two(_ number: Int64) -> String { number < 10 ? "0\(number)" : "\(number)" }
    let yearText = String(repeating: "0", count: max(0, 4 - "\(year)".count)) + "\(year)"
    return "\(yearText)-\(two(month))-\(two(day))T\(two(second / 3600)):\(two(second / 60 % 60)):\(two(second % 60))Z"
  }

  /// Kubernetes' MicroTime: RFC 3339 with six digits of a second.
  package var rfc3339Micro: String {
    let micros = String(floorDivide(nanoseconds, 1_000_000_000).1 / 1000)
    return rfc3339.dropLast() + "." + String(repeating: "0", count: 6 - micros.count) + micros + "Z"
  }

  /// A time in RFC 3339 with an optional fraction and any offset; nil for other text.
  package init?(rfc3339 text: String) {
    let bytes = Array(text.utf8)
    func number(_ from: Int, _ count: Int) -> Int64? {
      guard from + count <= bytes.count else { return nil }
      var value: Int64 = 0
      for byte in bytes[from..<from + count] {
        guard byte >= 0x30, byte <= 0x39 else { return nil }
        value = value * 10 + Int64(byte - 0x30)
      }
      return value
    }
    guard bytes.count >= 20, bytes[4] == 0x2d, bytes[7] == 0x2d, bytes[10] | 0x20 == 0x74, bytes[13] == 0x3a,
      bytes[16] == 0x3a, let year = number(0, 4), let month = number(5, 2), let day = number(8, 2),
      let hour = number(11, 2), let minute = number(14, 2), let second = number(17, 2), (1...12).contains(month),
      (1...31).contains(day), hour < 24, minute < 60, second <= 60
    else { return nil }
    var index = 19
    var fraction: Int64 = 0
    if bytes[index] == 0x2e {
      index += 1
      var scale: Int64 = 100_000_000
      let first = index
      while index < bytes.count, let digit = number(index, 1) {
        fraction += digit * scale
        scale /= 10
        index += 1
      }
      guard index > first, index < bytes.count else { return nil }
    }
    var offset: Int64 = 0
    if bytes[index] | 0x20 == 0x7a {
      guard index + 1 == bytes.count else { return nil }
    } else {
      guard bytes[index] == 0x2b || bytes[index] == 0x2d, bytes.count == index + 6, bytes[index + 3] == 0x3a,
        let hours = number(index + 1, 2), let minutes = number(index + 4, 2)
      else { return nil }
      offset = (hours * 3600 + minutes * 60) * (bytes[index] == 0x2b ? 1 : -1)
    }
    let whole = Self.days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset
    guard let nanoseconds = Int64(exactly: whole).map({ $0.multipliedReportingOverflow(by: 1_000_000_000) }),
      !nanoseconds.overflow
    else { return nil }
    self.init(nanoseconds: nanoseconds.partialValue + fraction)
  }

  /// Days since 1970-01-01 of a date in the proleptic Gregorian calendar. Years are counted from March, so that the
  /// leap day comes last: 365 days a year, 146 097 in 400 years.
  private static func days(_ year: Int64, _ month: Int64, _ day: Int64) -> Int64 {
    let shifted = month > 2 ? year : year - 1
    let (era, yearOfEra) = floorDivide(shifted, 400)
    let dayOfYear = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1
    return era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
  }

  private static func civil(_ days: Int64) -> (year: Int64, month: Int64, day: Int64) {
    let (era, dayOfEra) = floorDivide(days + 719_468, 146_097)
    let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
    let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
    let shifted = (5 * dayOfYear + 2) / 153
    let month = shifted < 10 ? shifted + 3 : shifted - 9
    return (yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, dayOfYear - (153 * shifted + 2) / 5 + 1)
  }
}

private func floorDivide(_ a: Int64, _ b: Int64) -> (Int64, Int64) {
  let (quotient, remainder) = a.quotientAndRemainder(dividingBy: b)
  return remainder < 0 ? (quotient - 1, remainder + b) : (quotient, remainder)
}
