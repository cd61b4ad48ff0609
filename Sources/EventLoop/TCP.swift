import Base
import CLibUV
import Glibc

/// How a TCP socket is set up.
package struct TCPOptions: Sendable {
  /// Unsent bytes that the kernel keeps at most (TCP_NOTSENT_LOWAT), so that a control frame never waits behind
  /// seconds of bulk: a default socket on a slow line holds megabytes.
  package var notSentLowWater = 16 * 1024
  /// Of a connection that we open: the address that it comes from; nil lets the kernel choose. A load generator spreads
  /// over several, since one address has no more than 65,535 ports towards one server.
  package var source: SocketAddress?
  package init() {}
}

/// TCP connections that we open.
@LoopActor package enum TCPStream {
  /// Connects to the first address of `target` that answers. The look-up may take `timeout`, and then each address
  /// an equal share of it. The error tells
  /// what every address said.
  package static func connect(
    to target: HostPort, timeout: Duration = .seconds(10), options: TCPOptions = TCPOptions()
  ) async throws(SkerryError) -> any ByteStream {
    let addresses = try await Resolver.resolve(target, timeout: timeout)
    var errors: [SkerryError] = []
    for address in addresses {
      do {
        return try await connect(to: address, timeout: timeout / addresses.count, options: options)
      } catch {
        if error.code == .cancelled { throw error }
        errors.append(error)
      }
    }
    if errors.count == 1 { throw errors[0] }
    let refused = errors.allSatisfy { $0.code == .unavailable }
    throw SkerryError(refused ? .unavailable : .timeout, errors.map(\.description).joined(separator: "; "))
  }

  /// Connects to one address.
  package static func connect(
    to address: SocketAddress, timeout: Duration, options: TCPOptions = TCPOptions()
  ) async throws(SkerryError) -> any ByteStream {
    if Task.isCancelled { throw SkerryError(.cancelled, "the connection to \(address) was cancelled") }
    let attempt = Connecting(address.description)
    return try await attempt.run(timeout: timeout) { handle, request in
      let tcp = handle.cast(to: uv_tcp_t.self)
      let status = uv_tcp_init(Loop.current.uv, tcp)
      guard status == 0 else { return status }
      if let source = options.source {
        let bound = source.withSockaddr { uv_tcp_bind(tcp, $0, 0) }
        guard bound == 0 else { return bound }
      }
      return address.withSockaddr { uv_tcp_connect(request, tcp, $0, connectDone) }
    } made: { handle in
      configureTCP(handle, options)
      return UVStream(handle, peer: PeerInfo(address: address.description))
    }
  }
}

/// TCP listening.
@LoopActor package enum TCPListener {
  /// Listens on a numeric address (`0.0.0.0` and `::` mean all, `localhost` means 127.0.0.1). Port 0 lets the kernel
  /// choose: see `boundPort`.
  package static func listen(
    host: String, port: Int, options: TCPOptions = TCPOptions(), onAccept: ((any ByteStream) -> Void)? = nil
  ) throws(SkerryError) -> StreamListener {
    guard let address = SocketAddress(host: host == "localhost" ? "127.0.0.1" : host, port: port) else {
      throw SkerryError(.invalidArgument, "cannot listen on \(host):\(port): it needs a numeric address and a port")
    }
    let handle = UnsafeMutableRawPointer(allocated(uv_tcp_t())).assumingMemoryBound(to: uv_tcp_t.self)
    uv_tcp_init(Loop.current.uv, handle)
    let stream = handle.cast(to: uv_stream_t.self)
    var status = address.withSockaddr { uv_tcp_bind(handle, $0, 0) }
    if status == 0 { status = uv_listen(stream, StreamListener.backlog, listenerConnection) }
    guard status == 0 else {
      closeHandle(handle, owner: Forgotten.shared)
      throw listenError(status, address)
    }
    let bound = socketName(handle, uv_tcp_getsockname) ?? address
    let listener = StreamListener(stream, name: bound.description, address: bound, path: nil) { server in
      accept(server, options)
    }
    listener.onAccept = onAccept
    return listener
  }

  private static func accept(_ server: UnsafeMutablePointer<uv_stream_t>, _ options: TCPOptions) -> UVStream? {
    let handle = allocated(uv_tcp_t())
    uv_tcp_init(Loop.current.uv, handle)
    let stream = handle.cast(to: uv_stream_t.self)
    guard uv_accept(server, stream) == 0, let peer = socketName(handle, uv_tcp_getpeername) else {
      closeHandle(handle, owner: Forgotten.shared)
      return nil
    }
    configureTCP(stream, options)
    return UVStream(stream, peer: PeerInfo(address: peer.description))
  }

  private static func listenError(_ status: Int32, _ address: SocketAddress) -> SkerryError {
    switch status {
    case UV_EADDRINUSE.rawValue:
      SkerryError(
        .alreadyExists,
        "cannot listen on \(address): the port is in use; stop the process that holds it (`ss -ltnp`) or choose another"
      )
    case UV_EACCES.rawValue:
      SkerryError(.forbidden, "cannot listen on \(address): ports below 1024 need CAP_NET_BIND_SERVICE")
    case UV_EADDRNOTAVAIL.rawValue:
      SkerryError(.invalidArgument, "cannot listen on \(address): this machine does not have that address")
    default: SkerryError(uv: status, "cannot listen on \(address)")
    }
  }
}

/// Socket options that every connection gets. Failures are harmless and ignored: the connection works without them.
@LoopActor private func configureTCP(_ handle: UnsafeMutablePointer<uv_stream_t>, _ options: TCPOptions) {
  uv_tcp_nodelay(handle.cast(to: uv_tcp_t.self), 1)
  var descriptor: Int32 = -1
  guard uv_fileno(handle.cast(to: uv_handle_t.self), &descriptor) == 0 else { return }
  var lowWater = Int32(clamping: options.notSentLowWater)
  setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NOTSENT_LOWAT, &lowWater, socklen_t(MemoryLayout<Int32>.size))
}

/// The kernel forgets this after an acknowledgement that waited in vain, so it is said anew for each exchange (tcp(7),
/// TCP_QUICKACK). Fails where the descriptor is no TCP connection, which is as good.
@LoopActor func delayAcknowledgements(_ descriptor: Int32) {
  var off: Int32 = 0
  setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_QUICKACK, &off, socklen_t(MemoryLayout<Int32>.size))
}

/// The address that `read` (getsockname or getpeername) tells of a socket.
@LoopActor func socketName<H>(
  _ handle: UnsafeMutablePointer<H>,
  _ read: (UnsafePointer<H>?, UnsafeMutablePointer<sockaddr>?, UnsafeMutablePointer<Int32>?) -> Int32
) -> SocketAddress? {
  var storage = sockaddr_storage()
  var length = Int32(MemoryLayout<sockaddr_storage>.size)
  return withUnsafeMutablePointer(to: &storage) { pointer in
    let address = pointer.cast(to: sockaddr.self)
    guard read(handle, address, &length) == 0 else { return nil }
    return SocketAddress(address)
  }
}
