import Base
import ObjectLog
import Wire

/// What a reader of the specification would say each node may see: a second, simpler implementation of slices, kept
/// with sets of reasons instead of counts, and with nothing in common with `SliceIndex`.
package struct SliceModel: Sendable {
  /// An object as far as slices go.
  package struct Fact: Sendable, Hashable {
    package var node: String?
    package var references: [String]
  }

  /// How a position changed what a node sees: the object's revision, or nil when it left.
  package struct Delta: Sendable {
    package let position: UInt64
    package let key: String
    package let revision: UInt64?
  }

  private var facts: [String: Fact] = [:]
  private var revisions: [String: UInt64] = [:]
  /// Node and key to the placed objects for which the node sees the key.
  private var reasons: [String: [String: Set<String>]] = [:]
  /// Nodes that have a reason to see the key.
  private var seers: [String: Set<String>] = [:]
  package private(set) var deltas: [String: [Delta]] = [:]
  /// What each node sees now.
  package private(set) var content: [String: [String: UInt64]] = [:]
  /// What each node saw when the model began.
  package private(set) var base: [String: [String: UInt64]] = [:]

  package init() {}

  /// Everything so far is where the model begins.
  package mutating func settle() {
    deltas = [:]
    base = content
  }

  package func sees(_ node: String, _ key: String) -> Bool { reasons[node]?[key] != nil }

  package mutating func apply(position: UInt64, key: String, revision: UInt64?, fact: Fact) {
    let old = facts[key] ?? Fact(node: nil, references: [])
    let new = revision == nil ? Fact(node: nil, references: []) : fact
    var touched: [(node: String, key: String)] = []
    if old != new {
      if let node = old.node {
        for other in [key] + old.references {
          touched.append((node, other))
          reasons[node]?[other]?.remove(key)
          if reasons[node]?[other]?.isEmpty == true {
            reasons[node]?[other] = nil
            seers[other]?.remove(node)
          }
        }
      }
      if let node = new.node {
        for other in [key] + new.references {
          touched.append((node, other))
          reasons[node, default: [:]][other, default: []].insert(key)
          seers[other, default: []].insert(node)
        }
      }
    }
    facts[key] = revision == nil ? nil : new
    revisions[key] = revision
    for node in seers[key] ?? [] { touched.append((node, key)) }
    for (node, other) in touched { look(node, other, position) }
  }

  private mutating func look(_ node: String, _ key: String, _ position: UInt64) {
    let now = reasons[node]?[key] == nil ? nil : revisions[key]
    guard content[node]?[key] != now else { return }
    content[node, default: [:]][key] = now
    deltas[node, default: []].append(Delta(position: position, key: key, revision: now))
  }
}

/// Reads out of an object's bytes what places it on nodes, as the documentation of the kinds says.
enum SliceFactReader {
  /// The revision that nodes see. The status of a device is made in the cloud of what nodes tell: they are not shown it.
  static func revision(key: String, _ object: StoredObject) -> UInt64 {
    key.hasPrefix("devices.devices.kubeedge.io/") ? object.bodyRevision : object.revision
  }

  static func fact(key: String, body: Value) -> SliceModel.Fact {
    let parts = key.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
    guard parts.count == 3 else { return SliceModel.Fact(node: nil, references: []) }
    switch parts[0] {
    case "nodes": return SliceModel.Fact(node: parts[2], references: [])
    case "pods":
      guard let node = body["spec"]["nodeName"].string, !node.isEmpty else { break }
      return SliceModel.Fact(node: node, references: podReferences(body["spec"], namespace: parts[1]))
    case "devices.devices.kubeedge.io":
      guard let node = body["spec"]["nodeName"].string, !node.isEmpty else { break }
      let model = body["spec"]["deviceModelRef"]["name"].string ?? ""
      return SliceModel.Fact(
        node: node, references: ["devicemodels.devices.kubeedge.io/\(parts[1])/\(model)"])
    default: break
    }
    return SliceModel.Fact(node: nil, references: [])
  }

  private static func podReferences(_ spec: Value, namespace: String) -> [String] {
    var keys: Set<String> = []
    for container in spec["containers"].array ?? [] {
      for source in container["envFrom"].array ?? [] {
        if let name = source["configMapRef"]["name"].string { keys.insert("configmaps/\(namespace)/\(name)") }
        if let name = source["secretRef"]["name"].string { keys.insert("secrets/\(namespace)/\(name)") }
      }
    }
    for volume in spec["volumes"].array ?? [] {
      if let name = volume["configMap"]["name"].string { keys.insert("configmaps/\(namespace)/\(name)") }
      if let name = volume["secret"]["secretName"].string { keys.insert("secrets/\(namespace)/\(name)") }
    }
    return keys.sorted()
  }
}
