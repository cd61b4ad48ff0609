import Base
import EventLoop
import Glibc
import Identity
import ObjectModel

/// `~/.config/skerry/config.yaml`: which clusters there are and how to reach them. docs/operations.md has the form.
package struct ClientConfiguration: Sendable, Hashable {
  package struct Context: Sendable, Hashable {
    package var name: String
    /// `HOST:PORT`, or `unix:PATH` for a node's own API.
    package var server: String
    /// Paths, relative to the configuration file unless absolute.
    package var ca: String?
    package var cert: String?
    package var key: String?
    package var namespace: String?
    package init(
      name: String, server: String, ca: String? = nil, cert: String? = nil, key: String? = nil,
      namespace: String? = nil
    ) {
      self.name = name
      self.server = server
      self.ca = ca
      self.cert = cert
      self.key = key
      self.namespace = namespace
    }
  }
  package var current: String?
  package var contexts: [Context]
  package init(current: String? = nil, contexts: [Context] = []) {
    self.current = current
    self.contexts = contexts
  }

  /// Where the configuration is: `--config`, `SKERRY_CONFIG`, or below the home directory.
  static func path(option: String?, environment: [String: String]) -> String {
    if let option { return option }
    if let path = environment["SKERRY_CONFIG"], !path.isEmpty { return path }
    if let base = environment["XDG_CONFIG_HOME"], !base.isEmpty { return "\(base)/skerry/config.yaml" }
    return "\(environment["HOME"] ?? "")/.config/skerry/config.yaml"
  }

  /// Reads a file; throws with its name and line.
  package static func load(_ path: String) throws(SkerryError) -> ClientConfiguration {
    let text = try Files.text(path)
    do {
      let document = try YAMLReader.documents(text).first
      return try ClientConfiguration(document?.value ?? [:])
    } catch let failure as YAMLFailure {
      throw SkerryError(.invalidArgument, "\(path):\(failure.line): \(failure.message)")
    } catch let error as SkerryError {
      throw SkerryError(.invalidArgument, path, cause: error)
    } catch {
      throw SkerryError(.invalidArgument, path, cause: error)
    }
  }

  init(_ value: Value) throws(SkerryError) {
    current = value["current-context"].string
    contexts = []
    for (index, item) in (value["contexts"].array ?? []).enumerated() {
      guard let name = item["name"].string, !name.isEmpty, let server = item["server"].string, !server.isEmpty else {
        throw SkerryError(.invalidArgument, "contexts[\(index)] needs a name and a server (HOST:PORT)")
      }
      contexts.append(
        Context(
          name: name, server: server, ca: item["ca"].string, cert: item["cert"].string, key: item["key"].string,
          namespace: item["namespace"].string))
    }
  }

  var value: Value {
    var out: Value = [:]
    if let current { out["current-context"] = .string(current) }
    out["contexts"] = .array(
      contexts.map { context in
        var item: Value = ["name": .string(context.name), "server": .string(context.server)]
        for (key, text) in [
          ("ca", context.ca), ("cert", context.cert), ("key", context.key), ("namespace", context.namespace),
        ] {
          if let text { item[key] = .string(text) }
        }
        return item
      })
    return out
  }

  /// Writes the file with mode 0600.
  package func save(_ path: String) throws(SkerryError) {
    try Files.makeDirectory(path.parentPath, mode: 0o700)
    try PrivateFile.write(Bytes(YAMLPrinter.print(value).utf8), path: path)
  }

  /// Puts a context in, in place of one of the same name, and makes it the current one.
  package mutating func set(_ context: Context) {
    contexts.removeAll { $0.name == context.name }
    contexts.append(context)
    current = context.name
  }

  /// The context of that name, or the current one.
  package func context(_ name: String?, path: String) throws(SkerryError) -> Context {
    guard let wanted = name ?? current else {
      throw SkerryError(
        .invalidArgument, "\(path) names no current context; choose one: skerry config use-context NAME")
    }
    guard let found = contexts.first(where: { $0.name == wanted }) else {
      let known = contexts.map(\.name).joined(separator: ", ")
      throw SkerryError(.notFound, "no context \"\(wanted)\" in \(path); there is: \(known.isEmpty ? "none" : known)")
    }
    return found
  }
}

/// A context with its certificates read: all that a connection needs.
package struct ClusterEndpoint: Sendable {
  package var server: String
  package var caPEM: String?
  package var certificatePEM: String?
  package var keyPEM: String?
  /// Shown to a node's own API in place of a certificate.
  package var token: String?

  package init(server: String, caPEM: String? = nil, certificatePEM: String? = nil, keyPEM: String? = nil) {
    self.server = server
    self.caPEM = caPEM
    self.certificatePEM = certificatePEM
    self.keyPEM = keyPEM
  }

  package init(_ context: ClientConfiguration.Context, directory: String) throws(SkerryError) {
    func read(_ path: String?) throws(SkerryError) -> String? {
      guard let path else { return nil }
      let whole = path.hasPrefix("/") ? path : "\(directory)/\(path)"
      return try Files.text(whole)
    }
    self.init(
      server: context.server, caPEM: try read(context.ca), certificatePEM: try read(context.cert),
      keyPEM: try read(context.key))
  }
}
