import Base
import CLibUV
import Glibc

/// A UDP socket. Datagrams go out at once or are lost, as the network would lose them.
@LoopActor package final class UDPSocket: HandleOwner {
  /// The largest payload that one datagram carries.
  package nonisolated static let maxDatagram = 65_507

  package let address: SocketAddress
  package var boundPort: Int { address.port }
  /// Each datagram and its sender; the buffer is valid during the call.
  package var onReceive: ((UnsafeRawBufferPointer, SocketAddress) -> Void)?
  private let handle: UnsafeMutablePointer<uv_udp_t>
  private var closed = false

  /// Binds a numeric address; port 0 lets the kernel choose.
  package init(host: String, port: Int) throws(SkerryError) {
    guard let wanted = SocketAddress(host: host, port: port) else {
      throw SkerryError(.invalidArgument, "cannot bind \(host):\(port): it needs a numeric address and a port")
    }
    let handle = allocated(uv_udp_t())
    self.handle = handle
    uv_udp_init(Loop.current.uv, handle)
    let status = wanted.withSockaddr { uv_udp_bind(handle, $0, 0) }
    address = socketName(handle, uv_udp_getsockname) ?? wanted
    guard status == 0 else {
      closed = true
      closeHandle(handle, owner: Forgotten.shared)
      throw SkerryError(uv: status, "cannot bind \(wanted) for UDP")
    }
    handle.cast(to: uv_handle_t.self).retain(self)
    uv_udp_recv_start(handle, udpBuffer, udpReceived)
  }

  /// False if the kernel did not take it (buffer full, no route, too long).
  @discardableResult
  package func send(_ bytes: Bytes, to target: SocketAddress) -> Bool {
    guard !closed else { return false }
    return bytes.withUnsafeBytes { raw in
      var buffer = uv_buf_t(raw)
      return target.withSockaddr { uv_udp_try_send(handle, &buffer, 1, $0) } >= 0
    }
  }

  package func close() {
    guard !closed else { return }
    closed = true
    onReceive = nil
    closeHandle(handle, owner: self)
  }

  func handleDidClose() {}

  fileprivate func received(_ raw: UnsafeRawBufferPointer, _ sender: SocketAddress) { onReceive?(raw, sender) }
}

private func udpBuffer(
  _ handle: UnsafeMutablePointer<uv_handle_t>?, _ size: Int, _ buffer: UnsafeMutablePointer<uv_buf_t>?
) {
  let loop = Loop.of(handle?.pointee.loop)
  buffer?.pointee = uv_buf_init(loop.readBuffer, UInt32(Loop.readBufferSize))
}

private func udpReceived(
  _ handle: UnsafeMutablePointer<uv_udp_t>?, _ count: Int, _ buffer: UnsafePointer<uv_buf_t>?,
  _ sender: UnsafePointer<sockaddr>?, _ flags: UInt32
) {
  guard count >= 0, let sender, let from = SocketAddress(sender) else { return }  // errors of earlier sends, EAGAIN
  let socket: UDPSocket = owner(handle?.pointee.data)
  nonisolated(unsafe) let raw = UnsafeRawBufferPointer(start: buffer?.pointee.base, count: count)  // on the loop
  LoopActor.entered { socket.received(raw, from) }
}
