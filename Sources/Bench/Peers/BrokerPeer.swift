import Base
import EventLoop

/// A receiver of another product's events: reads its protocol in place and checks each event as our own receivers do.
@LoopActor class BrokerPeer: HollowPeer, ByteStreamDelegate {
  private(set) var stream: (any ByteStream)?
  private var pending: Bytes = []
  private(set) var isEstablished = false
  private var isOver = false
  private var check = EventCheck()

  override var isReady: Bool { isEstablished && !isOver }
  override var isSettling: Bool { !isEstablished && !isOver }

  override func adopt(_ stream: any ByteStream) {
    self.stream = stream
    stream.delegate = self
    stream.resumeReading()
    greet(stream)
  }

  override func close() {
    isOver = true
    stream?.delegate = nil
    stream?.close()
    stream = nil
    settle()
  }

  override func restart() { check = EventCheck() }

  /// What this side says first.
  func greet(_ stream: any ByteStream) {}
  /// Handles what is whole and answers how many bytes that was.
  func parse(_ bytes: UnsafeRawBufferPointer) -> Int { bytes.count }

  func established() {
    guard !isEstablished else { return }
    isEstablished = true
    fleet.counted(ready: 1)
    nowStands()
    settle()
  }

  func took(_ payload: UnsafeRawBufferPointer) {
    _ = check.take(payload, revision: 0, payloadBytes: payload.count, now: fleet.now, into: &fleet.tally)
    fleet.delivered()
  }

  func broke(_ reason: String) {
    guard !isOver else { return }
    isOver = true
    stream?.delegate = nil
    stream?.close()
    isGone(wasReady: isEstablished, SkerryError(.closed, reason))
  }

  func stream(_ stream: any ByteStream, received bytes: UnsafeRawBufferPointer) {
    if pending.isEmpty {
      keep(bytes, parse(bytes))
    } else {
      pending.append(contentsOf: bytes)
      let whole = pending
      pending = []
      whole.withUnsafeBytes { keep($0, parse($0)) }
    }
  }
  private func keep(_ bytes: UnsafeRawBufferPointer, _ from: Int) {
    if from < bytes.count, !isOver { pending = Bytes(bytes[from...]) }
  }
  func streamDidDrain(_ stream: any ByteStream) {}
  func streamReceivedEnd(_ stream: any ByteStream) { broke("the server closed the connection") }
  func streamDidClose(_ stream: any ByteStream, error: SkerryError?) {
    broke(error?.description ?? "the connection ended")
  }
}
