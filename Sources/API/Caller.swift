import Base

/// Who asks. Set by whoever authenticated the connection, never by the request; every call carries one.
package struct Caller: Sendable, Hashable, CustomStringConvertible {
  package enum Origin: Sendable, Hashable {
    /// A TLS connection.
    case network
    /// The edge's Unix socket.
    case edgeSocket
    /// A controller or another part of this process.
    case inProcess
    /// An entry of a node's lane.
    case lane
  }
  /// `system:node:n1`, `system:controller:replicaset`, or a client certificate's CN.
  package let user: String
  /// `system:nodes`, `skerry:admin`, `skerry:edit`, `skerry:view`, `system:controllers`.
  package let groups: [String]
  /// The node's name when the caller is a node.
  package let node: String?
  package let origin: Origin
  package init(user: String, groups: [String], node: String?, origin: Origin) {
    self.user = user
    self.groups = groups
    self.node = node
    self.origin = origin
  }
  package var description: String { user }

  package static let nodesGroup = "system:nodes"
  package static let nodeUserPrefix = "system:node:"
  package static let controllersGroup = "system:controllers"
  package static let adminGroup = "skerry:admin"
  package static let editGroup = "skerry:edit"
  package static let viewGroup = "skerry:view"

  package static func controller(_ name: String) -> Caller {
    Caller(user: "system:controller:\(name)", groups: [controllersGroup], node: nil, origin: .inProcess)
  }
  package static func node(_ name: String, origin: Origin) -> Caller {
    Caller(user: nodeUserPrefix + name, groups: [nodesGroup], node: name, origin: origin)
  }
}
