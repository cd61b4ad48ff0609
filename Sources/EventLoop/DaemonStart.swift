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
  /// Largest configuration file that is read.
  static let maxConfigurationBytes = 1 << 20

  /// Exit status of a configuration or a start that failed: starting again cannot help. systemd's units do not restart
  /// on it (`RestartPreventExitStatus`).
  package static let exitConfiguration: Int32 = 78

  /// `--config FILE` and `--set KEY=VALUE …`; `--help` and `--version` print and exit. `more` is what else the program
  /// takes, for its help.
  package static func settings(
    name: String, arguments: [String] = CommandLine.arguments, more: String = ""
  ) throws(SkerryError) -> Settings {
    var overrides: [(String, String)] = []
    var file: String?
    var rest = arguments.dropFirst()
    while let argument = rest.popFirst() {
      switch argument {
      case "--config", "--set":
        guard let value = rest.popFirst() else { throw SkerryError(.invalidArgument, "\(argument) needs a value") }
        if argument == "--config" {
          file = value
        } else {
          let parts = value.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
          guard parts.count == 2 else { throw SkerryError(.invalidArgument, "--set takes KEY=VALUE, not \"\(value)\"") }
          overrides.append((parts[0], parts[1]))
        }
      case "--help", "-h":
        print("usage: \(name) --config FILE [--set KEY=VALUE ...] \(more)\nThe keys are listed in docs/operations.md.")
        exit(0)
      case "--version":
        print("\(name) \(Version.current)")
        exit(0)
      default: throw SkerryError(.invalidArgument, "\"\(argument)\" is not an argument of \(name); see \(name) --help")
      }
    }
    let text = try file.map { (path) throws(SkerryError) in
      String(decoding: try Files.read(path, limit: maxConfigurationBytes), as: UTF8.self)
    }
    var settings = try Settings(text: text ?? "", source: file ?? "the command line")
    for (key, value) in overrides { settings.override(key, value) }
    return settings
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
      } catch {
        let known = error as? SkerryError
        complain("\(name): \(error)")
        exit(known?.code == .unavailable || known?.code == .timeout ? 1 : exitConfiguration)
      }
    }
    loop.run()
    exit(0)
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
