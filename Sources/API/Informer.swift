import Base
import Logging
import ObjectModel

/// How far an informer got, whatever it holds; what a controller waits for after its own writes.
@LoopActor package protocol InformerProgress: AnyObject {
  /// Everything up to this revision is in the cache.
  var revision: UInt64 { get }
  /// The first listing is in the cache, whole.
  var isSynced: Bool { get }
  /// Runs `action` once when `revision` has reached `target`: at once if it has.
  func whenReached(_ target: UInt64, _ action: @escaping @LoopActor () -> Void)
  /// Runs `action` once when the first listing is in: at once if it is.
  func whenSynced(_ action: @escaping @LoopActor () -> Void)
}

/// What an informer holds of a stored object: the fields that its reader needs, made once per change.
package protocol Informed: Sendable {
  /// Tells an object from one that was deleted and made again under the same name.
  var uid: String { get }
  /// Throws for an object that cannot be read, which is then reported and left out.
  init(stored: APIObject) throws(SkerryError)
  /// The same, with what is held already: `old` of this object until now, so that what did not change need not be read
  /// again, and `neighbour`, another one, with which equal parts are held in common.
  static func read(_ stored: APIObject, after old: Self?, beside neighbour: Self?) throws(SkerryError) -> Self
  /// True if a change of the object touched nothing that is held but the revision, which is then taken over: indexes and
  /// handlers do not hear of it.
  mutating func passes(_ stored: APIObject) throws(SkerryError) -> Bool
}

extension Informed {
  package static func read(_ stored: APIObject, after old: Self?, beside neighbour: Self?) throws(SkerryError) -> Self {
    try Self(stored: stored)
  }

  package mutating func passes(_ stored: APIObject) throws(SkerryError) -> Bool { false }

  /// What is held already in place of what is equal to it: of thousands of objects most lists and labels are alike.
  package static func held<T: Equatable>(_ new: T, or old: T?) -> T { if let old, old == new { old } else { new } }
}

extension Object: Informed {
  package init(stored: APIObject) throws(SkerryError) { self = try stored.decoded() }
}

