import Base
import CLibUV
import Glibc

/// Unix sockets that we open.
@LoopActor package enum UnixStream {
  package static func connect(path: String, timeout: Duration = .seconds(5)) async throws(SkerryError)
    -> any ByteStream
  {
    try UnixListener.checkPath(path)
    let attempt = Connecting("unix:\(path)")
    return try await attempt.run(timeout: timeout) { handle, request in
      let pipe = handle.cast(to: uv_pipe_t.self)
      uv_pipe_init(Loop.current.uv, pipe, 0)
      uv_pipe_connect(request, pipe, path, connectDone)
      return 0
    } made: { handle in
      UVStream(handle, peer: UnixListener.peer(of: handle, path))
    }
  }
}

/// Unix sockets that others open. The file is ours alone (mode 0600) from the moment it exists; a file that a dead
/// process left behind is replaced.
@LoopActor package enum UnixListener {
  /// The kernel's `sun_path`, less its final zero.
  package nonisolated static let maxPath = 107

  package static func listen(path: String, onAccept: ((any ByteStream) -> Void)? = nil) throws(SkerryError)
    -> StreamListener
  {
    try checkPath(path)
    let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { throw SkerryError(uv: -errno, "cannot make a Unix socket") }
    let handle = allocated(uv_pipe_t())
    uv_pipe_init(Loop.current.uv, handle, 0)
    let stream = handle.cast(to: uv_stream_t.self)
    var status = bindPrivately(descriptor, path)
    if status == 0 { status = uv_pipe_open(handle, descriptor) } else { Glibc.close(descriptor) }
    if status == 0 { status = uv_listen(stream, StreamListener.backlog, listenerConnection) }
    guard status == 0 else {
      closeHandle(handle, owner: Forgotten.shared)
      throw error(status, path)
    }
    let listener = StreamListener(stream, name: "unix:\(path)", address: nil, path: path) { accept($0, path) }
    listener.onAccept = onAccept
    return listener
  }

  static func checkPath(_ path: String) throws(SkerryError) {
    guard path.utf8.count <= maxPath, !path.isEmpty, !path.utf8.contains(0) else {
      throw SkerryError(
        .invalidArgument,
        "the socket path \(path) has \(path.utf8.count) bytes and the kernel takes \(maxPath): use a shorter data directory"
      )
    }
  }

  private static func bindPrivately(_ descriptor: Int32, _ path: String) -> Int32 {
    fchmod(descriptor, 0o600)  // Linux makes the file with the socket's own mode: no moment in which others may enter
    var status = bindOnce(descriptor, path)
    if status == UV_EADDRINUSE.rawValue, isStale(path) {
      unlink(path)
      status = bindOnce(descriptor, path)
    }
    return status
  }

  private static func withAddress<R>(_ path: String, _ body: (UnsafePointer<sockaddr>, socklen_t) -> R) -> R {
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
    return withUnsafePointer(to: &address) { pointer in
      body(
        UnsafeRawPointer(pointer).assumingMemoryBound(to: sockaddr.self), socklen_t(MemoryLayout<sockaddr_un>.size))
    }
  }

  private static func bindOnce(_ descriptor: Int32, _ path: String) -> Int32 {
    withAddress(path) { Glibc.bind(descriptor, $0, $1) == 0 ? 0 : -errno }
  }

  /// True if nobody listens behind the file.
  private static func isStale(_ path: String) -> Bool {
    let probe = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    guard probe >= 0 else { return false }
    defer { Glibc.close(probe) }
    return withAddress(path) { Glibc.connect(probe, $0, $1) != 0 && errno == ECONNREFUSED }
  }

  private static func error(_ status: Int32, _ path: String) -> SkerryError {
    guard status == UV_EADDRINUSE.rawValue else { return SkerryError(uv: status, "cannot listen on \(path)") }
    return SkerryError(
      .alreadyExists,
      "cannot listen on \(path): another process serves it (or it is no socket); stop that process first")
  }

  private static func accept(_ server: UnsafeMutablePointer<uv_stream_t>, _ path: String) -> UVStream? {
    let handle = allocated(uv_pipe_t())
    uv_pipe_init(Loop.current.uv, handle, 0)
    let stream = handle.cast(to: uv_stream_t.self)
    guard uv_accept(server, stream) == 0 else {
      closeHandle(handle, owner: Forgotten.shared)
      return nil
    }
    return UVStream(stream, peer: peer(of: stream, path))
  }

  static func peer(of handle: UnsafeMutablePointer<uv_stream_t>, _ path: String) -> PeerInfo {
    var info = PeerInfo(address: "unix:\(path)")
    var descriptor: Int32 = -1
    var credentials = skerry_credentials()
    if uv_fileno(handle.cast(to: uv_handle_t.self), &descriptor) == 0,
      skerry_peer_credentials(descriptor, &credentials) == 0
    {
      info.credentials = UnixCredentials(pid: credentials.pid, uid: credentials.uid, gid: credentials.gid)
    }
    return info
  }
}

/// Streams over descriptors that exist already: pipes, inherited sockets.
@LoopActor package enum DescriptorStream {
  /// Takes over a pipe or socket; it is closed with the stream, and at once if that fails.
  package static func open(_ descriptor: Int32, name: String) throws(SkerryError) -> any ByteStream {
    let handle = allocated(uv_pipe_t())
    uv_pipe_init(Loop.current.uv, handle, 0)
    let status = uv_pipe_open(handle, descriptor)
    guard status == 0 else {
      closeHandle(handle, owner: Forgotten.shared)
      Glibc.close(descriptor)
      throw SkerryError(uv: status, "cannot read or write the descriptor of \(name)")
    }
    return UVStream(handle.cast(to: uv_stream_t.self), peer: PeerInfo(address: name))
  }
}
