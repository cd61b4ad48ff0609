import Base
import CLibUV
import COpenSSL
import Glibc
import Identity

/// One session of the floor: a handle and an OpenSSL session, nothing else. `tcp` is first, so that the handle's address
/// is the session's.
struct FloorSession {
  var tcp: uv_tcp_t
  var ssl: OpaquePointer
  var open: Bool
}

/// What this machine can do at all: a bare libuv loop with OpenSSL sessions as Transport configures them, and none of our
/// code between the two. It answers commands on stdin, one a line, each with one line on stdout:
///
/// ```
/// (start)                                     port N
/// sessions                                    sessions N
/// echo                                        echo N              sends 64 bytes to each session
/// send EVENTS PER-RECORD BYTES                sent DELIVERIES     as fast as it goes
/// pace EVENTS BYTES INTERVAL-MS               sent DELIVERIES     one event each interval
/// quit
/// ```
///
/// Confined to the thread that runs `run`: C callbacks reach it by the loop's `data` there.
package final class FloorServer {
  /// Sessions it holds; the process's limit of open files is met earlier.
  static let maxSessions = 100_000

  private let loop: UnsafeMutablePointer<uv_loop_t>
  private let context: OpaquePointer
  private let material: (certificate: Certificate, key: KeyPair, trust: TrustStore)
  private let bio: OpaquePointer
  private let pipe: UnsafeMutablePointer<FloorPipe>
  private let readBuffer = UnsafeMutablePointer<CChar>.allocate(capacity: 64 * 1024)
  private let plain = UnsafeMutableRawPointer.allocate(byteCount: 17 * 1024, alignment: 16)
  private var sessions: [UnsafeMutablePointer<FloorSession>] = []
  private var line: Bytes = []
  private var paced: (left: Int, sequence: UInt64, bytes: Int, sent: Int)?
  private let timer = UnsafeMutablePointer<uv_timer_t>.allocate(capacity: 1)
  private let frame: (_ sequence: UInt64, _ bytes: Int, _ now: UInt64) -> Bytes

  /// `frame` makes the bytes of one event.
  package init(
    certificatePEM: String, keyPEM: String, authorityPEM: String,
    frame: @escaping (_ sequence: UInt64, _ bytes: Int, _ now: UInt64) -> Bytes
  ) throws(SkerryError) {
    guard let leaf = try Certificate.chain(pem: certificatePEM).first else {
      throw SkerryError(.invalidArgument, "the serving certificate is empty")
    }
    material = (leaf, try KeyPair(pem: keyPEM), try TrustStore(pem: authorityPEM))
    guard let context = skerry_context_new(1), let (bio, pipe) = FloorPipe.make() else {
      throw SkerryError(.internal, "this OpenSSL cannot make a TLS 1.3 context")
    }
    self.context = context
    self.bio = bio
    self.pipe = pipe
    self.frame = frame
    loop = .allocate(capacity: 1)
    guard SSL_CTX_use_certificate(context, leaf.pointer) == 1,
      SSL_CTX_use_PrivateKey(context, material.key.pointer) == 1, uv_loop_init(loop) == 0
    else { throw SkerryError(.internal, "the floor's server cannot be set up") }
    _ = skerry_set_store(context, material.trust.pointer)
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nil)
    loop.pointee.data = Unmanaged.passUnretained(self).toOpaque()
  }

  fileprivate static func of(_ loop: UnsafeMutablePointer<uv_loop_t>?) -> FloorServer {
    guard let data = loop?.pointee.data else { preconditionFailure("a loop without its server") }
    return Unmanaged<FloorServer>.fromOpaque(data).takeUnretainedValue()
  }

  /// Listens on loopback, tells the port, and serves until `quit` or the end of stdin.
  package func run() throws(SkerryError) {
    signal(SIGPIPE, SIG_IGN)
    let listener = UnsafeMutablePointer<uv_tcp_t>.allocate(capacity: 1)
    uv_tcp_init(loop, listener)
    var address = sockaddr_in()
    uv_ip4_addr("127.0.0.1", 0, &address)
    let stream = UnsafeMutableRawPointer(listener).assumingMemoryBound(to: uv_stream_t.self)
    let bound = withUnsafePointer(to: &address) { pointer in
      uv_tcp_bind(listener, UnsafeRawPointer(pointer).assumingMemoryBound(to: sockaddr.self), 0)
    }
    let status = bound == 0 ? uv_listen(stream, 511, floorConnection) : bound
    guard status == 0 else { throw SkerryError(.system, "cannot listen: \(String(cString: uv_strerror(status)))") }
    let input = UnsafeMutablePointer<uv_pipe_t>.allocate(capacity: 1)
    uv_pipe_init(loop, input, 0)
    uv_pipe_open(input, 0)
    uv_timer_init(loop, timer)
    uv_read_start(
      UnsafeMutableRawPointer(input).assumingMemoryBound(to: uv_stream_t.self), floorBuffer, floorCommand)
    var name = sockaddr_in()
    var length = Int32(MemoryLayout<sockaddr_in>.size)
    _ = withUnsafeMutablePointer(to: &name) { pointer in
      uv_tcp_getsockname(listener, UnsafeMutableRawPointer(pointer).assumingMemoryBound(to: sockaddr.self), &length)
    }
    say("port \(UInt16(bigEndian: name.sin_port))")
    uv_run(loop, UV_RUN_DEFAULT)
  }

  private func say(_ text: String) {
    let bytes = Bytes((text + "\n").utf8)
    _ = bytes.withUnsafeBytes { write(1, $0.baseAddress, $0.count) }
  }

  // MARK: commands

  fileprivate func took(_ bytes: UnsafeRawBufferPointer) {
    for byte in bytes {
      guard byte == UInt8(ascii: "\n") else {
        line.append(byte)
        continue
      }
      let words = String(decoding: line, as: UTF8.self).split(separator: " ").map(String.init)
      line = []
      command(words)
    }
  }

  private func command(_ words: [String]) {
    let numbers = words.dropFirst().compactMap { Int($0) }
    switch words.first {
    case "sessions": say("sessions \(sessions.count { $0.pointee.open })")
    case "echo": say("echo \(fanOut(frame(0, 56, uv_hrtime())))")
    case "send" where numbers.count == 3: send(numbers[0], numbers[1], numbers[2])
    case "pace" where numbers.count == 3:
      paced = (left: numbers[0], sequence: 0, bytes: numbers[1], sent: 0)
      uv_timer_start(timer, floorTick, 0, UInt64(max(1, numbers[2])))
    case "quit": end()
    default: say("error unknown command")
    }
  }

  fileprivate func end() { uv_stop(loop) }

  private func send(_ events: Int, _ perRecord: Int, _ bytes: Int) {
    var (sent, sequence) = (0, UInt64(0))
    while sequence < UInt64(events) {
      var record: Bytes = []
      var count = 0
      while count < perRecord, sequence < UInt64(events) {
        sequence += 1
        count += 1
        record += frame(sequence, bytes, uv_hrtime())
      }
      sent += fanOut(record) * count
    }
    say("sent \(sent)")
  }

  fileprivate func tick() {
    guard var turn = paced else { return }
    turn.sequence += 1
    turn.left -= 1
    turn.sent += fanOut(frame(turn.sequence, turn.bytes, uv_hrtime()))
    paced = turn
    if turn.left <= 0 {
      uv_timer_stop(timer)
      paced = nil
      say("sent \(turn.sent)")
    }
  }

  /// One record to every session; answers to how many.
  private func fanOut(_ record: Bytes) -> Int {
    var sent = 0
    record.withUnsafeBytes { raw in
      for session in sessions where session.pointee.open {
        ERR_clear_error()
        pipe.pointee.outputCount = 0
        guard SSL_write(session.pointee.ssl, raw.baseAddress, Int32(raw.count)) == Int32(raw.count) else { continue }
        flush(session)
        sent += 1
      }
    }
    return sent
  }

  private func flush(_ session: UnsafeMutablePointer<FloorSession>) {
    let count = pipe.pointee.outputCount
    guard count > 0 else { return }
    let stream = UnsafeMutableRawPointer(session).assumingMemoryBound(to: uv_stream_t.self)
    let base = pipe.pointee.output.assumingMemoryBound(to: CChar.self)
    var buffer = uv_buf_init(base, UInt32(count))
    pipe.pointee.outputCount = 0
    let written = max(0, Int(uv_try_write(stream, &buffer, 1)))
    guard written < count else { return }
    // The socket is full: libuv keeps the rest.
    let rest = UnsafeMutablePointer<CChar>.allocate(capacity: count - written)
    memcpy(rest, base + written, count - written)
    let request = UnsafeMutablePointer<uv_write_t>.allocate(capacity: 1)
    request.pointee.data = UnsafeMutableRawPointer(rest)
    var tail = uv_buf_init(rest, UInt32(count - written))
    if uv_write(request, stream, &tail, 1, floorWritten) != 0 {
      rest.deallocate()
      request.deallocate()
    }
  }

  // MARK: sessions

  fileprivate func accept(_ server: UnsafeMutablePointer<uv_stream_t>) {
    guard sessions.count < Self.maxSessions, let ssl = SSL_new(context) else { return }
    let session = UnsafeMutablePointer<FloorSession>.allocate(capacity: 1)
    session.initialize(to: FloorSession(tcp: uv_tcp_t(), ssl: ssl, open: false))
    let handle = UnsafeMutableRawPointer(session).assumingMemoryBound(to: uv_tcp_t.self)
    let stream = UnsafeMutableRawPointer(session).assumingMemoryBound(to: uv_stream_t.self)
    uv_tcp_init(loop, handle)
    guard uv_accept(server, stream) == 0 else { return close(session) }
    uv_tcp_nodelay(handle, 1)
    BIO_up_ref(bio)
    SSL_set_bio(ssl, bio, bio)
    SSL_set_accept_state(ssl)
    sessions.append(session)
    uv_read_start(stream, floorBuffer, floorData)
  }

  fileprivate func close(_ session: UnsafeMutablePointer<FloorSession>) {
    session.pointee.open = false
    uv_close(UnsafeMutableRawPointer(session).assumingMemoryBound(to: uv_handle_t.self), floorClosed)
  }

  fileprivate func closed(_ session: UnsafeMutablePointer<FloorSession>) {
    sessions.removeAll { $0 == session }
    SSL_free(session.pointee.ssl)
    session.deallocate()
  }

  fileprivate func received(_ session: UnsafeMutablePointer<FloorSession>, _ bytes: UnsafeRawBufferPointer) {
    pipe.pointee.input = bytes
    pipe.pointee.outputCount = 0
    ERR_clear_error()
    if !session.pointee.open {
      let result = SSL_do_handshake(session.pointee.ssl)
      flush(session)
      guard result == 1 else {
        if SSL_get_error(session.pointee.ssl, result) != SSL_ERROR_WANT_READ { close(session) }
        return
      }
      session.pointee.open = true
    }
    while SSL_read(session.pointee.ssl, plain, 17 * 1024) > 0 {}
    flush(session)
  }

  fileprivate var buffer: uv_buf_t { uv_buf_init(readBuffer, 64 * 1024) }
}

