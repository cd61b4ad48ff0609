import Base
import Glibc
import Logging

/// The names of log levels in configuration files.
package enum LogLevel {
  package static func parse(_ text: String) throws(SkerryError) -> Logger.Level {
    guard let level = Logger.Level(rawValue: text) else {
      throw SkerryError(
        .invalidArgument,
        "log-level: \"\(text)\" is none of \(Logger.Level.allCases.map(\.rawValue).joined(separator: ", "))")
    }
    return level
  }
}

/// What every daemon's main does: reads its arguments and configuration, installs the loop, runs until SIGTERM or
/// SIGINT, and says in one line why it cannot.
package enum Daemon {
  /// Exit status of a configuration or a start that failed: starting again cannot help. systemd's units do not restart
  /// on it (`RestartPreventExitStatus`).
  package static let exitConfiguration: Int32 = 78

  /// What the command line and the file that it names say; `--help` and `--version` print and exit. `usage` is the
  /// program's own part of its help.
  package static func settings(
    name: String, arguments: [String] = CommandLine.arguments,
    usage: String = "The keys are listed in docs/operations.md."
  ) throws(SkerryError) -> Settings {
    let given = Array(arguments.dropFirst())
    if given.contains("--help") || given.contains("-h") {
      print("usage: \(name) [--config FILE] [--KEY VALUE ...]\n\(usage)")
      exit(0)
    }
    if given.contains("--version") {
      print("\(name) \(Version.current)")
      exit(0)
    }
    return try Settings(arguments: given)
  }

  /// A logger of this daemon that writes to stderr by the loop's clock.
  package static func logger(_ label: String, level: Logger.Level, clock: any Scheduler) -> Logger {
    Logger(label: label) { label in LogfmtHandler(label: label, level: level, clock: { clock.wall }) }
  }

  /// Runs `start` on a new main loop; its result is kept alive until a signal asks to stop, then `stop` runs and the
  /// process ends with 0. A start that fails ends it with 78, or 1 when trying again may help.
  package static func run<D: Sendable>(
    name: String, start: @escaping @LoopActor (Loop) async throws -> D, stop: @escaping @LoopActor (D) async -> Void
  ) -> Never {
    let loop = Loop.installAsMain()
    spawn {
      do {
        let daemon = try await start(loop)
        let stopping = StopOnce { await stop(daemon) }
        for number in [SIGTERM, SIGINT] { Signals.on(number) { stopping.fire() } }
        trim(loop)
      } catch {
        let known = error as? SkerryError
        complain("\(name): \(error)")
        exit(known?.code == .unavailable || known?.code == .timeout ? 1 : exitConfiguration)
      }
    }
    loop.run()
    exit(0)
  }

  /// Again and again: what ran once need not stay.
  @LoopActor private static func trim(_ loop: Loop) {
    _ = loop.schedule(after: ProcessMemory.trimInterval) {
      ProcessMemory.trim()
      trim(loop)
    }
  }

  package static func complain(_ message: String) {
    let line = Bytes((message + "\n").utf8)
    _ = line.withUnsafeBytes { write(2, $0.baseAddress, $0.count) }
  }
}

/// Stops the daemon at the first signal; a second one ends it at once.
@LoopActor private final class StopOnce {
  private let stop: @LoopActor () async -> Void
  private var fired = false
  init(_ stop: @escaping @LoopActor () async -> Void) { self.stop = stop }

  func fire() {
    if fired { exit(1) }
    fired = true
    spawn {
      await self.stop()
      exit(0)
    }
  }
}
