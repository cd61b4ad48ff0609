import Base
import EventLoop
import Store

/// The loop's side of the reading log: hands work to the store's own thread and comes back with the result.
///
/// Appends that arrive while a commit is under way go into the next one together. After a failed write the file is
/// closed and opened again at the next call (with a new incarnation), since what reached the disk is not known.
@LoopActor package final class ReadingStore {
  /// Appends that wait for a commit; beyond it `append` refuses, and drivers keep their batches.
  package static let maxWaiting = 10_000

  private let thread: StoreThread
  private let scheduler: any Scheduler
  private var waiting: [(batch: ReadingLog.Batch, done: CheckedContinuation<Result<Void, SkerryError>, Never>)] = []
  private var committing = false
  private var closed = false
  /// Called after each commit: readers look for more.
  private var watchers: [UInt64: @LoopActor () -> Void] = [:]
  private var nextWatcher: UInt64 = 0

  /// Opens the store at once, so that a bad file is told at the start. `vfs` names a registered SQLite VFS, nil is the
  /// system's files; `driver` does the store's work, nil starts a thread where there is a loop.
  package init(
    path: String, vfs: String? = nil, scheduler: any Scheduler, random: any RandomSource,
    limits: ReadingLimits = ReadingLimits(), driver: (any SerialDriver)? = nil
  ) throws(SkerryError) {
    self.scheduler = scheduler
    let open: @Sendable () throws(SkerryError) -> ReadingLog = { () throws(SkerryError) in
      try ReadingLog(
        path: path, incarnation: random.bytes(16), now: scheduler.wall.nanoseconds / 1_000_000, limits: limits,
        options: Database.Options(vfs: vfs))
    }
    thread = try StoreThread(driver: driver, open: open)
  }

  /// Milliseconds since 1970 on this machine.
  package var wallMilliseconds: Int64 { scheduler.wall.nanoseconds / 1_000_000 }

  /// Returns after a while on this store's clock.
  package func wait(_ duration: Duration) async { try? await scheduler.sleep(for: duration) }

  /// Appends readings; durable when it returns.
  package func append(_ batch: ReadingLog.Batch) async throws(SkerryError) {
    guard !closed else { throw SkerryError(.closed, "the device store is closed") }
    guard waiting.count < Self.maxWaiting else {
      throw SkerryError(.limitExceeded, "the device store has \(waiting.count) batches waiting: the disk is too slow")
    }
    let result = await withCheckedContinuation { continuation in
      waiting.append((batch, continuation))
      commit()
    }
    try result.get()
  }

  private func commit() {
    guard !committing, !waiting.isEmpty else { return }
    committing = true
    let group = waiting
    waiting = []
    spawn {
      let batches = group.map(\.batch)
      let result = await self.run { log throws(SkerryError) in _ = try log.append(batches) }
      self.committing = false
      if case .success = result { for watcher in self.watchers.values { watcher() } }
      for entry in group { entry.done.resume(returning: result) }
      self.commit()
    }
  }

  /// Calls `body` after each commit until `unwatch`.
  package func watch(_ body: @escaping @LoopActor () -> Void) -> UInt64 {
    nextWatcher += 1
    watchers[nextWatcher] = body
    return nextWatcher
  }

  package func unwatch(_ watcher: UInt64) { watchers[watcher] = nil }

  private func run<R: Sendable>(
    _ body: @escaping @Sendable (ReadingLog) throws(SkerryError) -> R
  ) async -> Result<R, SkerryError> {
    await thread.run(body)
  }

  /// Runs `body` with the log, on its thread.
  package func perform<R: Sendable>(
    _ body: @escaping @Sendable (ReadingLog) throws(SkerryError) -> R
  ) async throws(SkerryError) -> R {
    try await run(body).get()
  }

  /// Applies the bounds and checkpoints, every `interval`, until the task is cancelled.
  package func maintain(every interval: Duration, failed: @escaping @LoopActor (SkerryError) -> Void) async {
    while (try? await scheduler.sleep(for: interval)) != nil {
      do throws(SkerryError) {
        while try await retainStep() {}
      } catch {
        failed(error)
      }
    }
  }

  private func retainStep() async throws(SkerryError) -> Bool {
    let now = wallMilliseconds
    return try await perform { log throws(SkerryError) in
      let more = try log.retain(now: now)
      try log.checkpoint()
      return more
    }
  }

  /// Commits what waits and closes the file in order.
  package func close() async {
    closed = true
    while committing || !waiting.isEmpty { _ = await run { _ in } }
    await thread.close()
  }
}

/// The thread that owns the log. The log is made, used and let go on that thread alone (at the start: before the
/// thread has work), which is the confinement that `@unchecked Sendable` stands for.
private final class StoreThread: @unchecked Sendable {
  private let open: @Sendable () throws(SkerryError) -> ReadingLog
  private var log: ReadingLog?
  /// Nil where there is neither a driver nor a loop.
  private let thread: (any SerialDriver)?
  @LoopActor private var closed = false

  init(
    driver: (any SerialDriver)?, open: @escaping @Sendable () throws(SkerryError) -> ReadingLog
  ) throws(SkerryError) {
    self.open = open
    log = try open()
    thread = driver ?? (Loop.installed == nil ? nil : BlockingThread(name: "device-store"))
  }

  @LoopActor func run<R: Sendable>(
    _ body: @escaping @Sendable (ReadingLog) throws(SkerryError) -> R
  ) async -> Result<R, SkerryError> {
    // A thread that has ended runs nothing, and whoever waited for it would wait for good.
    guard !closed else { return .failure(SkerryError(.closed, "the device store is closed")) }
    guard let thread else { return work(body) }
    return await withCheckedContinuation { continuation in
      if !thread.offer({ continuation.resume(returning: self.work(body)) }) {
        continuation.resume(returning: .failure(SkerryError(.closed, "the device store is closed")))
      }
    }
  }

  private func work<R>(_ body: (ReadingLog) throws(SkerryError) -> R) -> Result<R, SkerryError> {
    do throws(SkerryError) {
      let log: ReadingLog
      if let open = self.log { log = open } else { log = try open() }
      self.log = log
      return .success(try body(log))
    } catch {
      if [.system, .corrupt, .internal].contains(error.code) { log = nil }
      return .failure(error)
    }
  }

  @LoopActor func close() async {
    _ = await run { log throws(SkerryError) in try log.close() }
    closed = true
    guard let thread else {
      log = nil
      return
    }
    thread.run { self.log = nil }
    thread.stop()
  }
}
