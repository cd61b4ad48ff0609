import Base
import Yams

/// Reads YAML as Kubernetes means it: JSON's data model, the core schema of YAML 1.2 (https://yaml.org/spec/1.2.2/,
/// section 10.3), octal numbers also with a bare leading zero (`defaultMode: 0644`), merge keys, string keys.
enum YAMLReader {
  /// Bytes of one file.
  static let maxBytes = 3 << 20
  /// Nodes of one file after aliases have been followed: stops an alias of aliases from filling memory.
  static let maxNodes = 200_000
  /// Nesting; the reader below recurses once a level.
  static let maxDepth = 100
  /// Documents of one file.
  static let maxDocuments = 5_000

  /// Every document of a text that is not empty or null.
  static func documents(_ text: String) throws(YAMLFailure) -> [YAMLDocument] {
    guard text.utf8.count <= maxBytes else {
      throw YAMLFailure(line: 1, message: "the file has \(text.utf8.count) bytes; at most \(maxBytes) are read")
    }
    try checkNesting(text)
    var documents: [YAMLDocument] = []
    var budget = maxNodes
    do {
      let parser = try Parser(yaml: text, encoding: .utf8)
      while let root = try parser.nextRoot() {
        var conversion = Conversion(budget: budget)
        let value = try conversion.convert(root)
        budget = conversion.budget
        if value.isNull { continue }
        guard documents.count < maxDocuments else {
          throw YAMLFailure(
            line: root.mark?.line ?? 1, message: "more than \(maxDocuments) documents in one file; split it")
        }
        documents.append(
          YAMLDocument(value: value, firstLine: root.mark?.line ?? 1, lines: conversion.lines))
      }
    } catch let failure as YAMLFailure {
      throw failure
    } catch let error as YamlError {
      throw YAMLFailure(error)
    } catch {
      throw YAMLFailure(line: 1, message: "\(error)")
    }
    return documents
  }

  /// The parser recurses once a level, so texts that could nest thousands deep are refused before it sees them.
  /// Block nesting costs indentation, which the size limits; flow brackets and `- - -` do not.
  private static func checkNesting(_ text: String) throws(YAMLFailure) {
    let most = 1_000
    var (depth, line, markers) = (0, 1, 0)
    for byte in text.utf8 {
      switch byte {
      case 0x0a:
        line += 1
        markers = 0
      case UInt8(ascii: "["), UInt8(ascii: "{"): depth += 1
      case UInt8(ascii: "]"), UInt8(ascii: "}"): depth = max(0, depth - 1)
      case UInt8(ascii: "-"), UInt8(ascii: "?"), UInt8(ascii: ":"): markers += 1
      case 0x20: break
      default: markers = 0
      }
      if depth > most || markers > most {
        throw YAMLFailure(line: line, message: "the text nests too deep; at most \(maxDepth) levels are read")
      }
    }
  }
}

extension YAMLFailure {
  init(_ error: YamlError) {
    switch error {
    case .scanner(let context, let problem, let mark, _), .parser(let context, let problem, let mark, _),
      .composer(let context, let problem, let mark, _):
      let place = context.map { " \($0.text.trimmed) in line \($0.mark.line)" } ?? ""
      self.init(line: mark.line, message: "\(problem)\(place)")
    case .duplicatedKeysInMapping(let duplicates, let context):
      self.init(
        line: context.mark.line,
        message: "the key \(duplicates.map { "\"\($0)\"" }.joined(separator: ", ")) is given twice")
    case .reader(let problem, let offset, _, let yaml):
      let upTo = yaml.utf8.prefix(offset ?? 0)
      self.init(line: upTo.count { $0 == 0x0a } + 1, message: problem)
    default: self.init(line: 1, message: "\(error)")
    }
  }
}

extension String {
  fileprivate var trimmed: String {
    var text = Substring(self)
    while text.last?.isWhitespace == true { text.removeLast() }
    while text.first?.isWhitespace == true { text.removeFirst() }
    return String(text)
  }
}