private func floorBuffer(
  _ handle: UnsafeMutablePointer<uv_handle_t>?, _ size: Int, _ buffer: UnsafeMutablePointer<uv_buf_t>?
) {
  buffer?.pointee = FloorServer.of(handle?.pointee.loop).buffer
}

private func floorConnection(_ server: UnsafeMutablePointer<uv_stream_t>?, _ status: Int32) {
  guard let server, status == 0 else { return }
  FloorServer.of(server.pointee.loop).accept(server)
}

private func floorData(
  _ stream: UnsafeMutablePointer<uv_stream_t>?, _ count: Int, _ buffer: UnsafePointer<uv_buf_t>?
) {
  guard let stream, count != 0 else { return }
  let session = UnsafeMutableRawPointer(stream).assumingMemoryBound(to: FloorSession.self)
  let server = FloorServer.of(stream.pointee.loop)
  if count < 0 { return server.close(session) }
  server.received(session, UnsafeRawBufferPointer(start: buffer?.pointee.base, count: count))
}

private func floorCommand(
  _ stream: UnsafeMutablePointer<uv_stream_t>?, _ count: Int, _ buffer: UnsafePointer<uv_buf_t>?
) {
  guard let stream, count != 0 else { return }
  let server = FloorServer.of(stream.pointee.loop)
  if count < 0 { return server.end() }
  server.took(UnsafeRawBufferPointer(start: buffer?.pointee.base, count: count))
}

private func floorWritten(_ request: UnsafeMutablePointer<uv_write_t>?, _ status: Int32) {
  request?.pointee.data?.deallocate()
  request?.deallocate()
}

private func floorClosed(_ handle: UnsafeMutablePointer<uv_handle_t>?) {
  guard let handle else { return }
  let session = UnsafeMutableRawPointer(handle).assumingMemoryBound(to: FloorSession.self)
  FloorServer.of(handle.pointee.loop).closed(session)
}

private func floorTick(_ timer: UnsafeMutablePointer<uv_timer_t>?) { FloorServer.of(timer?.pointee.loop).tick() }
