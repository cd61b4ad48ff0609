import Base
import CLibUV
import Glibc

/// A TCP relay that behaves like a bad network between its clients and one target: for demos and tests.
@LoopActor package final class Relay {
  package enum Mode: Sendable {
    case pass
    /// Nobody listens: connecting is refused. Connections that exist go on; `cut` them to end them.
    case refuse
    /// Half-open: nothing passes in either direction and nobody is told. What was held goes on with `pass`.
    case blackHole
  }

  /// Bytes that are held for one direction of a connection before its sender is held back.
  package nonisolated static let maxHeld = 256 * 1024

  package let target: HostPort
  package let host: String
  package let port: Int
  package private(set) var mode = Mode.pass
  /// One way.
  package var latency: Duration = .zero
  /// Of the whole link, each way; nil is as fast as it goes.
  package var bytesPerSecond: Int?
  package private(set) var bytesForwarded = 0
  package var connectionCount: Int { connections.count }

  let scheduler: any Scheduler
  private var listener: StreamListener?
  private var connections: [ObjectIdentifier: RelayedConnection] = [:]
  /// When the link is free again, by direction.
  private var lineFree: [RelayDirection: Instant] = [:]

  /// Listens at once; port 0 lets the kernel choose, see `port`.
  package init(host: String = "127.0.0.1", port: Int = 0, to target: HostPort, scheduler: any Scheduler)
    throws(SkerryError)
  {
    let listener = try TCPListener.listen(host: host, port: port)
    self.host = host
    self.port = listener.boundPort
    self.target = target
    self.scheduler = scheduler
    self.listener = listener
    listener.onAccept = { [weak self] in self?.took($0) }
  }

  /// Changes what happens from now on. Throws if the port, given up by `refuse`, is taken meanwhile.
  package func set(_ mode: Mode) throws(SkerryError) {
    if mode == .refuse {
      listener?.close()
      listener = nil
    } else if listener == nil {
      let listener = try TCPListener.listen(host: host, port: port)
      listener.onAccept = { [weak self] in self?.took($0) }
      self.listener = listener
    }
    self.mode = mode
    for connection in connections.values { connection.linkChanged() }
  }

  /// Resets every connection, on both sides.
  package func cut() {
    for connection in connections.values { connection.reset() }
  }

  /// Ends all.
  package func close() {
    listener?.close()
    listener = nil
    cut()
  }

  private func took(_ client: any ByteStream) {
    let connection = RelayedConnection(self, client)
    connections[ObjectIdentifier(connection)] = connection
    connection.linkChanged()
  }

  func ended(_ connection: RelayedConnection) { connections[ObjectIdentifier(connection)] = nil }

  /// When bytes that came now may leave.
  func departure(_ count: Int, _ direction: RelayDirection) -> Instant {
    bytesForwarded += count
    let now = scheduler.now
    guard let rate = bytesPerSecond, rate > 0 else { return now + latency }
    let free = max(now, lineFree[direction] ?? now) + .nanoseconds(Int64(Double(count) / Double(rate) * 1e9))
    lineFree[direction] = free
    return free + latency
  }
}

enum RelayDirection: Hashable { case up, down }

/// One client's connection and its continuation to the target.
@LoopActor final class RelayedConnection: ByteStreamDelegate {
  private struct Parcel {
    var due: Instant
    /// Empty is the sender's end.
    var bytes: Bytes
  }
  private struct Lane {
    var parcels: [Parcel] = []
    var held = 0
    var timer: TimerID?
  }

  private let relay: Relay
  private let client: any ByteStream
  private var server: (any ByteStream)?
  private var connecting = false
  private var closed = false
  /// That have closed in order.
  private var sides = 0
  private var lanes: [RelayDirection: Lane] = [.up: Lane(), .down: Lane()]

  init(_ relay: Relay, _ client: any ByteStream) {
    self.relay = relay
    self.client = client
    client.delegate = self
  }

  /// The relay's mode may have changed.
  func linkChanged() {
    guard !closed else { return }
    guard relay.mode != .blackHole else {
      client.pauseReading()
      server?.pauseReading()
      return
    }
    if server == nil, !connecting {
      connecting = true
      spawn { await self.connect() }
    }
    forward(.up)
    forward(.down)
  }

  private func connect() async {
    do throws(SkerryError) {
      let stream = try await TCPStream.connect(to: relay.target)
      guard !closed else { return stream.close() }
      server = stream
      stream.delegate = self
      linkChanged()
    } catch {
      reset()  // the target is down: whoever dialled the relay is told by a reset
    }
  }

  func reset() {
    guard !closed else { return }
    closed = true
    for stream in [client, server] {
      if let stream = stream as? UVStream { stream.reset() }
    }
    relay.ended(self)
  }

  private func source(_ direction: RelayDirection) -> (any ByteStream)? { direction == .up ? client : server }
  private func sink(_ direction: RelayDirection) -> (any ByteStream)? { direction == .up ? server : client }
  private func direction(from stream: any ByteStream) -> RelayDirection { stream === client ? .up : .down }

  private func hold(_ bytes: Bytes, _ direction: RelayDirection) {
    let due = relay.departure(bytes.count, direction)
    lanes[direction]?.parcels.append(Parcel(due: due, bytes: bytes))
    lanes[direction]?.held += bytes.count
    forward(direction)
  }

  /// Sends what is due, arms a timer for the rest, and holds the sender back or lets it go on.
  private func forward(_ direction: RelayDirection) {
    guard !closed, relay.mode != .blackHole, let sink = sink(direction), var lane = lanes[direction] else { return }
    let now = relay.scheduler.now
    var sent = 0
    while sent < lane.parcels.count, lane.parcels[sent].due <= now, sink.pendingWriteBytes < Relay.maxHeld {
      let bytes = lane.parcels[sent].bytes
      if bytes.isEmpty { sink.finishWriting() } else { sink.write(bytes) }
      lane.held -= bytes.count
      sent += 1
    }
    lane.parcels.removeFirst(sent)
    if let timer = lane.timer { relay.scheduler.cancel(timer) }
    lane.timer = lane.parcels.first.map { next in
      relay.scheduler.schedule(after: max(next.due - now, .milliseconds(1))) { self.forward(direction) }
    }
    lanes[direction] = lane
    if lane.held < Relay.maxHeld { source(direction)?.resumeReading() } else { source(direction)?.pauseReading() }
  }

  func stream(_ stream: any ByteStream, received bytes: UnsafeRawBufferPointer) {
    hold(Bytes(bytes), direction(from: stream))
  }
  func streamDidDrain(_ stream: any ByteStream) { forward(stream === client ? .down : .up) }
  func streamReceivedEnd(_ stream: any ByteStream) { hold([], direction(from: stream)) }
  func streamDidClose(_ stream: any ByteStream, error: SkerryError?) {
    guard !closed else { return }
    if error != nil { return reset() }
    // An orderly end of one side: the other side has heard of it by `finishWriting`, or hears now.
    guard let other = stream === client ? server : client else { return reset() }
    other.finishWriting()
    sides += 1
    if sides == 2 {
      closed = true
      relay.ended(self)
    }
  }
}
