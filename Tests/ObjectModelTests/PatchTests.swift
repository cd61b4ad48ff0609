import Base
import Testing

@testable import ObjectModel

@Suite struct PatchTests {
  /// The test table of RFC 7396, appendix A.
  @Test(arguments: [
    (#"{"a":"b"}"#, #"{"a":"c"}"#, #"{"a":"c"}"#), (#"{"a":"b"}"#, #"{"b":"c"}"#, #"{"a":"b","b":"c"}"#),
    (#"{"a":"b"}"#, #"{"a":null}"#, "{}"), (#"{"a":"b","b":"c"}"#, #"{"a":null}"#, #"{"b":"c"}"#),
    (#"{"a":["b"]}"#, #"{"a":"c"}"#, #"{"a":"c"}"#), (#"{"a":"c"}"#, #"{"a":["b"]}"#, #"{"a":["b"]}"#),
    (#"{"a":{"b":"c"}}"#, #"{"a":{"b":"d","c":null}}"#, #"{"a":{"b":"d"}}"#),
    (#"{"a":[{"b":"c"}]}"#, #"{"a":[1]}"#, #"{"a":[1]}"#), (#"["a","b"]"#, #"["c","d"]"#, #"["c","d"]"#),
    (#"{"a":"b"}"#, #"["c"]"#, #"["c"]"#), (#"{"a":"foo"}"#, "null", "null"), (#"{"a":"foo"}"#, #""bar""#, #""bar""#),
    (#"{"e":null}"#, #"{"a":1}"#, #"{"a":1,"e":null}"#), (#"[1,2]"#, #"{"a":"b","c":null}"#, #"{"a":"b"}"#),
    ("{}", #"{"a":{"bb":{"ccc":null}}}"#, #"{"a":{"bb":{}}}"#),
  ])
  func mergePatch(_ target: String, _ patch: String, _ result: String) throws {
    #expect(try JSON.print(MergePatch.apply(JSON.parse(patch), to: JSON.parse(target))) == result)
  }

  @Test func differenceLeadsFromOldToNew() throws {
    let old = try JSON.parse(#"{"a":1,"b":{"c":[1],"d":2},"e":{}}"#)
    let new = try JSON.parse(#"{"a":1,"b":{"c":[2]},"f":{"g":1},"e":3}"#)
    let patch = MergePatch.difference(from: old, to: new)
    #expect(MergePatch.apply(patch, to: old) == new)
    #expect(MergePatch.difference(from: old, to: old) == [:])
  }

  @Test(arguments: [
    (#"{"foo":"bar"}"#, #"[{"op":"add","path":"/baz","value":"qux"}]"#, #"{"baz":"qux","foo":"bar"}"#),
    (#"{"foo":["bar","baz"]}"#, #"[{"op":"add","path":"/foo/1","value":"qux"}]"#, #"{"foo":["bar","qux","baz"]}"#),
    (#"{"foo":["bar"]}"#, #"[{"op":"add","path":"/foo/-","value":["abc"]}]"#, #"{"foo":["bar",["abc"]]}"#),
    (#"{"baz":"qux","foo":"bar"}"#, #"[{"op":"remove","path":"/baz"}]"#, #"{"foo":"bar"}"#),
    (#"{"foo":["a","b","c"]}"#, #"[{"op":"remove","path":"/foo/1"}]"#, #"{"foo":["a","c"]}"#),
    (#"{"a":"b"}"#, #"[{"op":"replace","path":"/a","value":null}]"#, #"{"a":null}"#),
    (
      #"{"foo":{"bar":"baz","waldo":"fred"},"qux":{"c":"g"}}"#, #"[{"op":"move","from":"/foo/waldo","path":"/qux/t"}]"#,
      #"{"foo":{"bar":"baz"},"qux":{"c":"g","t":"fred"}}"#
    ),
    (
      #"{"foo":["all","grass","cows","eat"]}"#, #"[{"op":"move","from":"/foo/1","path":"/foo/3"}]"#,
      #"{"foo":["all","cows","eat","grass"]}"#
    ),
    (#"{"a":{"b":1}}"#, #"[{"op":"copy","from":"/a","path":"/c"}]"#, #"{"a":{"b":1},"c":{"b":1}}"#),
    (
      #"{"a":1,"m~n":8,"x/y":9}"#,
      #"[{"op":"test","path":"/a","value":1.0},{"op":"test","path":"/m~0n","value":8},{"op":"remove","path":"/x~1y"}]"#,
      #"{"a":1,"m~n":8}"#
    ),
    (#"{"a":1}"#, #"[{"op":"add","path":"","value":{"b":2}}]"#, #"{"b":2}"#),
  ])
  func jsonPatch(_ document: String, _ patch: String, _ result: String) throws {
    #expect(try JSON.print(JSONPatch.apply(JSON.parse(patch), to: JSON.parse(document))) == result)
  }

  @Test(arguments: [
    #"[{"op":"add","path":"/a/b/c","value":1}]"#, #"[{"op":"remove","path":"/x"}]"#,
    #"[{"op":"replace","path":"/x","value":1}]"#,
    #"[{"op":"add","path":"/l/3","value":1}]"#, #"[{"op":"add","path":"/l/01","value":1}]"#,
    #"[{"op":"test","path":"/a","value":2}]"#,
    #"[{"op":"add","path":"a","value":1}]"#, #"[{"op":"add","path":"/a"}]"#, #"[{"op":"nope","path":"/a"}]"#,
    #"{"op":"add"}"#,
    #"[{"op":"move","from":"/o","path":"/o/p"}]"#, #"[{"op":"test","path":"/a~2","value":2}]"#,
    #"[{"op":"copy","path":"/a"}]"#,
  ])
  func jsonPatchRefuses(_ patch: String) throws {
    let document = try JSON.parse(#"{"a":1,"l":[1,2],"o":{"q":1}}"#)
    let parsed = try JSON.parse(patch)
    #expect(throws: JSONPatch.Failure.self) { try JSONPatch.apply(parsed, to: document) }
  }

  @Test func copiesCannotGrowWithoutBound() throws {
    var operations = [Value]()
    for index in 0..<60 { operations.append(["op": "copy", "from": "", "path": .string("/c\(index)")]) }
    #expect(throws: JSONPatch.Failure.self) { try JSONPatch.apply(.array(operations), to: ["a": "0123456789"]) }
  }
}
