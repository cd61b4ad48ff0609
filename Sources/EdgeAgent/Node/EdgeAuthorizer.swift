import API
import Base
import Logging
import ObjectModel

/// Who may do what on a node's own API.
///
/// The replica holds the node's slice and nothing else, so processes of this machine that were let in by their user
/// (see `EdgeSocket`) read all of it; the values of Secrets go to root alone. The cloud's calls were authorised in the
/// cloud, under their user's own name. Everything else is refused.
@LoopActor package final class EdgeAuthorizer: Authorizer {
  /// The group of the session with the cloud.
  package nonisolated static let cloudGroup = "system:cloud"
  /// The group of root on the edge socket.
  package nonisolated static let rootGroup = "system:root"

  private let refused: Counter
  private let logger: Logger

  package init(metrics: Metrics, logger: Logger) {
    refused = metrics.counter("skerry_edge_api_refused_total", "Calls on the edge API that were forbidden.")
    self.logger = logger
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
    switch request.verb {
    case .get, .list, .watch:
      return request.reference.resource != Secret.resource || caller.groups.contains(Self.rootGroup)
    case .connect: return caller.groups.contains(Self.rootGroup)
    case .create, .update, .patch, .delete: return false
    }
  }
}
