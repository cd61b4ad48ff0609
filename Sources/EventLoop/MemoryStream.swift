import Base

/// One end of a stream in memory: for tests and simulations, on any scheduler. Bytes arrive in later turns, in order,
/// after `delay`; a reader that is paused lets `capacity` bytes through and then the writer's `pendingWriteBytes` grow,
/// as the kernel's buffers would.
@LoopActor package final class MemoryStream: ByteStream {
  package var delegate: (any ByteStreamDelegate)?
  package private(set) var peer: PeerInfo
  /// How long bytes that are written from now on are on their way.
  package var delay: Duration = .zero
  /// While true, what is written here never arrives and neither end hears of it: a half-open link.
  package var isBlackHole = false

  private let scheduler: any Scheduler
  private let capacity: Int
  private var other: MemoryStream?
  private var reading = false
  private var inbound: Bytes = []
  private var inboundEnded = false
  private var endDelivered = false
  private var outbound: Bytes = []
  /// What is gone of `outbound`.
  private var sent = 0
  /// Handed to the scheduler, not yet in the other's `inbound`.
  private var travelling = 0
  private var nextArrival = Instant(nanoseconds: 0)
  private var finishing = false
  private var endSent = false
  private var drainPending = false
  private var closed = false

  private init(_ scheduler: any Scheduler, capacity: Int, peer: PeerInfo) {
    self.scheduler = scheduler
    self.capacity = capacity
    self.peer = peer
  }

  /// Two joined ends. `first` and `second` are what each end says of itself to the other.
  package static func pair(
    on scheduler: any Scheduler, capacity: Int = 64 * 1024, first: PeerInfo = PeerInfo(address: "memory:first"),
    second: PeerInfo = PeerInfo(address: "memory:second")
  ) -> (first: MemoryStream, second: MemoryStream) {
    let a = MemoryStream(scheduler, capacity: capacity, peer: second)
    let b = MemoryStream(scheduler, capacity: capacity, peer: first)
    (a.other, b.other) = (b, a)
    return (a, b)
  }

  package var pendingWriteBytes: Int { outbound.count - sent }

  package func write(_ bytes: Bytes) {
    guard !closed, !finishing, !bytes.isEmpty else { return }
    outbound.append(contentsOf: bytes)
    push()
    if pendingWriteBytes > 0 { drainPending = true }
  }

  package func finishWriting() {
    guard !closed, !finishing else { return }
    finishing = true
    push()
  }

  package func resumeReading() {
    guard !closed, !reading else { return }
    reading = true
    scheduler.schedule(after: .zero) { self.flush() }
  }

  package func pauseReading() { reading = false }

  package func close() { end(nil, tellOther: .end) }

  /// Breaks the link: both ends close with an error and lose what was on its way.
  package func reset() {
    end(SkerryError(.closed, "the connection with \(peer.address) was reset"), tellOther: .reset)
  }

  private enum Farewell { case end, reset, nothing }

  private func end(_ error: SkerryError?, tellOther farewell: Farewell) {
    guard !closed else { return }
    closed = true
    reading = false
    inbound = []
    outbound = []
    sent = 0
    let partner = other
    other = nil
    if !isBlackHole, let partner {
      switch farewell {
      case .end: if !endSent { travel { partner.arrive([], end: true, from: nil) } }
      case .reset: partner.end(SkerryError(.closed, "the connection was reset"), tellOther: .nothing)
      case .nothing: break
      }
    }
    scheduler.schedule(after: .zero) {
      let listener = self.delegate
      self.delegate = nil
      listener?.streamDidClose(self, error: error)
    }
  }

  /// Sends what fits.
  private func push() {
    guard let other, !closed else { return }
    if other.closed {
      return end(SkerryError(.closed, "cannot send to \(peer.address): it has closed"), tellOther: .nothing)
    }
    let room = capacity - other.inbound.count - travelling
    if room > 0, pendingWriteBytes > 0 {
      let chunk = Bytes(outbound[sent...].prefix(room))
      sent += chunk.count
      if sent == outbound.count {
        outbound = []
        sent = 0
      }
      travelling += chunk.count
      if !isBlackHole { travel { other.arrive(chunk, end: false, from: self) } }
    }
    if finishing, pendingWriteBytes == 0, !endSent {
      endSent = true
      if !isBlackHole { travel { other.arrive([], end: true, from: self) } }
      closeIfDone()
    }
  }

  /// Runs `arrival` after the delay, and never before what was sent earlier.
  private func travel(_ arrival: @escaping @LoopActor () -> Void) {
    let now = scheduler.now
    nextArrival = max(nextArrival, now + delay)
    scheduler.schedule(after: nextArrival - now, arrival)
  }

  private func arrive(_ bytes: Bytes, end: Bool, from sender: MemoryStream?) {
    sender?.travelling -= bytes.count
    guard !closed else { return }
    inbound.append(contentsOf: bytes)
    if end { inboundEnded = true }
    flush()
  }

  private func flush() {
    while reading, !closed, !inbound.isEmpty {
      let bytes = inbound
      inbound = []
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
    push()
    guard pendingWriteBytes == 0, drainPending, !finishing else { return }
    drainPending = false
    scheduler.schedule(after: .zero) { if !self.closed { self.delegate?.streamDidDrain(self) } }
  }

  private func closeIfDone() {
    if endSent, endDelivered { end(nil, tellOther: .nothing) }
  }
}
