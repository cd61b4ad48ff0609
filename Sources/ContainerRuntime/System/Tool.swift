import Base
import EventLoop

/// Runs `body` on a blocking thread.
func blocking<R: Sendable>(
  _ body: @escaping @Sendable () throws(SkerryError) -> R
) async throws(SkerryError) -> R {
  do {
    return try await offload { try body() }
  } catch let error as SkerryError {
    throw error
  } catch {
    throw SkerryError(.internal, "work on a blocking thread failed", cause: error)
  }
}

/// Asks again and again, on a blocking thread, until `body` says yes; false when `rounds` are over.
@LoopActor func poll(
  _ scheduler: any Scheduler, every pause: Duration = .milliseconds(5), rounds: Int,
  _ body: @escaping @Sendable () throws(SkerryError) -> Bool
) async throws(SkerryError) -> Bool {
  for _ in 0..<rounds {
    if try await blocking(body) { return true }
    do { try await scheduler.sleep(for: pause) } catch {
      throw SkerryError(.cancelled, "the wait was cancelled", cause: error)
    }
  }
  return false
}

/// The programs that a runtime runs, each bounded in time and output, and marked in its environment.
@LoopActor struct Tool {
  let mark: (name: String, value: String)

  /// What most tools need; those that move images have their own.
  static let deadline: Duration = .seconds(60)
  /// Of the two outputs of a tool, each; a tool that prints more fails.
  static let maxOutputBytes = 4 << 20
  /// The end of a tool's error output that goes into our message.
  nonisolated static let maxQuotedBytes = 600

  /// Where programs are looked up: a daemon started by hand may have a shorter path than its tools need.
  nonisolated static let searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

  func environment(_ extra: [String: String] = [:]) -> [String: String] {
    var all = ["PATH": Self.searchPath, "LANG": "C.UTF-8", "HOME": "/root", mark.name: mark.value]
    all.merge(extra) { $1 }
    return all
  }

  /// The program's output; a failure carries what the program said.
  @discardableResult
  func run(
    _ argv: [String], environment extra: [String: String] = [:], input: Bytes = [], deadline: Duration = Tool.deadline
  ) async throws(SkerryError) -> Bytes {
    let result = try await Subprocess.run(
      argv, environment: environment(extra), directory: "/", input: input, outputLimit: Self.maxOutputBytes,
      deadline: deadline)
    guard case .exited(0) = result.status else {
      let said = result.errorOutput.isEmpty ? result.output : result.errorOutput
      throw SkerryError(.system, "\(argv.first ?? "") \(Self.text(result.status)): \(Self.quote(said))")
    }
    return result.output
  }

  nonisolated static func text(_ status: ExitStatus) -> String {
    switch status {
    case .exited(let code): "failed with exit status \(code)"
    case .signalled(let signal): "was killed by signal \(signal)"
    }
  }

  /// The end of what a program said, on one line.
  nonisolated static func quote(_ bytes: Bytes) -> String {
    let text = String(decoding: bytes.suffix(maxQuotedBytes), as: UTF8.self)
    let lines = text.split(separator: "\n").map(String.init)
    return lines.isEmpty ? "it said nothing" : lines.joined(separator: "; ")
  }

  /// Where a program is, or nil.
  nonisolated static func find(_ name: String) -> String? {
    searchPath.split(separator: ":").map { "\($0)/\(name)" }.first { Files.exists($0) }
  }
}

/// One holder at a time for each key, first come first served: calls for one container or sandbox do not interleave,
/// though each suspends.
@LoopActor final class Gates {
  private var waiting: [String: [CheckedContinuation<Void, Never>]] = [:]
  private var held: Set<String> = []

  func with<R>(_ key: String, _ body: () async throws(SkerryError) -> R) async throws(SkerryError) -> R {
    if !held.insert(key).inserted {
      await withCheckedContinuation { waiting[key, default: []].append($0) }
    }
    defer { leave(key) }
    return try await body()
  }

  private func leave(_ key: String) {
    guard var queue = waiting[key], !queue.isEmpty else {
      held.remove(key)
      return
    }
    let next = queue.removeFirst()
    waiting[key] = queue.isEmpty ? nil : queue
    next.resume()
  }
}
