import Base

/// When a node was last heard. The hub knows; whoever taints and evicts asks.
@LoopActor package protocol NodeLiveness: AnyObject {
  /// Monotonic time of the last word from the node; nil if it was not heard since this process started.
  func lastHeard(_ node: String) -> Instant?
  /// How often the node says something at least, as its link's profile says; nil if it was not heard.
  func interval(_ node: String) -> Duration?
}

extension NodeLiveness {
  package func interval(_ node: String) -> Duration? { nil }
}
