import API
import Base
import Logging
import ObjectModel

/// The first authoriser; it knows three rules and denies everything else.
///
/// 1. Each controller acts under its own identity, in this process alone; only those that delete whatever lies in a
///    namespace or belongs to an owner touch Secrets.
/// 2. A node reads its slice and writes what is its own: `NodeRules`.
/// 3. Clients have roles by group: view reads everything but Secrets; edit also writes (but no Nodes) and may exec and
///    command devices; admin may do everything.
@LoopActor package final class HouseAuthorizer: Authorizer {
  /// Which objects are a node's business; without one a node reads only what names it.
  package weak var graph: (any NodeGraph)?
  private let metrics: Metrics
  private let logger: Logger
  private var counters: [String: Counter] = [:]

  /// Controllers that may touch Secrets.
  private static let secretKeepers: Set<String> = [
    "system:controller:namespace", "system:controller:garbage-collector",
  ]
  /// Calls beside stored objects, by the least role that may make them.
  private static let viewCalls: Set<String> = ["pods/log", "\(Device.resource)/readings", "nodes/links"]
  private static let editCalls: Set<String> = [
    "pods/exec", "pods/attach", "pods/portforward", "\(Device.resource)/command",
  ]

  package init(
    graph: (any NodeGraph)? = nil, metrics: Metrics = Metrics(), logger: Logger = Logger(label: "skerry.authorizer")
  ) {
    self.graph = graph
    self.metrics = metrics
    self.logger = logger
  }

  package func authorize(_ request: AccessRequest, caller: Caller) throws(APIError) {
    if isAllowed(request, caller) { return }
    let error = refusal(request, caller)
    count(request)
    logger.warning(
      .forbiddenCall, "\(error)",
      ["user": "\(caller.user)", "verb": "\(request.verb)", "resource": "\(request.reference.resource)"])
    throw error
  }

  private func isAllowed(_ request: AccessRequest, _ caller: Caller) -> Bool {
    if caller.node != nil || caller.groups.contains(Caller.nodesGroup) {
      // A node is nothing but a node, whatever other groups it brings.
      guard let node = caller.node, caller.groups.contains(Caller.nodesGroup) else { return false }
      return NodeRules(node: node, graph: graph).allows(request)
    }
    if caller.groups.contains(Caller.controllersGroup) {
      guard caller.origin == .inProcess else { return false }
      return request.reference.resource != Secret.resource || Self.secretKeepers.contains(caller.user)
    }
    if caller.groups.contains(Caller.adminGroup) { return true }
    if caller.groups.contains(Caller.editGroup) { return allowsEdit(request) }
    if caller.groups.contains(Caller.viewGroup) { return allowsView(request) }
    return false
  }

  private func allowsView(_ request: AccessRequest) -> Bool {
    switch request.verb {
    case .get, .list, .watch: request.reference.resource != Secret.resource
    case .connect: Self.viewCalls.contains("\(request.reference.resource)/\(request.subresource)")
    case .create, .update, .patch, .delete: false
    }
  }

  private func allowsEdit(_ request: AccessRequest) -> Bool {
    switch request.verb {
    case .get, .list, .watch: return true
    case .connect:
      let call = "\(request.reference.resource)/\(request.subresource)"
      return Self.viewCalls.contains(call) || Self.editCalls.contains(call)
    case .create, .update, .patch, .delete:
      // What nodes and their agents say of themselves is not for clients to write.
      let resource = request.reference.resource
      if resource == Node.resource || ["finalize", "binding"].contains(request.subresource) { return false }
      return !(resource == Lease.resource && request.reference.namespace == Lease.nodeNamespace)
    }
  }

  // MARK: Refusals

  private func count(_ request: AccessRequest) {
    // Only known resources become labels: a peer must not choose how many series there are.
    let known = KindRegistry.standard[resource: request.reference.resource]?.resource ?? "other"
    let key = "\(request.verb.rawValue) \(known)"
    if counters[key] == nil {
      counters[key] = metrics.counter(
        "skerry_apiserver_forbidden_total", "API calls that were refused.",
        [("verb", request.verb.rawValue), ("resource", known)])
    }
    counters[key]?.add()
  }

  private func refusal(_ request: AccessRequest, _ caller: Caller) -> APIError {
    let reference = request.reference
    let parts = reference.resource.split(separator: ".", maxSplits: 1).map(String.init)
    let (plural, group) = (parts.first ?? "", parts.count > 1 ? parts[1] : "")
    let what = request.subresource.isEmpty ? plural : "\(plural)/\(request.subresource)"
    let verb = request.verb == .connect ? (Self.viewCalls.contains(what) ? "get" : "create") : request.verb.rawValue
    let subject = reference.name.isEmpty ? reference.resource : "\(reference.resource) \"\(reference.name)\""
    let scope =
      reference.namespace.isEmpty ? "at the cluster scope" : "in the namespace \"\(reference.namespace)\""
    return APIError(
      .forbidden,
      "\(subject) is forbidden: User \"\(caller.user)\" cannot \(verb) resource \"\(what)\" in API group \"\(group)\" "
        + scope,
      details: ["name": .string(reference.name), "group": .string(group), "kind": .string(plural)])
  }
}

extension LogCode {
  /// A caller asked for what its role does not allow.
  static let forbiddenCall = LogCode("W-API-003")
}
