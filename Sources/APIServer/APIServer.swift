import API
import Base
import Logging
import ObjectLog
import ObjectModel

/// The API over an object log, in the cloud over the leader's and on the edge over the replica.
///
/// Every call is authorised here, before the log. Reads are answered from what is published; writes are guarded by
/// the revision that they were decided on, so that nothing is lost between two writers.
@LoopActor package final class APIServer: API {
  package enum Mode: Sendable {
    /// The log is a leader's: writes are taken.
    case leader
    /// The log follows another: writes go to the router, or are refused.
    case replica
  }

  /// A call that is not about stored objects.
  package typealias SubresourceHandler =
    @LoopActor (
      ObjectReference, Value, (any DuplexStream)?, Caller
    ) async throws(APIError) -> Value

  package let registry: KindRegistry
  package let mode: Mode
  let log: any ObjectLog
  let authorizer: any Authorizer
  let scheduler: any Scheduler
  let random: any RandomSource
  let limits: APIServerLimits
  let logger: Logger
  let tail: WatchTail
  let placements: PlacementIndex
  /// Reaches nodes for logs and exec; set by the hub.
  package var connector: (any NodeConnector)?
  /// Takes the writes of a replica.
  package var writeRouter: (any WriteRouter)?
  var handlers: [String: SubresourceHandler] = [:]
  var eventTimer: TimerID?
  /// Creations under way in each namespace: decided, and not yet published.
  var creating: [String: Int] = [:]
  private let calls: [AccessRequest.Verb: Counter]

  package init(
    log: any ObjectLog, registry: KindRegistry = .standard, authorizer: any Authorizer, scheduler: any Scheduler,
    random: any RandomSource, connector: (any NodeConnector)? = nil, mode: Mode = .leader,
    limits: APIServerLimits = APIServerLimits(), metrics: Metrics = Metrics(),
    logger: Logger = Logger(label: "skerry.api")
  ) {
    self.log = log
    self.registry = registry
    self.authorizer = authorizer
    self.scheduler = scheduler
    self.random = random
    self.connector = connector
    self.mode = mode
    self.limits = limits
    self.logger = logger
    placements = PlacementIndex(log: log)
    tail = WatchTail(log: log, scheduler: scheduler, limits: limits, metrics: metrics)
    var calls: [AccessRequest.Verb: Counter] = [:]
    for verb in AccessRequest.Verb.allCases {
      calls[verb] = metrics.counter(
        "skerry_apiserver_calls_total", "API calls by verb, from connections and from within.",
        [("verb", verb.rawValue)])
    }
    self.calls = calls
  }

  /// Begins bookmarks and, on a leader, the end of old events. Call once.
  package func start() {
    tail.start()
    if mode == .leader { scheduleEventSweep() }
  }

  package func stop() {
    tail.stop()
    placements.stop()
    if let eventTimer { scheduler.cancel(eventTimer) }
    eventTimer = nil
  }

  /// Serves a subresource that is no stored object (`readings` of `devices.devices.kubeedge.io`, `create` of `tokens`).
  /// A second registration replaces the first.
  package func register(subresource: String, of resource: String, handler: @escaping SubresourceHandler) {
    handlers["\(resource)/\(subresource)"] = handler
  }

  // MARK: What all calls share

  func kind(_ resource: String) throws(APIError) -> Kind {
    guard let kind = registry[resource: resource] else { throw Failures.unknownResource(resource) }
    return kind
  }

  func authorize(_ request: AccessRequest, _ caller: Caller) throws(APIError) {
    calls[request.verb]?.add()
    try authorizer.authorize(request, caller: caller)
  }

  func stored(_ key: String, at position: UInt64? = nil) throws(APIError) -> StoredObject? {
    do throws(SkerryError) {
      return try log.read(key, at: position)
    } catch {
      throw Failures.from(error)
    }
  }

  /// A name or namespace that cannot be part of a key would reach another object's.
  func check(_ reference: ObjectReference, _ kind: Kind) throws(APIError) {
    if reference.name.isEmpty { throw APIError(.badRequest, "a name is needed for \(kind.resource)") }
    if reference.name.utf8.contains(UInt8(ascii: "/")) || reference.namespace.utf8.contains(UInt8(ascii: "/")) {
      throw Failures.notFound(kind, reference.name)
    }
    if kind.isNamespaced == reference.namespace.isEmpty {
      throw APIError(
        .badRequest,
        kind.isNamespaced
          ? "an empty namespace may not be set when a resource name is provided (\(kind.resource))"
          : "namespace specified for \(kind.resource), which lies in no namespace")
    }
  }
}
