import Base
import Testing

@testable import ObjectModel

@Suite struct SelectorTests {
  @Test(
    arguments: [
      ("a=b", ["a": "b"], true), ("a==b", ["a": "c"], false), ("a!=b", [:], true), ("a!=b", ["a": "b"], false),
      ("a in (x, y)", ["a": "y"], true), ("a in (x,y)", [:], false), ("a notin (x,y)", ["a": "x"], false),
      ("a notin (x)", [:], true), ("a", ["a": ""], true), ("a", [:], false), ("!a", [:], true),
      ("!a", ["a": ""], false),
      ("a=b,!c , d in (e)", ["a": "b", "d": "e"], true), ("", ["z": "1"], true), ("a=", ["a": ""], true),
      ("in=x", ["in": "x"], true), ("app.kubernetes.io/name=web", ["app.kubernetes.io/name": "web"], true),
    ] as [(String, [String: String], Bool)])
  func matches(_ text: String, _ labels: [String: String], _ expected: Bool) throws {
    let selector = try LabelSelector(parsing: text)
    #expect(selector.matches(labels) == expected)
    #expect(try LabelSelector(parsing: selector.description) == selector)
  }

  @Test(arguments: ["a in", "a in ()b", "a in (x", "=b", "a=b c", "a,", "a b", "-a=b", "a=-b", "a/b/c=d", "a=b!"])
  func refuses(_ text: String) {
    #expect(throws: SelectorError.self) { try LabelSelector(parsing: text) }
  }

  @Test func readsTheObjectForm() throws {
    let selector = try LabelSelector([
      "matchLabels": ["app": "web"],
      "matchExpressions": [
        ["key": "tier", "operator": "NotIn", "values": ["db"]], ["key": "x", "operator": "Exists"],
      ],
    ])
    #expect(selector.description == "app=web,tier!=db,x")
    #expect(selector.matches(["app": "web", "x": ""]))
    #expect(!selector.matches(["app": "web", "x": "", "tier": "db"]))
    #expect(throws: SelectorError.self) { try LabelSelector(["matchExpressions": [["key": "a", "operator": "Gt"]]]) }
    #expect(throws: SelectorError.self) { try LabelSelector(["matchExpressions": [["key": "a", "operator": "In"]]]) }
  }

  @Test func fieldSelectors() throws {
    let fields = ["status.phase": "Running", "spec.nodeName": "n=1,\\"]
    func matches(_ text: String) throws -> Bool { try FieldSelector(parsing: text).matches { fields[$0] ?? "" } }
    #expect(try matches("status.phase=Running"))
    #expect(try matches("status.phase==Running,status.phase!=Failed"))
    #expect(try !matches("status.phase!=Running"))
    #expect(try matches(#"spec.nodeName=n\=1\,\\"#))
    #expect(try matches("nothing="))
    #expect(try matches(""))
    #expect(throws: SelectorError.self) { try FieldSelector(parsing: "a") }
    #expect(throws: SelectorError.self) { try FieldSelector(parsing: #"a=b\c"#) }
    let selector = try FieldSelector(parsing: #"spec.nodeName=n\=1\,\\,a!=b"#)
    #expect(try FieldSelector(parsing: selector.description) == selector)
    #expect(selector.required("spec.nodeName") == "n=1,\\")
  }
}
