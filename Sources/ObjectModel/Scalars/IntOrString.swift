import Base

/// A whole number, or text such as `25%` or a port's name.
package enum IntOrString: Sendable, Hashable, CustomStringConvertible {
  case int(Int64)
  case string(String)

  package init?(_ value: Value) {
    switch value {
    case .int(let number): self = .int(number)
    case .string(let text): self = .string(text)
    default: return nil
    }
  }

  package var value: Value {
    switch self {
    case .int(let number): .int(number)
    case .string(let text): .string(text)
    }
  }

  package var description: String {
    switch self {
    case .int(let number): String(number)
    case .string(let text): text
    }
  }

  /// The number of `25%`; nil for anything else.
  package var percent: Int64? {
    guard case .string(let text) = self, text.hasSuffix("%"), text.first?.isNumber == true else { return nil }
    return Int64(text.dropLast())
  }

  /// The number itself, or the percentage of `total`, rounded up or down; nil for other text.
  package func scaled(of total: Int64, roundUp: Bool) -> Int64? {
    if case .int(let number) = self { return number }
    guard let percent else { return nil }
    let (product, overflow) = percent.multipliedReportingOverflow(by: total)
    guard !overflow else { return nil }
    return roundUp ? (product + 99) / 100 : product / 100
  }
}
