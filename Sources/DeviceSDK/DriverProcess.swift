import Base
import EventLoop
import Logging
import Transport

/// The main program of a driver's process: settings, loop, link to devicecore, an orderly end at SIGTERM.
package enum DriverProcess {
  private static let usage = """
      --socket      the socket on which devicecore takes drivers (/var/lib/skerry/devices.sock)
    """

  /// Runs until a signal.
  package static func run(name: String, driver: @escaping @LoopActor (any Scheduler) -> any Driver) -> Never {
    DeviceProcess.run(name: name, usage: usage) { settings, loop in
      let socket = try settings.string("socket", or: "/var/lib/skerry/devices.sock")
      let frame = try DeviceProcess.Frame(name: name, settings: &settings)
      let logger = Daemon.logger(name, level: frame.level, clock: loop)
      let link = DriverLink(
        driver: driver(loop), dial: { () async throws(SkerryError) in try await UnixStream.connect(path: socket) },
        scheduler: loop, random: SystemRandom(), metrics: frame.metrics, logger: logger)
      frame.readiness.isReady = { [link] in link.isConnected ? nil : "devicecore is not connected" }
      try frame.serve(on: loop)
      link.start()
      try frame.tellReady()
      return {
        link.stop()
        frame.stop()
      }
    }
  }
}

/// What the device processes share: settings from `--key value` or a file, a loop, logs, and the operations port.
package enum DeviceProcess {
  /// Answers what to do at the end.
  package typealias Start =
    @LoopActor (inout Settings, Loop) async throws -> @Sendable @LoopActor () async -> Void

  /// Reads the settings, composes with `start` on a new main loop, and runs until a signal.
  package static func run(name: String, usage: String, start: @escaping @Sendable Start) -> Never {
    Daemon.run(name: name) { loop in
      var settings = try Daemon.settings(name: name, usage: "\(usage)\n\(Frame.usage)")
      return try await start(&settings, loop)
    } stop: { stop in
      await stop()
    }
  }

  /// The settings that all device processes have, and what they stand for. Reading them ends the reading of settings.
  @LoopActor package final class Frame {
    package nonisolated static let usage = """
        --operations  HOST:PORT that serves /metrics, /healthz and /readyz; none if it is not given
        --ready-file  gets {"metrics": URL} once the process serves
        --log-level   trace, debug, info, warning or error (info)
      """
    package let level: Logger.Level
    package let metrics = Metrics()
    package let readiness = Readiness()
    private let address: HostPort?
    private let readyFile: String?
    private var server: OperationsServer?

    package init(name: String, settings: inout Settings) throws(SkerryError) {
      level = try LogLevel.parse(try settings.string("log-level", or: "info"))
      address = try settings.string("operations").map { (text) throws(SkerryError) in try HostPort(text) }
      readyFile = try settings.string("ready-file")
      try settings.finish()
    }

    /// Opens the operations port, if one is set.
    package func serve(on loop: Loop) throws(SkerryError) {
      guard let address else { return }
      server = try OperationsServer.standard(at: address, metrics: metrics, scheduler: loop, ready: readiness)
    }

    package func stop() { server?.close() }

    /// Writes the ready file, if one is set.
    package func tellReady() throws(SkerryError) {
      guard let readyFile else { return }
      let url = server.map { "\"http://\($0.endpoint)\"" } ?? "null"
      try Files.writeDurably(readyFile, Bytes("{\"metrics\": \(url)}\n".utf8), mode: 0o600)
    }
  }
}