/// A cache of one resource that follows the log: lists once, watches from the listing's revision, and resumes by
/// position after every failure. It lists again only when the log no longer reaches back.
///
/// Handlers run synchronously on the loop, in the log's order, after the cache shows the change.
@LoopActor package final class Informer<Item: Informed>: InformerProgress {
  package struct Limits: Sendable {
    /// Objects a list page.
    package var pageSize = 500
    /// Events a pull.
    package var batchSize = 256
    /// Full pulls in one turn of the loop, before others get theirs.
    package var batchesPerTurn = 8
    package var backoff = Backoff(base: .milliseconds(100), cap: .seconds(30))
    package init() {}
  }

  /// Names an index of this informer.
  package struct Index: Sendable { fileprivate let slot: Int }
  package typealias Handler = @LoopActor (_ key: ObjectKey, _ old: Item?, _ new: Item?) -> Void

  private struct Cached {
    var revision: UInt64
    var item: Item
  }
  private struct IndexState {
    let values: @LoopActor (Item) -> [String]
    var keys: [String: Set<ObjectKey>] = [:]
  }

  package let resource: String
  private let api: any API
  private let caller: Caller
  private let options: ListOptions
  private let limits: Limits
  private let scheduler: any Scheduler
  private let random: any RandomSource
  private let logger: Logger

  private var cache: [ObjectKey: Cached] = [:]
  /// The item that was read last.
  private var last: Item?
  private var indexes: [IndexState] = []
  private var handlers: [Handler] = []
  private var waiters: [(target: UInt64, action: @LoopActor () -> Void)] = []
  private var syncWaiters: [@LoopActor () -> Void] = []
  package private(set) var revision: UInt64 = 0
  package private(set) var isSynced = false
  /// Listings so far; more than one tells that the log did not reach back, which tests and operators watch.
  package private(set) var listings = 0

  private var cursor: (any WatchCursor)?
  private var retryTimer: TimerID?
  private var failures = 0
  private var mustList = true
  private var draining = false
  private var started = false
  private var stopped = false

  /// `options` name resource, namespace and selectors; paging and revision are the informer's own.
  package init(
    api: any API, caller: Caller, options: ListOptions, limits: Limits = Limits(), scheduler: any Scheduler,
    random: any RandomSource, logger: Logger
  ) {
    self.api = api
    self.caller = caller
    self.options = options
    self.limits = limits
    self.resource = options.resource
    self.scheduler = scheduler
    self.random = random
    self.logger = logger
  }

  // MARK: Before start

  /// Adds an index by what `values` names for an item (an owner's uid, a node's name). Call before `start`.
  package func addIndex(_ values: @escaping @LoopActor (Item) -> [String]) -> Index {
    precondition(!started, "an index is added before the informer starts")
    indexes.append(IndexState(values: values))
    return Index(slot: indexes.count - 1)
  }

  /// Adds a handler; one that is added late hears of everything that is cached first.
  package func onChange(_ handler: @escaping Handler) {
    handlers.append(handler)
    for (key, cached) in cache { handler(key, nil, cached.item) }
  }

  /// Starts to list and follow; nothing happens when it has started.
  package func start() {
    guard !started else { return }
    started = true
    connect()
  }

  /// Lets go of the watch; the cache stays as it is.
  package func stop() {
    stopped = true
    cursor?.onAvailable = nil
    cursor?.cancel()
    cursor = nil
    if let retryTimer { scheduler.cancel(retryTimer) }
    retryTimer = nil
    waiters = []
    syncWaiters = []
  }

  // MARK: Reading

  package var count: Int { cache.count }
  package subscript(key: ObjectKey) -> Item? { cache[key]?.item }
  package var keys: some Collection<ObjectKey> { cache.keys }
  package var items: some Collection<Item> { cache.values.lazy.map(\.item) }
  /// What is in an index.
  package func values(_ index: Index) -> some Collection<String> { indexes[index.slot].keys.keys }
  package func keys(_ index: Index, _ value: String) -> Set<ObjectKey> { indexes[index.slot].keys[value] ?? [] }
  /// In the order of keys, so that what is decided from it does not hang on a hash.
  package func items(_ index: Index, _ value: String) -> [Item] {
    guard let keys = indexes[index.slot].keys[value] else { return [] }
    if keys.count == 1, let key = keys.first { return cache[key].map { [$0.item] } ?? [] }
    return keys.sorted().compactMap { cache[$0]?.item }
  }

  package func whenReached(_ target: UInt64, _ action: @escaping @LoopActor () -> Void) {
    if revision >= target { return action() }
    let place = waiters.firstIndex { $0.target > target } ?? waiters.count
    waiters.insert((target, action), at: place)
  }

  package func whenSynced(_ action: @escaping @LoopActor () -> Void) {
    if isSynced { return action() }
    syncWaiters.append(action)
  }

  // MARK: Following

  private func connect() {
    guard !stopped else { return }
    spawn { [self] in
      do throws(APIError) {
        if mustList { try await list() }
        let opened = try await api.watch(
          WatchOptions(
            resource: options.resource, namespace: options.namespace, labelSelector: options.labelSelector,
            fieldSelector: options.fieldSelector, after: revision), caller: caller)
        guard !stopped else { return opened.cancel() }
        cursor = opened
        opened.onAvailable = { [weak self] in self?.drain() }
        drain()
      } catch {
        failed(error)
      }
    }
  }

  /// Pulls what there is; goes on in a later turn of the loop when there is a lot.
  private func drain() {
    guard let cursor, !draining, !stopped else { return }
    draining = true
    var full = 0
    var failure: APIError?
    do throws(APIError) {
      while full < limits.batchesPerTurn {
        let count = try cursor.deliver(limit: limits.batchSize) { apply($0) }
        if count > 0 { failures = 0 }
        if count < limits.batchSize { break }
        full += 1
      }
    } catch {
      failure = error
    }
    draining = false
    wake()
    if let failure { return failed(failure) }
    if full == limits.batchesPerTurn { scheduler.schedule(after: .zero) { [weak self] in self?.drain() } }
  }

  private func failed(_ error: APIError) {
    guard !stopped else { return }
    cursor?.onAvailable = nil
    cursor?.cancel()
    cursor = nil
    if error.reason == .expired || error.reason == .gone { mustList = true }
    let delay = limits.backoff.delay(failures, random: random)
    failures += 1
    let message: Logger.Message = "watch of \(resource) ended, goes on in \(delay.milliseconds) ms: \(error)"
    if failures > 3 {
      logger.warning(.watchEnded, message, ["revision": "\(revision)"])
    } else {
      logger.debug(message, metadata: ["revision": "\(revision)"])
    }
    retryTimer = scheduler.schedule(after: delay) { [weak self] in
      self?.retryTimer = nil
      self?.connect()
    }
  }

  private func apply(_ event: WatchEvent) {
    revision = max(revision, event.position)
    guard let object = event.object else { return }
    let key = ObjectKey(object.reference)
    if event.kind == .deleted {
      replace(key, with: nil)
    } else if event.kind != .modified || !passes(key, object) {
      replace(key, with: read(object, after: cache[key]?.item))
    }
  }

  private func passes(_ key: ObjectKey, _ object: APIObject) -> Bool {
    // What cannot be read is told of by `read`.
    guard let place = cache.index(forKey: key), (try? cache.values[place].item.passes(object)) == true else {
      return false
    }
    cache.values[place].revision = object.revision
    return true
  }

  private func read(_ object: APIObject, after old: Item?) -> Cached? {
    do throws(SkerryError) {
      let item = try Item.read(object, after: old, beside: last)
      last = item
      return Cached(revision: object.revision, item: item)
    } catch {
      logger.error(.unreadableObject, "\(object.reference.key) is left out, since it cannot be read: \(error)")
      return nil
    }
  }

  // MARK: Listing

  private func list() async throws(APIError) {
    var page = options
    page.limit = limits.pageSize
    page.continuation = ""
    page.revision = 0
    var fresh: [ObjectKey: Cached] = [:]
    var reached: UInt64 = 0
    repeat {
      let answer = try await api.list(page, caller: caller)
      guard !stopped else { return }
      for object in answer.items {
        if let cached = read(object, after: nil) { fresh[ObjectKey(object.reference)] = cached }
      }
      reached = answer.revision
      page.continuation = answer.continuation
    } while !page.continuation.isEmpty
    mustList = false
    listings += 1
    adopt(fresh, at: reached)
  }

  /// Makes the cache equal to a listing, as changes that the handlers hear of.
  private func adopt(_ fresh: [ObjectKey: Cached], at reached: UInt64) {
    revision = reached
    for key in cache.keys.filter({ fresh[$0] == nil }).sorted() { replace(key, with: nil) }
    for key in fresh.keys.sorted() where fresh[key]?.revision != cache[key]?.revision {
      replace(key, with: fresh[key])
    }
    isSynced = true
    let synced = syncWaiters
    syncWaiters = []
    for action in synced { action() }
    wake()
  }

  private func replace(_ key: ObjectKey, with new: Cached?) {
    let old = cache[key]
    if let old, let new, old.item.uid != new.item.uid {
      // Deleted and made again between two looks: two objects, so two changes.
      replace(key, with: nil)
      return replace(key, with: new)
    }
    guard old != nil || new != nil else { return }
    cache[key] = new
    for slot in indexes.indices {
      let before = old.map { indexes[slot].values($0.item) } ?? []
      let after = new.map { indexes[slot].values($0.item) } ?? []
      guard before != after else { continue }
      for value in before {
        indexes[slot].keys[value]?.remove(key)
        if indexes[slot].keys[value]?.isEmpty == true { indexes[slot].keys[value] = nil }
      }
      for value in after { indexes[slot].keys[value, default: []].insert(key) }
    }
    for handler in handlers { handler(key, old?.item, new?.item) }
  }

  private func wake() {
    guard let first = waiters.first, first.target <= revision else { return }
    let count = waiters.firstIndex { $0.target > revision } ?? waiters.count
    let ready = waiters.prefix(count)
    waiters.removeFirst(count)
    for waiter in ready { waiter.action() }
  }
}

extension LogCode {
  /// A stored object does not decode, or lacks what its kind must have.
  package static let unreadableObject = LogCode("E-API-001")
  /// A controller's work on one object failed.
  package static let reconcileFailed = LogCode("W-API-004")
  package static let watchEnded = LogCode("W-API-005")
}
