import Base
import Logging
import ObjectModel

/// What a reconciliation writes with: every write goes through here, as the controller's own caller, and notes the
/// revision that the informers must show before the key is looked at again.
@LoopActor package final class ReconcileContext {
  fileprivate var written: [(informer: any InformerProgress, revision: UInt64)] = []
  package let api: any API
  package let caller: Caller

  fileprivate init(api: any API, caller: Caller) {
    self.api = api
    self.caller = caller
  }

  /// Notes a write that `informer` will show. Its answer carried `revision`.
  package func wrote(_ revision: UInt64, seenBy informer: any InformerProgress) {
    if let index = written.firstIndex(where: { $0.informer === informer }) {
      written[index].revision = max(written[index].revision, revision)
    } else {
      written.append((informer, revision))
    }
  }

  /// Creates an object, to be seen by `informer`.
  @discardableResult
  package func create(
    _ resource: String, namespace: String, _ object: Value, seenBy informer: any InformerProgress
  ) async throws(APIError) -> APIObject {
    let made = try await api.create(resource: resource, namespace: namespace, object: object, caller: caller)
    wrote(made.revision, seenBy: informer)
    return made
  }

  @discardableResult
  package func patch(
    _ reference: ObjectReference, _ patch: Value, subresource: String = "", seenBy informer: any InformerProgress
  ) async throws(APIError) -> APIObject {
    let answer = try await api.patch(
      reference, type: .merge, patch: patch, subresource: subresource, caller: caller)
    wrote(answer.revision, seenBy: informer)
    return answer
  }

  /// Deletes an object with exactly this uid; one that is gone already counts as deleted.
  package func delete(
    _ reference: ObjectReference, uid: String, propagation: Propagation = .background, gracePeriod: Int64? = nil,
    seenBy informer: any InformerProgress
  ) async throws(APIError) {
    do throws(APIError) {
      let options = DeleteOptions(gracePeriod: gracePeriod, propagation: propagation, uid: uid)
      let answer = try await api.delete(reference, options: options, caller: caller)
      wrote(answer.revision, seenBy: informer)
    } catch {
      guard error.reason == .notFound || error.reason == .conflict else { throw error }
    }
  }

  /// Several writes in one turn; each answers for itself, and those that worked are noted.
  package func batch(_ items: [BatchItem], seenBy informer: any InformerProgress) async throws(APIError)
    -> [Result<APIObject, APIError>]
  {
    let answers = try await api.batch(items, caller: caller)
    for case .success(let object) in answers { wrote(object.revision, seenBy: informer) }
    return answers
  }
}

/// Runs a reconciliation for keys of `Key`, several at a time, never one key twice at once.
///
/// A key is reconciled only when every informer that its last reconciliation wrote to has reached those writes. So no
/// decision is made on a cache that lacks the decision before it, and there are no expectations to keep.
@LoopActor package final class Controller<Key: Hashable & Sendable> {
  /// `nil`: nothing to do until something changes. A duration: look again after it.
  package typealias Reconcile = @LoopActor (Key, ReconcileContext) async throws(APIError) -> Duration?

  package let name: String
  package let queue: WorkQueue<Key>
  private let api: any API
  private let caller: Caller
  private let workers: Int
  private let logger: Logger
  private let reconcile: Reconcile
  private let reconciled: Counter
  private let failed: Counter
  private var unseen: [Key: [(informer: any InformerProgress, revision: UInt64)]] = [:]
  /// Keys that an informer will add again when it shows what they wrote.
  private var awaiting: Set<Key> = []
  private var running = 0
  /// Workers that were spawned and have not asked for a key yet.
  private var starting = 0
  private var started = false
  private var stopped = false

  /// Called with nothing left waiting after keys had to be refused; adds every key again.
  package var onRoom: (@LoopActor () -> Void)?

  package init(
    name: String, api: any API, scheduler: any Scheduler, random: any RandomSource, metrics: Metrics, logger: Logger,
    workers: Int = 5, limits: WorkQueue<Key>.Limits = .init(), reconcile: @escaping Reconcile
  ) {
    self.name = name
    self.api = api
    self.caller = .controller(name)
    self.workers = workers
    self.reconcile = reconcile
    var logger = logger
    logger[metadataKey: "controller"] = "\(name)"
    self.logger = logger
    queue = WorkQueue(limits: limits, scheduler: scheduler, random: random)
    let labels = [("controller", name)]
    reconciled = metrics.counter("skerry_controller_reconciles_total", "Reconciliations that ran.", labels)
    failed = metrics.counter("skerry_controller_failures_total", "Reconciliations that failed and came back.", labels)
  }

  /// Starts work once every informer has its first listing.
  package func start(after informers: [any InformerProgress]) {
    var missing = informers.count
    if missing == 0 { return begin() }
    for informer in informers {
      informer.whenSynced { [self] in
        missing -= 1
        if missing == 0 { begin() }
      }
    }
  }

  private func begin() {
    guard !started, !stopped else { return }
    started = true
    queue.onReady = { [weak self] in self?.pump() }
    pump()
  }

  /// Takes no more keys. What is under way ends by itself.
  package func stop() {
    stopped = true
    queue.stop()
    unseen = [:]
  }

  package func enqueue(_ key: Key) { queue.add(key) }
  package func enqueue(_ key: Key, after delay: Duration) { queue.add(key, after: delay) }

  /// Nothing waits and nothing is being worked on; keys may still wait for their time.
  package var isIdle: Bool { queue.depth == 0 && running == 0 }

  private func pump() {
    while started, !stopped, running < workers, queue.depth > starting {
      running += 1
      starting += 1
      spawn { [self] in
        starting -= 1
        while !stopped, let key = queue.take() { await work(key) }
        running -= 1
        if queue.overflowed, queue.depth == 0, !stopped {
          queue.overflowed = false
          onRoom?()
        }
      }
    }
  }

  private func work(_ key: Key) async {
    defer { queue.done(key) }
    guard isSeen(key) else { return }
    let context = ReconcileContext(api: api, caller: caller)
    reconciled.add()
    do throws(APIError) {
      let again = try await reconcile(key, context)
      note(context, key)
      queue.forget(key)
      if let again { queue.add(key, after: again) }
    } catch {
      note(context, key)
      failed.add()
      if error.reason == .conflict || error.reason == .notFound {
        logger.debug("reconciling \(key) failed, comes back: \(error)")
      } else {
        logger.warning(.reconcileFailed, "reconciling \(key) failed, comes back: \(error)")
      }
      queue.retry(key)
    }
  }

  private func note(_ context: ReconcileContext, _ key: Key) {
    guard !stopped, !context.written.isEmpty else { return }
    unseen[key] = context.written
  }

  /// True when the informers show what this key wrote; else the key is added again when they do.
  private func isSeen(_ key: Key) -> Bool {
    guard let writes = unseen[key] else { return true }
    guard let late = writes.first(where: { $0.informer.revision < $0.revision }) else {
      unseen[key] = nil
      return true
    }
    // However often the key was added meanwhile, one waits for it.
    if awaiting.insert(key).inserted {
      late.informer.whenReached(late.revision) { [weak self] in
        self?.awaiting.remove(key)
        self?.queue.add(key)
      }
    }
    return false
  }
}
