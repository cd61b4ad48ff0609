import API
import ArgumentParser
import Base
import ObjectModel

extension Environment {
  func setSchedulable(_ isSchedulable: Bool, node: String) async throws {
    let reference = ObjectReference(resource: Node.resource, name: node)
    let before = try await get(reference)
    let isNow = !Node(before).isUnschedulable
    let word = isSchedulable ? "uncordoned" : "cordoned"
    guard isNow != isSchedulable else { return console.print("node/\(node) already \(word)") }
    _ = try await patch(reference, ["spec": ["unschedulable": isSchedulable ? .null : true]])
    console.print("node/\(node) \(word)")
  }
}

struct Cordon: ClusterCommand {
  static let configuration = CommandConfiguration(abstract: "Let no new pods come to nodes.")
  @OptionGroup var globals: GlobalOptions
  @Argument(help: "The nodes.") var nodes: [String]
  func execute(_ environment: Environment) async throws {
    for node in nodes { try await environment.setSchedulable(false, node: node) }
  }
}

struct Uncordon: ClusterCommand {
  static let configuration = CommandConfiguration(abstract: "Let pods come to nodes again.")
  @OptionGroup var globals: GlobalOptions
  @Argument(help: "The nodes.") var nodes: [String]
  func execute(_ environment: Environment) async throws {
    for node in nodes { try await environment.setSchedulable(true, node: node) }
  }
}

struct Drain: ClusterCommand {
  static let configuration = CommandConfiguration(
    abstract: "Cordon a node, delete its pods and wait until they are gone.")
  @OptionGroup var globals: GlobalOptions
  @Flag(name: .long, help: "Also pods that no controller will make again.") var force = false
  @Option(name: .long, help: "Seconds each pod gets to stop in; its own if not said.") var gracePeriod: Int64?
  @Option(name: .long, help: "Seconds to wait at most.") var timeout: Int64 = 300
  @Argument(help: "The node.") var node: String

  func execute(_ environment: Environment) async throws {
    try await environment.setSchedulable(false, node: node)
    let pods = try await environment.listAll(
      .pod, namespace: "", fields: "spec.nodeName=\(node)"
    ).objects.map(Pod.init).filter { !$0.isTerminal }
    let bare = pods.filter { $0.object.controllerReference == nil }
    guard bare.isEmpty || force else {
      let names = bare.map { "\($0.namespace)/\($0.name)" }.joined(separator: ", ")
      throw SkerryError(.conflict, "no controller will make these pods again: \(names); add --force to delete them")
    }
    for pod in pods {
      let reference = ObjectReference(resource: Pod.resource, namespace: pod.namespace, name: pod.name)
      do {
        _ = try await environment.api().delete(
          reference, options: DeleteOptions(gracePeriod: gracePeriod, uid: pod.uid), caller: environment.caller)
        environment.console.print("evicting pod \(pod.namespace)/\(pod.name)")
      } catch let error as APIError where error.reason == .notFound { continue }
    }
    let deadline = environment.scheduler.now + .seconds(timeout)
    for pod in pods {
      let reference = ObjectReference(resource: Pod.resource, namespace: pod.namespace, name: pod.name)
      while try await isThere(reference, pod.uid, environment) {
        guard environment.scheduler.now < deadline else {
          throw SkerryError(.timeout, "pod \(pod.namespace)/\(pod.name) is still on \(node) after \(timeout) s")
        }
        try await environment.scheduler.sleep(for: .milliseconds(200))
      }
    }
    environment.console.print("node/\(node) drained")
  }

  @LoopActor private func isThere(_ reference: ObjectReference, _ uid: String, _ environment: Environment) async throws
    -> Bool
  {
    do { return try await environment.get(reference).uid == uid } catch let error as APIError
      where error.reason == .notFound
    { return false }
  }
}

struct NodeCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "node", abstract: "Revoke or approve the identity of a node.",
    subcommands: [Revoke.self, Approve.self])

  struct Revoke: ClusterCommand {
    static let configuration = CommandConfiguration(
      abstract: "Cut a node off: its session ends at once, and its certificate is worth nothing.")
    @OptionGroup var globals: GlobalOptions
    @Argument(help: "The node.") var node: String
    func execute(_ environment: Environment) async throws {
      _ = try await environment.connect("nodes", node, "revoke")
      environment.console.print("node/\(node) revoked")
    }
  }

  struct Approve: ClusterCommand {
    static let configuration = CommandConfiguration(
      abstract: "Let the key that waits take a node's name over; lets a revoked node join again.")
    @OptionGroup var globals: GlobalOptions
    @Argument(help: "The node.") var node: String
    func execute(_ environment: Environment) async throws {
      _ = try await environment.connect("nodes", node, "approve")
      environment.console.print("node/\(node) approved")
    }
  }
}

extension Environment {
  /// A unary call that is not about a stored object.
  func connect(_ resource: String, _ name: String, _ subresource: String, _ options: Value = [:]) async throws -> Value
  {
    try await api().connect(
      ObjectReference(resource: resource, name: name), subresource: subresource, options: options, stream: nil,
      caller: caller)
  }
}
