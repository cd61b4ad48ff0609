import Base
import EventLoop
import Store

/// Who waits for the answer of a job, in the order of the jobs.
struct Waiting {
  enum Completion {
    case group(@LoopActor ([ChangeResult]) -> Void)
    case follower(@LoopActor (SkerryError?) -> Void)
  }
  let completion: Completion
  let changes: Int
  let size: Int
  /// Private keys that the job may write, for each of its changes.
  let privates: [[(key: String, value: Bytes?)]]
}

/// Jobs on their way to the writer. A snapshot of a follower goes alone: before it all else is answered, after it
/// nothing starts until it is.
struct JobQueue {
  private(set) var held: [Job] = []
  private(set) var inFlight = 0
  private(set) var replacing = false
  var changes = 0
  var bytes = 0

  var isIdle: Bool { held.isEmpty && inFlight == 0 }

  mutating func hold(_ job: Job) { held.append(job) }

  /// The next job that may go to the writer now.
  mutating func next() -> Job? {
    guard let job = held.first, !replacing else { return nil }
    if case .replace = job {
      guard inFlight == 0 else { return nil }
      replacing = true
    }
    held.removeFirst()
    inFlight += 1
    return job
  }

  /// A job was answered; true if it was a snapshot.
  mutating func answered() -> Bool {
    inFlight -= 1
    defer { replacing = false }
    return replacing
  }
}

extension SQLiteObjectLog {
  /// Jobs that are worth a transaction of their own.
  private static let promptJobs = 16

  /// Answers of a commit that go before its observers. Where more wait, each would wait for the others' answers anyway,
  /// and those who watch take in the events while the answers are sent.
  private static let answersGoFirst = 4

  package func expectChange() {
    if loneWriter.isAlone, queue.isIdle { driver.expectWork() }
  }

  package func append(_ group: [Change], completion: @escaping @LoopActor ([ChangeResult]) -> Void) {
    submit(.group(group), .group(completion), group.map(\.privates))
  }

  package func apply(
    position: Cursor, entries: [Entry], privates: [(key: String, value: Bytes?)],
    completion: @escaping @LoopActor (SkerryError?) -> Void
  ) {
    submit(.apply(position, entries: entries, privates: privates), .follower(completion), [privates])
  }

  package func replace(
    position: Cursor, objects: [(key: String, object: StoredObject)],
    completion: @escaping @LoopActor (SkerryError?) -> Void
  ) {
    submit(.replace(position, objects: objects), .follower(completion), [])
  }

  private func submit(_ job: Job, _ completion: Waiting.Completion, _ privates: [[(key: String, value: Bytes?)]]) {
    let waiter = Waiting(completion: completion, changes: job.changes, size: job.size, privates: privates)
    if let error = refusal(waiter, job) {
      spawn { waiter.refuse(error) }
      return
    }
    do throws(SkerryError) {
      if let reader { try overlay.begin(privates, reader) }
    } catch {
      spawn { waiter.refuse(error) }
      return
    }
    queue.changes += waiter.changes
    queue.bytes += waiter.size
    waiting.append(waiter)
    queue.hold(job)
    if loneWriter.isAlone { loneWriter.changed(at: scheduler.now) }
    // What arrives in one turn of the loop goes to the writer together, and so into one transaction: a sync costs as much
    // as many writes. But a writer that is idle does not stand through a long turn: with many clients all would wait for
    // it together, and then all for the loop.
    if queue.inFlight == 0, queue.held.count >= Self.promptJobs { return pump() }
    guard !pumpIsDue else { return }
    pumpIsDue = true
    scheduler.nextTurn(self)
  }

  private func refusal(_ waiter: Waiting, _ job: Job) -> SkerryError? {
    if reader == nil || closing { return SkerryError(.closed, "the log \(configuration.path) is closed") }
    if case .group(let changes) = job, changes.count > limits.waitingChanges {
      return LogFailures.tooManyWaiting(limits.waitingChanges)
    }
    // A snapshot may be larger than what may wait: it is already in memory, and it goes alone.
    if waiting.isEmpty { return nil }
    if queue.changes + waiter.changes > limits.waitingChanges {
      return LogFailures.tooManyWaiting(limits.waitingChanges)
    }
    if queue.bytes + waiter.size > limits.waitingBytes {
      return SkerryError(
        .limitExceeded,
        "more than \(limits.waitingBytes) bytes of changes wait for the log's writer: try again in a moment")
    }
    return nil
  }

  /// Hands to the writer what may go.
  func pump() {
    while let job = queue.next() {
      // The snapshot that reads see stays while the content is exchanged; without it a read could see both.
      if queue.replacing { try? reader?.pin() }
      writer.submit(job)
      if loneWriter.awaitsAnswer(queue.inFlight) { driver.keepLoopAwake(for: LoneWriter.maxAnswerPoll) }
    }
  }

  // MARK: Outcomes

  /// Takes what the writer has done: publish, answer, wake observers.
  func deliver() {
    // The writer goes on with what waits while its last outcome is told.
    pump()
    for outcome in writer.takeOutcomes() {
      if let retained = outcome.retained { retainedBytes = retained }
      tellWaiting()
      publish(outcome)
      for answer in outcome.answers { self.answer(answer) }
      if configuration.role == .leader, outcome.answers.count <= Self.answersGoFirst {
        tellLater(outcome.entries)
      } else if !outcome.entries.isEmpty {
        tell(outcome.entries)
      }
      if let error = outcome.stopped { stopped(error) }
      for event in outcome.events { handle(event) }
      count(outcome)
      if let time = outcome.commitTime { loneWriter.committed(outcome.answers.count, in: time, at: scheduler.now) }
    }
    pump()
    if closing, queue.isIdle { writer.close() }
    if loneWriter.awaitsChange, queue.isIdle { driver.keepLoopAwake(for: LoneWriter.maxChangePoll) }
  }

