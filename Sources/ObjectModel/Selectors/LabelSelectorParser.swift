import Base

extension LabelSelector {
  /// The text form: `a=b, c==d, e!=f, g in (x,y), h notin (z), i, !j`.
  package init(parsing text: String) throws(SelectorError) {
    var parser = LabelSelectorParser(text)
    requirements = try parser.parse()
  }
}

private struct LabelSelectorParser {
  private enum Token: Hashable {
    case word(String)
    /// `=`, `==`, `!=`, `!`, `,`, `(`, `)`.
    case sign(String)
    case end
  }

  private var tokens: [Token] = []
  private var index = 0
  private let text: String

  init(_ text: String) {
    self.text = text
    let bytes = Array(text.utf8)
    var offset = 0
    while offset < bytes.count {
      switch bytes[offset] {
      case 0x20, 0x09, 0x0a, 0x0d: offset += 1
      case UInt8(ascii: ","), UInt8(ascii: "("), UInt8(ascii: ")"), UInt8(ascii: "="), UInt8(ascii: "!"):
        let one = String(Unicode.Scalar(bytes[offset]))
        let next = offset + 1 < bytes.count ? bytes[offset + 1] : 0
        let double = next == UInt8(ascii: "=") && (one == "=" || one == "!")
        tokens.append(.sign(double ? one + "=" : one))
        offset += double ? 2 : 1
      default:
        let start = offset
        while offset < bytes.count, !Array(" \t\n\r,()=!".utf8).contains(bytes[offset]) { offset += 1 }
        tokens.append(.word(String(decoding: bytes[start..<offset], as: UTF8.self)))
      }
    }
  }

  private var current: Token { index < tokens.count ? tokens[index] : .end }

  private func fail(_ what: String) -> SelectorError {
    let found =
      switch current {
      case .word(let word), .sign(let word): "found '\(word)'"
      case .end: "found the end"
      }
    return SelectorError("unable to parse requirement in \"\(text)\": \(found), expected: \(what)")
  }

  mutating func parse() throws(SelectorError) -> [LabelSelector.Requirement] {
    var requirements: [LabelSelector.Requirement] = []
    if tokens.isEmpty { return requirements }
    while true {
      let requirement = try parseRequirement()
      try LabelSelector.check(requirement)
      requirements.append(requirement)
      guard requirements.count <= LabelSelector.maxRequirements else {
        throw SelectorError("a selector has at most \(LabelSelector.maxRequirements) requirements")
      }
      if current == .end { return requirements }
      guard take(",") else { throw fail("',' or the end") }
    }
  }

  private mutating func take(_ sign: String) -> Bool {
    guard current == .sign(sign) else { return false }
    index += 1
    return true
  }

  private mutating func word(_ what: String) throws(SelectorError) -> String {
    guard case .word(let word) = current else { throw fail(what) }
    index += 1
    return word
  }

  private mutating func parseRequirement() throws(SelectorError) -> LabelSelector.Requirement {
    if take("!") { return .init(key: try word("identifier"), condition: .doesNotExist) }
    let key = try word("identifier")
    switch current {
    case .end, .sign(","): return .init(key: key, condition: .exists)
    case .sign("="), .sign("=="):
      index += 1
      return .init(key: key, condition: .isIn, values: [optionalWord()])
    case .sign("!="):
      index += 1
      return .init(key: key, condition: .notIn, values: [optionalWord()])
    case .word("in"):
      index += 1
      return .init(key: key, condition: .isIn, values: try parseValues())
    case .word("notin"):
      index += 1
      return .init(key: key, condition: .notIn, values: try parseValues())
    default: throw fail("in, notin, =, ==, !=")
    }
  }

  /// `a=` selects the empty value.
  private mutating func optionalWord() -> String {
    guard case .word(let word) = current else { return "" }
    index += 1
    return word
  }

  private mutating func parseValues() throws(SelectorError) -> [String] {
    guard take("(") else { throw fail("'('") }
    var values: [String] = []
    while true {
      values.append(optionalWord())
      if take(")") { return values }
      guard take(",") else { throw fail("',' or ')'") }
    }
  }
}
