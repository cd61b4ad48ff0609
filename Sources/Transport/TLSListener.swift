import Base
import EventLoop

/// What a TLS listener lets in.
package struct ListenerLimits: Sendable {
  /// Open connections, with those in their handshake; one more is closed at once, so that descriptors remain for
  /// files.
  package var maxConnections = 20_000
  /// Connections taken a second, in the long run and at once; the rest wait in the kernel's backlog. A handshake costs
  /// about 1.3 ms of CPU: this bounds what a crowd that comes back together, or an attacker, takes from those inside.
  package var maxPerSecond = 400
  /// How long a handshake may take from the first byte on.
  package var handshakeTimeout: Duration = .seconds(10)
  /// A connection on which nothing came for so long is closed; live sessions ping several times within it.
  package var idleTimeout: Duration = .seconds(120)
  package init() {}
}

/// Listens with TLS. Streams are handed out when their handshake is done, paused.
@LoopActor package final class TLSListener {
  /// What happened so far, for metrics.
  package struct Counts: Sendable {
    package var accepted = 0
    /// Closed at once since `maxConnections` were open.
    package var turnedAway = 0
    package var failedHandshakes = 0
    package var idle = 0
    /// Closed since their certificate's validity ended: no session outlives it.
    package var expired = 0
  }

  package private(set) var counts = Counts()
  /// Open connections and handshakes.
  package var connectionCount: Int { connections.count }
  package var address: SocketAddress? { listener.address }
  package var boundPort: Int { listener.boundPort }
  /// For the log: whose handshake failed and why.
  package var onFailure: ((PeerInfo, SkerryError) -> Void)?
  package var limits: ListenerLimits

  private let listener: StreamListener
  private let context: TLSContext
  private let scheduler: any Scheduler
  private let onAccept: (TLSStream) -> Void
  private var connections: [ObjectIdentifier: TLSStream] = [:]
  private var tokens: Double
  private var refilled: Instant
  private var closed = false

  /// Listens on a numeric address; port 0 lets the kernel choose. The error of a port in use names it.
  package init(
    host: String, port: Int, context: TLSContext, limits: ListenerLimits = ListenerLimits(),
    scheduler: any Scheduler, onAccept: @escaping (TLSStream) -> Void
  ) throws(SkerryError) {
    listener = try TCPListener.listen(host: host, port: port)
    self.context = context
    self.limits = limits
    self.scheduler = scheduler
    self.onAccept = onAccept
    tokens = Double(limits.maxPerSecond)
    refilled = scheduler.now
    listener.onAccept = { [weak self] in self?.took($0) }
    sweepLater()
  }

  /// Stops listening. Connections go on, unless `closeAll`.
  package func close() {
    closed = true
    listener.close()
  }

  /// Closes every connection, those in their handshake too.
  package func closeAll() {
    for stream in connections.values { stream.close() }
  }

  private func took(_ transport: any ByteStream) {
    spendToken()
    guard connections.count < limits.maxConnections else {
      counts.turnedAway += 1
      return transport.close()
    }
    let stream: TLSStream
    do {
      stream = try TLSStream(over: transport, context: context, scheduler: scheduler)
    } catch {
      counts.failedHandshakes += 1
      return transport.close()
    }
    let id = ObjectIdentifier(stream)
    connections[id] = stream
    stream.onGone = { [weak self] in self?.connections[id] = nil }
    let timeout = limits.handshakeTimeout
    // No weak references to streams: each would cost every later use of the stream. The timer is cancelled and the
    // callback dropped when the handshake is over, however it ends.
    let timer = scheduler.schedule(after: timeout) {
      stream.giveUpHandshake(
        SkerryError(.timeout, "\(stream.peer.address) did not finish the TLS handshake within \(timeout)"))
    }
    stream.onHandshake = { [weak self] result in
      guard let self else { return }
      scheduler.cancel(timer)
      switch result {
      case .success:
        counts.accepted += 1
        onAccept(stream)
      case .failure(let error):
        counts.failedHandshakes += 1
        onFailure?(stream.peer, error)
      }
    }
  }

  /// A token bucket that holds one second's worth. When it is empty, nothing is taken until there is one again.
  private func spendToken() {
    let now = scheduler.now
    let rate = Double(max(1, limits.maxPerSecond))
    tokens = min(rate, tokens + (now - refilled).seconds * rate) - 1
    refilled = now
    guard tokens < 1 else { return }
    let accept = listener.onAccept
    listener.onAccept = nil
    scheduler.schedule(after: .nanoseconds(Int64((1 - tokens) / rate * 1e9))) { [weak self] in
      guard let self, !closed else { return }
      listener.onAccept = accept
    }
  }

  private func sweepLater() {
    scheduler.schedule(after: limits.idleTimeout / 4) { [weak self] in
      guard let self else { return }
      sweep()
      if !closed || !connections.isEmpty { sweepLater() }
    }
  }

  private func sweep() {
    let (now, wall) = (scheduler.now, scheduler.wall.seconds)
    for stream in connections.values {
      guard let certificate = stream.peer.certificate, certificate.notAfter < wall else { continue }
      counts.expired += 1
      stream.fail(
        SkerryError(.unauthenticated, "the certificate of \(certificate.commonName) has expired during its session"))
    }
    for stream in connections.values where now - stream.lastReceived > limits.idleTimeout {
      counts.idle += 1
      stream.fail(
        SkerryError(.timeout, "nothing came from \(stream.peer.address) for \(limits.idleTimeout): it was closed"))
    }
  }
}
