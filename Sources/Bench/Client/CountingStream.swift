import Base
import EventLoop

/// Bytes on the wire of many connections: what TLS sends, without TCP's own headers.
@LoopActor final class WireCount {
  var received = 0
  var sent = 0
  nonisolated init() {}
}

/// Passes a stream on and counts its bytes.
@LoopActor final class CountingStream: ByteStream, ByteStreamDelegate {
  var delegate: (any ByteStreamDelegate)?
  private let inner: any ByteStream
  private let count: WireCount

  init(_ inner: any ByteStream, _ count: WireCount) {
    self.inner = inner
    self.count = count
    inner.delegate = self
  }

  var peer: PeerInfo { inner.peer }
  var pendingWriteBytes: Int { inner.pendingWriteBytes }
  func resumeReading() { inner.resumeReading() }
  func pauseReading() { inner.pauseReading() }
  func write(_ bytes: Bytes) {
    count.sent += bytes.count
    inner.write(bytes)
  }
  func finishWriting() { inner.finishWriting() }
  func close() { inner.close() }

  func stream(_ stream: any ByteStream, received bytes: UnsafeRawBufferPointer) {
    count.received += bytes.count
    delegate?.stream(self, received: bytes)
  }
  func streamDidDrain(_ stream: any ByteStream) { delegate?.streamDidDrain(self) }
  func streamReceivedEnd(_ stream: any ByteStream) { delegate?.streamReceivedEnd(self) }
  func streamDidClose(_ stream: any ByteStream, error: SkerryError?) {
    let listener = delegate
    delegate = nil
    listener?.streamDidClose(self, error: error)
  }
}
