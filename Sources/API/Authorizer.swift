import Base
import ObjectModel

/// What a call wants to do, as the authoriser sees it. Built by the API server from the call and from what is stored.
package struct AccessRequest: Sendable {
  package enum Verb: String, Sendable, CaseIterable {
    case get, list, watch, create, update, patch, delete
    /// A call on a subresource that is no stored object: `pods/log`, `pods/exec`, `tokens/create`.
    case connect
  }
  package var verb: Verb
  package var reference: ObjectReference
  package var subresource: String
  /// The field selector of a list or watch.
  package var fields: FieldSelector
  /// The node that the stored object is placed on; nil without an object or a node.
  package var placedOn: String?
  /// The object to be stored, on create and update.
  package var object: Object?
  /// An event's subject as it is stored now: nil if it is unknown or gone.
  package var subject: Subject?
  /// Seconds, on delete.
  package var gracePeriod: Int64?

  package struct Subject: Sendable, Hashable {
    package var key: String
    /// Where it is placed.
    package var node: String?
    package init(key: String, node: String?) {
      self.key = key
      self.node = node
    }
  }

  package init(
    _ verb: Verb, _ reference: ObjectReference, subresource: String = "", fields: FieldSelector = .everything,
    placedOn: String? = nil, object: Object? = nil, subject: Subject? = nil, gracePeriod: Int64? = nil
  ) {
    self.verb = verb
    self.reference = reference
    self.subresource = subresource
    self.fields = fields
    self.placedOn = placedOn
    self.object = object
    self.subject = subject
    self.gracePeriod = gracePeriod
  }
}

/// Decides whether a caller may do something. Asked inside the API server, before the log; default deny.
@LoopActor package protocol Authorizer: AnyObject {
  /// Throws `forbidden`, saying who, verb and resource, if the caller may not.
  func authorize(_ request: AccessRequest, caller: Caller) throws(APIError)
}

/// Which objects are a node's business: those placed on it, and those that they refer to.
@LoopActor package protocol NodeGraph: AnyObject {
  /// Whether anything placed on the node is, or refers to, the object with that log key.
  func mayRead(node: String, key: String) -> Bool
}

/// Where a replica sends the writes that it does not take itself.
@LoopActor package protocol WriteRouter: AnyObject {
  func route(_ item: BatchItem, caller: Caller) async throws(APIError) -> APIObject
}
