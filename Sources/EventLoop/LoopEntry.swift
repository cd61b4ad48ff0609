import Base
import CLibUV
import Glibc

extension Loop {
  /// Makes the calling thread the process's loop thread: what a daemon's main does first. `run` must follow on the
  /// same thread.
  package static func installAsMain() -> Loop {
    let installed = LoopActor.install { Loop() }
    guard let loop = installed as? Loop, loop.isCurrent else {
      preconditionFailure("another executor was installed before the main loop")
    }
    return loop
  }

  /// The process's loop; starts one on a thread of its own if there is none yet. For tests and command-line tools.
  package static func startShared() -> Loop {
    let installed = LoopActor.install {
      let loop = Loop()
      let ready = Semaphore()
      startThread(named: "loop") {
        loop.adoptCurrentThread()
        ready.signal()
        loop.run()
      }
      ready.wait()
      return loop
    }
    guard let loop = installed as? Loop else { preconditionFailure("a simulation owns this process's LoopActor") }
    return loop
  }

  /// The loop behind `LoopActor`; nil in a simulation.
  package static var installed: Loop? { LoopActor.executor as? Loop }

  /// The loop behind `LoopActor`, for what works on real descriptors only.
  @LoopActor static var current: Loop {
    guard let loop = installed else { preconditionFailure("a simulation has no libuv loop: give it simulated parts") }
    return loop
  }
}

/// Runs `body` on the process's loop, which is started if there is none yet: the way in for tests and mains.
package func onLoop<R: Sendable>(_ body: @escaping @LoopActor () async throws -> R) async throws -> R {
  _ = Loop.startSharedIfNeeded()
  return try await spawnThrowing(body).value
}

extension Loop {
  /// The installed executor, whatever it is; a shared loop if there was none.
  fileprivate static func startSharedIfNeeded() -> any LoopExecutor {
    LoopActor.installedExecutor ?? startShared()
  }
}

/// Runs blocking work (files, never a database's writer) on libuv's pool of four threads and comes back with its
/// result. In a simulation, which has no threads, it runs at once.
package func offload<R: Sendable>(_ body: @escaping @Sendable () throws -> R) async throws -> R {
  guard Loop.installed != nil else { return try body() }
  return try await Offload<R>.run(body).get()
}

/// One piece of work on its way through libuv's pool. The pool's thread writes `result` before the loop reads it,
/// ordered by libuv's own queue lock.
private final class Offload<R: Sendable>: OffloadedWork, @unchecked Sendable {
  private let body: @Sendable () throws -> R
  private let continuation: CheckedContinuation<Result<R, any Error>, Never>
  private var result: Result<R, any Error>?

  private init(
    _ body: @escaping @Sendable () throws -> R, _ continuation: CheckedContinuation<Result<R, any Error>, Never>
  ) {
    self.body = body
    self.continuation = continuation
  }

  @LoopActor static func run(_ body: @escaping @Sendable () throws -> R) async -> Result<R, any Error> {
    await withCheckedContinuation { continuation in
      let work = Offload(body, continuation)
      let request = allocated(uv_work_t())
      request.pointee.data = Unmanaged<OffloadedWork>.passRetained(work).toOpaque()
      let status = uv_queue_work(Loop.current.uv, request, offloadRun, offloadDone)
      precondition(status == 0, "uv_queue_work: \(uvMessage(status))")
    }
  }

  override func run() { result = Result { try body() } }

  override func done() {
    continuation.resume(returning: result ?? .failure(SkerryError(.cancelled, "the work was cancelled")))
  }
}

/// What the C callbacks see of `Offload`, whose result type they cannot name.
private class OffloadedWork {
  func run() {}
  func done() {}
}

private func offloadRun(_ request: UnsafeMutablePointer<uv_work_t>?) {
  guard let data = request?.pointee.data else { return }
  Unmanaged<OffloadedWork>.fromOpaque(data).takeUnretainedValue().run()
}

private func offloadDone(_ request: UnsafeMutablePointer<uv_work_t>?, _ status: Int32) {
  guard let request, let data = request.pointee.data else { return }
  Unmanaged<OffloadedWork>.fromOpaque(data).takeRetainedValue().done()
  request.deallocate()
}
