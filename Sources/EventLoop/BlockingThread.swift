import Base
import CLibUV
import CProcessor
import Glibc
import Synchronization

/// A named thread that runs closures one after the other, in the order in which they came: where a log's writer
/// waits for its disk. Results go back by `Loop.post`.
package final class BlockingThread: Sendable {
  private struct State: Sendable {
    var queue: [@Sendable () -> Void] = []
    var stopped = false
  }
  private let state = Mutex(State())
  private let wake = Semaphore()
  private let ended = Semaphore()
  private let name: String
  private let busyPolls: Bool
  /// Work stands in the queue; somebody has said that some will come. Outside of the lock, for who polls.
  private let hasWork = Atomic<Bool>(false)
  private let isExpected = Atomic<Bool>(false)

  /// How long the thread polls for work that it was told of: what a change takes from the socket to here, and as much
  /// again.
  static let maxPoll = Duration.microseconds(80)
  /// Looks between two of the clock.
  private static let looksPerClock = 16

  /// Starts the thread. `name` is what `ps -L` shows, at most 15 bytes of it.
  ///
  /// `busyPolls`: for a thread and a loop that wait for each other in turn, where waking each other would be a good part
  /// of the time. `expectWork` and `keepLoopAwake` then spend a processor on it; on a machine that has only one they do
  /// nothing.
  package init(name: String, busyPolls: Bool = false) {
    self.name = name
    self.busyPolls = busyPolls && sysconf(Int32(_SC_NPROCESSORS_ONLN)) > 1
    startThread(named: name) { [self] in serve() }
  }

  /// Queues `body` behind what was queued before. After `stop` it is dropped: see `offer`.
  package func run(_ body: @escaping @Sendable () -> Void) { _ = offer(body) }

  /// Queues `body` behind what was queued before; false after `stop`: then it will never run.
  package func offer(_ body: @escaping @Sendable () -> Void) -> Bool {
    let (taken, first) = state.withLock { state in
      guard !state.stopped else { return (false, false) }
      defer {
        state.queue.append(body)
        hasWork.store(true, ordering: .relaxed)
      }
      return (true, state.queue.isEmpty)
    }
    if first { wake.signal() }
    return taken
  }

  /// Ends the thread after all that is queued, and waits for that. A second call does nothing. Must not be called
  /// from the thread itself.
  package func stop() {
    let first = state.withLock { state in
      defer { state.stopped = true }
      return !state.stopped
    }
    guard first else { return }
    wake.signal()
    ended.wait()
  }

  @LoopActor package func expectWork() {
    guard busyPolls, !isExpected.exchange(true, ordering: .relaxed) else { return }
    wake.signal()
  }

  @LoopActor package func keepLoopAwake(for time: Duration) {
    guard busyPolls else { return }
    Loop.installed?.busyPoll(for: time)
  }

  /// Looks for work without sleeping; true if some came.
  private func poll() -> Bool {
    defer { isExpected.store(false, ordering: .relaxed) }
    let end = uv_hrtime() + UInt64(Self.maxPoll.nanosecondCount)
    repeat {
      for _ in 0..<Self.looksPerClock {
        if hasWork.load(ordering: .relaxed) { return true }
        skerry_relax()
      }
    } while uv_hrtime() < end
    return false
  }

  private func serve() {
    while true {
      wake.wait()
      var stopped = false
      while true {
        let batch = state.withLock { state in
          stopped = state.stopped
          defer {
            state.queue = []
            hasWork.store(false, ordering: .relaxed)
          }
          return state.queue
        }
        if batch.isEmpty {
          if !stopped, isExpected.load(ordering: .relaxed), poll() { continue }
          break
        }
        isExpected.store(false, ordering: .relaxed)
        for body in batch { body() }
      }
      if stopped { break }
    }
    ended.signal()
  }
}

/// A counting semaphore of the operating system.
///
/// `@unchecked Sendable`: the one stored property is a pointer that never changes. What it points to is touched only by
/// sem_wait and sem_post, which any thread may call (sem_overview(7)), between `init`, when nobody else has it, and
/// `deinit`, when nobody has it any more.
final class Semaphore: @unchecked Sendable {
  private let handle = allocated(uv_sem_t())
  init() {
    let status = uv_sem_init(handle, 0)
    precondition(status == 0, "cannot make a semaphore: \(String(cString: uv_strerror(status)))")
  }
  deinit {
    uv_sem_destroy(handle)
    handle.deallocate()
  }
  func wait() { uv_sem_wait(handle) }
  func signal() { uv_sem_post(handle) }
}

private final class ThreadBody: Sendable {
  let name: String
  let run: @Sendable () -> Void
  init(name: String, run: @escaping @Sendable () -> Void) {
    self.name = name
    self.run = run
  }
}

/// Starts a detached thread: the one place in the project that does.
func startThread(named name: String, _ body: @escaping @Sendable () -> Void) {
  var thread = pthread_t()
  let box = Unmanaged.passRetained(ThreadBody(name: name, run: body))
  let status = pthread_create(
    &thread, nil,
    { argument in
      guard let argument else { return nil }
      let body = Unmanaged<ThreadBody>.fromOpaque(argument).takeRetainedValue()
      skerry_name_thread(body.name)
      body.run()
      return nil
    }, box.toOpaque())
  precondition(status == 0, "cannot start the thread \(name): \(String(cString: strerror(status)))")
  pthread_detach(thread)
}
