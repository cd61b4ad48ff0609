import Base
import CLibUV
import Glibc
import Synchronization

/// A libuv loop and its thread: the executor behind `LoopActor`, the scheduler of everything on it, and the owner
/// of every handle.
///
/// Jobs that are enqueued on the loop's own thread go to a plain array, which is drained before and after each
/// poll; those from elsewhere go through a locked inbox and wake the loop once for each time it was empty.
///
/// Confinement (the reason for `@unchecked Sendable`): all stored state but `inbox` is touched by the loop's thread
/// only, or by `init` and the start before another thread has seen the object. A loop lives as long as its process.
package final class Loop: LoopExecutor, @unchecked Sendable {
  /// Jobs that run between two polls; beyond it the rest wait for the next turn, so that tasks which keep making
  /// tasks cannot starve the sockets.
  package static let maxJobsPerTurn = 4096
  /// The buffer that all reads of the loop share: its content is handed on within the read's callback.
  static let readBufferSize = 64 * 1024

  /// One thing to do on the loop's thread.
  enum Work {
    case job(UnownedJob)
    case call(@LoopActor () -> Void)
    /// A timer without delay; nothing if it was cancelled meanwhile.
    case timer(UInt64)
    case turn(any TurnTask)
  }
  /// What other threads have handed over. `UnownedJob` and the closures are Sendable, so this is guarded in full.
  private struct Inbox: Sendable {
    var jobs: [UnownedJob] = []
    var calls: [@Sendable @LoopActor () -> Void] = []
    var isEmpty: Bool { jobs.isEmpty && calls.isEmpty }
  }

  let uv: UnsafeMutablePointer<uv_loop_t>
  let readBuffer: UnsafeMutablePointer<CChar>
  var timers = TimerQueue()
  let timerHandle: UnsafeMutablePointer<uv_timer_t>
  private let wake: UnsafeMutablePointer<uv_async_t>
  private let prepare: UnsafeMutablePointer<uv_prepare_t>
  private let check: UnsafeMutablePointer<uv_check_t>
  private let idle: UnsafeMutablePointer<uv_idle_t>
  private let inbox = Mutex(Inbox())
  private var queue: [Work] = []
  private var spare: [Work] = []
  private var idling = false
  private var timersDue = false
  /// Until when polls do not wait, in nanoseconds of the clock; 0: they do.
  private var pollsUntil: UInt64 = 0
  private var thread = pthread_self()

  /// A loop whose thread is the calling one, until `adoptCurrentThread`.
  init() {
    signal(SIGPIPE, SIG_IGN)  // a peer that has gone is an error of the write, not the death of the process
    uv = allocated(uv_loop_t())
    wake = allocated(uv_async_t())
    prepare = allocated(uv_prepare_t())
    check = allocated(uv_check_t())
    idle = allocated(uv_idle_t())
    timerHandle = allocated(uv_timer_t())
    readBuffer = .allocate(capacity: Self.readBufferSize)
    let status = uv_loop_init(uv)
    precondition(status == 0, "the event loop cannot start: \(uvMessage(status)); too many open files?")
    uv.pointee.data = Unmanaged.passUnretained(self).toOpaque()
    precondition(uv_async_init(uv, wake) { Loop.of($0?.pointee.loop).drain() } == 0, "uv_async_init failed")
    uv_prepare_init(uv, prepare)
    uv_prepare_start(prepare) { Loop.of($0?.pointee.loop).drain() }
    uv_check_init(uv, check)
    uv_check_start(check) { Loop.of($0?.pointee.loop).afterPoll() }
    uv_idle_init(uv, idle)
    uv_timer_init(uv, timerHandle)
  }

  /// The loop that a C callback's handle belongs to.
  static func of(_ uv: UnsafeMutablePointer<uv_loop_t>?) -> Loop {
    guard let data = uv?.pointee.data else { preconditionFailure("a libuv handle without its loop") }
    return Unmanaged<Loop>.fromOpaque(data).takeUnretainedValue()
  }

  func adoptCurrentThread() { thread = pthread_self() }

  /// True on the loop's thread.
  package var isCurrent: Bool { pthread_equal(pthread_self(), thread) != 0 }

  /// Runs the loop on the calling thread, which must be its own, until `stop`.
  package func run() {
    precondition(isCurrent, "a loop runs on the thread that it was installed on")
    _ = uv_run(uv, UV_RUN_DEFAULT)
  }

  /// Makes `run` return after the current turn. From any thread.
  package func stop() {
    post { uv_stop(self.uv) }
  }

  /// Runs `body` on the loop in a later turn: how another thread (a log's writer) hands back a batch. Calls that one
  /// thread posts run in their order. From any thread.
  package func post(_ body: @escaping @Sendable @LoopActor () -> Void) {
    if isCurrent { return queue.append(.call(body)) }
    let first = inbox.withLock { inbox in
      defer { inbox.calls.append(body) }
      return inbox.isEmpty
    }
    if first { uv_async_send(wake) }
  }

  /// Queues work on the loop's own thread.
  func append(_ work: Work) {
    queue.append(work)
  }

  /// Busy polling: until another thread posts, `time` at the longest, polls return at once. For what comes within
  /// microseconds and would otherwise cost about as much again to be woken for. Sockets and timers are served meanwhile.
  /// A later call counts from then.
  @LoopActor package func busyPoll(for time: Duration) {
    pollsUntil = uv_hrtime() + UInt64(time.nanosecondCount)
    updateIdling()
  }

  private func takeInbox() {
    let (jobs, calls) = inbox.withLock { inbox in
      defer {
        inbox.jobs = []
        inbox.calls = []
      }
      return (inbox.jobs, inbox.calls)
    }
    if pollsUntil != 0, !calls.isEmpty || !jobs.isEmpty || uv_hrtime() > pollsUntil { pollsUntil = 0 }
    for call in calls { queue.append(.call(call)) }
    for job in jobs { queue.append(.job(job)) }
  }

  /// Due timers run here and not where libuv calls them, before the poll: after a stall, what the sockets have to say
  /// comes before anybody's deadline, so that a busy moment of ours is not taken for the silence of a peer.
  private func afterPoll() {
    if timersDue {
      timersDue = false
      LoopActor.entered { self.runDueTimers() }
    }
    drain()
  }

  /// Keeps the next poll from waiting, since timers are to run after it.
  func noteDueTimers() {
    timersDue = true
    updateIdling()
  }

  private func drain() {
    precondition(isCurrent, "the loop's queue is run by its own thread")
    takeInbox()
    var budget = Self.maxJobsPerTurn
    while budget > 0, !queue.isEmpty {
      var batch = queue
      queue = spare
      spare = []
      for work in batch { perform(work) }
      budget -= batch.count
      batch.removeAll(keepingCapacity: true)
      spare = batch
    }
    updateIdling()
  }

  /// An active idle handle makes the next poll return at once.
  private func updateIdling() {
    let busy = timersDue || pollsUntil != 0 || !queue.isEmpty
    guard busy != idling else { return }
    idling = busy
    if busy { uv_idle_start(idle) { _ in } } else { uv_idle_stop(idle) }
  }

  private func perform(_ work: Work) {
    switch work {
    case .job(let job):
      job.runSynchronously(isolatedTo: asUnownedSerialExecutor(), taskExecutor: asUnownedTaskExecutor())
    case .call(let call): LoopActor.inside(call)
    case .timer(let id): LoopActor.inside { self.fire(id) }
    case .turn(let task): LoopActor.inside { task.takeTurn() }
    }
  }
}

extension Loop {
  package func enqueue(_ job: consuming ExecutorJob) {
    let job = UnownedJob(job)
    if isCurrent { return queue.append(.job(job)) }
    let first = inbox.withLock { inbox in
      defer { inbox.jobs.append(job) }
      return inbox.isEmpty
    }
    if first { uv_async_send(wake) }
  }

  package func asUnownedSerialExecutor() -> UnownedSerialExecutor { UnownedSerialExecutor(ordinary: self) }
  package func asUnownedTaskExecutor() -> UnownedTaskExecutor { UnownedTaskExecutor(ordinary: self) }
  package func isIsolatingCurrentContext() -> Bool? { isCurrent }
  package func checkIsolated() {
    precondition(isCurrent, "code of the event loop was called from another thread")
  }
}