/// One document's conversion.
private struct Conversion {
  var budget: Int
  var lines: [String: Int] = [:]
  private var path: [String] = []

  init(budget: Int) { self.budget = budget }

  mutating func convert(_ node: Node) throws(YAMLFailure) -> Value {
    let line = node.mark?.line ?? 1
    budget -= 1
    guard budget > 0 else {
      throw YAMLFailure(line: line, message: "more than \(YAMLReader.maxNodes) values, counting what aliases repeat")
    }
    guard path.count < YAMLReader.maxDepth else {
      throw YAMLFailure(line: line, message: "more than \(YAMLReader.maxDepth) levels")
    }
    switch node {
    case .scalar(let scalar): return try convert(scalar, line)
    case .sequence(let sequence):
      var values: [Value] = []
      for (index, element) in sequence.enumerated() {
        values.append(try inside(String(index), element))
      }
      return .array(values)
    case .mapping(let mapping): return .object(try convert(mapping))
    case .alias: throw YAMLFailure(line: line, message: "an alias that was not followed")
    }
  }

  private mutating func inside(_ component: String, _ node: Node, line: Int? = nil) throws(YAMLFailure) -> Value {
    path.append(component)
    defer { path.removeLast() }
    lines[path.joined(separator: "\u{1f}")] = line ?? node.mark?.line ?? 1
    return try convert(node)
  }

  private mutating func convert(_ mapping: Node.Mapping) throws(YAMLFailure) -> Value.Fields {
    var fields = Value.Fields()
    var merged = Value.Fields()
    for (key, node) in mapping {
      guard case .scalar(let scalar) = key else {
        throw YAMLFailure(line: key.mark?.line ?? 1, message: "a key must be a plain word, not a list or mapping")
      }
      if scalar.string == "<<", scalar.style == .plain || scalar.style == .any {
        for (key, value) in try mergeSource(node) where merged[key] == nil { merged[key] = value }
        continue
      }
      guard fields[scalar.string] == nil else {
        throw YAMLFailure(line: key.mark?.line ?? 1, message: "the key \"\(scalar.string)\" is given twice")
      }
      fields[scalar.string] = try inside(scalar.string, node, line: key.mark?.line)
    }
    for (key, value) in merged where fields[key] == nil { fields[key] = value }
    return fields
  }

  /// What `<<` names: a mapping, or a list of mappings of which the earlier win.
  private mutating func mergeSource(_ node: Node) throws(YAMLFailure) -> Value.Fields {
    switch node {
    case .mapping(let mapping): return try convert(mapping)
    case .sequence(let sequence):
      var fields = Value.Fields()
      for element in sequence {
        for (key, value) in try mergeSource(element) where fields[key] == nil { fields[key] = value }
      }
      return fields
    default: throw YAMLFailure(line: node.mark?.line ?? 1, message: "`<<` merges mappings only")
    }
  }

  private func convert(_ scalar: Node.Scalar, _ line: Int) throws(YAMLFailure) -> Value {
    let isPlain = scalar.style == .plain || scalar.style == .any
    switch scalar.tag {
    case Tag(.implicit): return isPlain ? try resolve(scalar.string, line) : .string(scalar.string)
    case Tag(.str), Tag(.nonSpecific): return .string(scalar.string)
    case Tag(.int), Tag(.float), Tag(.bool), Tag(.null): return try resolve(scalar.string, line)
    default: throw YAMLFailure(line: line, message: "the tag of \"\(scalar.string.prefix(40))\" is not supported")
    }
  }

  private func resolve(_ text: String, _ line: Int) throws(YAMLFailure) -> Value {
    guard let value = YAMLScalar.resolve(text) else {
      throw YAMLFailure(line: line, message: "\(text) is no number that can be stored; put it in quotes")
    }
    return value
  }
}
