import Base
import EventLoop
import Glibc
import Transport
import Wire

/// The bench's worker processes, as the coordinator sees them.
@LoopActor final class WorkerPool {
  /// Descriptors that a worker needs besides its connections.
  static let spareFiles = 200
  /// Processes at most; more than 20,000 clients each is what no machine of ours holds.
  static let maxWorkers = 32

  private let directory: String
  private let scheduler: any Scheduler
  private let random: any RandomSource
  private let program: String
  private var listener: StreamListener?
  private var sessions: [Int: Session] = [:]
  private var children: [Int: Child] = [:]
  private var waiters: [Int: CheckedContinuation<Void, Never>] = [:]
  private var nextID: Int64 = 0
  /// Connections that one worker may hold.
  let capacity: Int

  init(directory: String, scheduler: any Scheduler, random: any RandomSource) throws(SkerryError) {
    self.directory = directory
    self.scheduler = scheduler
    self.random = random
    capacity = Machine.raiseFileLimit() - Self.spareFiles
    guard let own = Files.linkTarget("/proc/self/exe") else {
      throw SkerryError(.system, "cannot tell where this program is; is /proc mounted?")
    }
    program = own
  }

  /// How many workers hold `count` connections. Throws if that is more than this machine's limits allow.
  func workers(for count: Int) throws(SkerryError) -> Int {
    let needed = max(1, (count + capacity - 1) / max(1, capacity))
    guard capacity > 0, needed <= Self.maxWorkers else {
      throw SkerryError(
        .limitExceeded,
        "\(count) connections need \(needed) processes of \(capacity) files each, and at most \(Self.maxWorkers) are "
          + "started: raise the limit of open files (ulimit -Hn) or ask for fewer")
    }
    return needed
  }

  /// Starts workers until there are `count`.
  func ensure(_ count: Int) async throws(SkerryError) {
    if listener == nil {
      listener = try UnixListener.listen(path: socket) { [weak self] in self?.accepted($0) }
    }
    for number in 0..<count where sessions[number] == nil { try await start(number) }
  }

  private var socket: String { "\(directory)/workers.sock" }

  private func start(_ number: Int) async throws(SkerryError) {
    let child = try Subprocess.spawn(
      [program, "worker", "--socket", socket, "--number", String(number)], stderr: .inherit, detached: true
    ) { [weak self] _ in self?.ended(number) }
    children[number] = child
    let timer = scheduler.schedule(after: .seconds(30)) { [weak self] in self?.resume(number) }
    defer { scheduler.cancel(timer) }
    await withCheckedContinuation { waiters[number] = $0 }
    guard sessions[number] != nil else {
      throw SkerryError(.unavailable, "a worker process of the bench did not come up")
    }
  }

  private func accepted(_ stream: any ByteStream) {
    let session = Session(
      stream: stream, role: .server, hello: ["role": "bench"], scheduler: scheduler, random: random)
    session.onReady = { [weak self, weak session] in
      guard let self, let session, let number = session.peerHello["worker"].int else { return }
      self.sessions[Int(number)] = session
      self.resume(Int(number))
    }
    session.start()
  }

  private func resume(_ number: Int) { waiters.removeValue(forKey: number)?.resume() }

  private func ended(_ number: Int) {
    sessions.removeValue(forKey: number)?.close()
    children[number] = nil
    resume(number)
  }

  func newID() -> Int64 {
    nextID += 1
    return nextID
  }

  /// One order to one worker.
  func call(_ number: Int, _ method: String, _ params: Value, patience: Duration) async throws(SkerryError) -> Value {
    guard let session = sessions[number] else {
      throw SkerryError(.unavailable, "a worker process of the bench has died")
    }
    var params = params
    params["patience"] = .int(patience.nanosecondCount)
    do throws(CallError) {
      return try await session.call(method: method, params: params, deadline: patience + .seconds(60))
    } catch {
      throw SkerryError(.unavailable, "\(method): \(error.message)")
    }
  }

  /// The same order to several workers at once; answers in their order.
  func calls(_ orders: [(worker: Int, params: Value)], _ method: String, patience: Duration)
    async throws(SkerryError) -> [Value]
  {
    let tasks = orders.map { order in
      spawn { () -> Result<Value, SkerryError> in
        do throws(SkerryError) {
          return .success(try await self.call(order.worker, method, order.params, patience: patience))
        } catch {
          return .failure(error)
        }
      }
    }
    var answers: [Value] = []
    var failure: SkerryError?
    for task in tasks {
      switch await task.value {
      case .success(let value): answers.append(value)
      case .failure(let error): failure = failure ?? error
      }
    }
    if let failure { throw failure }
    return answers
  }

  func probe(_ number: Int) -> ProcessProbe? { children[number].map { ProcessProbe(pid: $0.pid) } }

  /// Ends the workers and whatever they hold; `ensure` starts new ones.
  func renew() async {
    let old = children.values.map { $0 }
    for session in sessions.values { session.close() }
    sessions = [:]
    for child in old { child.kill(SIGKILL) }
    // Until all are gone: the end of an old one must not be taken for that of a new one of its number.
    while old.contains(where: { $0.exitStatus == nil }) { try? await scheduler.sleep(for: .milliseconds(2)) }
  }

  /// Ends all; they go by themselves when their session ends.
  func stop() {
    for session in sessions.values { session.close() }
    for child in children.values { child.kill(SIGTERM) }
    sessions = [:]
    listener?.close()
    listener = nil
  }
}
