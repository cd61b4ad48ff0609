import API
import Base
import EventLoop
import Foundation
import ObjectModel

/// Opens the API of a cluster.
package typealias Connector = @LoopActor (ClusterEndpoint) async throws -> any API

/// What a command works with: the terminal, the clock, the configuration and, when it asks, the cluster.
@LoopActor package final class Environment {
  let console: any Console
  let scheduler: any Scheduler
  let random: any RandomSource
  let registry: KindRegistry
  let globals: GlobalOptions
  let variables: [String: String]
  private let connector: Connector
  private var connected: (any API)?

  /// What the server believes of a caller comes from the certificate; this fills the parameter.
  let caller = Caller(user: "", groups: [], node: nil, origin: .network)

  package init(
    console: any Console, scheduler: any Scheduler, random: any RandomSource, registry: KindRegistry = .standard,
    globals: GlobalOptions, variables: [String: String], connector: @escaping Connector
  ) {
    self.console = console
    self.scheduler = scheduler
    self.random = random
    self.registry = registry
    self.globals = globals
    self.variables = variables
    self.connector = connector
  }

  var now: WallTime { scheduler.wall }
  var configurationPath: String { ClientConfiguration.path(option: globals.config, environment: variables) }

  func configuration() throws(SkerryError) -> ClientConfiguration {
    do {
      return try ClientConfiguration.load(configurationPath)
    } catch  where error.code == .notFound {
      throw SkerryError(
        .notFound,
        "there is no configuration at \(configurationPath); make a cluster (skerry up, skerry cloud init) or name a "
          + "file with --config or SKERRY_CONFIG")
    }
  }

  private func context() throws(SkerryError) -> ClientConfiguration.Context {
    try configuration().context(globals.context, path: configurationPath)
  }

  /// The cluster's API; connects at the first call.
  func api() async throws -> any API {
    if let connected { return connected }
    let endpoint: ClusterEndpoint
    if globals.edge != nil {
      endpoint = try EdgeTarget.endpoint(globals, variables)
    } else {
      endpoint = try ClusterEndpoint(try context(), directory: configurationPath.parentPath)
    }
    let api = try await connector(endpoint)
    connected = api
    return api
  }

  /// Forgets the connection, so that the next call makes a new one.
  func disconnect() { connected = nil }

  /// `-n`, or the context's namespace, or `default`.
  func namespace() -> String {
    if let namespace = globals.namespace { return namespace }
    if globals.edge != nil { return EdgeTarget.podNamespace() ?? "default" }
    return (try? context().namespace) ?? "default"
  }

  /// The namespace that an object of the kind is in; empty for cluster scope.
  func namespace(of kind: Kind) -> String { kind.isNamespaced ? namespace() : "" }

  func reference(_ kind: Kind, _ name: String) -> ObjectReference {
    ObjectReference(resource: kind.resource, namespace: namespace(of: kind), name: name)
  }

  /// The kind that a person named; throws with the known ones.
  func kind(_ name: String) throws(SkerryError) -> Kind {
    if let kind = registry.find(name) { return kind }
    let known = registry.kinds.map(\.plural).sorted().joined(separator: ", ")
    throw SkerryError(.invalidArgument, "the server has no resource type \"\(name)\"; it has \(known)")
  }

  /// Reads manifests named by `-f`.
  func manifests(_ paths: [String], recursive: Bool) throws -> [Manifest] {
    let console = console
    let reader = ManifestReader(registry: registry) { () throws(SkerryError) in
      try console.readInput(limit: YAMLReader.maxBytes)
    }
    var manifests = try reader.read(paths, recursive: recursive)
    for index in manifests.indices {
      let manifest = manifests[index]
      if !manifest.kind.isNamespaced {
        manifests[index].object.metadata.remove("namespace")
      } else if manifest.object.namespace.isEmpty {
        manifests[index].object.metadata["namespace"] = .string(namespace())
      } else if let asked = globals.namespace, asked != manifest.object.namespace {
        throw SkerryError(
          .invalidArgument,
          "\(manifest.place): the namespace \"\(manifest.object.namespace)\" of the manifest is not \"\(asked)\" of -n")
      }
    }
    return manifests
  }
}

/// The terminal, or what stands for it.
@LoopActor package protocol Console: AnyObject {
  var isTerminal: Bool { get }
  func write(_ bytes: Bytes)
  func writeError(_ bytes: Bytes)
  /// All of standard input.
  nonisolated func readInput(limit: Int) throws(SkerryError) -> Bytes
  /// The next bytes of standard input; nil at its end.
  func nextInput() async -> Bytes?
  /// Characters across and down; nil if this is no terminal.
  var size: (width: Int, height: Int)? { get }
  /// Hands every key to the program at once, without echo; answers how to undo it. Nil if this is no terminal.
  func makeRaw() -> (@LoopActor () -> Void)?
  /// Calls `action` when the size changes, until the answer is called.
  func onResize(_ action: @escaping @LoopActor () -> Void) -> (@LoopActor () -> Void)
}

extension Console {
  func print(_ line: String) { write(Bytes((line + "\n").utf8)) }
  func printText(_ text: String) { write(Bytes(text.utf8)) }
  func note(_ line: String) { writeError(Bytes((line + "\n").utf8)) }
}