  private func count(_ outcome: StepOutcome) {
    if let time = outcome.commitTime {
      metrics.commits.add()
      metrics.commitMicroseconds.add(UInt64(max(time.nanosecondCount / 1000, 0)))
    }
    metrics.entries.add(UInt64(outcome.entries.count))
    for case .results(let results) in outcome.answers {
      metrics.changes.add(UInt64(results.count))
      for result in results {
        if case .applied = result { continue }
        metrics.refused.add()
      }
    }
    metrics.waiting.set(Int64(queue.changes))
    metrics.retained.set(Int64(clamping: retainedBytes))
    metrics.position.set(Int64(clamping: tail.position))
    metrics.compacted.set(Int64(clamping: compacted))
  }

  private func publish(_ outcome: StepOutcome) {
    reader?.note(outcome.entries, indexIsUp: outcome.indexIsUp)
    guard let cursor = outcome.cursor else { return }
    if let position = outcome.restartedAt {
      compacted = position == 0 ? 0 : position - 1
      ring.reset(floor: compacted)
      retention.restart(now: scheduler.now, position: position)
    }
    tail = cursor
    guard !outcome.entries.isEmpty else { return }
    ring.append(outcome.entries)
    retention.note(outcome.entries, now: scheduler.now)
    if let position = retention.overflow(retained: retainedBytes) { compact(through: position) }
  }

  func tell(_ entries: [Entry]) {
    for id in observers.ids { observers[id]?(entries) }
  }

  /// Observers hear of it behind what the answers have queued: whoever waits for an answer is not kept waiting by
  /// everybody who watches. Nothing else is published before they have heard.
  private func tellLater(_ entries: [Entry]) {
    guard !entries.isEmpty else { return }
    untold = entries
    scheduler.nextTurn(telling)
  }

  /// What was published is over for who observes from now on, and a turn early for the others.
  fileprivate func tellWaiting() {
    guard !untold.isEmpty else { return }
    let entries = untold
    untold = []
    tell(entries)
  }

  private func answer(_ answer: JobAnswer) {
    guard !waiting.isEmpty else { preconditionFailure("the writer answered a job that nobody waits for") }
    let waiter = waiting.removeFirst()
    queue.changes -= waiter.changes
    queue.bytes -= waiter.size
    if queue.answered() { reader?.unpin() }
    overlay.end(waiter.privates, answer)
    switch (waiter.completion, answer) {
    case (.group(let completion), .results(let results)): completion(results)
    case (.follower(let completion), .followed(let error)): completion(error)
    default: preconditionFailure("the writer answered a job of another kind")
    }
  }

  package func observe(_ body: @escaping @LoopActor (_ published: [Entry]) -> Void) -> ObservationID {
    tellWaiting()
    return observers.add(body)
  }

  package func cancelObservation(_ id: ObservationID) { observers.remove(id) }
}

/// The turn in which observers hear of what was published last.
@LoopActor final class Telling: TurnTask {
  weak var log: SQLiteObjectLog?
  package func takeTurn() { log?.tellWaiting() }
}

extension SQLiteObjectLog: TurnTask {
  package func takeTurn() {
    pumpIsDue = false
    pump()
  }
}

extension Waiting {
  @LoopActor fileprivate func refuse(_ error: SkerryError) {
    switch completion {
    case .group(let completion): completion(Array(repeating: .failed(error), count: changes))
    case .follower(let completion): completion(error)
    }
  }
}

/// What private keys read as while jobs that write them are on their way: nothing unpublished can be read.
struct PrivateOverlay {
  private struct Item {
    var value: Bytes?
    var jobs: Int
  }
  private var items: [String: Item] = [:]
  /// Values that were published last, so that who writes a key again and again does not have it read each time.
  private var known: [String: Bytes] = [:]
  /// Keys remembered; beyond it all are forgotten and remembered anew.
  private static let maxKnown = 4_096

  /// The published value, if a job may be about to change it; outer nil: ask the database.
  subscript(key: String) -> Bytes?? { items[key].map(\.value) }

  /// Keys with a prefix that jobs may be about to change.
  func matching(_ prefix: String) -> [(key: String, value: Bytes?)] {
    items.isEmpty ? [] : items.filter { $0.key.utf8.starts(with: prefix.utf8) }.map { ($0.key, $0.value.value) }
  }

  mutating func begin(_ privates: [[(key: String, value: Bytes?)]], _ reader: LogReader) throws(SkerryError) {
    var started: [String: Item] = [:]
    for change in privates {
      for item in change {
        if items[item.key] == nil, started[item.key] == nil {
          let value = if let known = known[item.key] { known } else { try reader.privateValue(item.key) }
          started[item.key] = Item(value: value, jobs: 0)
        }
      }
    }
    items.merge(started) { old, _ in old }
    for change in privates { for item in change { items[item.key]?.jobs += 1 } }
  }

  mutating func end(_ privates: [[(key: String, value: Bytes?)]], _ answer: JobAnswer) {
    for (index, change) in privates.enumerated() {
      let applied: Bool
      switch answer {
      case .results(let results):
        if case .applied = results[index] { applied = true } else { applied = false }
      case .followed(let error): applied = error == nil
      }
      for item in change {
        guard var entry = items[item.key] else { continue }
        if applied { entry.value = item.value }
        entry.jobs -= 1
        guard entry.jobs == 0 else {
          items[item.key] = entry
          continue
        }
        items[item.key] = nil
        if known.count >= Self.maxKnown { known = [:] }
        known[item.key] = applied ? entry.value : nil
      }
    }
  }

  /// The writer stopped: what was on its way may be on disk, or not.
  mutating func forget() { known = [:] }
}
