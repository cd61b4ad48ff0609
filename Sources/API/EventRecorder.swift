import Base
import Logging
import ObjectModel

/// What an event is about.
package struct EventSubject: Sendable, Hashable {
  package var apiVersion: String
  package var kind: String
  package var namespace: String
  package var name: String
  package var uid: String

  package init(apiVersion: String, kind: String, namespace: String, name: String, uid: String) {
    self.apiVersion = apiVersion
    self.kind = kind
    self.namespace = namespace
    self.name = name
    self.uid = uid
  }
  package init(_ object: Object) {
    self.init(
      apiVersion: object.apiVersion, kind: object.kind, namespace: object.namespace, name: object.name, uid: object.uid)
  }
}

package enum EventType: String, Sendable {
  case normal = "Normal"
  case warning = "Warning"
}

/// Writes v1 Events behind the back of whoever records them: nothing waits for an event, and events never fill memory.
///
/// A repeated event raises the count of the one that is there. Each subject has a budget of events, and so has what
/// waits to be written; what exceeds them is dropped and counted.
@LoopActor package final class EventRecorder {
  package struct Limits: Sendable {
    /// Events a subject may have at once, and how often it earns another one: a crash loop must not fill the log.
    package var burst = 25.0
    package var refill = Duration.seconds(300)
    /// Events remembered for counting, and subjects with a budget; the oldest are forgotten.
    package var maxKnown = 4096
    /// Events that wait to be written.
    package var maxPending = 4096
    /// Writes in one batch.
    package var batchSize = 64
    /// Characters of a message (Kubernetes' limit).
    package var maxMessage = 1024
    package init() {}
  }

  private struct Identity: Hashable {
    var subject: EventSubject
    var type: EventType
    var reason: String
    var message: String
  }
  private struct Known {
    var name: String
    var count: Int64
    var first: WallTime
    var last: WallTime
    var isStored = false
    var isPending = false
  }
  private struct Budget {
    var tokens: Double
    var at: Instant
  }

  private let api: any API
  private let caller: Caller
  private let component: String
  private let limits: Limits
  private let scheduler: any Scheduler
  private let logger: Logger
  private let dropped: Counter
  private var known: [Identity: Known] = [:]
  private var ages: [Identity] = []
  private var budgets: [EventSubject: Budget] = [:]
  private var pending: [Identity] = []
  private var writing = false
  private var stopped = false
  private var serial: UInt64 = 0

  package init(
    api: any API, caller: Caller, component: String, limits: Limits = Limits(), scheduler: any Scheduler,
    metrics: Metrics, logger: Logger
  ) {
    self.api = api
    self.caller = caller
    self.component = component
    self.limits = limits
    self.scheduler = scheduler
    self.logger = logger
    dropped = metrics.counter(
      "skerry_events_dropped_total", "Events that were not written, for want of budget or room.",
      [("component", component)])
  }

  package func stop() {
    stopped = true
    pending = []
  }

  package func record(_ subject: EventSubject, _ type: EventType, reason: String, message: String) {
    guard !stopped else { return }
    let text = message.count > limits.maxMessage ? String(message.prefix(limits.maxMessage - 1)) + "…" : message
    let identity = Identity(subject: subject, type: type, reason: reason, message: text)
    guard pending.count < limits.maxPending, spend(subject) else { return dropped.add() }
    let now = scheduler.wall
    if known[identity] == nil { remember(identity, now) }
    known[identity]?.count += 1
    known[identity]?.last = now
    guard known[identity]?.isPending == false else { return }
    known[identity]?.isPending = true
    pending.append(identity)
    flush()
  }

  private func remember(_ identity: Identity, _ now: WallTime) {
    if known.count >= limits.maxKnown { forgetOldest() }
    serial += 1
    // The time makes the name unique over restarts, the serial within an instant.
    let suffix = "." + String(UInt64(bitPattern: now.nanoseconds) &+ serial, radix: 16)
    let name = identity.subject.name.prefix(Names.maxSubdomain - suffix.count) + suffix
    known[identity] = Known(name: String(name), count: 0, first: now, last: now)
    ages.append(identity)
  }

  private func forgetOldest() {
    let count = max(1, limits.maxKnown / 4)
    let old = ages.prefix(count)
    for identity in old where known[identity]?.isPending != true { known[identity] = nil }
    ages = old.filter { known[$0] != nil } + ages.dropFirst(count)
  }

  private func spend(_ subject: EventSubject) -> Bool {
    let now = scheduler.now
    if budgets.count >= limits.maxKnown, budgets[subject] == nil { budgets = [:] }
    var budget = budgets[subject] ?? Budget(tokens: limits.burst, at: now)
    budget.tokens = min(limits.burst, budget.tokens + (now - budget.at).seconds / limits.refill.seconds)
    budget.at = now
    let allowed = budget.tokens >= 1
    if allowed { budget.tokens -= 1 }
    budgets[subject] = budget
    return allowed
  }

  private func flush() {
    guard !writing else { return }
    writing = true
    spawn { [self] in
      while !pending.isEmpty, !stopped { await writeBatch() }
      writing = false
    }
  }

  private func writeBatch() async {
    let batch = Array(pending.prefix(limits.batchSize))
    pending.removeFirst(batch.count)
    for identity in batch { known[identity]?.isPending = false }
    let written = batch.filter { known[$0] != nil }
    do throws(APIError) {
      let answers = try await api.batch(written.map(item), caller: caller)
      for (identity, answer) in zip(written, answers) { settle(identity, answer) }
    } catch {
      dropped.add(UInt64(written.count))
      logger.debug("\(written.count) events were not written: \(error)")
    }
  }

  private func settle(_ identity: Identity, _ answer: Result<APIObject, APIError>) {
    switch answer {
    case .success: known[identity]?.isStored = true
    case .failure(let error) where error.reason == .notFound && known[identity]?.isStored == true:
      // It expired in the store: the count starts again with the next one.
      known[identity] = nil
      ages.removeAll { $0 == identity }
    case .failure(let error):
      dropped.add()
      logger.debug("event \(identity.reason) of \(identity.subject.name) was not written: \(error)")
    }
  }

  private func item(_ identity: Identity) -> BatchItem {
    guard let event = known[identity] else { preconditionFailure("only events that are known are written") }
    let subject = identity.subject
    let namespace = subject.namespace.isEmpty ? "default" : subject.namespace
    let last = Value.string(Timestamp.format(event.last))
    if event.isStored {
      let reference = ObjectReference(resource: "events", namespace: namespace, name: event.name)
      return .patch(
        reference, type: .merge, patch: ["count": .int(event.count), "lastTimestamp": last], subresource: "")
    }
    return .create(
      resource: "events", namespace: namespace,
      object: [
        "apiVersion": "v1", "kind": "Event",
        "metadata": ["name": .string(event.name), "namespace": .string(namespace)],
        "involvedObject": [
          "apiVersion": .string(subject.apiVersion), "kind": .string(subject.kind),
          "namespace": .string(subject.namespace), "name": .string(subject.name), "uid": .string(subject.uid),
        ],
        "type": .string(identity.type.rawValue), "reason": .string(identity.reason),
        "message": .string(identity.message), "count": .int(event.count),
        "firstTimestamp": .string(Timestamp.format(event.first)), "lastTimestamp": last,
        "source": ["component": .string(component)], "reportingComponent": .string(component),
        "reportingInstance": "",
      ])
  }
}
