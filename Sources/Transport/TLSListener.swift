import Base
import EventLoop

/// What a TLS listener lets in.
package struct ListenerLimits: Sendable {
  /// Open connections, with those in their handshake; one more is closed at once, so that descriptors remain for
  /// files.
  package var maxConnections = 20_000
  /// Handshakes begun a second, in the long run and at once; the rest wait. One costs about a millisecond of CPU: this
  /// bounds what a crowd that comes back together, or an attacker, takes from those inside.
  package var maxPerSecond = 1_000
  /// Handshakes under way; the rest wait. Were all begun at once, each would take as long as all, and peers give up on
  /// handshakes that cost as much as those that succeed.
  package var maxHandshakes = 512
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
  /// Connections whose handshake has not begun, the oldest first from `next` on.
  private var waiting: [any ByteStream] = []
  private var next = 0
  private var handshakes = 0
  private var refillTimer: TimerID?
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
    for transport in waiting[next...] { transport.close() }
    (waiting, next) = ([], 0)
  }

  /// Closes every connection, those in their handshake too.
  package func closeAll() {
    for stream in connections.values { stream.close() }
  }

  private func took(_ transport: any ByteStream) {
    guard connections.count + waiting.count - next < limits.maxConnections else {
      counts.turnedAway += 1
      return transport.close()
    }
    waiting.append(transport)
    beginNext()
  }

  /// Begins handshakes while there are slots and tokens.
  private func beginNext() {
    while next < waiting.count, handshakes < limits.maxHandshakes, takeToken() {
      let transport = waiting[next]
      next += 1
      if next == waiting.count { (waiting, next) = ([], 0) }
      begin(transport)
    }
    guard next > 64, next * 2 > waiting.count else { return }
    waiting.removeFirst(next)
    next = 0
  }

  private func begin(_ transport: any ByteStream) {
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
    handshakes += 1
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
      handshakes -= 1
      switch result {
      case .success:
        counts.accepted += 1
        onAccept(stream)
      case .failure(let error):
        counts.failedHandshakes += 1
        onFailure?(stream.peer, error)
      }
      beginNext()
    }
  }

  /// A token bucket that holds one second's worth. When it is empty, handshakes begin again once there is one.
  private func takeToken() -> Bool {
    let now = scheduler.now
    let rate = Double(max(1, limits.maxPerSecond))
    tokens = min(rate, tokens + (now - refilled).seconds * rate)
    refilled = now
    guard tokens < 1 else {
      tokens -= 1
      return true
    }
    guard refillTimer == nil else { return false }
    refillTimer = scheduler.schedule(after: .nanoseconds(Int64((1 - tokens) / rate * 1e9))) { [weak self] in
      guard let self else { return }
      refillTimer = nil
      if !closed { beginNext() }
    }
    return false
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
