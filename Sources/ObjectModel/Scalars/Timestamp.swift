import Base

/// RFC 3339 in UTC, as Kubernetes writes it: `2026-11-23T05:12:23Z` (Time) and with six digits (MicroTime).
package enum Timestamp {
  /// Whole seconds.
  package static func format(_ time: WallTime) -> String { dateTime(time.seconds) + "Z" }

  /// Microseconds, always six digits.
  package static func formatMicros(_ time: WallTime) -> String {
    let micros = (time.nanoseconds - time.seconds * 1_000_000_000) / 1000
    return "\(dateTime(time.seconds)).\(padded(micros, 6))Z"
  }

  /// RFC 3339 with any fraction and offset; nil if the text is not one. Years 0001 to 2261 (64-bit nanoseconds end).
  package static func parse(_ text: String) -> WallTime? {
    var reader = DigitReader(bytes: Array(text.utf8))
    guard let year = reader.number(4), reader.take("-"), let month = reader.number(2), reader.take("-"),
      let day = reader.number(2), reader.take("T") || reader.take("t"), let hour = reader.number(2), reader.take(":"),
      let minute = reader.number(2), reader.take(":"), let second = reader.number(2),
      let fraction = reader.fraction(), let offset = reader.zone(), reader.atEnd,
      (1...12).contains(month), (1...daysIn(month, year)).contains(day), hour < 24, minute < 60, second < 61,
      year < 2262
    else { return nil }
    let seconds = daysFromCivil(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - offset
    let (product, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
    return overflow ? nil : WallTime(nanoseconds: product + fraction)
  }

  private static func dateTime(_ seconds: Int64) -> String {
    let days = (seconds - (seconds % 86400 + 86400) % 86400) / 86400
    let rest = seconds - days * 86400
    let (year, month, day) = civilFromDays(days)
    return "\(padded(year, 4))-\(padded(month, 2))-\(padded(day, 2))"
      + "T\(padded(rest / 3600, 2)):\(padded(rest / 60 % 60, 2)):\(padded(rest % 60, 2))"
  }

  private static func padded(_ number: Int64, _ width: Int) -> String {
    let text = String(number)
    return String(repeating: "0", count: max(0, width - text.count)) + text
  }

  private static func daysIn(_ month: Int64, _ year: Int64) -> Int64 {
    switch month {
    case 2: year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) ? 29 : 28
    case 4, 6, 9, 11: 30
    default: 31
    }
  }

  /// Days since 1970-01-01 of a proleptic Gregorian date, counted in years that begin in March.
  private static func daysFromCivil(_ year: Int64, _ month: Int64, _ day: Int64) -> Int64 {
    let y = month <= 2 ? year - 1 : year
    let era = (y >= 0 ? y : y - 399) / 400
    let yearOfEra = y - era * 400
    let dayOfYear = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1
    let dayOfEra = yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear
    return era * 146_097 + dayOfEra - 719_468
  }

  private static func civilFromDays(_ days: Int64) -> (Int64, Int64, Int64) {
    let z = days + 719_468
    let era = (z >= 0 ? z : z - 146_096) / 146_097
    let dayOfEra = z - era * 146_097
    let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36524 - dayOfEra / 146_096) / 365
    let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
    let shifted = (5 * dayOfYear + 2) / 153
    let day = dayOfYear - (153 * shifted + 2) / 5 + 1
    let month = shifted < 10 ? shifted + 3 : shifted - 9
    return (yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, day)
  }
}

private struct DigitReader {
  let bytes: Bytes
  var offset = 0

  init(bytes: Bytes) { self.bytes = bytes }

  var atEnd: Bool { offset == bytes.count }

  mutating func take(_ character: Unicode.Scalar) -> Bool {
    guard offset < bytes.count, bytes[offset] == UInt8(ascii: character) else { return false }
    offset += 1
    return true
  }

  mutating func digit() -> Int64? {
    guard offset < bytes.count, (0x30...0x39).contains(bytes[offset]) else { return nil }
    offset += 1
    return Int64(bytes[offset - 1] - 0x30)
  }

  mutating func number(_ width: Int) -> Int64? {
    var value: Int64 = 0
    for _ in 0..<width {
      guard let digit = digit() else { return nil }
      value = value * 10 + digit
    }
    return value
  }

  /// Nanoseconds after an optional point; digits beyond the ninth are dropped.
  mutating func fraction() -> Int64? {
    guard take(".") else { return 0 }
    guard var value = digit() else { return nil }
    var width = 1
    while let next = digit() {
      if width < 9 {
        value = value * 10 + next
        width += 1
      }
    }
    while width < 9 {
      value *= 10
      width += 1
    }
    return value
  }

  /// Seconds east of UTC.
  mutating func zone() -> Int64? {
    if take("Z") || take("z") { return 0 }
    let sign: Int64
    if take("+") { sign = 1 } else if take("-") { sign = -1 } else { return nil }
    guard let hour = number(2), take(":"), let minute = number(2), hour < 24, minute < 60 else { return nil }
    return sign * (hour * 3600 + minute * 60)
  }
}
