import Base

/// What a node says of its own, as it travels up a lane: a typed intent, never a raw write.
package enum LaneIntent: Sendable {
  /// Fields of the status that the node owns. Maps merge, conditions merge by type, `null` takes a field away.
  /// Needs no resourceVersion; dropped when the object with that uid is gone.
  case status(ObjectReference, uid: String, fields: Value)
  /// The node has finished with a pod that is being deleted: it may go from the API.
  case podGone(ObjectReference, uid: String)
  /// An event to record, with a name that the node chose, so that recording it twice is recording it once.
  case event(namespace: String, object: Value)
}

/// Applies lane entries, authorised as the node, and stores the lane's cursor behind their effect.
@LoopActor package protocol LaneWriter: AnyObject {
  /// Applies a batch in order. A refused intent does not stop the batch: its error is in the result, for good.
  /// The private `cursor` is stored in the transaction of the last effect, or after all effects, never before one;
  /// every intent is idempotent, so a batch that is repeated after a crash has no further effect.
  /// Throws `serviceUnavailable` when nothing could be stored: send the batch again.
  func applyLane(_ intents: [LaneIntent], cursor: (key: String, value: Bytes), caller: Caller) async throws(APIError)
    -> [APIError?]
}
