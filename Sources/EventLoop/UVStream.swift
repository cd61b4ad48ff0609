import Base
import CLibUV
import Glibc

/// A stream over a descriptor: TCP, a Unix socket, a pipe. It starts paused; `resumeReading` starts the reads.
///
/// The stream holds its delegate, and libuv holds the stream, until it has closed: an open connection needs no other
/// owner.
@LoopActor final class UVStream: ByteStream, HandleOwner {
  // First what `write` touches: `note` tells the beginning alone.
  private let handle: UnsafeMutablePointer<uv_stream_t>
  /// One write at most is in libuv's hands; what comes meanwhile waits in `outbox` and goes as one.
  private var flight: UnsafeMutablePointer<CChar>?
  private var outbox: Bytes = []
  private(set) var closed = false
  private var finishing = false
  private var drainPending = false
  /// How far `write` looks.
  private static let writeBytes = 48

  private var reading = false
  private var receivedEnd = false
  private var finished = false
  var delegate: (any ByteStreamDelegate)?
  private(set) var peer: PeerInfo
  private var closeError: SkerryError?

  /// Takes over an initialised and connected handle.
  init(_ handle: UnsafeMutablePointer<uv_stream_t>, peer: PeerInfo) {
    self.handle = handle
    self.peer = peer
    handle.cast(to: uv_handle_t.self).retain(self)
  }

  var pendingWriteBytes: Int {
    closed ? 0 : Int(uv_stream_get_write_queue_size(handle)) + outbox.count
  }

  // MARK: Reading

  func resumeReading() {
    guard !closed, !receivedEnd, !reading else { return }
    let status = uv_read_start(handle, streamBuffer, streamRead)
    guard status == 0 else { return fail(SkerryError(uv: status, "cannot read from \(peer.address)")) }
    reading = true
  }

  func pauseReading() {
    guard reading else { return }
    reading = false
    if !closed { uv_read_stop(handle) }
  }

  func didRead(_ count: Int, _ base: UnsafeMutablePointer<CChar>?) {
    guard !closed else { return }
    if count > 0 {
      delegate?.stream(self, received: UnsafeRawBufferPointer(start: base, count: count))
    } else if count == Int(UV_EOF.rawValue) {
      pauseReading()
      receivedEnd = true
      delegate?.streamReceivedEnd(self)
      closeIfDone()
    } else if count < 0 {
      fail(SkerryError(uv: Int32(count), "the connection with \(peer.address) broke"))
    }
  }

  // MARK: Writing

  func write(_ bytes: Bytes) {
    guard !closed, !finishing, !bytes.isEmpty else { return }
    if flight != nil { return outbox.append(contentsOf: bytes) }
    var taken = 0
    if outbox.isEmpty {
      let status = bytes.withUnsafeBytes { raw in
        var buffer = uv_buf_t(raw)
        return uv_try_write(handle, &buffer, 1)
      }
      if status < 0, status != UV_EAGAIN.rawValue {
        return fail(SkerryError(uv: status, "cannot send to \(peer.address)"))
      }
      taken = max(0, Int(status))
    }
    guard taken < bytes.count else { return }
    drainPending = true
    launch(bytes[taken...])
  }

  private func launch(_ bytes: ArraySlice<UInt8>) {
    let copy = UnsafeMutablePointer<CChar>.allocate(capacity: bytes.count)
    bytes.withUnsafeBytes {
      UnsafeMutableRawPointer(copy).copyMemory(from: $0.baseAddress ?? .init(copy), byteCount: $0.count)
    }
    var buffer = uv_buf_init(copy, UInt32(bytes.count))
    let request = allocated(uv_write_t())
    request.pointee.data = Unmanaged.passRetained(self).toOpaque()
    flight = copy
    let status = uv_write(request, handle, &buffer, 1, streamWritten)
    if status != 0 {
      // libuv has not taken the request.
      Unmanaged.passUnretained(self).release()
      request.deallocate()
      landed()
      fail(SkerryError(uv: status, "cannot send to \(peer.address)"))
    }
  }

  private func landed() {
    flight?.deallocate()
    flight = nil
  }

