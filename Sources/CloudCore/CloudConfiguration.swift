import Base
import EventLoop
import Logging
import ObjectLog
import Transport
import Wire

/// Everything about a cloudcore that can be set; docs/operations.md lists each key with its default.
package struct CloudConfiguration: Sendable {
  package var listen: HostPort
  /// Loopback address of metrics and health.
  package var operations: HostPort
  package var data: String
  package var pki: String
  package var logLevel: Logger.Level
  package var session = SessionConfiguration()
  package var listener = ListenerLimits()
  package var log = LogLimits()
  /// Silence after which a node counts as unreachable and its pods' tolerations begin to run.
  package var nodeGrace: Duration
  package var readyFile: String?
  /// What is different for groups of nodes.
  let groups: NodeGroups
  /// The log of all objects.
  var objects: String { "\(data)/objects.db" }
  /// The series of the devices' readings.
  var readings: String { "\(data)/readings.db" }

  /// Reads the file's settings; unknown keys are errors.
  package init(_ settings: Settings) throws(SkerryError) {
    var settings = settings
    listen = try HostPort(try settings.string("listen", or: "[::]:6443"))
    operations = try HostPort(try settings.string("operations", or: "127.0.0.1:6080"))
    data = try settings.required("data")
    pki = try settings.required("pki")
    logLevel = try LogLevel.parse(try settings.string("log-level", or: "info"))
    readyFile = try settings.string("ready-file")
    session.pingInterval = try settings.duration("ping-interval", or: session.pingInterval)
    session.reconnectSpread = try settings.duration("reconnect-spread", or: session.reconnectSpread)
    listener.maxConnections = try settings.int("max-connections", or: listener.maxConnections, in: 1...1_000_000)
    listener.maxPerSecond = try settings.int("max-connections-per-second", or: listener.maxPerSecond, in: 1...100_000)
    listener.handshakeTimeout = try settings.duration("handshake-timeout", or: listener.handshakeTimeout)
    listener.idleTimeout = try settings.duration("idle-timeout", or: listener.idleTimeout)
    log.retentionTime = try settings.duration("retention-time", or: log.retentionTime)
    log.retentionBytes = UInt64(try settings.bytes("retention-bytes", or: Int64(log.retentionBytes)))
    nodeGrace = try settings.duration("node-grace", or: .seconds(45))
    groups = try NodeGroups(try settings.list("groups"))
    try settings.finish()
  }
}
