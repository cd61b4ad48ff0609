import Base
import EventLoop
import Wire

/// One end of a simulated connection: what TCP under TLS looks like from above.
///
/// Bytes arrive in order, later, at the path's pace; a reader that is paused lets `capacity` bytes through and then the
/// writer's `pendingWriteBytes` grow. An end whose process died is silent or resets, as its kernel would.
@LoopActor package final class SimStream: ByteStream {
  /// Bytes between two ends: what both kernels hold.
  package static let capacity = 64 * 1024

  package var delegate: (any ByteStreamDelegate)?
  package let peer: PeerInfo
  package let number: UInt64
  /// The process that holds this end.
  let clock: SimClock
  private unowned let network: SimNetwork
  private let path: SimPath
  private var other: SimStream?
  private var reading = false
  private var inbound: [Bytes] = []
  private var inboundBytes = 0
  private var inboundEnded = false
  private var endDelivered = false
  private var outbound: Bytes = []
  private var sent = 0
  private var travelling = 0
  private var lastArrival: UInt64 = 0
  private var finishing = false
  private var endSent = false
  private var drainPending = false
  private(set) var closed = false
  /// A middlebox forgot the connection: nothing arrives any more, and nobody is told.
  private var isForgotten = false
  /// The process takes nothing from its sockets until then (a slow reader).
  package var stalledUntil: UInt64 = 0
  /// The next bytes that are written here are lost with the connection.
  package var breaksAtNextWrite = false
  /// What this end's HELLO offers in place of the product's versions: its program is of another age.
  private var versions: [Int64]?
  /// What leaves, for whoever listens in.
  package var tap: (@LoopActor (Bytes) -> Void)?

  private init(_ network: SimNetwork, number: UInt64, clock: SimClock, path: SimPath, peer: PeerInfo) {
    self.network = network
    self.number = number
    self.clock = clock
    self.path = path
    self.peer = peer
  }

  /// Two joined ends: the first dialled the second.
  static func pair(
    _ network: SimNetwork, number: UInt64, dialling: (clock: SimClock, path: SimPath, peer: PeerInfo),
    accepting: (clock: SimClock, path: SimPath, peer: PeerInfo)
  ) -> (dialling: SimStream, accepting: SimStream) {
    let a = SimStream(network, number: number, clock: dialling.clock, path: dialling.path, peer: dialling.peer)
    let b = SimStream(network, number: number, clock: accepting.clock, path: accepting.path, peer: accepting.peer)
    (a.other, b.other) = (b, a)
    return (a, b)
  }

  func goes(over other: SimPath) -> Bool { path === other }

  package var pendingWriteBytes: Int { outbound.count - sent }
  /// Bytes that arrived and were not taken.
  package var unreadBytes: Int { inboundBytes }
  package var isOpen: Bool { !closed }

  package func write(_ bytes: Bytes) {
    guard !closed, !finishing, !bytes.isEmpty, clock.isAlive else { return }
    if breaksAtNextWrite {
      let partner = other
      end(SkerryError(.closed, "the connection with \(peer.address) was reset"), telling: .nothing)
      partner?.broke()
      return
    }
    outbound.append(contentsOf: aged(bytes))
    push()
    if pendingWriteBytes > 0 { drainPending = true }
  }

  /// The next HELLO that is written here offers these versions.
  func offer(_ versions: [Int64]) { self.versions = versions }

  private func aged(_ bytes: Bytes) -> Bytes {
    guard let versions else { return bytes }
    self.versions = nil
    var decoder = FrameDecoder()
    var frames: [Frame] = []
    guard (try? decoder.decode(bytes, into: &frames)) != nil, frames.first?.type == .hello,
      var hello = try? Hello(frames[0].payload)
    else { return bytes }
    hello.versions = versions
    frames[0].payload = hello.encoded
    return frames.reduce(into: []) { $0 += $1.encoded }
  }

  package func finishWriting() {
    guard !closed, !finishing, clock.isAlive else { return }
    finishing = true
    push()
  }

  package func resumeReading() {
    guard !closed, !reading else { return }
    reading = true
    clock.schedule(after: .zero) { self.flush() }
  }

  package func pauseReading() { reading = false }

  package func close() { end(nil, telling: .end) }

  /// Ends at once; the other end hears of a broken connection, if anything gets through.
  package func reset() { end(nil, telling: .reset) }

  /// The link broke: this end hears of it now. Says nothing to the other.
  func broke() { end(SkerryError(.closed, "the connection with \(peer.address) was reset"), telling: .nothing) }

  /// What is written here takes so much longer from now on; what is written later still comes later.
  func lag(_ delay: Duration) { lastArrival = network.time.now + UInt64(max(delay.nanosecondCount, 0)) }

  /// Nothing arrives here or there any more, and nobody is told.
  func forget() {
    isForgotten = true
    other?.isForgotten = true
  }

  /// The process of this end is gone; its kernel resets the connection, or, without power, does not.
  func abandon(silently: Bool) {
    guard !closed else { return }
    end(nil, telling: silently ? .nothing : .reset)
    if silently { isForgotten = true }
  }

  private enum Farewell { case end, reset, nothing }

  private func end(_ error: SkerryError?, telling farewell: Farewell) {
    guard !closed else { return }
    closed = true
    reading = false
    inbound = []
    inboundBytes = 0
    outbound = []
    sent = 0
    network.ended(self)
    if let other {
      switch farewell {
      case .end: if !endSent { travel(0) { other.arrive([], end: true, from: nil) } }
      case .reset: travel(0) { other.broke() }
      case .nothing: break
      }
    }
    clock.schedule(after: .zero) {
      let listener = self.delegate
      self.delegate = nil
      self.other = nil
      listener?.streamDidClose(self, error: error)
    }
  }

  private func push() {
    guard let other, !closed else { return }
    let room = Self.capacity - other.inboundBytes - travelling
    if room > 0, pendingWriteBytes > 0 {
      let chunk = Bytes(outbound[sent...].prefix(room))
      sent += chunk.count
      if sent == outbound.count {
        outbound = []
        sent = 0
      }
      travelling += chunk.count
      tap?(chunk)
      travel(chunk.count) { other.arrive(chunk, end: false, from: self) }
    }
    if finishing, pendingWriteBytes == 0, !endSent {
      endSent = true
      travel(0) { other.arrive([], end: true, from: self) }
      closeIfDone()
    }
  }

  /// Runs `arrival` when the path has carried it there, never before what was sent earlier.
  private func travel(_ count: Int, _ arrival: @escaping @LoopActor () -> Void) {
    if isForgotten { return }
    if path.isSilent { return path.hold { self.carry(count, arrival) } }
    carry(count, arrival)
  }

  private func carry(_ count: Int, _ arrival: @escaping @LoopActor () -> Void) {
    let time = network.time
    lastArrival = max(lastArrival, path.arrival(of: count, at: time.now, random: network.random))
    time.schedule(at: lastArrival) {
      // Silent by now: lost on the way, and sent again later.
      if self.path.isSilent { return self.path.hold { self.carry(count, arrival) } }
      if !self.isForgotten { arrival() }
    }
  }

  private func arrive(_ bytes: Bytes, end: Bool, from sender: SimStream?) {
    guard !closed else {
      // Nobody is there: the kernel answers with a reset.
      if let sender, !sender.closed, !isForgotten { travel(0) { sender.broke() } }
      return
    }
    sender?.travelling -= bytes.count
    if !bytes.isEmpty {
      inbound.append(bytes)
      inboundBytes += bytes.count
    }
    if end { inboundEnded = true }
    flush()
  }

  private func flush() {
    guard clock.isAlive else { return }
    if stalledUntil > network.time.now {
      clock.schedule(after: .nanoseconds(Int64(stalledUntil - network.time.now))) { self.flush() }
      return
    }
    while reading, !closed, !inbound.isEmpty {
      let bytes = inbound.removeFirst()
      inboundBytes -= bytes.count
      bytes.withUnsafeBytes { delegate?.stream(self, received: $0) }
      other?.wasRead()
    }
    if reading, !closed, inboundEnded, inbound.isEmpty, !endDelivered {
      endDelivered = true
      delegate?.streamReceivedEnd(self)
      closeIfDone()
    }
  }

  /// The other end took bytes: there is room again.
  private func wasRead() {
    guard clock.isAlive else { return }
    push()
    guard pendingWriteBytes == 0, drainPending, !finishing else { return }
    drainPending = false
    clock.schedule(after: .zero) { if !self.closed { self.delegate?.streamDidDrain(self) } }
  }

  private func closeIfDone() {
    if endSent, endDelivered { end(nil, telling: .nothing) }
  }
}
