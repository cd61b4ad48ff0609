import Base
import EventLoop
import Store

extension SQLiteObjectLog {
  // MARK: Retention

  func scheduleMaintenance() {
    timer = scheduler.schedule(after: retention.interval) { [weak self] in
      guard let self, reader != nil else { return }
      if let position = retention.expired(now: scheduler.now) { compact(through: position) }
      scheduleMaintenance()
    }
  }

  package func compact(through position: UInt64) {
    guard tail.position > 0 else { return }
    let wanted = min(position, tail.position - 1)
    guard wanted > compacted else { return }
    // First here, so that no read starts below while the writer deletes; durable with the first slice.
    compacted = wanted
    ring.drop(through: wanted)
    writer.compact(through: Cursor(log: tail.log, epoch: tail.epoch, position: wanted))
  }

  // MARK: Failure

  func stopped(_ error: SkerryError) {
    overlay.forget()
    failure = error
    metrics.failures.add()
    onFailure?(error)
  }

  /// Opens the file again after a failure. What a failed commit left on disk after all is published then.
  package func reopen() async throws(SkerryError) {
    try await command { log, id in
      log.reopenWaiters.append(id)
      log.writer.reopen()
    }
  }

  /// From now on the log is opened again, every `interval` until that works, whenever its writer has stopped (a full
  /// disk, an I/O error). `told` hears each failure, and nil once the log writes again.
  package func reopenByItself(
    every interval: Duration = .seconds(1), told: @escaping @LoopActor (SkerryError?) -> Void
  ) {
    onFailure = { [weak self] error in
      told(error)
      spawn { [weak self] in
        while let self, self.reader != nil {
          try? await self.scheduler.sleep(for: interval)
          do throws(SkerryError) {
            try await self.reopen()
            return told(nil)
          } catch {
            told(error)
          }
        }
      }
    }
  }

  // MARK: Backup

  /// Copies the log to a new file while it is in use; sealed values stay sealed, the keys are not in it.
  package func backup(to path: String) async throws(SkerryError) {
    try await command { log, id in log.writer.backUp(id, to: path) }
  }

  private func command(_ start: @LoopActor (SQLiteObjectLog, UInt64) -> Void) async throws(SkerryError) {
    guard reader != nil, !closing else { throw SkerryError(.closed, "the log \(configuration.path) is closed") }
    let id = nextCommand
    nextCommand += 1
    let error = await withCheckedContinuation { (continuation: CheckedContinuation<SkerryError?, Never>) in
      commands[id] = { continuation.resume(returning: $0) }
      start(self, id)
    }
    if let error { throw error }
  }

  // MARK: Events

  func handle(_ event: WriterEvent) {
    switch event {
    case .backedUp(let id, let error): commands.removeValue(forKey: id)?(error)
    case .reopened(let result): reopened(result)
    case .closed(let error):
      closing = false
      reader = nil
      driver.stop()
      let (waiters, open) = (onClosed, commands)
      (onClosed, commands) = ([], [:])
      for waiter in waiters { waiter(error) }
      for waiter in open.values { waiter(SkerryError(.closed, "the log \(configuration.path) was closed")) }
    }
  }

  private func reopened(_ result: Result<LogState, SkerryError>) {
    var failed: SkerryError?
    do throws(SkerryError) {
      try resume(result.get())
      failure = nil
    } catch {
      failed = error
    }
    let (waiters, rest) = (reopenWaiters, commands)
    reopenWaiters = []
    for id in waiters { commands[id] = nil }
    for id in waiters { rest[id]?(failed) }
  }

  private func resume(_ state: LogState) throws(SkerryError) {
    let database = try Database.reader(path: configuration.path, vfs: configuration.vfs)
    let next = try LogReader(database, sealing: configuration.sealing, limits: limits)
    // A writer that had not stopped still knows places that the index does not have.
    if state.cursor.log == tail.log, state.cursor.epoch == tail.epoch { next.goOn(from: reader) }
    reader = next
    overlay.forget()
    retainedBytes = state.retained
    guard state.cursor.log == tail.log, state.cursor.epoch == tail.epoch else {
      tail = state.cursor
      compacted = max(state.compacted, 0)
      ring.reset(floor: tail.position)
      return retention.restart(now: scheduler.now, position: tail.position)
    }
    // The commit that failed may have reached the disk: its entries are history like any other.
    while tail.position < state.cursor.position, let reader {
      let page = try reader.entries(
        after: tail.position, prefix: "", limit: limits.tailEntries, newest: state.cursor.position)
      tail.position = page.through
      guard !page.entries.isEmpty else { continue }
      ring.append(page.entries)
      tell(page.entries)
    }
  }
}
