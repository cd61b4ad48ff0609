import Base
import EventLoop

/// Whether a daemon can do its work now; asked by `/readyz`.
@LoopActor package final class Readiness {
  /// What is in the way, or nil. Until it is set the daemon is starting.
  package var isReady: () -> String? = { "starting" }
  package nonisolated init() {}
}

extension OperationsServer {
  /// What every daemon serves: `/metrics` in Prometheus' text format, `/healthz` (the loop turns), `/readyz` (it can do
  /// its work; 503 with the reason if not).
  package static func standard(at address: HostPort, metrics: Metrics, scheduler: any Scheduler, ready: Readiness)
    throws(SkerryError) -> OperationsServer
  {
    metrics.sample(ProcessMemory.metric, "Bytes that the daemon's allocator has given out") {
      Double(ProcessMemory.allocatedBytes)
    }
    return try OperationsServer(
      host: address.host, port: address.port, scheduler: scheduler,
      routes: [
        "/metrics": {
          OperationsAnswer(
            contentType: "text/plain; version=0.0.4; charset=utf-8", body: Bytes(metrics.text().utf8))
        },
        "/healthz": { OperationsAnswer("ok\n") },
        "/readyz": {
          if let reason = ready.isReady() { return OperationsAnswer(status: 503, reason + "\n") }
          return OperationsAnswer("ok\n")
        },
      ])
  }

  /// `HOST:PORT`.
  package var endpoint: String { HostPort(host: "127.0.0.1", port: boundPort).description }
}
