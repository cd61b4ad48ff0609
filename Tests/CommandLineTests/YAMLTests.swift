import Base
import Testing

@testable import CommandLine

@Suite struct YAMLReaderTests {
  func read(_ text: String) throws -> Value {
    let documents = try YAMLReader.documents(text)
    try #require(documents.count == 1)
    return documents[0].value
  }

  static let scalars: [(String, Value)] = [
    ("1", 1), ("-7", -7), ("+7", 7), ("0", 0), ("0644", 420), ("0o17", 15), ("0x1F", 31), ("089", 89),
    ("1.5", 1.5), ("1e3", 1000.0), (".5", 0.5), ("-.5e-1", -0.05), ("1.2.3", "1.2.3"), ("1_000", "1_000"),
    ("true", true), ("False", false), ("yes", "yes"), ("on", "on"), ("n", "n"), ("~", .null), ("null", .null),
    ("\"1\"", "1"), ("'true'", "true"), ("!!str 1", "1"), ("12:30", "12:30"), ("2024-01-02", "2024-01-02"),
    ("1Gi", "1Gi"), ("100m", "100m"), ("1e", "1e"), ("\"\"", ""),
    ("9223372036854775807", .int(.max)), ("-9223372036854775808", .int(.min)),
  ]
  @Test(arguments: scalars) func scalarsMeanWhatKubernetesMeans(text: String, value: Value) throws {
    #expect(try read("a: \(text)\n")["a"] == value)
  }

  @Test(arguments: [".inf", "-.inf", ".nan", "99999999999999999999", "!!binary aGk=", "1e999"])
  func whatJSONCannotHoldIsRefused(text: String) {
    #expect(throws: YAMLFailure.self) { try YAMLReader.documents("a: \(text)\n") }
  }

  @Test func documentsListsAndBlocks() throws {
    let documents = try YAMLReader.documents(
      "---\na: 1\n---\n---\n# nothing\n---\nb:\n- x\n- y: |\n    two\n    lines\n")
    #expect(documents.map(\.value) == [["a": 1], ["b": ["x", ["y": "two\nlines\n"]]]])
    #expect(documents[1].firstLine == 7)
    #expect(documents[1].line(of: "b[1].y") == 9)
    #expect(documents[1].line(of: "b[1].unknown.deeper") == 9)
    #expect(try YAMLReader.documents("").isEmpty)
  }

  @Test func anchorsAndMergeKeys() throws {
    let value = try read("base: &b {x: 1, y: 2}\nuse:\n  <<: *b\n  y: 3\nlist: [*b, *b]\n")
    #expect(value["use"] == ["x": 1, "y": 3])
    #expect(value["list"] == [["x": 1, "y": 2], ["x": 1, "y": 2]])
  }

  @Test func keysAreStrings() throws {
    #expect(try read("1: a\ntrue: b\n") == ["1": "a", "true": "b"])
    #expect(throws: YAMLFailure.self) { try YAMLReader.documents("[1]: a\n") }
  }

  @Test func aliasesOfAliasesAreBounded() {
    var text = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n"
    for level in 1...9 {
      let uses = Array(repeating: "*a\(level - 1)", count: 10).joined(separator: ",")
      text += "a\(level): &a\(level) [\(uses)]\n"
    }
    #expect { try YAMLReader.documents(text) } throws: { "\($0)".contains("aliases") }
  }

  @Test(arguments: [
    String(repeating: "[", count: 100_000), String(repeating: "{a: ", count: 50_000),
    String(repeating: "- ", count: 100_000), String(repeating: "? ", count: 100_000),
    String(repeating: "[", count: 150) + String(repeating: "]", count: 150),
  ])
  func nestingIsBounded(text: String) {
    #expect(throws: YAMLFailure.self) { try YAMLReader.documents(text) }
  }

  @Test(arguments: [
    ("a: 1\nb: [\n", 3), ("a: 1\n b: 2\n", 2), ("a: 1\nb: 2\na: 3\n", 1), ("a: *b\n", 1), ("\tx: 1\n", 1),
  ])
  func failuresNameTheLine(text: String, line: Int) {
    #expect { try YAMLReader.documents(text) } throws: { ($0 as? YAMLFailure)?.line == line }
  }
}

@Suite struct YAMLPrinterTests {
  @Test func itLooksLikeKubectl() {
    let value: Value = [
      "kind": "Pod", "apiVersion": "v1", "metadata": ["name": "x", "labels": ["a/b": "true"]],
      "spec": ["containers": [["name": "c", "args": ["-x", "1"], "ports": .array([])], "s"], "empty": [:]],
    ]
    #expect(
      YAMLPrinter.print(value) == """
        apiVersion: v1
        kind: Pod
        metadata:
          labels:
            a/b: "true"
          name: x
        spec:
          containers:
          - args:
            - "-x"
            - "1"
            name: c
            ports: []
          - s
          empty: {}

        """)
  }

  static let strings = [
    "", " ", "a", "true", "yes", "1", "1.5", "0644", "null", "~", "a: b", "a #b", "a:b", "a:", "- a", "-", "-x", "#",
    "%",
    "@a", "`", "*a", "&a", "!a", "|", ">", "'", "\"", "a\"b", "[", "{", "]", "a\nb", "a\nb\n", "a\n\n", "\na", " a\nb",
    "a \nb", "\t", "a\tb", "\u{1}", "ü", "日本", "\u{85}", "a\\b", "2024-01-02T03:04:05Z", "12:30:45", "=",
    "<<", "?", "? a", ",", "a,b", "---", "...", "--- a", "a\r\nb", "\u{2028}", "1_0", "0x1f", ".5", "e3", "1e3",
    "a\n#b",
    "a\n  b\n c", "!!str", "a\n---\nb",
  ]
  @Test(arguments: strings) func everyStringComesBack(text: String) throws {
    let value: Value = ["k": .string(text), "l": [.string(text), [.string(text)]], "m": ["n": .string(text)]]
    let printed = YAMLPrinter.print(value)
    let read = try YAMLReader.documents(printed)
    #expect(read.first?.value == value, "\(printed)")
    let asKey: Value = ["x": .object([text: 1])]
    #expect(try text == "<<" || YAMLReader.documents(YAMLPrinter.print(asKey)).first?.value == asKey)
  }
}
