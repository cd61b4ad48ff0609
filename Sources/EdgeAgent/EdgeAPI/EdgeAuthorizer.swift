import API
import Base
import Logging
import ObjectModel

/// Who may do what on a node's own API.
///
/// * Root, and who holds the operator's token: everything that the node serves.
/// * Other users that were let in by their uid: reading all but Secrets.
/// * A pod, by its token: reading Pods, ConfigMaps, Devices and DeviceModels of its own namespace and the Node; with the
///   annotation `skerry.io/device-access: command` also device commands in its namespace.
/// * The cloud: calls that were authorised there, under their user's own name.
///
/// The replica holds the node's slice and nothing else. Everything else is refused.
@LoopActor package final class EdgeAuthorizer: Authorizer {
  /// The group of the session with the cloud.
  package nonisolated static let cloudGroup = "system:cloud"
  /// The group of root and of the operator's token.
  package nonisolated static let rootGroup = "system:root"
  /// The group of pods, and of those among them that may command devices.
  package nonisolated static let podsGroup = "system:pods"
  package nonisolated static let commandGroup = "system:pods:device-commands"
  /// The annotation of a pod that may command devices.
  package nonisolated static let accessAnnotation = "skerry.io/device-access"
  private nonisolated static let podUser = "system:pod:"

  private let refused: Counter
  private let logger: Logger

  package init(metrics: Metrics, logger: Logger) {
    refused = metrics.counter("skerry_edge_api_refused_total", "Calls on the edge API that were forbidden.")
    self.logger = logger
  }

  /// A pod as a caller.
  package nonisolated static func caller(of pod: Object) -> Caller {
    let commands = pod.annotations[accessAnnotation] == "command"
    return Caller(
      user: "\(podUser)\(pod.namespace):\(pod.name)", groups: [podsGroup] + (commands ? [commandGroup] : []),
      node: nil, origin: .edgeSocket)
  }

  package func authorize(_ request: AccessRequest, caller: Caller) throws(APIError) {
    if isAllowed(request, caller) { return }
    let resource = request.reference.resource
    let error = APIError.forbidden(caller, verb: request.verb.rawValue, resource: resource)
    refused.add()
    logger.warning(EdgeLog.forbidden, "\(error)", ["user": "\(caller.user)", "verb": "\(request.verb)"])
    throw error
  }

  private func isAllowed(_ request: AccessRequest, _ caller: Caller) -> Bool {
    if caller.origin == .network { return caller.groups.contains(Self.cloudGroup) && request.verb == .connect }
    guard caller.origin == .edgeSocket else { return false }
    if caller.groups.contains(Self.podsGroup) { return allowsPod(request, caller) }
    let isRoot = caller.groups.contains(Self.rootGroup)
    switch request.verb {
    case .get, .list, .watch: return isRoot || request.reference.resource != Secret.resource
    case .connect: return isRoot
    // What is no status is refused by `EdgeWrites`, in words that say where to write it.
    case .create, .update, .patch, .delete: return isRoot
    }
  }

  private func allowsPod(_ request: AccessRequest, _ caller: Caller) -> Bool {
    let namespace = caller.user.dropFirst(Self.podUser.count).prefix { $0 != ":" }
    let reference = request.reference
    switch request.verb {
    case .get, .list, .watch:
      if reference.resource == Node.resource { return true }
      let readable = [Pod.resource, ConfigMap.resource, Device.resource, DeviceModel.resource]
      return readable.contains(reference.resource) && reference.namespace == namespace
    case .connect:
      guard reference.resource == Device.resource, reference.namespace == namespace else { return false }
      if request.subresource == "readings" { return true }
      return request.subresource == "command" && caller.groups.contains(Self.commandGroup)
    case .create, .update, .patch, .delete: return false
    }
  }
}
