import Base
import CLibUV
import Glibc

/// A listening socket of either kind. It is handed each connection by `onAccept`.
@LoopActor package final class StreamListener: HandleOwner {
  /// Connections that the kernel keeps for us while the loop is busy; as many as Linux allows unless told otherwise
  /// (net.core.somaxconn). One more is not answered, and its peer tries again after seconds that double.
  package nonisolated static let backlog: Int32 = 4_096

  /// Of a TCP listener: the address with the port that the kernel chose, if 0 was asked for.
  package let address: SocketAddress?
  /// For logs: the address or `unix:` and the path.
  package let name: String
  package var boundPort: Int { address?.port ?? 0 }
  /// Takes a new connection. Without one, connections wait in the kernel's backlog.
  package var onAccept: ((any ByteStream) -> Void)? {
    didSet { if onAccept != nil { acceptWaiting() } }
  }

  private let handle: UnsafeMutablePointer<uv_stream_t>
  private let makePeer: @LoopActor (UnsafeMutablePointer<uv_stream_t>) -> UVStream?
  private let path: String?
  private var waiting = false
  private var closed = false
  private var onClosed: [() -> Void] = []

  init(
    _ handle: UnsafeMutablePointer<uv_stream_t>, name: String, address: SocketAddress?, path: String?,
    accept: @escaping @LoopActor (UnsafeMutablePointer<uv_stream_t>) -> UVStream?
  ) {
    self.handle = handle
    self.name = name
    self.address = address
    self.path = path
    makePeer = accept
    handle.cast(to: uv_handle_t.self).retain(self)
  }

  /// Stops listening; connections that were accepted go on. A Unix socket's file is removed.
  package func close() {
    guard !closed else { return }
    closed = true
    onAccept = nil
    if let path { unlink(path) }
    closeHandle(handle, owner: self)
  }

  func handleDidClose() {}

  func connectionWaits() {
    waiting = true
    if onAccept != nil { acceptWaiting() }
  }

  /// libuv stops listening while the connection that it has accepted is not taken, so leaving it is backpressure.
  private func acceptWaiting() {
    while waiting, !closed, let onAccept {
      waiting = false
      if let stream = makePeer(handle) { onAccept(stream) }
    }
  }
}

func listenerConnection(_ handle: UnsafeMutablePointer<uv_stream_t>?, _ status: Int32) {
  guard status == 0 else { return }  // out of descriptors: libuv sheds the connection
  let listener: StreamListener = owner(handle?.pointee.data)
  LoopActor.entered { listener.connectionWaits() }
}
