import Base
import EventLoop
import Glibc
import Logging
import Synchronization

/// The main program of a driver's process: settings, loop, link to devicecore, an orderly end at SIGTERM.
package enum DriverProcess {
  /// Runs until a signal; answers the exit status.
  package static func run(
    name: String, arguments: [String], driver: @escaping @LoopActor (any Scheduler) -> any Driver
  ) -> Int32 {
    let usage = """
      usage: \(name) [--config FILE] [--key value ...]
        --socket     the socket on which devicecore takes drivers (/var/lib/skerry/devices.sock)
        --log-level  trace, debug, info, warning or error (info)
      """
    return runProcess(name: name, arguments: arguments, usage: usage) { settings, loop, logger throws(SkerryError) in
      let socket = try settings.string("socket", or: "/var/lib/skerry/devices.sock")
      try settings.finish()
      let link = DriverLink(
        driver: driver(loop), dial: { () async throws(SkerryError) in try await UnixStream.connect(path: socket) },
        scheduler: loop, random: SystemRandom(), logger: logger)
      link.start()
      return { link.stop() }
    }
  }
}

/// The frame of a device process: reads settings, starts the loop on this thread, composes with `start`, and runs
/// what that answers at SIGTERM or SIGINT. Answers the exit status.
package func runProcess(
  name: String, arguments: [String], usage: String,
  start: @escaping @LoopActor (inout Settings, Loop, Logger) throws(SkerryError) -> @LoopActor () async -> Void
) -> Int32 {
  if arguments.contains("--help") {
    print(usage)
    return 0
  }
  let loop = Loop.installAsMain()
  let level = ProcessLevel()
  LoggingSystem.bootstrap { LogfmtHandler(label: $0, level: level.current, clock: { loop.wall }) }
  do throws(SkerryError) {
    var settings = try Settings(arguments: arguments)
    let word = try settings.string("log-level", or: "info")
    guard let chosen = Logger.Level(rawValue: word) else {
      throw SkerryError(.invalidArgument, "log-level is \"\(word)\": use info, or debug for more")
    }
    level.current = chosen
    let given = settings
    let logger = Logger(label: name)
    let started = LoopActor.entered { () -> Result<ProcessEnd, SkerryError> in
      Result { () throws(SkerryError) in
        var settings = given
        return ProcessEnd(try start(&settings, loop, logger), loop)
      }
    }
    let end = try started.get()
    loop.run()
    return LoopActor.entered { end.status }
  } catch {
    Logger(label: name).error(.processCannotStart, "\(name) cannot start: \(error)")
    return 1
  }
}

/// The level of loggers that are made from now on.
private final class ProcessLevel: Sendable {
  private let level = Mutex(Logger.Level.info)
  var current: Logger.Level {
    get { level.withLock { $0 } }
    set { level.withLock { $0 = newValue } }
  }
}

extension LogCode {
  /// A device process ends at its start; the message names the setting, file or socket and the remedy.
  package static let processCannotStart = LogCode("E-DEV-006")
}

/// Ends the process in order at the first signal, at once at the second.
@LoopActor private final class ProcessEnd {
  private(set) var status: Int32 = 0
  private var watches: [SignalWatch] = []

  init(_ stop: @escaping @LoopActor () async -> Void, _ loop: Loop) {
    var ending = false
    for signal in [SIGTERM, SIGINT] {
      watches.append(
        Signals.on(signal) { [weak self] in
          if ending {
            self?.status = 128 + signal
            return loop.stop()
          }
          ending = true
          spawn {
            await stop()
            loop.stop()
          }
        })
    }
  }
}
