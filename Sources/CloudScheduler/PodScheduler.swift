import API
import Base
import Logging
import ObjectModel

/// Finds a node for each pod that has none, and binds it. The decisions are `Scheduling`'s; this joins them to the
/// API: caches in, bindings out.
@LoopActor package final class PodScheduler {
  package struct Limits: Sendable {
    /// Decisions in one turn of the loop, which are then bound in one batch.
    package var podsPerTurn = 128
    /// Batches of bindings under way at once.
    package var maxBatches = 4
    /// How often pods that were refused long ago are looked for.
    package var staleCheck = Duration.seconds(30)
    package init() {}
  }
  private struct Decided {
    var demand: PodDemand
    var outcome: Scheduling.Outcome
  }

  private let api: any API
  private let caller = Caller.controller("scheduler")
  private let scheduler: any Scheduler
  private let random: any RandomSource
  private let logger: Logger
  private let limits: Limits
  private let pods: Informer<PodDemand>
  private let nodes: Informer<NodeRecord>
  private let namespaces: Informer<NamespaceLabels>
  private let events: EventRecorder
  private let bound: Counter
  private let refused: Counter
  private let failed: Counter
  private let pending: Gauge

  private var cluster = Cluster()
  private var scheduling = Scheduling()
  private var queue = SchedulingQueue()
  /// Uids of pods that were placed and whose binding no cache shows yet.
  private var assumed: Set<String> = []
  private var batches = 0
  private var turn: TimerID?
  private var dueTimer: TimerID?
  private var staleTimer: TimerID?
  private var running = false
  private var stopped = false

  package init(
    api: any API, scheduler: any Scheduler, random: any RandomSource, metrics: Metrics, logger: Logger,
    limits: Limits = Limits()
  ) {
    self.api = api
    self.scheduler = scheduler
    self.random = random
    self.limits = limits
    var logger = logger
    logger[metadataKey: "controller"] = "scheduler"
    self.logger = logger
    func informer<Item: Informed>(_ resource: String) -> Informer<Item> {
      Informer(
        api: api, caller: .controller("scheduler"), options: ListOptions(resource: resource), scheduler: scheduler,
        random: random, logger: logger)
    }
    pods = informer(Pod.resource)
    nodes = informer(Node.resource)
    namespaces = informer(Namespace.resource)
    events = EventRecorder(
      api: api, caller: .controller("scheduler"), component: "default-scheduler", scheduler: scheduler,
      metrics: metrics, logger: logger)
    bound = metrics.counter("skerry_scheduler_bound_total", "Pods that were bound to a node.")
    refused = metrics.counter("skerry_scheduler_refused_total", "Decisions that found no node.")
    failed = metrics.counter("skerry_scheduler_failed_bindings_total", "Bindings that failed and are tried again.")
    pending = metrics.gauge("skerry_scheduler_pending_pods", "Pods that wait for a node.")
  }

  package func start() {
    nodes.onChange { [weak self] _, old, new in self?.nodeChanged(old, new) }
    pods.onChange { [weak self] _, old, new in self?.podChanged(old, new) }
    namespaces.onChange { [weak self] _, old, new in self?.namespaceChanged(old, new) }
    nodes.start()
    namespaces.start()
    pods.start()
    var missing = 3
    for informer: any InformerProgress in [nodes, namespaces, pods] {
      informer.whenSynced { [weak self] in
        missing -= 1
        guard missing == 0, let self, !self.stopped else { return }
        self.running = true
        self.checkStale()
        self.wantTurn()
      }
    }
  }

  package func stop() {
    stopped = true
    running = false
    for timer in [turn, dueTimer, staleTimer] { if let timer { scheduler.cancel(timer) } }
    pods.stop()
    namespaces.stop()
    nodes.stop()
    events.stop()
  }

  // MARK: What the caches show

  private func nodeChanged(_ old: NodeRecord?, _ new: NodeRecord?) {
    if let new {
      if old === new { return }
      cluster.set(new)
      // A node's images change often and let nobody in.
      if let old, old.offersTheSame(as: new) { return }
    } else if let old {
      cluster.removeNode(old.name)
      return
    }
    changed()
  }

  private func namespaceChanged(_ old: NamespaceLabels?, _ new: NamespaceLabels?) {
    guard let name = (new ?? old)?.name else { return }
    cluster.setNamespace(name, labels: new?.labels)
    // Terms may select by them.
    if old?.labels != new?.labels { podsMoved() }
  }

  /// Pods that ask something of others may fit now.
  private func podsMoved() {
    queue.podsChanged(now: scheduler.now)
    wantTurn()
  }

  private func podChanged(_ old: PodDemand?, _ new: PodDemand?) {
    guard let new, !new.isTerminal else {
      guard let gone = new ?? old else { return }
      assumed.remove(gone.uid)
      queue.remove(gone.key)
      if cluster.removePod(gone.uid) != nil { changed() }
      return pending.set(Int64(queue.count))
    }
    if !new.nodeName.isEmpty {
      assumed.remove(new.uid)
      queue.remove(new.key)
      cluster.place(new, on: new.nodeName)
      if old?.nodeName != new.nodeName || old?.labels != new.labels || old?.isBeingDeleted != new.isBeingDeleted {
        podsMoved()
      }
    } else if !new.wantsNode {
      queue.remove(new.key)
    } else if !assumed.contains(new.uid) {
      queue.add(new, now: scheduler.now)
      wantTurn()
    }
    pending.set(Int64(queue.count))
  }

  private func changed() {
    queue.clusterChanged(now: scheduler.now)
    wantTurn()
  }

  private func checkStale() {
    guard !stopped else { return }
    queue.releaseStale(now: scheduler.now)
    wantTurn()
    staleTimer = scheduler.schedule(after: limits.staleCheck) { [weak self] in self?.checkStale() }
  }

  // MARK: Deciding

  /// Decides in a turn of its own, so that what arrives together is decided together.
  private func wantTurn() {
    guard running, turn == nil, batches < limits.maxBatches else { return }
    turn = scheduler.schedule(after: .zero) { [weak self] in
      self?.turn = nil
      self?.takeTurn()
    }
  }

  private func takeTurn() {
    guard running else { return }
    var decided: [Decided] = []
    while decided.count < limits.podsPerTurn, let demand = queue.take(now: scheduler.now) {
      cluster.prepare(for: demand)
      let outcome = scheduling.decide(demand, cluster, random: random)
      switch outcome {
      case .node(let name):
        // Counted at once: the next decision must not give the same room away again.
        cluster.place(demand, on: name)
        assumed.insert(demand.uid)
      case .unschedulable:
        refused.add()
        queue.refuse(demand.key, now: scheduler.now)
      }
      decided.append(Decided(demand: demand, outcome: outcome))
    }
    // What was just placed may be what those that were refused ask for.
    if decided.contains(where: { if case .node = $0.outcome { true } else { false } }) {
      queue.podsChanged(now: scheduler.now)
    }
    waitForDue()
    guard !decided.isEmpty else { return }
    batches += 1
    spawn { [self] in
      await write(decided)
      batches -= 1
      wantTurn()
    }
    wantTurn()
  }

  private func waitForDue() {
    if let dueTimer { scheduler.cancel(dueTimer) }
    dueTimer = nil
    guard let due = queue.nextDue else { return }
    dueTimer = scheduler.schedule(after: max(.milliseconds(1), due - scheduler.now)) { [weak self] in
      self?.dueTimer = nil
      self?.wantTurn()
    }
  }

  // MARK: Writing

  private func write(_ decided: [Decided]) async {
    var items: [BatchItem] = []
    /// For each item the decision that stands or falls with it; nil for what may fail.
    var decisive: [Decided?] = []
    for one in decided {
      switch one.outcome {
      case .node(let name):
        items.append(SchedulingWrite.binding(one.demand, node: name))
        decisive.append(one)
      case .unschedulable(let message):
        events.record(one.demand.subject, .warning, reason: "FailedScheduling", message: message)
        guard one.demand.unscheduledMessage != message else { continue }
        items.append(SchedulingWrite.unschedulable(one.demand, message: message, now: scheduler.wall))
        decisive.append(nil)
      }
    }
    guard !items.isEmpty else { return }
    do throws(APIError) {
      let answers = try await api.batch(items, caller: caller)
      for (one, answer) in zip(decisive, answers) {
        guard let one else { continue }
        switch answer {
        case .success: succeeded(one)
        case .failure(let error): failed(one, error)
        }
      }
    } catch {
      for case let one? in decisive { failed(one, error) }
    }
  }

  private func succeeded(_ one: Decided) {
    guard case .node(let name) = one.outcome else { return }
    bound.add()
    queue.remove(one.demand.key)
    pending.set(Int64(queue.count))
    events.record(
      one.demand.subject, .normal, reason: "Scheduled", message: "Successfully assigned \(one.demand.key) to \(name)")
  }

  private func failed(_ one: Decided, _ error: APIError) {
    // The cache may show the binding all the same: then it is no longer assumed and stays counted.
    guard assumed.remove(one.demand.uid) != nil else { return }
    failed.add()
    cluster.removePod(one.demand.uid)
    if error.reason == .notFound {
      queue.remove(one.demand.key)
    } else {
      queue.retry(one.demand.key, now: scheduler.now)
      waitForDue()
      logger.debug("binding \(one.demand.key) failed, comes back: \(error)")
    }
  }
}

