import Synchronization

/// An executor that runs everything on one thread and prefers itself for child tasks: a libuv loop, or the
/// simulator's hand-run queue.
package protocol LoopExecutor: SerialExecutor, TaskExecutor {}

/// The isolation of all state above the pure rooms: API server, hub, agent, connections.
///
/// Everything marked `@LoopActor` runs on one thread, so it calls each other synchronously, with no lock and no
/// `await`. The executor behind it is installed once a process, before the first hop: a `Loop` in daemons and
/// tests, the simulator's executor in a simulation. What libuv delivers enters by `LoopActor.assumeIsolated`
/// (the synchronous door, checked); everyone else enters by `await` (the asynchronous door).
@globalActor package final actor LoopActor {
  package static let shared = LoopActor()
  private static let installed = Mutex<(any LoopExecutor)?>(nil)

  nonisolated package var unownedExecutor: UnownedSerialExecutor { Self.executor.asUnownedSerialExecutor() }

  /// The executor that was installed; a precondition failure before that.
  package static var executor: any LoopExecutor {
    guard let executor = installed.withLock({ $0 }) else {
      preconditionFailure("LoopActor was used before a loop was installed")
    }
    return executor
  }

  /// The executor that was installed, if any was.
  package static var installedExecutor: (any LoopExecutor)? { installed.withLock { $0 } }

  /// Installs the process's loop if none is there yet; answers the one that is in force.
  @discardableResult
  package static func install(_ make: () -> any LoopExecutor) -> any LoopExecutor {
    installed.withLock { current in
      if let current { return current }
      let executor = make()
      current = executor
      return executor
    }
  }

  /// The synchronous door without its check: for the loop's own queue, which nobody but the loop's thread runs.
  package static func inside<R: Sendable>(_ body: @LoopActor () throws -> R) rethrows -> R {
    try withoutActuallyEscaping(body) { body in
      // As in `entered`: the cast only drops the global actor from the type.
      try unsafeBitCast(body, to: (() throws -> R).self)()
    }
  }

  /// The synchronous door: runs `body` at once; traps if this is not the loop's thread.
  package static func entered<R: Sendable>(_ body: @LoopActor () throws -> R) rethrows -> R {
    try withoutActuallyEscaping(body) { body in
      try shared.assumeIsolated { _ in
        // The cast only drops the global actor from the type; the executor is the same and was just checked.
        try unsafeBitCast(body, to: (() throws -> R).self)()
      }
    }
  }
}

/// Starts work on the loop. This is the one place that makes a task, so that no task runs anywhere else: with the
/// executor preferred, continuations come straight back instead of by way of the global pool.
@discardableResult
package func spawn<R: Sendable>(_ body: @escaping @LoopActor () async -> R) -> Task<R, Never> {
  Task(executorPreference: LoopActor.executor) { await body() }
}

/// Like `spawn`, for work that can fail.
@discardableResult
package func spawnThrowing<R: Sendable>(_ body: @escaping @LoopActor () async throws -> R) -> Task<R, any Error> {
  Task(executorPreference: LoopActor.executor) { try await body() }
}