  func didWrite(_ status: Int32) {
    landed()
    guard !closed else { return }
    guard status == 0 else { return fail(SkerryError(uv: status, "cannot send to \(peer.address)")) }
    if !outbox.isEmpty {
      let next = outbox
      outbox = []
      return launch(next[...])
    }
    if finishing { return shutDown() }
    if drainPending {
      drainPending = false
      delegate?.streamDidDrain(self)
    }
  }

  // MARK: Ending

  func finishWriting() {
    guard !closed, !finishing else { return }
    finishing = true
    if flight == nil { shutDown() }
  }

  private func shutDown() {
    let request = allocated(uv_shutdown_t())
    request.pointee.data = Unmanaged.passRetained(self).toOpaque()
    let status = uv_shutdown(request, handle, streamShutDown)
    if status != 0 {
      Unmanaged.passUnretained(self).release()
      request.deallocate()
      // A peer that reset the connection has ended it too: what we wrote is gone, and reading will tell.
      didShutDown(status)
    }
  }

  func didShutDown(_ status: Int32) {
    guard !closed else { return }
    if status != 0 {
      // A pipe has no half to shut down: closing it is what ends it.
      if status == UV_ENOTSOCK.rawValue { return close() }
      return fail(status == UV_ENOTCONN.rawValue ? nil : SkerryError(uv: status, "cannot end \(peer.address)"))
    }
    finished = true
    closeIfDone()
  }

  private func closeIfDone() {
    if finished, receivedEnd { close() }
  }

  private func fail(_ error: SkerryError?) {
    guard !closed else { return }
    closeError = error
    close()
  }

  func close() {
    guard !closed else { return }
    closed = true
    reading = false
    outbox = []
    closeHandle(handle, owner: self)
  }

  /// Ends a TCP connection as a broken one: the peer gets a reset, and nothing that waits is sent.
  func reset() {
    guard !closed else { return }
    closed = true
    reading = false
    outbox = []
    closeHandle(handle, owner: self, reset: true)
  }

  func expectToAnswer() {
    var descriptor: Int32 = -1
    guard !closed, uv_fileno(handle.cast(to: uv_handle_t.self), &descriptor) == 0 else { return }
    delayAcknowledgements(descriptor)
  }

  func note(_ touched: inout WorkingSet) {
    touched.add(self, bytes: Self.writeBytes)
    touched.add(handle, bytes: MemoryLayout<uv_tcp_t>.size)
  }

  func handleDidClose() {
    let listener = delegate
    delegate = nil
    listener?.streamDidClose(self, error: closeError)
  }
}

extension uv_buf_t {
  /// Memory that libuv only reads from.
  init(_ raw: UnsafeRawBufferPointer) {
    let base = UnsafeMutableRawPointer(mutating: raw.baseAddress)?.assumingMemoryBound(to: CChar.self)
    self = uv_buf_init(base, UInt32(raw.count))
  }
}

private func streamBuffer(
  _ handle: UnsafeMutablePointer<uv_handle_t>?, _ size: Int, _ buffer: UnsafeMutablePointer<uv_buf_t>?
) {
  let loop = Loop.of(handle?.pointee.loop)
  buffer?.pointee = uv_buf_init(loop.readBuffer, UInt32(Loop.readBufferSize))
}

private func streamRead(
  _ handle: UnsafeMutablePointer<uv_stream_t>?, _ count: Int, _ buffer: UnsafePointer<uv_buf_t>?
) {
  guard count != 0 else { return }  // EAGAIN
  let stream: UVStream = owner(handle?.pointee.data)
  nonisolated(unsafe) let base = buffer?.pointee.base  // the loop's buffer, on the loop
  LoopActor.entered { stream.didRead(count, base) }
}

private func streamWritten(_ request: UnsafeMutablePointer<uv_write_t>?, _ status: Int32) {
  guard let request, let data = request.pointee.data else { return }
  let stream = Unmanaged<UVStream>.fromOpaque(data).takeRetainedValue()
  request.deallocate()
  LoopActor.entered { stream.didWrite(status) }
}

private func streamShutDown(_ request: UnsafeMutablePointer<uv_shutdown_t>?, _ status: Int32) {
  guard let request, let data = request.pointee.data else { return }
  let stream = Unmanaged<UVStream>.fromOpaque(data).takeRetainedValue()
  request.deallocate()
  LoopActor.entered { stream.didShutDown(status) }
}
