import Base

/// Kubernetes' rules for names, labels and annotations, with its messages. Each function answers what is wrong, in
/// sentences; an empty answer means valid.
/// Source: https://kubernetes.io/docs/concepts/overview/working-with-objects/names/
package enum Names {
  package static let maxLabel = 63
  package static let maxSubdomain = 253
  /// Bytes of all annotations of one object.
  package static let maxAnnotations = 256 << 10

  private static let labelRule =
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end "
    + "with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    + "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
  private static let subdomainRule =
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
    + "and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    + "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
  private static let qualifiedRule =
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    + "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    + "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
  private static let valueRule =
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    + "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    + "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
  private static let configKeyRule =
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  "
    + "or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"

  private static func isLower(_ byte: UInt8) -> Bool { (0x61...0x7a).contains(byte) || (0x30...0x39).contains(byte) }
  private static func isAlphanumeric(_ byte: UInt8) -> Bool { isLower(byte) || (0x41...0x5a).contains(byte) }

  private static func matches(_ text: Substring.UTF8View, edge: (UInt8) -> Bool, inner: (UInt8) -> Bool) -> Bool {
    guard let first = text.first, let last = text.last, edge(first), edge(last) else { return false }
    return text.allSatisfy { edge($0) || inner($0) }
  }

  private static func isLabel(_ text: Substring) -> Bool {
    matches(text.utf8, edge: isLower, inner: { $0 == UInt8(ascii: "-") })
  }

  /// Labels with dots between them, in one pass: every name of every write is looked at.
  private static func isSubdomain(_ name: String) -> Bool {
    let (dot, hyphen) = (UInt8(ascii: "."), UInt8(ascii: "-"))
    var last = dot
    for byte in name.utf8 {
      switch byte {
      case dot: if !isLower(last) { return false }
      case hyphen: if last == dot { return false }
      default: if !isLower(byte) { return false }
      }
      last = byte
    }
    return isLower(last)
  }

  package static func label(_ name: String) -> [String] {
    var problems: [String] = []
    if name.utf8.count > maxLabel { problems.append("must be no more than \(maxLabel) characters") }
    if !isLabel(name[...]) { problems.append(labelRule) }
    return problems
  }

  package static func subdomain(_ name: String) -> [String] {
    var problems: [String] = []
    if name.utf8.count > maxSubdomain { problems.append("must be no more than \(maxSubdomain) characters") }
    if !isSubdomain(name) { problems.append(subdomainRule) }
    return problems
  }

  /// A label's or annotation's key: `[prefix/]name`.
  package static func qualifiedName(_ key: String) -> [String] {
    let parts = key.split(separator: "/", maxSplits: 2, omittingEmptySubsequences: false)
    var problems: [String] = []
    if parts.count > 2 {
      return [
        "a qualified name " + qualifiedRule.dropFirst("name part ".count)
          + " with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
      ]
    }
    if parts.count == 2 {
      if parts[0].isEmpty {
        problems.append("prefix part must be non-empty")
      } else {
        problems += subdomain(String(parts[0])).map { "prefix part \($0)" }
      }
    }
    let name = parts[parts.count - 1]
    if name.isEmpty {
      problems.append("name part must be non-empty")
    } else if name.utf8.count > maxLabel {
      problems.append("name part must be no more than \(maxLabel) characters")
    }
    if !isQualified(name) { problems.append(qualifiedRule) }
    return problems
  }

  private static func isQualified(_ text: Substring) -> Bool {
    matches(
      text.utf8, edge: isAlphanumeric,
      inner: { $0 == UInt8(ascii: "-") || $0 == UInt8(ascii: "_") || $0 == UInt8(ascii: ".") })
  }

  package static func labelValue(_ value: String) -> [String] {
    var problems: [String] = []
    if value.utf8.count > maxLabel { problems.append("must be no more than \(maxLabel) characters") }
    if !value.isEmpty, !isQualified(value[...]) { problems.append(valueRule) }
    return problems
  }

  /// A key of ConfigMap.data or Secret.data.
  package static func configKey(_ key: String) -> [String] {
    var problems: [String] = []
    if key.utf8.count > maxSubdomain { problems.append("must be no more than \(maxSubdomain) characters") }
    let allowed = key.utf8.allSatisfy {
      isAlphanumeric($0) || $0 == UInt8(ascii: "-") || $0 == UInt8(ascii: "_") || $0 == UInt8(ascii: ".")
    }
    if key.isEmpty || !allowed { problems.append(configKeyRule) }
    guard key.utf8.first == UInt8(ascii: ".") else { return problems }
    if key == "." || key == ".." { problems.append("must not be '\(key)'") }
    if key.hasPrefix(".."), key != ".." { problems.append("must not start with '..'") }
    return problems
  }

  /// A container port's name (IANA_SVC_NAME, RFC 6335).
  package static func portName(_ name: String) -> [String] {
    var problems: [String] = []
    let bytes = Array(name.utf8)
    if bytes.count > 15 { problems.append("must be no more than 15 characters") }
    if !bytes.allSatisfy({ isLower($0) || $0 == UInt8(ascii: "-") }) {
      problems.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    }
    if !bytes.contains(where: { (0x61...0x7a).contains($0) }) {
      problems.append("must contain at least one letter (a-z)")
    }
    if name.contains("--") { problems.append("must not contain consecutive hyphens") }
    if bytes.first == UInt8(ascii: "-") || bytes.last == UInt8(ascii: "-") {
      problems.append("must not begin or end with a hyphen")
    }
    return problems
  }

  /// The five random characters that end a generated name: no vowels, nothing that looks like another.
  package static let generatedSuffixLength = 5
  package static let generatedAlphabet = Array("bcdfghjklmnpqrstvwxz2456789".utf8)

  /// `base` cut to 58 characters and five random ones.
  package static func generate(_ base: String, random: any RandomSource) -> String {
    var suffix: Bytes = []
    for _ in 0..<generatedSuffixLength {
      suffix.append(generatedAlphabet[Int(random.below(UInt64(generatedAlphabet.count)))])
    }
    return String(base.prefix(maxLabel - generatedSuffixLength)) + String(decoding: suffix, as: UTF8.self)
  }
}
