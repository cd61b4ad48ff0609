import Foundation
import Testing

/// docs/operations.md against the sources: whoever reads a code, a metric or a setting finds it there.
@Suite struct DocumentTests {
  static func operations() throws -> String {
    try String(contentsOf: Repository.root.appendingPathComponent("docs/operations.md"), encoding: .utf8)
  }

  /// The first group of every match in the sources, with the file it is in.
  static func found(_ pattern: String) throws -> [String: String] {
    let expression = try NSRegularExpression(pattern: pattern)
    var found: [String: String] = [:]
    for file in try Repository.sources() {
      let whole = NSRange(file.text.startIndex..., in: file.text)
      for match in expression.matches(in: file.text, range: whole) {
        guard let range = Range(match.range(at: 1), in: file.text) else { continue }
        found[String(file.text[range])] = file.path
      }
    }
    return found
  }

  @Test func everyLogCodeIsListedOnce() throws {
    let text = try Self.operations()
    let codes = try Self.found(#"LogCode\("([A-Z]-[A-Z]+-[0-9]+)"\)"#)
    #expect(codes.count > 30)
    for (code, file) in codes {
      let rows = text.split(separator: "\n").count { $0.hasPrefix("| \(code) |") }
      #expect(rows == 1, "docs/operations.md has \(rows) rows for \(code) of \(file)")
    }
  }

  @Test func everyMetricIsListed() throws {
    let text = try Self.operations()
    let metrics = try Self.found(#""(skerry_[a-z_]+)""#)
    #expect(metrics.count > 30)
    for (metric, file) in metrics {
      #expect(text.contains("`\(metric)`"), "docs/operations.md lacks the metric \(metric) of \(file)")
    }
  }

  @Test func everySettingIsListed() throws {
    let text = try Self.operations()
    let settings = try Self.found(#"settings\.(?:string|int|bytes|duration|list|required|bool)\(\s*"([a-z-]+)""#)
    #expect(settings.count > 25)
    for (setting, file) in settings {
      #expect(text.contains("`\(setting)`"), "docs/operations.md lacks the setting \(setting) of \(file)")
    }
  }
}
