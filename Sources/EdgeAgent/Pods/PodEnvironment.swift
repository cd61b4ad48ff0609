import Base
import ObjectModel

/// Why a container cannot be configured: Kubernetes' `CreateContainerConfigError` with its message.
package struct PodConfigError: Error, Sendable, Hashable {
  package let message: String
  package init(_ message: String) { self.message = message }
}

/// Looks up what a pod refers to in its own namespace; nil where there is none.
package struct PodSources {
  package var configMap: (String) -> Object?
  package var secret: (String) -> Object?
  package init(configMap: @escaping (String) -> Object?, secret: @escaping (String) -> Object?) {
    self.configMap = configMap
    self.secret = secret
  }
}

/// Resolves a container's environment: `envFrom`, then `env` in order, with `$(NAME)` references. Pure.
/// Source: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#environment-variables
package enum PodEnvironment {
  package static func resolve(
    _ container: PodFacts.Container, _ facts: PodFacts, sources: PodSources, podIP: String, hostIP: String,
    nodeName: String
  ) throws(PodConfigError) -> [(key: String, value: String)] {
    var names: [String] = []
    var values: [String: String] = [:]
    func set(_ name: String, _ value: String) {
      if values.updateValue(value, forKey: name) == nil { names.append(name) }
    }
    set("HOSTNAME", facts.pod.spec["hostname"].string ?? facts.name)
    for source in container.value["envFrom"].array ?? [] {
      let prefix = source["prefix"].string ?? ""
      for (key, value) in try group(source, sources).sorted(by: { $0.key < $1.key }) { set(prefix + key, value) }
    }
    for variable in container.value["env"].array ?? [] {
      guard let name = variable["name"].string else { continue }
      if let text = variable["value"].string {
        set(name, expand(text, values))
      } else if !variable["valueFrom"].isNull {
        let fields = FieldSource(facts: facts, podIP: podIP, hostIP: hostIP, nodeName: nodeName)
        if let value = try single(variable["valueFrom"], container, fields, sources) { set(name, value) }
      } else {
        set(name, "")
      }
    }
    return names.map { ($0, values[$0] ?? "") }
  }

  /// Replaces `$(NAME)` by what is known; `$$` is one dollar sign; unknown names stay as they are.
  package static func expand(_ text: String, _ values: [String: String]) -> String {
    var out = ""
    var rest = Substring(text)
    while let dollar = rest.firstIndex(of: "$") {
      out += rest[..<dollar]
      let after = rest[rest.index(after: dollar)...]
      if after.first == "$" {
        out += "$"
        rest = after.dropFirst()
      } else if after.first == "(", let close = after.firstIndex(of: ")") {
        let name = String(after[after.index(after: after.startIndex)..<close])
        out += values[name] ?? "$(\(name))"
        rest = after[after.index(after: close)...]
      } else {
        out += "$"
        rest = after
      }
    }
    return out + rest
  }

  private static func group(_ source: Value, _ sources: PodSources) throws(PodConfigError) -> [String: String] {
    if let name = source["configMapRef"]["name"].string {
      if let map = sources.configMap(name) { return map.value["data"].stringMap }
      if source["configMapRef"]["optional"].bool == true { return [:] }
      throw PodConfigError("configmap \"\(name)\" not found")
    }
    if let name = source["secretRef"]["name"].string {
      if let secret = sources.secret(name) {
        return secret.value["data"].stringMap.compactMapValues {
          Base64.decode($0).map { String(decoding: $0, as: UTF8.self) }
        }
      }
      if source["secretRef"]["optional"].bool == true { return [:] }
      throw PodConfigError("secret \"\(name)\" not found")
    }
    return [:]
  }

  private static func single(
    _ from: Value, _ container: PodFacts.Container, _ fields: FieldSource, _ sources: PodSources
  ) throws(PodConfigError) -> String? {
    if let path = from["fieldRef"]["fieldPath"].string { return try fields.value(path) }
    if let resource = from["resourceFieldRef"]["resource"].string { return fields.resource(resource, container) }
    for (reference, kind) in [("configMapKeyRef", "configmap"), ("secretKeyRef", "secret")] {
      let source = from[reference]
      guard let name = source["name"].string, let key = source["key"].string else { continue }
      let optional = source["optional"].bool == true
      guard let object = kind == "secret" ? sources.secret(name) : sources.configMap(name) else {
        if optional { return nil }
        throw PodConfigError("\(kind) \"\(name)\" not found")
      }
      guard let text = object.value["data"][key].string else {
        if optional { return nil }
        throw PodConfigError("couldn't find key \(key) in \(kind) \(fields.facts.namespace)/\(name)")
      }
      guard kind == "secret" else { return text }
      guard let bytes = Base64.decode(text) else {
        throw PodConfigError("key \(key) of secret \(fields.facts.namespace)/\(name) is not base64")
      }
      return String(decoding: bytes, as: UTF8.self)
    }
    throw PodConfigError("a variable of container \"\(container.name)\" has a source that is not supported")
  }
}

/// The downward API: fields of the pod as text.
package struct FieldSource: Sendable {
  package var facts: PodFacts
  package var podIP: String
  package var hostIP: String
  package var nodeName: String
  package init(facts: PodFacts, podIP: String, hostIP: String, nodeName: String) {
    self.facts = facts
    self.podIP = podIP
    self.hostIP = hostIP
    self.nodeName = nodeName
  }

  package func value(_ path: String) throws(PodConfigError) -> String {
    let pod = facts.pod
    switch path {
    case "metadata.name": return pod.name
    case "metadata.namespace": return pod.namespace
    case "metadata.uid": return pod.uid
    case "spec.nodeName": return nodeName
    case "spec.serviceAccountName": return pod.spec["serviceAccountName"].string ?? "default"
    case "status.podIP", "status.podIPs": return podIP
    case "status.hostIP", "status.hostIPs": return hostIP
    case "metadata.labels": return Self.lines(pod.labels)
    case "metadata.annotations": return Self.lines(pod.annotations)
    default: break
    }
    for (prefix, map) in [("metadata.labels['", pod.labels), ("metadata.annotations['", pod.annotations)] {
      if path.hasPrefix(prefix), path.hasSuffix("']") {
        return map[String(path.dropFirst(prefix.count).dropLast(2))] ?? ""
      }
    }
    throw PodConfigError("unsupported fieldPath: \(path)")
  }

  func resource(_ name: String, _ container: PodFacts.Container) -> String {
    let parts = name.split(separator: ".", maxSplits: 1)
    guard parts.count == 2 else { return "0" }
    let text = container.value["resources"][String(parts[0])][String(parts[1])].string ?? "0"
    return text
  }

  private static func lines(_ map: [String: String]) -> String {
    map.sorted { $0.key < $1.key }.map { "\($0.key)=\"\($0.value)\"" }.joined(separator: "\n")
  }
}
