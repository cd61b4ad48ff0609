import Base
import EventLoop
import Foundation
import ObjectModel

/// One object of a manifest, with where it stands.
struct Manifest: Sendable {
  var object: Object
  let kind: Kind
  /// `web.yaml:12`.
  let place: String
  var display: String { "\(kind.singular)\(kind.group.isEmpty ? "" : ".\(kind.group)")/\(object.name)" }
}

/// Reads manifests: YAML with several documents, JSON, lists, directories, `-` for stdin.
struct ManifestReader {
  /// Files that one `-f` may name through a directory.
  static let maxFiles = 5_000

  let registry: KindRegistry
  let readInput: () throws(SkerryError) -> Bytes

  /// Every object below the paths, in order; a directory gives its `.yaml`, `.yml` and `.json` files by name.
  func read(_ paths: [String], recursive: Bool = false) throws(SkerryError) -> [Manifest] {
    guard !paths.isEmpty else {
      throw SkerryError(.invalidArgument, "name a file or a directory with -f, or `-f -` for standard input")
    }
    var manifests: [Manifest] = []
    for path in paths {
      if path == "-" {
        manifests += try parse(String(decoding: readInput(), as: UTF8.self), file: "stdin")
        continue
      }
      for file in try Self.files(path, recursive: recursive) {
        let bytes = try Files.read(file, limit: YAMLReader.maxBytes)
        manifests += try parse(String(decoding: bytes, as: UTF8.self), file: file)
      }
    }
    guard !manifests.isEmpty else {
      throw SkerryError(.invalidArgument, "there is no object in \(paths.joined(separator: ", "))")
    }
    return manifests
  }

  private static func files(_ path: String, recursive: Bool) throws(SkerryError) -> [String] {
    guard try Files.kind(path) == .directory else { return [path] }
    var found: [String] = []
    for name in Files.list(path) where !name.hasPrefix(".") {
      let child = path.hasSuffix("/") ? path + name : "\(path)/\(name)"
      if try Files.kind(child) == .directory {
        if recursive { found += try files(child, recursive: true) }
      } else if [".yaml", ".yml", ".json"].contains(where: name.hasSuffix) {
        found.append(child)
      }
    }
    guard found.count <= maxFiles else {
      throw SkerryError(.limitExceeded, "\(path) holds \(found.count) manifests; at most \(maxFiles) are read at once")
    }
    return found
  }

  /// The objects of one text.
  func parse(_ text: String, file: String) throws(SkerryError) -> [Manifest] {
    var manifests: [Manifest] = []
    for document in try Self.documents(text, file: file) {
      try expand(document.value, file: file, line: { document.line(of: $0) }, prefix: "", into: &manifests)
    }
    return manifests
  }

  private static func documents(_ text: String, file: String) throws(SkerryError) -> [YAMLDocument] {
    let first = text.first { !$0.isWhitespace }
    do {
      if first == "{" || first == "[", let value = try? JSON.parse(text) {
        return [YAMLDocument(value: value, firstLine: 1, lines: [:])]
      }
      return try YAMLReader.documents(text)
    } catch {
      throw SkerryError(.invalidArgument, "\(file):\(error.line): \(error.message)")
    }
  }

  private func expand(
    _ value: Value, file: String, line: (String) -> Int, prefix: String, into manifests: inout [Manifest]
  ) throws(SkerryError) {
    func failure(_ field: String, _ message: String) -> SkerryError {
      let path = prefix.isEmpty ? field : field.isEmpty ? prefix : "\(prefix).\(field)"
      return SkerryError(.invalidArgument, "\(file):\(line(path)): \(path.isEmpty ? "" : "\(path): ")\(message)")
    }
    guard case .object = value else { throw failure("", "an object is expected here: apiVersion, kind, metadata …") }
    guard let apiVersion = value["apiVersion"].string, !apiVersion.isEmpty else {
      throw failure("apiVersion", "is missing or no string")
    }
    guard let name = value["kind"].string, !name.isEmpty else { throw failure("kind", "is missing or no string") }
    if name.hasSuffix("List"), let items = value["items"].array {
      for (index, item) in items.enumerated() {
        try expand(item, file: file, line: line, prefix: "\(prefix)items[\(index)]", into: &manifests)
      }
      return
    }
    guard let kind = registry.kind(apiVersion: apiVersion, kind: name) else {
      throw failure("kind", unknownKind(apiVersion, name))
    }
    if let mismatch = kind.mismatch(value) {
      let parts = mismatch.split(separator: ":", maxSplits: 1)
      let (field, message) = parts.count == 2 ? (String(parts[0]), String(parts[1].dropFirst())) : ("", mismatch)
      throw failure(field == "the object" ? "" : field, message)
    }
    let object = Object(value)
    guard !object.name.isEmpty || !(object.metadata["generateName"].string ?? "").isEmpty else {
      throw failure("metadata.name", "is missing")
    }
    let place = "\(file):\(line(prefix.isEmpty ? "apiVersion" : prefix))"
    manifests.append(Manifest(object: object, kind: kind, place: place))
  }

  private func unknownKind(_ apiVersion: String, _ name: String) -> String {
    let same = registry.kinds.filter { $0.kind.lowercased() == name.lowercased() }
    if let kind = same.first {
      return
        "no kind \"\(name)\" in version \"\(apiVersion)\"; write apiVersion: \(kind.apiVersion), kind: \(kind.kind)"
    }
    let known = registry.kinds.map(\.kind).sorted().joined(separator: ", ")
    return "no kind \"\(name)\" in version \"\(apiVersion)\"; the kinds are \(known)"
  }
}