/// What the scheduler keeps of a namespace.
struct NamespaceLabels: Informed {
  let name: String
  let uid: String
  let labels: [String: String]

  init(stored: APIObject) throws(SkerryError) {
    let object = try stored.decoded()
    (name, uid, labels) = (object.name, object.uid, object.labels)
  }
}

extension PodDemand {
  var subject: EventSubject {
    EventSubject(apiVersion: "v1", kind: "Pod", namespace: key.namespace, name: key.name, uid: uid)
  }
}

/// The writes that a decision becomes. Each names the uid, so that it never hits a pod that was made again.
enum SchedulingWrite {
  /// One write names the node and says that the pod is scheduled.
  static func binding(_ demand: PodDemand, node: String) -> BatchItem {
    .update(
      demand.key.reference(in: Pod.resource),
      object: [
        "apiVersion": "v1", "kind": "Binding",
        "metadata": ["name": .string(demand.key.name), "uid": .string(demand.uid)],
        "target": ["kind": "Node", "name": .string(node)],
      ], subresource: "binding")
  }

  /// PodScheduled is false, with what kube-scheduler would say.
  static func unschedulable(_ demand: PodDemand, message: String, now: WallTime) -> BatchItem {
    let condition: Value = [
      "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": .string(message),
      "lastTransitionTime": .string(Timestamp.format(now)),
    ]
    return .patch(
      demand.key.reference(in: Pod.resource), type: .merge,
      patch: [
        "metadata": ["uid": .string(demand.uid)],
        "status": ["conditions": .array(demand.otherConditions + [condition])],
      ], subresource: "status")
  }
}
